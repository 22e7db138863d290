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
//   - when the queue stands: for longer than standing no question with others behind it
//     has had its turn within a short wait. A queue that empties in between is a burst,
//     or a pause that the kernel made (a CPU quota stops a process for up to 100 ms at a
//     time), and is served: everybody in it is still answered in time.
//
// Refusing from a standing queue keeps the wait near the bound, so that some are answered
// at once instead of all too late.
type queue struct {
	began    time.Time // what the times below count from, so that a change of the wall clock changes nothing
	limit    atomic.Int64
	running  atomic.Int64
	arrivals atomic.Uint64

	slowSince atomic.Int64 // when the first of an unbroken row of slow ones had its turn; 0: the last was not slow
	slowLast  atomic.Int64
}

const (
	shortWait = 10 * time.Millisecond
	standing  = 100 * time.Millisecond

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

// turn says whether the question of ctx, whose turn it is now, is to be answered, and
// until when: the zero time if Envoy would wait for ever. The caller has added itself to
// running.
func (q *queue) turn(ctx context.Context, now time.Time) (until time.Time, admitted bool) {
	mark, marked := ctx.Value(arrivalKey{}).(*arrival)
	arrived := now
	if marked {
		arrived = mark.at
	}
	if deadline, has := ctx.Deadline(); has {
		whole := deadline.Sub(arrived)
		until = deadline.Add(-min(max(whole/marginShare, leastMargin), whole/2))
		if !now.Before(until) {
			return until, false
		}
	}
	if limit := q.limit.Load(); limit > 0 && q.running.Load() > limit {
		return until, false
	}
	return until, !marked || !q.stands(now, mark)
}

// stands reports whether the question that came at mark is one of a standing queue.
func (q *queue) stands(now time.Time, mark *arrival) bool {
	if now.Sub(mark.at) < shortWait || q.arrivals.Load()-mark.number < crowd {
		if q.slowSince.Load() != 0 {
			q.slowSince.Store(0)
		}
		return false
	}
	at := int64(now.Sub(q.began))
	last, since := q.slowLast.Swap(at), q.slowSince.Load()
	if since == 0 || at-last > int64(standing) {
		q.slowSince.Store(at)
		return false
	}
	return at-since > int64(standing)
}
