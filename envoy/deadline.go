package envoy

import (
	"context"
	"sync"
	"time"
)

// An earlier is a context whose deadline is before that of the one around it, so that
// there is time left to say what was slow. It is what context.WithDeadline would return,
// but for its price: most Checks only ask whether they are late, once or twice, and a
// timer for each costs more than deciding. The timer is made when somebody waits.
type earlier struct {
	context.Context
	until time.Time

	mu    sync.Mutex
	timed context.Context // nil until somebody waits
	stop  context.CancelFunc
}

// Deadline implements context.Context.
func (e *earlier) Deadline() (time.Time, bool) { return e.until, true }

// Err implements context.Context. It may be a moment ahead of Done, whose timer needs
// that moment.
func (e *earlier) Err() error {
	if err := e.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(e.until) {
		return context.DeadlineExceeded
	}
	return nil
}

// Done implements context.Context.
func (e *earlier) Done() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timed == nil {
		e.timed, e.stop = context.WithDeadline(e.Context, e.until)
	}
	return e.timed.Done()
}

// end releases the timer, if there is one.
func (e *earlier) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stop != nil {
		e.stop()
	}
}
