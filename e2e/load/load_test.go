package load

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// play runs a load of 100 requests a second in a bubble, while script makes phases.
func play(t *testing.T, inFlight int, call Call, script func(l *Load)) (report Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := Start(t.Context(), Config{Rate: 100, InFlight: inFlight, Timeout: time.Second, Call: call})
		script(l)
		report = l.Stop()
	})
	return report
}

// answers answers after a delay.
func answers(delay time.Duration, kind Kind) Call {
	return func(ctx context.Context, _ int) Verdict {
		select {
		case <-time.After(delay):
			return Verdict{Kind: kind}
		case <-ctx.Done():
			return Verdict{Failed, ctx.Err().Error()}
		}
	}
}

func TestRateIsKept(t *testing.T) {
	for _, delay := range []time.Duration{time.Millisecond, 700 * time.Millisecond} {
		report := play(t, 1000, answers(delay, Answered), func(l *Load) { time.Sleep(10*time.Second - time.Millisecond) })
		if p := report[0]; len(report) != 1 || p.Requests != 1000 || p.Answered != 1000 || p.Recovery != 0 || p.Details != nil {
			t.Errorf("with answers after %v: %+v, want 1000 answered", delay, report)
		}
	}
}

// A fault of two seconds, with what is known of each request.
func TestOutage(t *testing.T) {
	var began atomic.Pointer[time.Time]
	call := func(ctx context.Context, n int) Verdict {
		if since := time.Since(*began.Load()); since >= 5*time.Second && since < 7*time.Second {
			return answers(time.Hour, Answered)(ctx, n) // hangs
		}
		kind := Answered
		if n%4 == 0 {
			kind = Denied
		}
		return answers(time.Millisecond, kind)(ctx, n)
	}
	report := play(t, 1000, func(ctx context.Context, n int) Verdict {
		now := time.Now()
		began.CompareAndSwap(nil, &now)
		return call(ctx, n)
	}, func(l *Load) {
		time.Sleep(5*time.Second - 2*time.Millisecond)
		l.Phase("outage")
		time.Sleep(5 * time.Second)
		l.Phase("steady again")
		time.Sleep(time.Second)
	})
	if len(report) != 3 {
		t.Fatalf("%d phases", len(report))
	}
	if p := report[0]; p.Failed != 0 || p.Answered != 375 || p.Denied != 125 || p.LongestGap > 12*time.Millisecond {
		t.Errorf("steady: %+v", p)
	}
	p := report[1]
	if p.Failed != 200 || p.Wrong != 0 || p.Requests != 500 || p.Answered+p.Denied != 300 {
		t.Errorf("outage: %+v", p)
	}
	// The last that hangs is sent after 6.99 s and given up a second later; the first that is
	// answered again is sent after 7 s.
	if want := 2*time.Second + 3*time.Millisecond; p.LongestGap != want {
		t.Errorf("the longest gap is %v, want %v", p.LongestGap, want)
	}
	if want := 2*time.Second + 992*time.Millisecond; p.Recovery != want {
		t.Errorf("recovered after %v, want %v", p.Recovery, want)
	}
	if len(p.Details) != mostDetails || p.Details[0] != "context deadline exceeded" {
		t.Errorf("details: %q", p.Details)
	}
	if p := report[2]; p.Failed != 0 || p.Requests < 100 {
		t.Errorf("steady again: %+v", p)
	}
}

// What is not sent because too much is on its way has failed: it must not vanish.
func TestTooManyInFlight(t *testing.T) {
	report := play(t, 10, answers(time.Hour, Answered), func(*Load) { time.Sleep(time.Second - time.Millisecond) })
	p := report[0]
	if p.Requests != 100 || p.Failed != 100 {
		t.Errorf("%+v, want 100 failed", p)
	}
	if want := "not sent: 10 requests are on their way"; p.Details[0] != want {
		t.Errorf("details: %q, want %q", p.Details, want)
	}
	if p.LongestGap < time.Second {
		t.Errorf("nobody was answered, and the longest gap is %v", p.LongestGap)
	}
}

// A change takes effect when the last answer of before it has been given.
func TestChange(t *testing.T) {
	var changed atomic.Pointer[time.Time]
	report := play(t, 10, func(ctx context.Context, n int) Verdict {
		switch at := changed.Load(); {
		case at == nil:
			return Verdict{Kind: Answered}
		case time.Since(*at) < 300*time.Millisecond:
			return Verdict{Kind: Old}
		default:
			return Verdict{Kind: Denied}
		}
	}, func(l *Load) {
		time.Sleep(time.Second + time.Millisecond)
		l.Phase("a grant is revoked")
		now := time.Now()
		changed.Store(&now)
		time.Sleep(time.Second)
		if p := l.Now(); p.Old != 30 || p.Denied != 70 || p.Answered != 0 {
			t.Errorf("so far: %+v", p)
		}
	})
	p := report[1]
	if p.Old != 30 || p.Failed != 0 || p.Wrong != 0 {
		t.Errorf("%+v", p)
	}
	if want := 299 * time.Millisecond; p.Recovery != want {
		t.Errorf("took effect after %v, want %v", p.Recovery, want)
	}
}

// A request that was on its way when the fault came is the fault's.
func TestCountedWhereItEnds(t *testing.T) {
	report := play(t, 100, answers(500*time.Millisecond, Wrong), func(l *Load) {
		time.Sleep(495 * time.Millisecond)
		l.Phase("fault")
		time.Sleep(490 * time.Millisecond)
	})
	if report[0].Requests != 0 || report[1].Wrong != 99 || report[1].Requests != 99 {
		t.Errorf("%+v", report)
	}
}

func TestZeroVerdictFailed(t *testing.T) {
	report := play(t, 100, func(context.Context, int) Verdict { return Verdict{} }, func(*Load) { time.Sleep(95 * time.Millisecond) })
	if report[0].Failed != 10 {
		t.Errorf("%+v", report)
	}
}

func ExampleReport() {
	report := Report{
		{Name: "steady", Requests: 2000, Answered: 1500, Denied: 500, LongestGap: 6 * time.Millisecond},
		{Name: "a replica is killed", Requests: 1200, Answered: 899, Denied: 300, Failed: 1, LongestGap: 31 * time.Millisecond, Recovery: 40 * time.Millisecond},
	}
	for line := range strings.Lines(report.String()) {
		fmt.Println(strings.TrimSpace(line))
	}
	// Output:
	// fault  requests  answered  denied by design  as before  failed  wrong  longest gap  time to recover
	// steady      2000      1500               500          0       0      0          6ms               0s
	// a replica is killed      1200       899               300          0       1      0         31ms             40ms
}
