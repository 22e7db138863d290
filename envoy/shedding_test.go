package envoy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A host gives a process with one CPU its time: all of it, or slices of it with pauses
// between, of a fixed length (a quota) or of any (neighbours).
type host struct {
	name      string
	on, pause time.Duration
	random    bool
}

// share is how much of the CPU time the process gets.
func (h host) share() float64 {
	if h.pause == 0 {
		return 1
	}
	return float64(h.on) / float64(h.on+h.pause)
}

// A served is what became of the questions of a play.
type served struct {
	asked, good int
	p99         time.Duration // of the good ones, from the client's question to its answer
}

// A play is a gRPC server whose time is reckoned, and not waited for: it reads what has come,
// marks it, and then lets each have its turn, as grpc-go does on one CPU.
type play struct {
	host     host
	rate     float64       // questions a second, at random
	overhead time.Duration // of reading a question, before its turn, and of answering it, after
	decision time.Duration // what a refusal saves
	shed     bool

	now        time.Duration
	begin, end time.Duration // of the slice of CPU time that now is in, or before
	slices     *rand.Rand
}

// work passes the time that some CPU time takes. The slices are the same whatever is done
// in them, so that two plays on one host can be compared.
func (p *play) work(cpu time.Duration) {
	if p.host.pause == 0 {
		p.now += cpu
		return
	}
	for {
		p.now = max(p.now, p.begin)
		if p.now+cpu <= p.end {
			p.now += cpu
			return
		}
		cpu -= max(p.end-p.now, 0)
		on, pause := p.host.on, p.host.pause
		if p.host.random {
			on, pause = time.Duration(p.slices.ExpFloat64()*float64(on)), time.Duration(p.slices.ExpFloat64()*float64(pause))
		}
		p.begin = p.end + pause
		p.end = p.begin + on
	}
}

// run plays for as long, with clients that wait 250 ms.
func (p play) run(long time.Duration) (s served) {
	const patience = 250 * time.Millisecond
	questions := rand.New(rand.NewPCG(1, 1))
	p.slices = rand.New(rand.NewPCG(2, 2))
	epoch := time.Unix(0, 0)
	q := &queue{began: epoch}
	interval := func() time.Duration { return time.Duration(questions.ExpFloat64() / p.rate * float64(time.Second)) }
	type question struct {
		came time.Duration
		mark *arrival
	}
	var took []time.Duration
	for next := interval(); p.now < long; {
		p.now = max(p.now, next)
		var waiting []question
		for next <= p.now {
			p.work(p.overhead / 2)
			waiting = append(waiting, question{next, &arrival{epoch.Add(p.now), q.arrivals.Add(1)}})
			next += interval()
		}
		for _, w := range waiting {
			s.asked++
			p.work(p.overhead / 2)
			ctx, cancel := context.WithDeadline(context.Background(), w.mark.at.Add(patience))
			mark := w.mark
			if !p.shed {
				mark = nil
			}
			_, admitted := q.turn(ctx, mark, epoch.Add(p.now))
			cancel()
			if !admitted {
				continue
			}
			p.work(p.decision)
			if all := p.now - w.came; all < patience {
				s.good++
				took = append(took, all)
			}
		}
	}
	slices.Sort(took)
	if len(took) > 0 {
		s.p99 = took[len(took)*99/100]
	}
	return s
}

// TestShedding: on no host, and under no load, does refusing early cost more than a few of
// the decisions that come in time without it, and under overload it saves most of what can
// be saved. docs/performance.md has the figures.
func TestShedding(t *testing.T) {
	const overhead = 60 * time.Microsecond
	for _, h := range []host{
		{"whole", 0, 0, false},
		{"a quota of 0.3", 30 * time.Millisecond, 70 * time.Millisecond, false},
		{"a quota of 0.6", 60 * time.Millisecond, 40 * time.Millisecond, false},
		{"neighbours", 4 * time.Millisecond, 12 * time.Millisecond, true},
		{"long pauses", 15 * time.Millisecond, 60 * time.Millisecond, true},
	} {
		for _, decision := range []time.Duration{10 * time.Microsecond, 300 * time.Microsecond} {
			for _, load := range []float64{0.5, 0.8, 1, 1.1, 2, 4} {
				if load*float64(overhead) > 1.05*float64(overhead+decision) {
					continue // reading alone is more than the CPU can do: there is nothing that a refusal could save
				}
				capacity := h.share() / (overhead + decision).Seconds()
				p := play{host: h, rate: load * capacity, overhead: overhead, decision: decision}
				none := p.run(10 * time.Second)
				p.shed = true
				shed := p.run(10 * time.Second)
				of := func(s served) float64 { return float64(s.good) / 10 / capacity }
				line := fmt.Sprintf("%-15s decision %3dµs, load %.1f: in time %3.0f %% of capacity, p99 %3d ms; without shedding %3.0f %%, %3d ms",
					h.name, decision.Microseconds(), load, 100*of(shed), shed.p99.Milliseconds(), 100*of(none), none.p99.Milliseconds())
				t.Log(line)
				if of(shed) < of(none)-0.08 {
					t.Errorf("shedding costs: %s", line)
				}
				if load >= 2 && of(shed) < 3*of(none) && of(shed) < 0.5 {
					t.Errorf("shedding saves nothing: %s", line)
				}
			}
		}
	}
}
