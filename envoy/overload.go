package envoy

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/tap"
)

// A queue tells a service that is busy from one that is overloaded. What waits for its
// turn waits in goroutines that have not begun: the gRPC server starts one for each
// question, so a bound on the Checks that run would see nothing of a shortage of CPU. A
// question is therefore marked where it comes in, by [Server.Arrive], and asks when its
// turn comes how long that took and how many came behind it.
//
// It is refused, before anything is done for it that costs,
//   - when more Checks run than limits.checks: something that a Check waits for is stuck;
//   - when Envoy has as good as given up: whatever is found out would come too late;
//   - when it waited long in a queue that stands: in the window before, too, many waited
//     long. A queue that comes and goes within a window is a burst, and is served:
//     everybody in it is still answered in time.
//
// Refusing from a standing queue keeps the wait near the bound, so that some are answered
// at once instead of all too late. The share is looked at, and not whether everybody
// waits, because the Go scheduler lets some of the last to come go first.
type queue struct {
	began    time.Time // what the times below count from, so that a change of the wall clock changes nothing
	limit    atomic.Int64
	running  atomic.Int64
	arrivals atomic.Uint64

	window      atomic.Int64 // number of the window that is counted
	quick, slow atomic.Int64 // turns in it
	stands      atomic.Bool  // what the window before showed
}

const (
	// A long wait is three tenths of what Envoy waits, and never more than those of the
	// 250 ms that are rendered. As long again may have been spent unseen, before the
	// question was read; the rest is for the answer. A shorter bound costs answers where
	// the host gives CPU time in slices: what waited for one slice is answered in time in
	// the next, and TestShedding shows how many would be refused.
	longWait      = 75 * time.Millisecond
	longWaitShare = 0.3
	window        = 100 * time.Millisecond

	// slowShare of the turns of a window that are slow make a queue that stands: a quarter.
	slowShare = 4

	// crowd is how many must have come behind a question that waited long. Fewer are no
	// queue: this host is slow, and refusing one would not make another one faster.
	crowd = 16

	// An answer must be made, recorded and sent before Envoy gives up: a tenth of the
	// time is kept for it.
	marginShare = 10
	leastMargin = 5 * time.Millisecond
)

type arrivalKey struct{}

// An arrival is the mark of a question.
type arrival struct {
	at     time.Time
	number uint64
}

// Arrive marks the time at which a question came. It is the gRPC server's in-tap handle,
// which runs where a connection is read, before the question waits for its turn.
// Without it every question counts as one that has not waited.
func (s *Server) Arrive(ctx context.Context, _ *tap.Info) (context.Context, error) {
	return context.WithValue(ctx, arrivalKey{}, &arrival{time.Now(), s.queue.arrivals.Add(1)}), nil
}

// Limit sets how many Checks may run at once; 0 is no bound. Those beyond it are denied as
// overloaded. It may be called at any time.
func (s *Server) Limit(checks int) { s.queue.limit.Store(int64(checks)) }

// markOf returns the mark of the question of ctx, nil if it has none.
func markOf(ctx context.Context) *arrival {
	mark, _ := ctx.Value(arrivalKey{}).(*arrival)
	return mark
}

// turn says whether the question of ctx, whose turn it is now, is to be answered, and
// until when: the zero time if Envoy would wait for ever. The caller has added itself to
// running.
func (q *queue) turn(ctx context.Context, mark *arrival, now time.Time) (until time.Time, admitted bool) {
	arrived, long := now, longWait
	if mark != nil {
		arrived = mark.at
	}
	if deadline, has := ctx.Deadline(); has {
		whole := deadline.Sub(arrived)
		long = min(long, time.Duration(longWaitShare*float64(whole)))
		until = deadline.Add(-min(max(whole/marginShare, leastMargin), whole/2))
		if !now.Before(until) {
			return until, false
		}
	}
	if limit := q.limit.Load(); limit > 0 && q.running.Load() > limit {
		return until, false
	}
	return until, mark == nil || !q.slowInStandingQueue(now, mark, long)
}

// slowInStandingQueue counts the turn of mark, for which a wait of long is a long one.
func (q *queue) slowInStandingQueue(now time.Time, mark *arrival, long time.Duration) bool {
	if at, was := int64(now.Sub(q.began)/window), q.window.Load(); at > was && q.window.CompareAndSwap(was, at) {
		// What is counted by others meanwhile is of one of the two windows; it does not matter which.
		quick, slow := q.quick.Swap(0), q.slow.Swap(0)
		q.stands.Store(at == was+1 && slow*slowShare >= quick+slow && slow > 0)
	}
	if now.Sub(mark.at) < long || q.arrivals.Load()-mark.number < crowd {
		q.quick.Add(1)
		return false
	}
	q.slow.Add(1)
	return q.stands.Load()
}
