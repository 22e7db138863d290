package e2e

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/cache/redistest"
	"asid-authz/e2e/mesh"
)

// A sample is one answer to the steady load.
type sample struct {
	allowed    bool // whether the request is one that the map allows
	sent, done time.Time
	status     int
	reason     string
}

// asBefore reports whether the answer is that of a time without faults.
func (s sample) asBefore() bool {
	if s.allowed {
		return s.status == 200
	}
	return s.status == 403 && s.reason == "interaction-not-granted"
}

// A stream is a steady load of reads that are allowed and deletes that are not.
type stream struct {
	stop    chan struct{}
	done    sync.WaitGroup
	mu      sync.Mutex
	samples []sample
}

// startLoad sends about twenty requests a second of each kind until take.
func (s *scene) startLoad(t *testing.T) *stream {
	t.Helper()
	l := &stream{stop: make(chan struct{})}
	for _, c := range []*authztest.Case{s.read, s.remove} {
		client := s.client(t, s.edge, c)
		l.done.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
				fields, body, err := s.World.HTTP2(c, time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				sent := time.Now()
				answer, err := client.Do(t.Context(), mesh.HTTP2, mesh.NewRequest(fields, body))
				if err != nil {
					t.Errorf("the load: %v", err)
					return
				}
				l.mu.Lock()
				l.samples = append(l.samples, sample{c == s.read, sent, time.Now(), answer.Status, answer.Header.Get("X-Asid-Reason")})
				l.mu.Unlock()
			}
		})
	}
	return l
}

// take ends the load and returns what came of it.
func (l *stream) take() []sample {
	close(l.stop)
	l.done.Wait()
	return l.samples
}

// playRedis starts a scene with two replicas and the map in Redis.
func playRedis(t *testing.T, bound time.Duration) (*scene, *redistest.SentinelDeployment, []*mesh.Authz) {
	t.Helper()
	d := redistest.Sentinel(t, redistest.Options{})
	s := &scene{}
	world := s.choose(t)
	s.Mesh = startMesh(t, world, mesh.Options{Redis: d, MaxStaleness: bound})
	second, err := s.Authz(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.edge = startEdge(t, s.Mesh)
	return s, d, []*mesh.Authz{s.Replica(), second}
}

// expectAgreement waits until the replicas hold the version that the command finds to be whole.
func (s *scene) expectAgreement(t *testing.T, replicas []*mesh.Authz) {
	t.Helper()
	eventually(t, "the replicas and the command agree", func() bool {
		out, err := s.Map(t.Context(), "verify", "--json")
		if err != nil {
			t.Logf("verify: %v", err)
			return false
		}
		var verified struct{ Version int }
		if err := json.Unmarshal(out, &verified); err != nil || verified.Version == 0 {
			t.Fatal(verified, err)
		}
		for _, a := range replicas {
			metrics, err := a.Metrics(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if sumOf(t, metrics, "asid_authz_map_version") != verified.Version {
				return false
			}
		}
		return true
	})
}

// untilServed waits until the read is allowed again; until then every answer is a 503.
func (s *scene) untilServed(t *testing.T) {
	t.Helper()
	eventually(t, "the read is allowed again", func() bool {
		for _, answer := range s.ask(t, s.edge, s.read) {
			if answer.Status == 503 {
				return false
			}
			expect(t, []*mesh.Answer{answer}, 200, "")
		}
		return true
	})
}

// replicated waits until both replicas of the primary have all that was published: what they
// do not have yet is lost with the primary. WAIT speaks of what its own connection wrote.
func replicated(t *testing.T, primary *redistest.Server) {
	t.Helper()
	conn := primary.Admin().Conn()
	defer conn.Close()
	if err := conn.Set(t.Context(), "e2e", "written last", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Wait(t.Context(), 2, 10*time.Second).Result(); err != nil || n != 2 {
		t.Fatalf("%d replicas have it: %v", n, err)
	}
}

// A primary that dies or freezes costs no request, and what is published to the next one holds.
func TestRedisFailsOver(t *testing.T) {
	t.Parallel()
	s, d, replicas := playRedis(t, 2*time.Minute)
	asid := headerOf(s.read, "fromASID")
	for _, fault := range []struct {
		name string
		do   func(*redistest.Server) error
		heal func(*redistest.Server) error
	}{
		{"killed", func(p *redistest.Server) error { p.Kill(); return nil }, func(p *redistest.Server) error { return p.Restart(t.Context(), nil) }},
		{"frozen", (*redistest.Server).Freeze, (*redistest.Server).Thaw},
	} {
		primary, err := d.Primary(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		replicated(t, primary)
		l := s.startLoad(t)
		if err := fault.do(primary); err != nil {
			t.Fatal(err)
		}
		_, err = d.AwaitFailover(t.Context(), primary)
		samples := l.take()
		if err != nil {
			t.Fatal(err)
		}
		if len(samples) < 10 {
			t.Errorf("%s: %d requests are no load", fault.name, len(samples))
		}
		for _, one := range samples {
			if !one.asBefore() {
				t.Errorf("%s: %+v", fault.name, one)
			}
		}
		if _, err := s.Map(t.Context(), "suspend", asid, "--by", "e2e", "--reason", fault.name); err != nil {
			t.Fatal(err)
		}
		s.expectAgreement(t, replicas)
		expect(t, s.ask(t, s.edge, s.read), 403, "system-suspended")
		if _, err := s.Map(t.Context(), "resume", asid, "--by", "e2e", "--reason", fault.name); err != nil {
			t.Fatal(err)
		}
		s.expectAgreement(t, replicas)
		expect(t, s.ask(t, s.edge, s.read), 200, "")
		if err := fault.heal(primary); err != nil {
			t.Fatal(err)
		}
		if _, err := d.AwaitFailover(t.Context(), primary); err != nil {
			t.Fatal(err)
		}
		s.expectAgreement(t, replicas)
	}
}

// Without Redis everything goes on inside the bound, nobody is let in beyond it, and nobody
// has to do anything when it is back: neither to replicas that ran, nor to those that started
// meanwhile.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	const bound = 6 * time.Second
	s, d, replicas := playRedis(t, bound)
	primary, err := d.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dump, err := primary.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	restart := func() {
		t.Helper()
		for _, server := range d.Data() {
			if err := server.Restart(t.Context(), dump); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop := func() {
		for _, server := range d.Data() {
			server.Kill()
		}
	}
	l := s.startLoad(t)
	before := time.Now()
	stop()
	gone := time.Now()
	eventually(t, "the map is stale at both replicas", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		stale := 0
		for _, one := range l.samples {
			if one.reason == "map-stale" && one.sent.After(gone.Add(bound)) {
				stale++
			}
		}
		return stale >= 20
	})
	inside, beyond := 0, 0
	for _, one := range l.take() {
		switch {
		case one.done.Before(before.Add(bound / 2)):
			inside++
			if !one.asBefore() {
				t.Errorf("inside the bound: %+v", one)
			}
		case one.sent.After(gone.Add(bound)):
			beyond++
			if one.status != 503 || one.reason != "map-stale" {
				t.Errorf("beyond the bound: %+v", one)
			}
		}
	}
	if inside < 10 || beyond < 10 {
		t.Errorf("%d requests inside the bound and %d beyond it are no load", inside, beyond)
	}
	for _, a := range replicas {
		if status, err := a.Status(t.Context(), "/readyz"); err != nil || status != 200 {
			t.Errorf("/readyz of a replica with a stale map: %d, %v", status, err)
		}
		// The line is written where the gRPC health becomes NOT_SERVING.
		eventually(t, "a replica with a stale map is NOT_SERVING", func() bool {
			return strings.Contains(a.Log(), `"serving":false,"why":"map-stale"`)
		})
	}
	restart()
	s.untilServed(t)
	s.expectAgreement(t, replicas)

	stop()
	for _, a := range replicas {
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := a.Launch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if status, err := a.Status(t.Context(), "/readyz"); err != nil || status != 503 {
			t.Errorf("/readyz of a replica without a map: %d, %v", status, err)
		}
	}
	eventually(t, "Envoy is told that there is no map", func() bool {
		answer := s.ask(t, s.edge, s.read)[0]
		return answer.Status == 503 && answer.Header.Get("X-Asid-Reason") == "map-unavailable"
	})
	restart()
	for _, a := range replicas {
		eventually(t, "the replica is ready by itself", func() bool {
			status, err := a.Status(t.Context(), "/readyz")
			return err == nil && status == 200
		})
	}
	s.untilServed(t)
	s.expectAgreement(t, replicas)
}
