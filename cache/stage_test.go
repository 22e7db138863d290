package cache_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/cache"
	"asid-authz/cache/layout"
	"asid-authz/cache/publish"
	"asid-authz/cache/redistest"
)

const (
	asid    = "100000000183" // in one of the first buckets that are verified
	right   = "urn:nhs:b"
	granted = "format: 1\nsystems: [{asid: 100000000183, ods: RXA, state: active, interactions: [urn:nhs:a, urn:nhs:b]}]\n"
	revoked = "format: 1\nsystems: [{asid: 100000000183, ods: RXA, state: active, interactions: [urn:nhs:a]}]\n"
)

// A stage is a deployment with two replicas that hold a map, and somebody who decides by each
// of them all the time.
type stage struct {
	t      *testing.T
	d      *deployment
	server *redistest.Server // that holds the map at first
	r      *cache.Replica    // the first of them
	all    []*cache.Replica

	mu     sync.Mutex
	grants map[uint64]bool // whether a version grants right
}

// newStage sets one up, with a proxy before each server or without. Where nobody is to be
// called down, the servers are patient: no failover comes in between because the machine is
// busy.
func newStage(t *testing.T, topology string, proxied, patient bool) *stage {
	t.Helper()
	s := &stage{t: t, grants: map[uint64]bool{}}
	o := redistest.Options{Patient: patient}
	if proxied {
		o.Proxy = func(address string) *redistest.Proxy { return redistest.NewProxy(t, address) }
	}
	switch topology {
	case "standalone":
		s.d = standalone(t, o)
	case "Sentinel":
		o.Replicas = 1
		s.d = sentinel(t, o)
	case "Cluster":
		s.d = cluster(t, o)
	}
	var err error
	s.server, err = s.d.master(t.Context())
	s.must(err)
	version := s.publish(granted)
	if topology != "standalone" {
		s.d.replicated(t)
	}
	s.all = []*cache.Replica{s.another(), s.another()}
	s.r = s.all[0]
	s.serves(version)
	s.young()
	for _, r := range s.all {
		s.decide(r)
	}
	return s
}

// decide looks at the map of a replica all the time until the test ends: it is never an older
// one than before, never nothing, and grants what its version grants.
func (s *stage) decide(r *cache.Replica) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var last uint64
		var confirmed time.Time
		for ctx.Err() == nil {
			m, at, absent := r.Current()
			switch {
			case m == nil:
				s.t.Errorf("no map any more: %s", absent)
				return
			case m.Version() < last || at.Before(confirmed):
				s.t.Errorf("version %d of %v after %d of %v", m.Version(), at, last, confirmed)
				return
			}
			last, confirmed = m.Version(), at
			s.mu.Lock()
			want, known := s.grants[m.Version()]
			s.mu.Unlock()
			if known && grants(m, asid, right) != want {
				s.t.Errorf("version %d grants %t, and says %t", m.Version(), want, !want)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	s.t.Cleanup(func() { cancel(); <-done })
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) admin(args ...any) {
	s.t.Helper()
	s.must(s.server.Admin().Do(s.t.Context(), args...).Err())
}

func (s *stage) dump() []byte {
	s.t.Helper()
	dump, err := s.server.Dump(s.t.Context())
	s.must(err)
	return dump
}

// publish publishes a map and returns its version.
func (s *stage) publish(text string) uint64 {
	s.t.Helper()
	version := s.d.publish(s.t, text).Version
	s.remember(version, text)
	return version
}

// published publishes a map as soon as there is a server that takes it.
func (s *stage) published(text string) (version uint64) {
	s.t.Helper()
	until(s.t, "something is published", func() bool {
		result, err := s.d.tryToPublish(s.t, text)
		version = result.Version
		return err == nil
	})
	s.remember(version, text)
	return version
}

// remember notes what a version grants.
func (s *stage) remember(version uint64, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants[version] = text == granted
}

func (s *stage) tryToPublish(text string) error {
	_, err := s.d.tryToPublish(s.t, text)
	return err
}

func (s *stage) generation() uint64 {
	s.t.Helper()
	n, err := s.server.Admin().HGet(s.t.Context(), manifest, "generation").Uint64()
	s.must(err)
	return n
}

// both waits until something is so of both replicas.
func (s *stage) both(what string, condition func(*cache.Replica) bool) {
	s.t.Helper()
	for i, r := range s.all {
		until(s.t, fmt.Sprintf("%s (replica %d)", what, i+1), func() bool { return condition(r) })
	}
}

// serves waits until that version is served.
func (s *stage) serves(version uint64) {
	s.t.Helper()
	s.both(fmt.Sprint("version ", version, " is served"), func(r *cache.Replica) bool { return r.Status().Version == version })
}

// young waits until the map is confirmed by an answer to a question of now.
func (s *stage) young() {
	s.t.Helper()
	now := time.Now()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%+v\n%+v", s.all[0].Status(), s.all[1].Status())
		}
	}()
	s.both("the map is confirmed", func(r *cache.Replica) bool {
		status := r.Status()
		return status.Err == nil && status.Confirmed.After(now)
	})
}

// ages waits until nothing has confirmed the map for longer than any answer may take.
func (s *stage) ages() {
	s.t.Helper()
	s.both("the map ages", func(r *cache.Replica) bool {
		_, confirmed, _ := r.Current()
		return authz.Age(time.Now(), confirmed) > 3*time.Second
	})
}

func (s *stage) regressed() {
	s.t.Helper()
	s.both("it says that what is published is older", func(r *cache.Replica) bool { return r.Status().Regressed })
}

func (s *stage) incomplete() {
	s.t.Helper()
	s.both("it says that what is published is not whole", func(r *cache.Replica) bool { return r.Status().Incomplete })
}

// agree expects, when the fault is over, that what lies in Redis is whole in the eyes of
// `map verify`, and that both replicas hold that and nothing else.
func (s *stage) agree() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	p, err := publish.Open(ctx, s.d.conn(redistest.Publisher), layout.DefaultNamespace)
	s.must(err)
	defer p.Close()
	v, err := p.Verify(ctx)
	s.must(err)
	if len(v.Damage) > 0 {
		s.t.Errorf("it is over, and what lies there is damaged: %v", v.Damage)
	}
	s.serves(v.State.Version)
	s.young()
	var want []authz.AccreditedSystem
	for system := range v.State.Map.Systems() {
		if _, is := v.State.Suspended[system.ASID]; is {
			system.State = authz.Suspended
		}
		want = append(want, system)
	}
	for i, r := range s.all {
		m, _, _ := r.Current()
		if got := slices.Collect(m.Systems()); !reflect.DeepEqual(got, want) {
			s.t.Errorf("replica %d holds\n%v\nand in Redis lies\n%v", i+1, got, want)
		}
	}
}

// mistyped replaces a key of the map by something of another type: a
// replica that holds the map finds it and doubts, one that starts has none, and what is
// published next is followed by both.
func (s *stage) mistyped(key string) {
	s.t.Helper()
	s.admin("DEL", key)
	s.admin("SET", key, "x")
	s.incomplete()
	s.ages()
	another := s.another()
	until(s.t, "one that starts says that the map is not whole", func() bool {
		m, _, absent := another.Current()
		return m == nil && absent == authz.MapIncomplete
	})
	version := s.publish(revoked)
	s.serves(version)
	s.young()
	until(s.t, "one that started follows too", func() bool { return another.Status().Version == version })
}

// loaded expects that many loads since the start.
func (s *stage) loaded(want uint64) {
	s.t.Helper()
	for i, r := range s.all {
		if got := r.Status().Loads; got != want {
			s.t.Errorf("replica %d made %d loads, want %d", i+1, got, want)
		}
	}
}

// another starts another replica.
func (s *stage) another() *cache.Replica {
	s.t.Helper()
	r := cache.NewHastyReplica(log(s.t), s.d.conn(redistest.Reader), layout.DefaultNamespace)
	run(s.t, r)
	return r
}

// away keeps the replicas from the server until back is called.
func (s *stage) away() (back func()) {
	s.t.Helper()
	s.admin("ACL", "SETUSER", redistest.Reader, "off")
	s.admin("CLIENT", "KILL", "USER", redistest.Reader)
	return func() {
		s.t.Helper()
		s.admin("ACL", "SETUSER", redistest.Reader, "on")
	}
}
