package envoy_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/envoy"
)

// verifier is a TokenVerifier in front of the real one.
type verifier func(ctx context.Context, credential string, now time.Time) (*authz.Claims, error)

func (f verifier) VerifyToken(ctx context.Context, credential string, now time.Time) (*authz.Claims, error) {
	return f(ctx, credential, now)
}

// slowly returns rules whose verifier first calls wait, and a message that they allow.
func slowly(t *testing.T, wait func(context.Context) error) (*envoy.Rules, *authv3.CheckRequest) {
	t.Helper()
	corpus, minted, config := authztest.Setup(t, "../authz/testdata")
	tokens := config.Tokens
	config.Tokens = verifier(func(ctx context.Context, credential string, now time.Time) (*authz.Claims, error) {
		if err := wait(ctx); err != nil {
			return nil, err
		}
		return tokens.VerifyToken(ctx, credential, now)
	})
	authorizer, err := authz.New(config)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := envoy.NewRules(authorizer)
	if err != nil {
		t.Fatal(err)
	}
	return rules, authztest.CheckRequest(authztest.AllowedRead(t, corpus, minted, &config.Profile))
}

// outcomes records what was decided: "allow" or Reason and field.
type outcomes []string

func (o *outcomes) record(r *envoy.Record) error {
	if r.Decision.Allowed() {
		*o = append(*o, "allow")
		return nil
	}
	*o = append(*o, r.Reason()+" "+string(r.Decision.Fault().Field))
	return nil
}

func (o *outcomes) last() string { return (*o)[len(*o)-1] }

// arrive marks a question as the gRPC server does.
func arrive(t *testing.T, ctx context.Context, s *envoy.Server) context.Context {
	t.Helper()
	ctx, err := s.Arrive(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// TestLimit: what a Check waits for is stuck. Those beyond the bound are told at once.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		rules, message := slowly(t, func(context.Context) error { <-stuck; return nil })
		s := serverOf(rules, unrecorded)
		s.Limit(2)
		allows := make(chan bool, 2)
		for range 2 {
			go func() {
				allow, _, _ := check(t, s, message)
				allows <- allow
			}()
		}
		synctest.Wait()
		for range 3 { // a refused one gives its place back
			if allow, status, reason := check(t, s, message); allow || status != 503 || reason != "overloaded" {
				t.Errorf("the third at once: allow %v, %d %s", allow, status, reason)
			}
		}
		close(stuck)
		for range 2 {
			if !<-allows {
				t.Error("one within the bound was denied")
			}
		}
		if allow, _, reason := check(t, s, message); !allow {
			t.Errorf("denied when nothing runs any more: %s", reason)
		}
	})
}

// TestStandingQueue: a burst is served, a queue that stands is refused from.
func TestStandingQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules, message := slowly(t, func(context.Context) error { return nil })
		var seen outcomes
		s, began := serverOf(rules, seen.record), time.Now()
		// turns lets questions wait together, with others behind them, and returns what
		// became of the last.
		turns := func(ctx context.Context, n int, wait time.Duration, behind int) string {
			t.Helper()
			waiting := make([]context.Context, n)
			for i := range waiting {
				waiting[i] = arrive(t, ctx, s)
			}
			for range behind {
				arrive(t, ctx, s)
			}
			time.Sleep(wait)
			for _, ctx := range waiting {
				if _, err := s.Check(ctx, message); err != nil {
					t.Fatal(err)
				}
			}
			return seen.last()
		}
		const long = 80 * time.Millisecond
		turn := func(wait time.Duration, behind int) string { t.Helper(); return turns(t.Context(), 1, wait, behind) }
		// next begins a window of 100 ms; they count from the start of the server.
		next := func() { time.Sleep(100*time.Millisecond - time.Since(began)%(100*time.Millisecond)) }
		// row has three slow turns in one window, behind that many quick ones.
		row := func(quick int) {
			t.Helper()
			next()
			for range quick {
				turn(0, 0)
			}
			turns(t.Context(), 3, long, 20)
			next()
		}
		const refused = "overloaded request"
		next()
		turns(t.Context(), 3, long, 20)
		if want := []string{"allow", "allow", "allow"}; !slices.Equal(seen, want) {
			t.Errorf("of three that wait at once: %q: a burst is to be served", seen)
		}
		for range 10 {
			if got := turn(long, 20); got != refused {
				t.Errorf("from a queue that stands: %s, want %s", got, refused)
			}
			if got := turn(time.Millisecond, 20); got != "allow" {
				t.Errorf("one that did not wait: %s", got)
			}
		}
		for quick, want := range map[int]string{9: refused, 10: "allow"} { // the scheduler lets some go first
			row(quick)
			if got := turn(long, 20); got != want {
				t.Errorf("after three slow and %d quick ones: %s, want %s", quick, got, want)
			}
		}
		for patience, want := range map[time.Duration]string{time.Hour: "allow", 250 * time.Millisecond: "allow", 100 * time.Millisecond: refused} {
			row(0)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if got := turns(ctx, 1, long/2, 20); got != want {
				t.Errorf("half as long, for whom waits %v: %s, want %s", patience, got, want)
			}
			cancel()
		}
		for range 20 {
			if got := turn(long, 3); got != "allow" {
				t.Errorf("on a slow host, with hardly anybody waiting: %s", got)
			}
		}
		row(0)
		time.Sleep(time.Minute)
		if got := turn(long, 20); got != "allow" {
			t.Errorf("a slow one a minute after others: %s: a minute without questions is no queue", got)
		}
		// Without marks there is no queue to see.
		if allow, _, reason := check(t, s, message); !allow {
			t.Errorf("without a mark: %s", reason)
		}
	})
}

// TestWaited: a record says how long the question waited for its turn, if anybody saw it come.
func TestWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules, message := slowly(t, func(context.Context) error { time.Sleep(time.Second); return nil })
		type wait struct {
			waited time.Duration
			marked bool
		}
		var seen []wait
		s := serverOf(rules, func(r *envoy.Record) error {
			seen = append(seen, wait{r.Waited, r.Marked})
			return nil
		})
		marked := arrive(t, t.Context(), s)
		time.Sleep(30 * time.Millisecond)
		for _, ctx := range []context.Context{marked, t.Context()} {
			if _, err := s.Check(ctx, message); err != nil {
				t.Fatal(err)
			}
		}
		if want := []wait{{30 * time.Millisecond, true}, {0, false}}; !slices.Equal(seen, want) {
			t.Errorf("waited %v, want %v", seen, want)
		}
	})
}

// TestDeadline: the answer comes before Envoy gives up, and says what was slow.
func TestDeadline(t *testing.T) {
	const patience = 250 * time.Millisecond
	for name, test := range map[string]struct {
		queued   time.Duration // before its turn
		patience time.Duration
		wait     func(context.Context) error // of the verifier
		want     string
		after    time.Duration // at which the answer is there
	}{
		"quick": {0, patience, func(context.Context) error { return nil }, "allow", 0},
		"a verifier that waits for the context": {0, patience, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, "cancelled token", 225 * time.Millisecond},
		"one that asks by a context of its own": {0, patience, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			<-ctx.Done()
			return ctx.Err()
		}, "cancelled token", 225 * time.Millisecond},
		"one that looks at the deadline": {0, patience, func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			time.Sleep(time.Until(deadline))
			return nil
		}, "cancelled token", 225 * time.Millisecond},
		"one that knows no context": {0, patience, func(context.Context) error {
			time.Sleep(230 * time.Millisecond)
			return nil
		}, "cancelled token", 230 * time.Millisecond},
		"slow, and in time": {0, patience, func(context.Context) error {
			time.Sleep(224 * time.Millisecond)
			return nil
		}, "allow", 224 * time.Millisecond},
		"queued, then slow": {100 * time.Millisecond, patience, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, "cancelled token", 225 * time.Millisecond},
		"queued for too long": {225 * time.Millisecond, patience, func(context.Context) error {
			t.Error("a token was verified for which there was no time")
			return nil
		}, "overloaded request", 225 * time.Millisecond},
		"little patience": {0, 20 * time.Millisecond, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, "cancelled token", 15 * time.Millisecond},
		"hardly any": {0, 4 * time.Millisecond, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, "cancelled token", 2 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rules, message := slowly(t, test.wait)
				var seen outcomes
				s := serverOf(rules, seen.record)
				came := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), test.patience)
				defer cancel()
				ctx = arrive(t, ctx, s)
				time.Sleep(test.queued)
				if _, err := s.Check(ctx, message); err != nil {
					t.Fatal(err)
				}
				if after := time.Since(came); after != test.after || seen.last() != test.want {
					t.Errorf("after %v: %s, want %v: %s", after, seen.last(), test.after, test.want)
				}
			})
		})
	}
}
