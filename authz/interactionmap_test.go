package authz_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"asid-authz/authz"
)

func asid(tb testing.TB, s string) authz.ASID {
	tb.Helper()
	a, err := authz.ParseASID(s)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func interaction(tb testing.TB, s string) authz.InteractionID {
	tb.Helper()
	id, err := authz.ParseInteractionID(s)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func entry(tb testing.TB, n int, ids ...string) authz.AccreditedSystem {
	tb.Helper()
	s := authz.AccreditedSystem{
		ASID:         asid(tb, fmt.Sprintf("%012d", n)),
		ODSCode:      "RXA",
		FQDNs:        []string{"gp-one.example.nhs.uk"},
		TokenClients: []string{"app"},
		State:        authz.Active,
	}
	for _, id := range ids {
		s.Interactions = append(s.Interactions, interaction(tb, id))
	}
	return s
}

func build(tb testing.TB, version uint64, systems ...authz.AccreditedSystem) *authz.InteractionMap {
	tb.Helper()
	var b authz.MapBuilder
	for _, s := range systems {
		if err := b.Add(s); err != nil {
			tb.Fatal(err)
		}
	}
	m, err := b.Build(version)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// comparable makes entries comparable by cmp: the types of the rules are opaque.
var comparable = cmp.Options{
	cmp.Comparer(func(a, b authz.ASID) bool { return a == b }),
	cmp.Comparer(func(a, b authz.InteractionID) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func TestMapBuilder(t *testing.T) {
	var b authz.MapBuilder
	first := entry(t, 7, "urn:b", "urn:a", "urn:b")
	first.FQDNs = []string{"GP-One.Example.NHS.uk"}
	if err := b.Add(first); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(entry(t, 7)); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("the same ASID again: %v", err)
	}
	if err := b.Add(authz.AccreditedSystem{}); err == nil || !strings.Contains(err.Error(), "asid is missing") {
		t.Errorf("an entry without an ASID: %v", err)
	}
	if _, err := b.Build(0); err == nil {
		t.Error("version 0 was built")
	}
	m, err := b.Build(3)
	if err != nil || m.Version() != 3 || m.Len() != 1 {
		t.Fatalf("%v, %v", m, err)
	}
	if err := b.Add(entry(t, 8)); err == nil {
		t.Error("a builder that is spent took an entry")
	}
	if _, err := b.Build(4); err == nil {
		t.Error("a builder that is spent built again")
	}
	got, found := m.System(asid(t, "000000000007"))
	want := entry(t, 7, "urn:a", "urn:b")
	if diff := cmp.Diff(want, got, comparable); !found || diff != "" {
		t.Errorf("a set in order, names in lower case (-want +got):\n%s", diff)
	}
	if first.FQDNs[0] != "GP-One.Example.NHS.uk" {
		t.Error("the builder changed what it was given")
	}
	if _, found := m.System(asid(t, "000000000008")); found {
		t.Error("a system that nobody added")
	}
	if _, found := m.System(authz.ASID{}); found {
		t.Error("the zero ASID is somebody")
	}
	if m := build(t, 1); m.Len() != 0 || m.Version() != 1 {
		t.Error("an empty map is not one")
	}
}

// TestMapIsImmutable: what is handed out is a copy.
func TestMapIsImmutable(t *testing.T) {
	s := entry(t, 7, "urn:a")
	s.Fingerprints = [][32]byte{{1}}
	m := build(t, 1, s)
	got, _ := m.System(s.ASID)
	got.FQDNs[0], got.TokenClients[0], got.Fingerprints[0], got.Interactions[0] = "x", "x", [32]byte{2}, interaction(t, "urn:x")
	for again := range m.Systems() {
		again.FQDNs[0] = "y"
	}
	again, _ := m.System(s.ASID)
	if diff := cmp.Diff(s, again, comparable); diff != "" {
		t.Errorf("somebody who looked changed the map (-want +got):\n%s", diff)
	}
}

func TestWith(t *testing.T) {
	old := build(t, 5, entry(t, 1, "urn:a"), entry(t, 2, "urn:a"), entry(t, 3, "urn:b"))
	m, err := old.With(6, []authz.AccreditedSystem{entry(t, 2, "urn:c"), entry(t, 4, "urn:d")}, []authz.ASID{asid(t, "000000000003")})
	if err != nil {
		t.Fatal(err)
	}
	if got := asids(m); m.Version() != 6 || m.Len() != 3 || got != "1 2 4" {
		t.Errorf("version %d, %d systems: %s", m.Version(), m.Len(), got)
	}
	if s, _ := m.System(asid(t, "000000000002")); len(s.Interactions) != 1 || s.Interactions[0].String() != "urn:c" {
		t.Errorf("the replaced entry holds %v", s.Interactions)
	}
	if got := asids(old); old.Version() != 5 || old.Len() != 3 || got != "1 2 3" {
		t.Errorf("the old map is now version %d, %d systems: %s", old.Version(), old.Len(), got)
	}
	if s, _ := old.System(asid(t, "000000000002")); s.Interactions[0].String() != "urn:a" {
		t.Error("the old map lost an entry's interactions")
	}

	for name, try := range map[string]func() (*authz.InteractionMap, error){
		"the same version":         func() (*authz.InteractionMap, error) { return m.With(6, nil, nil) },
		"an older version":         func() (*authz.InteractionMap, error) { return m.With(5, nil, nil) },
		"version 0":                func() (*authz.InteractionMap, error) { return m.With(0, nil, nil) },
		"dropping what is not in":  func() (*authz.InteractionMap, error) { return m.With(7, nil, []authz.ASID{asid(t, "000000000003")}) },
		"dropping nobody":          func() (*authz.InteractionMap, error) { return m.With(7, nil, []authz.ASID{{}}) },
		"putting an invalid entry": func() (*authz.InteractionMap, error) { return m.With(7, []authz.AccreditedSystem{{}}, nil) },
		"dropping one twice": func() (*authz.InteractionMap, error) {
			return m.With(7, nil, []authz.ASID{asid(t, "000000000001"), asid(t, "000000000001")})
		},
		"half of it invalid": func() (*authz.InteractionMap, error) {
			return m.With(7, []authz.AccreditedSystem{entry(t, 1, "urn:z"), {}}, []authz.ASID{asid(t, "000000000002")})
		},
	} {
		if _, err := try(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if s, _ := m.System(asid(t, "000000000001")); m.Len() != 3 || asids(m) != "1 2 4" || s.Interactions[0].String() != "urn:a" {
			t.Errorf("%s changed the map: %d systems, %s", name, m.Len(), asids(m))
		}
	}
	if m, err := m.With(7, nil, nil); err != nil || m.Version() != 7 || m.Len() != 3 {
		t.Errorf("a new version of the same content: %v", err)
	}
}

func asids(m *authz.InteractionMap) string {
	var all []string
	for s := range m.Systems() {
		all = append(all, strings.TrimLeft(s.ASID.String(), "0"))
	}
	return strings.Join(all, " ")
}

// TestWithShares: one changed entry of a large map must cost what it costs in a small
// one. Bytes are counted, not time.
func TestWithShares(t *testing.T) {
	one := func(systems int) uint64 {
		var b authz.MapBuilder
		for n := range systems {
			if err := b.Add(entry(t, n, "urn:a", "urn:b")); err != nil {
				t.Fatal(err)
			}
		}
		m, err := b.Build(1)
		if err != nil {
			t.Fatal(err)
		}
		put, drop := []authz.AccreditedSystem{entry(t, 17, "urn:b")}, []authz.ASID{asid(t, "000000000018")}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for version := range uint64(100) {
			if _, err := m.With(2+version, put, drop); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / 100
	}
	small, large := one(500), one(50_000)
	if large > small+8<<10 { // two paths that are one or two nodes longer
		t.Errorf("a change of a map of 50,000 systems costs %d bytes, of one of 500 it costs %d", large, small)
	}
}

// prober asks the rules themselves whether a system may do something: a profile with
// one endpoint, whose interaction a header picks.
type prober struct {
	authorizer *authz.Authorizer
	m          *authz.InteractionMap
	request    authz.Request
}

func newProber(t testing.TB, ids []string) *prober {
	t.Helper()
	s := newScenario(t)
	p := &prober{request: *s.request}
	template, err := authz.ParsePathTemplate("/probe")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := authz.Endpoint{Name: "probe", Method: "GET", Path: template}
	for _, id := range ids {
		endpoint.Choice = append(endpoint.Choice, interaction(t, id))
	}
	s.config.Profile = authz.Profile{
		Name: "probe", Dialect: "none",
		Sender:      authz.ClaimHeader{Name: "from", Required: true},
		Interaction: authz.ClaimHeader{Name: "what"},
		Endpoints:   []authz.Endpoint{endpoint},
		Token:       authz.TokenRules{Kind: authz.TokenSigned},
	}
	s.config.Receivers = nil
	s.config.Tokens = verifier(func(context.Context, string, time.Time) (*authz.Claims, error) {
		return &authz.Claims{All: []authz.Claim{{Name: "azp", Kind: authz.ClaimString, Text: "app"}}}, nil
	})
	s.config.Map = mapFunc(func() (*authz.InteractionMap, time.Time, authz.Reason) { return p.m, p.request.Now, authz.Undecided })
	p.authorizer = s.authorizer()
	p.request.Target = "/probe"
	return p
}

func (p *prober) may(m *authz.InteractionMap, a authz.ASID, id string) bool {
	p.m = m
	p.request.Headers = []authz.Header{{Name: "from", Value: a.String()}, {Name: "what", Value: id}, {Name: "authorization", Value: "Bearer x"}}
	d := p.authorizer.Check(context.Background(), &p.request)
	return d.Allowed()
}

// TestMapHistories plays random histories of changes against a model that is nothing
// but a Go map, and looks at every map of the history again at its end: an older one
// must be what it was, whatever was built on it. New interactions keep coming, so the
// dictionary grows on the way, past the words of a bitset.
func TestMapHistories(t *testing.T) {
	var ids []string
	for i := range 150 {
		ids = append(ids, fmt.Sprintf("urn:nhs:names:services:probe:%d", i))
	}
	p := newProber(t, ids)
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 1))
		random := func(round int) authz.AccreditedSystem {
			s := entry(t, r.IntN(40))
			for range r.IntN(12) {
				s.Interactions = append(s.Interactions, interaction(t, ids[r.IntN(min(len(ids), 10+round*10))]))
			}
			s.State = authz.State(r.IntN(2))
			return s
		}
		type version struct {
			m     *authz.InteractionMap
			model map[authz.ASID]authz.AccreditedSystem
		}
		history := []version{{build(t, 1), map[authz.ASID]authz.AccreditedSystem{}}}
		for round := range 16 {
			// Now and then from an older map: two changes that know nothing of each other.
			from := history[len(history)-1]
			if r.IntN(4) == 0 {
				from = history[r.IntN(len(history))]
			}
			model := map[authz.ASID]authz.AccreditedSystem{}
			var drop []authz.ASID
			for a, s := range from.model {
				if r.IntN(8) == 0 {
					drop = append(drop, a)
				} else {
					model[a] = s
				}
			}
			var put []authz.AccreditedSystem
			for range r.IntN(8) {
				s := random(round)
				put = append(put, s)
				model[s.ASID] = s
			}
			m, err := from.m.With(from.m.Version()+1+r.Uint64N(3), put, drop)
			if err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			history = append(history, version{m, model})
		}
		for i, v := range history {
			if v.m.Len() != len(v.model) {
				t.Fatalf("seed %d, map %d: %d systems, want %d", seed, i, v.m.Len(), len(v.model))
			}
			last := authz.ASID{}
			for s := range v.m.Systems() {
				if s.ASID.String() <= last.String() {
					t.Fatalf("seed %d, map %d: %s after %s", seed, i, s.ASID, last)
				}
				last = s.ASID
				want := v.model[s.ASID]
				want.Interactions = slices.Clone(want.Interactions)
				slices.SortFunc(want.Interactions, func(a, b authz.InteractionID) int { return strings.Compare(a.String(), b.String()) })
				want.Interactions = slices.Compact(want.Interactions)
				if diff := cmp.Diff(want, s, comparable); diff != "" {
					t.Fatalf("seed %d, map %d (-want +got):\n%s", seed, i, diff)
				}
			}
			for range 60 {
				a, id := asid(t, fmt.Sprintf("%012d", r.IntN(40))), ids[r.IntN(len(ids))]
				s, known := v.model[a]
				want := known && s.State == authz.Active && slices.Contains(s.Interactions, interaction(t, id))
				if got := p.may(v.m, a, id); got != want {
					t.Fatalf("seed %d, map %d: %s may %s: %v, want %v", seed, i, a, id, got, want)
				}
			}
		}
	}
}

func TestValidateSystem(t *testing.T) {
	long := strings.Repeat("a", 256)
	for _, test := range []struct {
		change func(s *authz.AccreditedSystem)
		want   string
	}{
		{func(s *authz.AccreditedSystem) { s.ASID = authz.ASID{} }, "asid is missing"},
		{func(s *authz.AccreditedSystem) { s.ODSCode = "" }, "ods is 1 to 255"},
		{func(s *authz.AccreditedSystem) { s.ODSCode = "R X" }, "ods is 1 to 255"},
		{func(s *authz.AccreditedSystem) { s.ODSCode = long }, "ods is 1 to 255"},
		{func(s *authz.AccreditedSystem) { s.Name = "a\nb" }, "name is at most 255"},
		{func(s *authz.AccreditedSystem) { s.PartyKey = long }, "party_key is at most 255"},
		{func(s *authz.AccreditedSystem) { s.FQDNs = []string{""} }, "can match no certificate"},
		{func(s *authz.AccreditedSystem) { s.FQDNs = []string{"*.nhs.uk"} }, "can match no certificate"},
		{func(s *authz.AccreditedSystem) { s.FQDNs = []string{"a.nhs.uk."} }, "can match no certificate"},
		{func(s *authz.AccreditedSystem) { s.FQDNs = []string{"ä.nhs.uk"} }, "can match no certificate"},
		{func(s *authz.AccreditedSystem) { s.FQDNs = []string{long} }, "can match no certificate"},
		{func(s *authz.AccreditedSystem) { s.FQDNs = []string{"a.nhs.uk", "A.NHS.uk"} }, "stands twice"},
		{func(s *authz.AccreditedSystem) { s.TokenClients = []string{""} }, "token client is 1 to 255"},
		{func(s *authz.AccreditedSystem) { s.TokenClients = []string{"a", "a"} }, "stands twice"},
		{func(s *authz.AccreditedSystem) { s.Fingerprints = [][32]byte{{1}, {1}} }, "stands twice"},
		{func(s *authz.AccreditedSystem) { s.Fingerprints = make([][32]byte, 1025) }, "more than 1024"},
		{func(s *authz.AccreditedSystem) { s.Interactions = make([]authz.InteractionID, 1) }, "an interaction is empty"},
		{func(s *authz.AccreditedSystem) { s.Interactions = make([]authz.InteractionID, 4097) }, "more than 4096"},
	} {
		s := entry(t, 1, "urn:a")
		test.change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("want %q, got %v", test.want, err)
		}
	}
	s := authz.AccreditedSystem{FQDNs: []string{"*"}, TokenClients: []string{""}}
	if err := s.Validate(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("not everything that is wrong is said at once: %v", err)
	}
}

// TestValidateAllocates: a replica validates every system that there is before it serves.
func TestValidateAllocates(t *testing.T) {
	s := entry(t, 1, "urn:a")
	s.Name, s.PartyKey, s.Fingerprints = "Example Trust EPR", "RXA-0000806", [][32]byte{{1}, {2}}
	s.FQDNs, s.TokenClients = append(s.FQDNs, "gp-two.example.nhs.uk"), append(s.TokenClients, "other")
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a valid system allocates %v times", n)
	}
}

func TestState(t *testing.T) {
	var zero authz.State
	if zero != authz.Suspended {
		t.Error("a state that nobody set is not suspended")
	}
	for _, s := range []authz.State{authz.Active, authz.Suspended} {
		if parsed, err := authz.ParseState(s.String()); err != nil || parsed != s {
			t.Errorf("%v: %v, %v", s, parsed, err)
		}
	}
	for _, name := range []string{"", "Active", "on"} {
		if s, err := authz.ParseState(name); err == nil || s != authz.Suspended {
			t.Errorf("ParseState(%q) is %v, %v", name, s, err)
		}
	}
}
