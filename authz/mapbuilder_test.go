package authz_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"asid-authz/authz"
)

// TestNumbers: a set that is given as numbers is the set of their ids.
func TestNumbers(t *testing.T) {
	var b authz.MapBuilder
	if n := b.Number(authz.InteractionID{}); n != -1 {
		t.Errorf("the zero id has number %d", n)
	}
	a, c := b.Number(interaction(t, "urn:a")), b.Number(interaction(t, "urn:c"))
	if a == c || b.Number(interaction(t, "urn:a")) != a {
		t.Errorf("numbers %d and %d", a, c)
	}
	for _, test := range []struct {
		numbers []int
		want    string
	}{
		{[]int{-1}, "interaction -1 has no id"},
		{[]int{a, 2}, "interaction 2 has no id"},
		{[]int{1 << 40}, "interaction 1099511627776 has no id"},
		{make([]int, authz.MaxInteractions+1), "more than 4096 interactions"},
	} {
		if err := b.AddNumbered(entry(t, 1), test.numbers); err == nil || err.Error() != test.want {
			t.Errorf("want %q, got %v", test.want, err)
		}
		if err := b.PutNumbered(entry(t, 1), test.numbers); err == nil || err.Error() != test.want {
			t.Errorf("want %q, got %v", test.want, err)
		}
	}
	if err := b.AddNumbered(entry(t, 1, "urn:a"), []int{c}); err == nil || err.Error() != "interactions stand both as ids and as numbers" {
		t.Errorf("two sets: %v", err)
	}
	if err := b.AddNumbered(authz.AccreditedSystem{}, nil); err == nil || !strings.Contains(err.Error(), "asid is missing") {
		t.Errorf("an invalid system: %v", err)
	}
	if err := b.AddNumbered(entry(t, 1), []int{c, a, c}); err != nil {
		t.Fatal(err)
	}
	if err := b.AddNumbered(entry(t, 1), nil); err == nil || !strings.Contains(err.Error(), "asid 000000000001 stands twice") {
		t.Errorf("the same ASID again: %v", err)
	}
	m, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := m.System(asid(t, "000000000001"))
	if diff := cmp.Diff(entry(t, 1, "urn:a", "urn:c"), got, comparable); diff != "" || m.Len() != 1 {
		t.Errorf("%d systems (-want +got):\n%s", m.Len(), diff)
	}

	// Numbers stay what they are, and one that a descendant gives is not the map's.
	change := m.Change()
	if change.Number(interaction(t, "urn:c")) != c || change.Number(interaction(t, "urn:new")) != 2 {
		t.Error("a changed map numbers anew")
	}
	if n := b.Number(interaction(t, "urn:a")); n != a {
		t.Errorf("a spent builder has forgotten: %d", n)
	}
	if n := b.Number(interaction(t, "urn:new")); n != -1 {
		t.Errorf("a spent builder gives number %d", n)
	}
	if err := m.Change().PutNumbered(entry(t, 2), []int{2}); err == nil {
		t.Error("a number that another builder gave")
	}
}

func TestChange(t *testing.T) {
	m := build(t, 5, entry(t, 1, "urn:a"), entry(t, 2, "urn:b"))
	b := m.Change()
	one, three := asid(t, "000000000001"), asid(t, "000000000003")
	if err := b.Add(entry(t, 1)); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("adding what is there: %v", err)
	}
	if err := b.Remove(three); err == nil || err.Error() != "asid 000000000003 is not in the map, or dropped twice" {
		t.Errorf("removing what is not there: %v", err)
	}
	for _, err := range []error{
		b.Remove(one), b.Add(entry(t, 1, "urn:c")), // there again
		b.Add(entry(t, 3)), b.Remove(three), // gone again
		b.Put(entry(t, 4)), b.Put(entry(t, 4, "urn:d")),
		b.Remove(asid(t, "000000000002")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := b.Put(authz.AccreditedSystem{}); err == nil {
		t.Error("an invalid system was put")
	}
	for _, version := range []uint64{0, 4, 5} {
		if _, err := b.Build(version); err == nil || err.Error() != fmt.Sprintf("version %d does not rise above 5", version) {
			t.Errorf("version %d after 5: %v", version, err)
		}
	}
	changed, err := b.Build(6)
	if err != nil {
		t.Fatal(err)
	}
	if got := asids(changed); got != "1 4" || changed.Len() != 2 || changed.Version() != 6 {
		t.Errorf("version %d, %d systems: %s", changed.Version(), changed.Len(), got)
	}
	for number, want := range map[string]string{"000000000001": "urn:c", "000000000004": "urn:d"} {
		if s, _ := changed.System(asid(t, number)); len(s.Interactions) != 1 || s.Interactions[0].String() != want {
			t.Errorf("%s holds %v, want %s", number, s.Interactions, want)
		}
	}
	if s, _ := m.System(one); asids(m) != "1 2" || m.Len() != 2 || s.Interactions[0].String() != "urn:a" {
		t.Errorf("the map that was changed from is now %s", asids(m))
	}
	for _, err := range []error{b.Remove(one), b.Put(entry(t, 1)), b.PutNumbered(entry(t, 1), nil), b.AddNumbered(entry(t, 9), nil)} {
		if err == nil || err.Error() != "the map is built" {
			t.Errorf("a builder that is spent: %v", err)
		}
	}
}

// TestBuilderHistories is TestMapHistories with larger maps, changed by builders: every
// map of a history is, at its end, what a Go map says.
func TestBuilderHistories(t *testing.T) {
	const asidsOf = 3000
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 3))
		type version struct {
			m     *authz.InteractionMap
			model map[authz.ASID]authz.AccreditedSystem
		}
		history := []version{{build(t, 1), map[authz.ASID]authz.AccreditedSystem{}}}
		for round := range 12 {
			from := history[max(0, len(history)-1-r.IntN(2))]
			b, model := from.m.Change(), maps.Clone(from.model)
			for range r.IntN(1500) {
				s := entry(t, r.IntN(asidsOf))
				s.Name = fmt.Sprint("round ", round)
				_, there := model[s.ASID]
				if r.IntN(3) == 0 {
					if err := b.Remove(s.ASID); (err == nil) != there {
						t.Fatalf("seed %d, round %d: removing %s: %v", seed, round, s.ASID, err)
					}
					delete(model, s.ASID)
					continue
				}
				var numbers []int
				ids := map[string]authz.InteractionID{}
				for range r.IntN(5) {
					id := interaction(t, fmt.Sprintf("urn:%d", r.IntN(40*(round+1))))
					numbers, ids[id.String()] = append(numbers, b.Number(id)), id
				}
				want := s
				for _, text := range slices.Sorted(maps.Keys(ids)) {
					want.Interactions = append(want.Interactions, ids[text])
				}
				refused := false
				var err error
				switch r.IntN(4) {
				case 0:
					err = b.Put(want)
				case 1:
					err = b.PutNumbered(s, numbers)
				case 2:
					err, refused = b.Add(want), there
				case 3:
					err, refused = b.AddNumbered(s, numbers), there
				}
				if (err != nil) != refused {
					t.Fatalf("seed %d, round %d: %v", seed, round, err)
				}
				if refused {
					continue
				}
				model[s.ASID] = want
			}
			m, err := b.Build(from.m.Version() + 1)
			if err != nil {
				t.Fatal(err)
			}
			history = append(history, version{m, model})
		}
		for i, v := range history {
			got := map[authz.ASID]authz.AccreditedSystem{}
			for s := range v.m.Systems() {
				got[s.ASID] = s
			}
			if diff := cmp.Diff(v.model, got, comparable); diff != "" || v.m.Len() != len(v.model) {
				t.Fatalf("seed %d, map %d, %d systems (-want +got):\n%s", seed, i, v.m.Len(), diff)
			}
			for range 200 {
				a := asid(t, fmt.Sprintf("%012d", r.IntN(asidsOf)))
				want, there := v.model[a]
				if s, found := v.m.System(a); found != there || !cmp.Equal(want, s, comparable) {
					t.Fatalf("seed %d, map %d: %s is %v, want %v", seed, i, a, s, want)
				}
			}
		}
	}
}
