package cache_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/cache"
	"asid-authz/cache/layout"
	"asid-authz/cache/publish"
	"asid-authz/cache/redistest"
)

// publisherFaults are publishers that die, seen from a replica.
var publisherFaults = []fault{
	{"a publisher dies in the middle of a large apply", everywhere, 0, "the newest", stays, "– (an apply an hour later removes what it left)", func(s *stage) {
		before := s.r.Status().Version
		proxy := redistest.NewProxy(s.t, s.server.Address())
		p := s.publisher(proxy)
		plan := s.plan(p, string(largeMap(8000, false)))
		p.Progress = func(written, systems int) {
			if written > systems/2 {
				proxy.Disable()
			}
		}
		if result, err := p.Apply(s.t.Context(), plan, meta); err == nil {
			s.t.Fatalf("it did not die: %+v", result)
		}
		g := s.pending()
		if n := s.written(g); n < 10 || n > layout.Buckets-10 {
			s.t.Fatalf("%d keys of generation %d are written: this tests nothing", n, g)
		}
		s.young()
		another := s.another()
		until(s.t, "one that starts has a map", func() bool { return another.Status().Version > 0 })
		for _, r := range []*cache.Replica{s.r, another} {
			if status := r.Status(); status.Version != before || status.Err != nil || status.Loads != 1 {
				s.t.Errorf("half of a generation is written, and a replica is at %+v, want version %d", status, before)
			}
		}
		s.serves(s.publish(revoked)) // nothing of it is in the way
		if s.pending() != g {
			s.t.Error("what may still be written was removed")
		}
		g = s.longAgo(g)
		s.serves(s.publish(granted))
		s.young()
		s.loaded(1)
		if n := s.written(g); n != 0 || s.pending() != 0 {
			s.t.Errorf("%d keys of generation %d are left", n, g)
		}
	}},
	{"a publisher dies between two commands of a change", everywhere, 0, "the newest: the map before, or with all of the change", stays, "–", func(s *stage) {
		proxy := redistest.NewProxy(s.t, s.server.Address())
		text, version := revoked, s.r.Status().Version
		// Each time it dies some bytes later, until it does not die any more.
		const step = 150
		dead, done := 0, false
		for n := step; !done; n += step {
			p := s.publisher(proxy)
			plan := s.plan(p, text)
			proxy.CutAfterSent(n)
			_, err := p.Apply(s.t.Context(), plan, meta)
			proxy.Heal()
			now := s.version()
			switch {
			case now == version && err == nil:
				s.t.Fatalf("cut after %d bytes: it says that it published", n)
			case now == version:
				dead++
			default:
				s.remember(now, text)
				var unknown publish.UnknownError
				if err != nil && !errors.As(err, &unknown) {
					s.t.Errorf("cut after %d bytes: it published, and says that it did not: %v", n, err)
				}
				version, done = now, true
			}
			s.serves(version)
			s.young()
		}
		if dead < 5 {
			s.t.Errorf("it died %d times: this tests nothing", dead)
		}
		s.loaded(1)
		s.serves(s.publish(granted))
		s.loaded(1)
	}},
}

var meta = publish.Meta{By: "test", Reason: "test", Action: "apply"}

// publisher returns one that reaches the server through a proxy.
func (s *stage) publisher(proxy *redistest.Proxy) *publish.Publisher {
	s.t.Helper()
	p, err := publish.Open(s.t.Context(), s.d.at(redistest.Publisher, proxy.Address()), layout.DefaultNamespace)
	s.must(err)
	s.t.Cleanup(func() { p.Close() })
	return p
}

// plan returns what leads to the content of a map file.
func (s *stage) plan(p *publish.Publisher, text string) *publish.Plan {
	s.t.Helper()
	state, err := p.Read(s.t.Context())
	s.must(err)
	return publish.NewPlan(state, decoded(s.t, text))
}

func decoded(t *testing.T, text string) *authz.InteractionMap {
	t.Helper()
	f, err := cache.DecodeMap("map.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// version returns what is published by the server's own account.
func (s *stage) version() uint64 {
	s.t.Helper()
	n, err := s.server.Admin().HGet(s.t.Context(), manifest, "version").Uint64()
	s.must(err)
	return n
}

// pending returns the generation that somebody is writing, or died writing; 0 is none.
func (s *stage) pending() uint64 {
	s.t.Helper()
	members, err := s.server.Admin().SMembers(s.t.Context(), layout.DefaultNamespace.Pending()).Result()
	s.must(err)
	if len(members) == 0 {
		return 0
	}
	g, err := strconv.ParseUint(members[0], 10, 64)
	s.must(err)
	return g
}

// written returns how many keys of a generation are there.
func (s *stage) written(generation uint64) int {
	s.t.Helper()
	n, err := s.server.Admin().Exists(s.t.Context(), layout.DefaultNamespace.Generation(generation)...).Result()
	s.must(err)
	return int(n)
}

// longAgo makes a generation that somebody died writing one that was begun two hours ago:
// its number is the time. It returns the new number.
func (s *stage) longAgo(generation uint64) uint64 {
	s.t.Helper()
	old := generation - uint64((2 * time.Hour).Milliseconds())
	from, to := layout.DefaultNamespace.Generation(generation), layout.DefaultNamespace.Generation(old)
	for i := range from {
		if n, err := s.server.Admin().Exists(s.t.Context(), from[i]).Result(); err != nil || n > 0 {
			s.must(err)
			s.admin("RENAMENX", from[i], to[i])
		}
	}
	s.admin("SREM", layout.DefaultNamespace.Pending(), fmt.Sprint(generation))
	s.admin("SADD", layout.DefaultNamespace.Pending(), fmt.Sprint(old))
	return old
}
