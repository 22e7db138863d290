package e2e

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"asid-authz/e2e/mesh"
)

// Rolling the replicas one after the other loses no request: one that is told to stop says so
// to Envoy first, goes on answering until Envoy has heard it, and ends what it has begun.
func TestDrainLosesNothing(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{DrainDelay: 3 * time.Second}) // Envoy looks every two seconds
	second, err := s.Authz(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := startEdge(t, s.Mesh)
	replicas := []*mesh.Authz{s.Replica(), second}

	var sent, failed atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for _, protocol := range mesh.Protocols {
		conn, refused, err := s.client(t, e, s.read).Open(t.Context(), protocol)
		if err != nil || refused != nil {
			t.Fatal(refused, err)
		}
		defer conn.Close()
		r := s.request(t, s.read)
		clients.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-stop:
					return
				case <-pace.C:
				}
				answer, err := conn.Do(r)
				sent.Add(1)
				if err != nil || answer.Status != 200 {
					failed.Add(1)
					t.Errorf("%s: %v, %v", protocol, answer, err)
				}
			}
		})
	}
	for _, replica := range replicas {
		before := sent.Load()
		if err := replica.Stop(); err != nil {
			t.Error(err)
		}
		if sent.Load() == before {
			t.Error("no request was sent while the replica drained")
		}
		if err := replica.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The other one may be stopped only when Envoy has found this one again: it looks at
		// a replica that is down as often as at one that is up.
		decided := decisions(t, replica)
		eventually(t, "the replica that is back is asked", func() bool { return decisions(t, replica) > decided })
	}
	close(stop)
	clients.Wait()
	t.Logf("%d requests while two replicas were rolled, %d failed", sent.Load(), failed.Load())
}

// decisions returns how many a replica has made.
func decisions(t *testing.T, a *mesh.Authz) (n int) {
	t.Helper()
	metrics, err := a.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sumOf(t, metrics, "asid_authz_decisions_total")
}
