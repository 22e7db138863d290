// Package load sends requests at a fixed rate while something else breaks what answers them,
// and accounts for every one.
//
//	l := load.Start(ctx, load.Config{Rate: 200, InFlight: 256, Timeout: 5 * time.Second, Call: call})
//	l.Phase("a replica is killed")
//	… break it, wait until it is whole again …
//	l.Phase("steady")
//	report := l.Stop()
//	fmt.Print(report)
//
// The rate is kept whatever the answers do: a client that waits for a slow answer before it
// asks again would hide what a fault costs. A request is counted in the phase in which it
// ends, because what was on its way when the fault came is what the fault hits.
package load

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A Kind is what became of a request.
type Kind int

const (
	Failed   Kind = iota // no answer, or one that says that nobody could decide; the zero, so that a Call that forgets has failed
	Answered             // as it should be, with what was asked for
	Denied               // as it should be, with a denial
	Old                  // with what was right before a change that is on its way
	Wrong                // with what must never be, an allow for one
)

// A Verdict is what became of a request, and what there is to say about it.
type Verdict struct {
	Kind   Kind
	Detail string // for people; of Failed and Wrong
}

// A Call sends the nth request and judges its answer. It is called by many goroutines at once.
type Call func(ctx context.Context, n int) Verdict

// Config says what is sent, and how.
type Config struct {
	Rate     int           // requests a second
	InFlight int           // how many may be on their way at once; one more than that fails unsent
	Timeout  time.Duration // of a request
	Call     Call
}

// A Load is running.
type Load struct {
	config Config
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	phases []*Phase
	last   time.Time // when the last request ended well
}

// Start begins to send, in a phase named "steady".
func Start(ctx context.Context, c Config) *Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{config: c, cancel: cancel, done: make(chan struct{}), last: time.Now()}
	l.Phase("steady")
	go l.run(ctx)
	return l
}

// Phase ends the phase that was and begins another.
func (l *Load) Phase(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.end(now)
	l.phases = append(l.phases, &Phase{Name: name, began: now})
	l.last = now // a gap belongs to the phase in which it is waited
}

// Now returns the account of the phase so far.
func (l *Load) Now() Phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := *l.phases[len(l.phases)-1]
	p.LongestGap = max(p.LongestGap, time.Since(l.last))
	return p
}

// Stop sends no more, waits for what is on its way and returns the account of every phase.
func (l *Load) Stop() Report {
	l.cancel()
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(time.Now())
	report := Report{}
	for _, p := range l.phases {
		report = append(report, *p)
	}
	return report
}

// end closes the phase that is running: nobody being answered until its end is a gap too.
func (l *Load) end(now time.Time) {
	if len(l.phases) == 0 {
		return
	}
	p := l.phases[len(l.phases)-1]
	p.LongestGap = max(p.LongestGap, now.Sub(l.last))
}

func (l *Load) run(ctx context.Context) {
	defer close(l.done)
	var onTheirWay sync.WaitGroup
	defer onTheirWay.Wait()
	slots := make(chan struct{}, l.config.InFlight)
	interval := time.Second / time.Duration(l.config.Rate)
	began := time.Now()
	for n := 0; ; n++ {
		// Due by the clock and not after the last one, or a slow moment would lower the rate.
		wait := time.NewTimer(time.Until(began.Add(time.Duration(n) * interval)))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			l.count(time.Now(), Verdict{Failed, fmt.Sprintf("not sent: %d requests are on their way", l.config.InFlight)})
			continue
		}
		onTheirWay.Go(func() {
			defer func() { <-slots }()
			// What is on its way when the load stops is still answered.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.config.Timeout)
			defer cancel()
			verdict := l.config.Call(ctx, n)
			l.count(time.Now(), verdict)
		})
	}
}

// mostDetails is how many of a phase are kept.
const mostDetails = 10

func (l *Load) count(now time.Time, v Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.phases[len(l.phases)-1]
	p.Requests++
	switch v.Kind {
	case Answered:
		p.Answered++
	case Denied:
		p.Denied++
	case Old:
		p.Old++
	case Wrong:
		p.Wrong++
	default:
		p.Failed++
	}
	switch v.Kind {
	case Answered, Denied, Old:
		p.LongestGap = max(p.LongestGap, now.Sub(l.last))
		l.last = now
	default:
		if len(p.Details) < mostDetails {
			p.Details = append(p.Details, v.Detail)
		}
	}
	if v.Kind != Answered && v.Kind != Denied {
		p.Recovery = now.Sub(p.began)
	}
}
