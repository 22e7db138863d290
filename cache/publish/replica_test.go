package publish

import (
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/cache"
	"asid-authz/cache/redistest"
)

// A replica follows whatever is published, and what it holds is what the publisher reads,
// with the suspension layer over it.
func TestReplicaFollows(t *testing.T) {
	s, p := server(t)
	ctx := t.Context()
	o := options(s)
	o.Credentials = func() (string, string, error) { return redistest.Reader, s.Password(redistest.Reader), nil }
	replica := cache.NewReplica(zap.NewNop(), o, ns)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		replica.Run(ctx)
	}()
	t.Cleanup(func() { <-stopped })

	// Suspended and resumed is a system that every map has, so that resuming it changes what
	// the replica holds.
	constant := entry(t, 100, "ZZZ", 1)
	generations := 0
	random := rand.New(rand.NewPCG(3, 3))
	for i := range 25 {
		switch {
		case i%4 == 1:
			if r, err := p.Suspend(ctx, constant.ASID, by); err != nil || r.Unchanged || !r.InMap {
				t.Fatal(r, err)
			}
		case i%4 == 3:
			if r, err := p.Resume(ctx, constant.ASID, by); err != nil || r.Unchanged || !r.InMap {
				t.Fatal(r, err)
			}
		default:
			next := randomMap(t, random)
			if i == 10 {
				next = many(t, 4000, 100)
			}
			next, err := next.With(2, []authz.AccreditedSystem{constant}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if apply(t, p, next).Generation {
				generations++
			}
		}
		state := read(t, p)
		want := systemsOf(state.Map)
		for a := range state.Suspended {
			if system, known := want[a]; known {
				system.State = authz.Suspended
				want[a] = system
			}
		}
		m, err := build(want, state.Version)
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for replica.Status().Version != state.Version {
			if time.Now().After(deadline) {
				t.Fatalf("version %d did not come: %+v", state.Version, replica.Status())
			}
			time.Sleep(time.Millisecond)
		}
		current, _, _ := replica.Current()
		if got, want := describe(current), describe(m); got != want {
			t.Fatalf("after change %d the replica holds\n%swant\n%s", i, got, want)
		}
	}
	// It loads what was written anew, and nothing else.
	if loads := replica.Status().Loads; generations < 2 || loads > uint64(generations) {
		t.Errorf("%d loads, and %d generations", loads, generations)
	}
}
