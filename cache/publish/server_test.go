package publish

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

var ns = layout.DefaultNamespace

// options are those of the documented publisher of a server.
func options(s *redistest.Server) conn.Options {
	return conn.Options{Addresses: []string{s.Address()}, Name: "publish-test",
		Credentials: func() (string, string, error) {
			return redistest.Publisher, s.Password(redistest.Publisher), nil
		}}
}

func open(t *testing.T, o conn.Options) *Publisher {
	t.Helper()
	p, err := Open(t.Context(), o, ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// server starts one for a test, and a publisher to it. It may not WAIT, because there is
// nobody to wait for, and that takes a tenth of a second.
func server(t *testing.T) (*redistest.Server, *Publisher) {
	t.Helper()
	s := redistest.Standalone(t, redistest.Options{})
	permit(t, s, "-wait")
	return s, open(t, options(s))
}

// permit changes what the publisher may do.
func permit(t *testing.T, s *redistest.Server, rule string) {
	t.Helper()
	if err := s.Admin().Do(t.Context(), "ACL", "SETUSER", redistest.Publisher, rule).Err(); err != nil {
		t.Fatal(err)
	}
}

func clear(t *testing.T, s *redistest.Server) {
	t.Helper()
	if err := s.Admin().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func parseASID(t testing.TB, text string) authz.ASID {
	t.Helper()
	a, err := authz.ParseASID(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// entry returns a system with interactions of the numbers given.
func entry(t testing.TB, asid int, ods string, numbers ...int) authz.AccreditedSystem {
	t.Helper()
	s := authz.AccreditedSystem{ASID: parseASID(t, fmt.Sprintf("%012d", asid)), ODSCode: ods, State: authz.Active,
		FQDNs: []string{fmt.Sprintf("s%d.example.nhs.uk", asid)}}
	for _, n := range numbers {
		id, err := authz.ParseInteractionID(fmt.Sprintf("urn:nhs:names:services:test:I%d", n))
		if err != nil {
			t.Fatal(err)
		}
		s.Interactions = append(s.Interactions, id)
	}
	return s
}

func mapOf(t testing.TB, systems ...authz.AccreditedSystem) *authz.InteractionMap {
	t.Helper()
	var b authz.MapBuilder
	for _, s := range systems {
		if err := b.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// many returns a map of n systems with that many interactions each.
func many(t testing.TB, n, interactions int) *authz.InteractionMap {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(n)))
	systems := make([]authz.AccreditedSystem, n)
	for i := range systems {
		systems[i] = entry(t, i, "RXA", random.Perm(4 * interactions)[:interactions]...)
	}
	return mapOf(t, systems...)
}

// describe returns a map in lines, so that two can be compared.
func describe(m *authz.InteractionMap) string {
	var b strings.Builder
	for s := range m.Systems() {
		canonical(&s)
		fmt.Fprintf(&b, "%s %q %q %q %v %x %v %v %v\n", s.ASID, s.Name, s.ODSCode, s.PartyKey, s.FQDNs, s.Fingerprints, s.TokenClients, s.State, s.Interactions)
	}
	return b.String()
}

// read reads the map, which must be whole.
func read(t testing.TB, p *Publisher) *State {
	t.Helper()
	s, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Damage) > 0 {
		t.Fatalf("the map is damaged: %v", s.Damage)
	}
	return s
}

var by = Meta{By: "tester", Reason: "a test", Action: "apply"}

// apply publishes a map, which must succeed.
func apply(t testing.TB, p *Publisher, m *authz.InteractionMap) Result {
	t.Helper()
	result, err := p.Apply(t.Context(), NewPlan(read(t, p), m), by)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// expect reads the map and compares it, and everything else that is kept with it.
func expect(t testing.TB, p *Publisher, want *authz.InteractionMap) *State {
	t.Helper()
	v, err := p.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Damage) > 0 {
		t.Errorf("damage: %v", v.Damage)
	}
	if got, want := describe(v.State.Map), describe(want); got != want {
		t.Errorf("the map is\n%swant\n%s", got, want)
	}
	return v.State
}

// keys returns every key of the server.
func keys(t testing.TB, s *redistest.Server) []string {
	t.Helper()
	all, err := s.Admin().Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// expectKeys fails the test if the server holds a key that no map that is whole has.
func expectKeys(t testing.TB, s *redistest.Server, state *State) {
	t.Helper()
	for _, key := range keys(t, s) {
		rest, ours := strings.CutPrefix(key, "{asid-authz}:1:")
		first, _, _ := strings.Cut(rest, ":")
		switch {
		case ours && first == fmt.Sprint(state.Generation), ours && first == "undo":
		case rest == "manifest", rest == "log", rest == "history", rest == "suspended":
		default:
			t.Errorf("key %s was left", key)
		}
	}
}

// suspended returns the ASIDs of the layer.
func suspended(s *State) (all []string) {
	for a := range maps.Keys(s.Suspended) {
		all = append(all, a.String())
	}
	slices.Sort(all)
	return all
}
