package publish

import (
	"fmt"
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

	random := rand.New(rand.NewPCG(3, 3))
	for i := range 25 {
		asid := parseASID(t, fmt.Sprintf("%012d", random.IntN(12)))
		switch {
		case i == 10:
			apply(t, p, many(t, 4000, 100))
		case i%4 == 1:
			if _, err := p.Suspend(ctx, asid, by); err != nil {
				t.Fatal(err)
			}
		case i%4 == 3:
			if _, err := p.Resume(ctx, asid, by); err != nil {
				t.Fatal(err)
			}
		default:
			apply(t, p, randomMap(t, random))
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
		held, _, _ := replica.Current()
		if got, want := describe(held), describe(m); got != want {
			t.Fatalf("after change %d the replica holds\n%swant\n%s", i, got, want)
		}
	}
	// Changes of the dictionary's own length, of the layer, and two generations: the replica
	// loaded the map for those and for nothing else.
	if loads := replica.Status().Loads; loads > 4 {
		t.Errorf("%d loads", loads)
	}
}
