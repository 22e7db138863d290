package e2e

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"asid-authz/e2e/mesh"
)

// Stopping a replica loses no request while another one is there: it says so to Envoy first,
// goes on answering until Envoy has heard it, and ends what it has begun. Envoy asks nobody
// twice here, or it would make good what a hard stop loses.
func TestDrainLosesNothing(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{DrainDelay: 3 * time.Second}) // Envoy looks every two seconds
	second, err := s.Authz(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := startEdge(t, s.Mesh, mesh.Unretried)

	var sent, failed atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for _, protocol := range slices.Repeat(mesh.Protocols, 4) {
		conn, refused, err := s.client(t, e, s.read).Open(t.Context(), protocol)
		if err != nil || refused != nil {
			t.Fatal(refused, err)
		}
		defer conn.Close()
		r := s.request(t, s.read)
		clients.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond)
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
	eventually(t, "both replicas are asked", func() bool { return decisions(t, s.Replica()) > 0 && decisions(t, second) > 0 })
	before := sent.Load()
	if err := s.Replica().Stop(); err != nil {
		t.Error(err)
	}
	drained := sent.Load()
	if drained == before {
		t.Error("no request was sent while the replica drained")
	}
	eventually(t, "requests go on", func() bool { return sent.Load() > drained+100 })
	close(stop)
	clients.Wait()
	t.Logf("%d requests, %d of them while the replica drained; %d failed", sent.Load(), drained-before, failed.Load())
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
