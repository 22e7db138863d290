// Package cachetest is the suite that every source of interaction maps must pass, in
// whatever it holds the map and however it hears of a newer one.
package cachetest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
)

// A Store is a source under test, with what moves it. Each door returns only when the
// source has seen what was done; none is called while another is running.
type Store interface {
	authz.MapSource

	// Publish makes the content of a map file, a good one, the newest map.
	Publish(t *testing.T, text string)

	// Spoil makes something the newest that the source must refuse, and fails the test
	// if it does not. What was published before is not the newest any more.
	Spoil(t *testing.T)

	// Confirm lets the source look once more for a newer map than it has seen: at what
	// was published last, or at what Spoil left there.
	Confirm(t *testing.T)
}

// Test runs the suite. newStore returns a Store in which nothing was published, and
// leaves its end to t.Cleanup.
//
// Times are those of package time: a Store says that it was confirmed between the
// moment when a door was called and the moment when it returned.
func Test(t *testing.T, newStore func(t *testing.T) Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Store)
	}{
		{"nothing before the first map", nothingBefore},
		{"look up", lookUp},
		{"versions rise", versionsRise},
		{"a right that is taken away is gone", revocation},
		{"a map in use does not change", snapshot},
		{"confirmed is the moment of the look", confirmed},
		{"what is refused neither replaces nor confirms", refused},
		{"what is refused is no map", refusedFirst},
		{"replacement is atomic", atomic},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStore(t)) })
	}
}

const (
	read   = "urn:nhs:names:services:cachetest:Thing.read"
	write  = "urn:nhs:names:services:cachetest:Thing.write"
	asidA  = "100000000001"
	asidB  = "100000000002"
	header = "format: 1\nsystems:\n"
)

// entry returns a system as a map file has it.
func entry(asid, ods, state string, interactions ...string) string {
	return fmt.Sprintf("  - {asid: %q, ods: %s, state: %s, fqdns: [%s.example.nhs.uk], interactions: [%s]}\n",
		asid, ods, state, asid, strings.Join(interactions, ", "))
}

func parse(t *testing.T, asid string) authz.ASID {
	t.Helper()
	a, err := authz.ParseASID(asid)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// current returns the map, which must be there.
func current(t *testing.T, s Store) (*authz.InteractionMap, time.Time) {
	t.Helper()
	m, confirmed, absent := s.Current()
	if m == nil {
		t.Fatalf("no map (%s)", absent)
	}
	if m.Version() == 0 {
		t.Fatal("a map of version 0")
	}
	return m, confirmed
}

// describe returns an entry in one line, or "absent".
func describe(t *testing.T, m *authz.InteractionMap, asid string) string {
	t.Helper()
	s, known := m.System(parse(t, asid))
	if !known {
		return "absent"
	}
	return fmt.Sprint(s.ASID, " ", s.ODSCode, " ", s.State, " ", s.FQDNs, " ", s.Interactions)
}

func expect(t *testing.T, m *authz.InteractionMap, asid, want string) {
	t.Helper()
	if got := describe(t, m, asid); got != want {
		t.Errorf("system %s is %s, want %s", asid, got, want)
	}
}

func nothingBefore(t *testing.T, s Store) {
	m, confirmed, absent := s.Current()
	if m != nil || !confirmed.IsZero() || absent != authz.MapUnavailable && absent != authz.MapIncomplete {
		t.Errorf("map %v, confirmed %v, absent %s; want none, never, and a Reason why", m, confirmed, absent)
	}
}

func lookUp(t *testing.T, s Store) {
	s.Publish(t, header+entry(asidA, "AAA", "active", write, read)+entry(asidB, "BBB", "suspended"))
	m, _ := current(t, s)
	if m.Len() != 2 {
		t.Errorf("%d systems, want 2", m.Len())
	}
	expect(t, m, asidA, "100000000001 AAA active [100000000001.example.nhs.uk] ["+read+" "+write+"]")
	expect(t, m, asidB, "100000000002 BBB suspended [100000000002.example.nhs.uk] []")
	expect(t, m, "100000000003", "absent")
}

func versionsRise(t *testing.T, s Store) {
	var last uint64
	for i := range 4 {
		s.Publish(t, header+entry(asidA, fmt.Sprint("A", i), "active"))
		m, _ := current(t, s)
		if m.Version() <= last {
			t.Errorf("version %d after %d", m.Version(), last)
		}
		last = m.Version()
		s.Confirm(t)
		if m, _ := current(t, s); m.Version() != last {
			t.Errorf("version %d became %d without a newer map", last, m.Version())
		}
	}
}

func revocation(t *testing.T, s Store) {
	s.Publish(t, header+entry(asidA, "AAA", "active", read, write)+entry(asidB, "BBB", "active", read))
	s.Publish(t, header+entry(asidA, "AAA", "active", read)+entry(asidB, "BBB", "active", read))
	m, _ := current(t, s)
	expect(t, m, asidA, "100000000001 AAA active [100000000001.example.nhs.uk] ["+read+"]")
	s.Publish(t, header+entry(asidA, "AAA", "suspended", read)+entry(asidB, "BBB", "active", read))
	m, _ = current(t, s)
	expect(t, m, asidA, "100000000001 AAA suspended [100000000001.example.nhs.uk] ["+read+"]")
	s.Publish(t, header+entry(asidB, "BBB", "active", read))
	m, _ = current(t, s)
	expect(t, m, asidA, "absent")
	expect(t, m, asidB, "100000000002 BBB active [100000000002.example.nhs.uk] ["+read+"]")
	s.Publish(t, "format: 1\nsystems: []\n")
	if m, _ = current(t, s); m.Len() != 0 {
		t.Errorf("%d systems left of an empty map", m.Len())
	}
}

func snapshot(t *testing.T, s Store) {
	s.Publish(t, header+entry(asidA, "AAA", "active", read))
	m, _ := current(t, s)
	before, version := describe(t, m, asidA), m.Version()
	s.Publish(t, header+entry(asidA, "ZZZ", "suspended", write)+entry(asidB, "BBB", "active"))
	expect(t, m, asidA, before)
	expect(t, m, asidB, "absent")
	if m.Len() != 1 || m.Version() != version {
		t.Errorf("a map of 1 system and version %d became one of %d and %d", version, m.Len(), m.Version())
	}
}

func confirmed(t *testing.T, s Store) {
	within := func(what string, do func()) {
		t.Helper()
		before := time.Now()
		do()
		_, confirmed := current(t, s)
		if after := time.Now(); confirmed.Before(before) || confirmed.After(after) {
			t.Errorf("%s: confirmed at %v, want between %v and %v", what, confirmed, before, after)
		}
	}
	content := header + entry(asidA, "AAA", "active", read)
	within("first map", func() { s.Publish(t, content) })
	within("another look", func() { s.Confirm(t) })
	within("another map", func() { s.Publish(t, content+entry(asidB, "BBB", "active")) })
	within("another look", func() { s.Confirm(t) })
	within("the same map", func() { s.Publish(t, content+entry(asidB, "BBB", "active")) })
}

func refused(t *testing.T, s Store) {
	good := header + entry(asidA, "AAA", "active", read)
	s.Publish(t, good)
	m, at := current(t, s)
	s.Spoil(t)
	// A source that looks by itself may have confirmed the good map once more, until it
	// was not the newest any more.
	now, spoiled := current(t, s)
	if now != m || spoiled.Before(at) {
		t.Errorf("after a refusal: version %d confirmed at %v, want version %d, not before %v", now.Version(), spoiled, m.Version(), at)
	}
	s.Confirm(t)
	if now, confirmed := current(t, s); now != m || !confirmed.Equal(spoiled) {
		t.Errorf("after another look at what was refused: version %d confirmed at %v, want version %d at %v", now.Version(), confirmed, m.Version(), spoiled)
	}
	s.Publish(t, good)
	if now, confirmed := current(t, s); describe(t, now, asidA) != describe(t, m, asidA) || !confirmed.After(at) {
		t.Errorf("the good map again: confirmed at %v, want after %v", confirmed, at)
	}
	s.Spoil(t)
	s.Publish(t, header+entry(asidB, "BBB", "active"))
	now, _ = current(t, s)
	if now.Version() <= m.Version() {
		t.Errorf("a good map after a refused one has version %d, want one above %d", now.Version(), m.Version())
	}
	expect(t, now, asidA, "absent")
}

func refusedFirst(t *testing.T, s Store) {
	s.Spoil(t)
	nothingBefore(t, s)
	s.Publish(t, header+entry(asidA, "AAA", "active"))
	current(t, s)
}

// atomic lets readers look while maps are replaced: each of them must see one map, whole,
// and never one that is older than what it has seen.
func atomic(t *testing.T, s Store) {
	const readers, systems, maps = 4, 20, 25
	content := func(i int) string {
		var b strings.Builder
		b.WriteString(header)
		for n := range systems {
			b.WriteString(entry(fmt.Sprintf("1%011d", n), fmt.Sprint("M", i), "active"))
		}
		return b.String()
	}
	s.Publish(t, content(0))
	done := make(chan struct{})
	var running sync.WaitGroup
	for range readers {
		running.Go(func() {
			var version uint64
			var confirmed time.Time
			for {
				m, at, _ := s.Current()
				if m == nil || m.Version() < version || at.Before(confirmed) || m.Len() != systems {
					t.Errorf("a reader saw version %d and %v, and then map %v and %v", version, confirmed, m, at)
					return
				}
				version, confirmed = m.Version(), at
				ods := map[string]bool{}
				for system := range m.Systems() {
					ods[system.ODSCode] = true
				}
				if len(ods) != 1 {
					t.Errorf("a reader saw parts of several maps: %v", ods)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range maps {
		s.Publish(t, content(i+1))
		s.Confirm(t)
	}
	close(done)
	running.Wait()
}
