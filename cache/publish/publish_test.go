package publish

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

func TestApply(t *testing.T) {
	s, p := server(t)
	permit(t, s, "+wait")
	empty := read(t, p)
	if empty.Version != 0 || empty.Map.Len() != 0 {
		t.Fatalf("version %d with %d systems before anything was published", empty.Version, empty.Map.Len())
	}
	first := mapOf(t, entry(t, 1, "AAA", 1, 2), entry(t, 2, "BBB", 2))
	one := apply(t, p, first)
	if !one.Generation || one.Before != 0 || one.Version < 1_700_000_000_000 || one.Acknowledged != 0 {
		t.Errorf("the first publication is %+v", one)
	}
	expect(t, p, first)

	permit(t, s, "-wait")
	// A change of every kind, in one edit: 1 loses an interaction and gets a new one, 2 goes, 3 comes.
	changed := entry(t, 1, "AAA", 1, 3)
	changed.Name, changed.PartyKey, changed.TokenClients = "Name", "AAA-1", []string{"b", "a"}
	changed.Fingerprints = [][32]byte{{2}, {1}}
	changed.State = authz.Suspended
	second := mapOf(t, changed, entry(t, 3, "CCC"))
	plan := NewPlan(read(t, p), second)
	if len(plan.Added) != 1 || len(plan.Removed) != 1 || len(plan.Changed) != 1 {
		t.Errorf("the difference is %+v", plan.Diff)
	}
	two, err := p.Apply(t.Context(), plan, by)
	if err != nil {
		t.Fatal(err)
	}
	if two.Acknowledged != -1 {
		t.Errorf("without WAIT: %+v", two)
	}
	if two.Generation || two.Version <= one.Version || two.Before != one.Version {
		t.Errorf("an edit is %+v after %d", two, one.Version)
	}
	state := expect(t, p, second)
	expectKeys(t, s, state)
	if state.Generation != one.Version || len(state.ids) != 3 {
		t.Errorf("generation %d with %d ids after an edit", state.Generation, len(state.ids))
	}

	// Nothing differs, and a new version is written all the same.
	three := apply(t, p, second)
	if three.Version <= two.Version {
		t.Errorf("version %d after %d", three.Version, two.Version)
	}
	apply(t, p, mapOf(t))
	state = expect(t, p, mapOf(t))
	expectKeys(t, s, state)

	records, err := p.History(t.Context(), 10)
	if err != nil || len(records) != 4 {
		t.Fatalf("history: %v, %v", records, err)
	}
	r := records[2]
	r.Time = r.Time.UTC()
	want := layout.Record{Version: two.Version, Before: one.Version, Time: r.Time, By: "tester", Reason: "a test", Action: "apply",
		Systems: 2, Added: 1, Removed: 1, Changed: 1, UndoBytes: r.UndoBytes, UndoTotal: r.UndoBytes}
	if r != want || r.UndoBytes == 0 || r.Time.IsZero() {
		t.Errorf("record %+v, want %+v", r, want)
	}
}

// The log says what changed, in the words of package layout.
func TestLog(t *testing.T) {
	_, p := server(t)
	apply(t, p, mapOf(t, entry(t, 1, "AAA", 1), entry(t, 2, "BBB", 1)))
	result := apply(t, p, mapOf(t, entry(t, 1, "AAA", 1, 7)))
	id := layout.LogID(result.Version)
	entries, err := p.c.XRange(t.Context(), ns.Log(), id, id).Result()
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	c, err := layout.DecodeChange(entries[0].Values["change"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if c.Kind != layout.Edit || c.First != 1 || fmt.Sprint(c.IDs) != "[urn:nhs:names:services:test:I7]" || len(c.Put) != 1 ||
		c.Put[0].Field != "000000000001" || fmt.Sprint(c.Drop) != "[000000000002]" {
		t.Errorf("the change is %+v", c)
	}
	for _, test := range []struct{ bytes, want int }{{1, 10_000}, {1 << 10, 10_000}, {16 << 10, 1024}, {1 << 20, 16}, {4 << 20, 16}} {
		if got := logLength(test.bytes); got != test.want {
			t.Errorf("the log keeps %d changes of %d bytes, want %d", got, test.bytes, test.want)
		}
	}
}

// A map that does not fit into one transaction is written beside the live one.
func TestGeneration(t *testing.T) {
	s, p := server(t)
	apply(t, p, mapOf(t, entry(t, 1, "AAA", 1)))
	var progress []int
	p.Progress = func(written, systems int) {
		if systems != 4000 {
			t.Errorf("progress of %d systems", systems)
		}
		progress = append(progress, written)
	}
	large := many(t, 4000, 100)
	result := apply(t, p, large)
	if !result.Generation {
		t.Errorf("the change is %+v", result)
	}
	if len(progress) < 10 || progress[len(progress)-1] != 4000 {
		t.Errorf("progress %v", progress)
	}
	state := expect(t, p, large)
	expectKeys(t, s, state)
	if state.Generation != result.Version {
		t.Errorf("generation %d in version %d", state.Generation, result.Version)
	}

	// An edit of the large map.
	edited := systemsOf(large)
	changed := entry(t, 1, "ZZZ", 1)
	edited[changed.ASID] = changed
	m, err := build(edited, 1)
	if err != nil {
		t.Fatal(err)
	}
	if result := apply(t, p, m); result.Generation {
		t.Errorf("the edit is %+v", result)
	}
	expect(t, p, m)
}

// A dictionary of which most is not used any more is not kept.
func TestDictionary(t *testing.T) {
	_, p := server(t)
	systems := func(from, n int) *authz.InteractionMap {
		numbers := make([]int, n)
		for i := range numbers {
			numbers[i] = from + i
		}
		return mapOf(t, entry(t, 1, "AAA", numbers...))
	}
	apply(t, p, systems(0, 1000))
	if r := apply(t, p, systems(1000, 1000)); r.Generation {
		t.Error("a dictionary that is used by half was written anew")
	}
	if r := apply(t, p, systems(0, 100)); !r.Generation {
		t.Error("a dictionary that is used by a twentieth was kept")
	}
	if s := expect(t, p, systems(0, 100)); len(s.ids) != 100 {
		t.Errorf("the dictionary has %d ids", len(s.ids))
	}
}

func TestSuspend(t *testing.T) {
	_, p := server(t)
	one, two := parseASID(t, "000000000001"), parseASID(t, "000000000002")
	if _, err := p.Suspend(t.Context(), one, by); !errors.Is(err, layout.ErrNothingPublished) {
		t.Errorf("on nothing: %v", err)
	}
	m := mapOf(t, entry(t, 1, "AAA", 1))
	first := apply(t, p, m)
	for _, test := range []struct {
		do        func() (Result, error)
		unchanged bool
		inMap     bool
		layer     string
	}{
		{func() (Result, error) { return p.Suspend(t.Context(), one, by) }, false, true, "[000000000001]"},
		{func() (Result, error) { return p.Suspend(t.Context(), one, by) }, true, true, "[000000000001]"},
		{func() (Result, error) { return p.Suspend(t.Context(), two, by) }, false, false, "[000000000001 000000000002]"},
		{func() (Result, error) { return p.Resume(t.Context(), one, by) }, false, true, "[000000000002]"},
		{func() (Result, error) { return p.Resume(t.Context(), one, by) }, true, true, "[000000000002]"},
		{func() (Result, error) { return p.Suspend(t.Context(), one, by) }, false, true, "[000000000001 000000000002]"},
	} {
		before := read(t, p).Version
		r, err := test.do()
		if err != nil {
			t.Fatal(err)
		}
		if r.Unchanged != test.unchanged || r.InMap != test.inMap || r.Before != before || (r.Version == before) != test.unchanged {
			t.Errorf("the result is %+v after version %d, want %+v", r, before, test)
		}
		if got := fmt.Sprint(suspended(expect(t, p, m))); got != test.layer {
			t.Errorf("suspended are %s, want %s", got, test.layer)
		}
	}

	// Neither an edit, nor a new generation, nor a rollback lifts it.
	apply(t, p, mapOf(t, entry(t, 1, "AAA", 1, 2), entry(t, 2, "BBB")))
	apply(t, p, many(t, 4000, 100))
	plan, err := p.RollbackTo(t.Context(), first.Version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), plan, by); err != nil {
		t.Fatal(err)
	}
	state := expect(t, p, m)
	if got := fmt.Sprint(suspended(state)); got != "[000000000001 000000000002]" || state.Suspended[one].By != "tester" {
		t.Errorf("suspended are %v", state.Suspended)
	}
}

// Of two publishers that planned on the same map, one wins, whatever the size of the change.
func TestConflict(t *testing.T) {
	s, a := server(t)
	b := open(t, options(s))
	small, other, large := mapOf(t, entry(t, 1, "AAA", 1)), mapOf(t, entry(t, 1, "BBB", 1)), many(t, 4000, 100)
	for name, test := range map[string]struct{ first, second *authz.InteractionMap }{
		"edit, edit": {small, other}, "edit, generation": {small, large}, "generation, edit": {large, small}, "generation, generation": {large, large},
	} {
		t.Run(name, func(t *testing.T) {
			clear(t, s)
			apply(t, a, mapOf(t))
			planA, planB := NewPlan(read(t, a), test.first), NewPlan(read(t, b), test.second)
			if _, err := a.Apply(t.Context(), planA, by); err != nil {
				t.Fatal(err)
			}
			if r, err := b.Apply(t.Context(), planB, by); !errors.Is(err, ErrConflict) {
				t.Errorf("the second is %+v, %v", r, err)
			}
			expectKeys(t, s, expect(t, a, test.first))
		})
	}
}

// A change between what is read under WATCH and EXEC is noticed, by whatever key it is made.
func TestWatch(t *testing.T) {
	s, p := server(t)
	first := mapOf(t, entry(t, 1, "AAA", 1))
	apply(t, p, first)
	state := read(t, p)
	for _, key := range []string{ns.Manifest(), ns.Log(), ns.History(), ns.IDs(state.Generation), ns.Bucket(state.Generation, layout.BucketOf("000000000001"))} {
		standing, err := p.watch(t.Context(), ns.IDs(state.Generation), ns.Bucket(state.Generation, layout.BucketOf("000000000001")))
		if err != nil {
			t.Fatal(err)
		}
		step := p.step(standing, standing.top+1, standing.manifest, &layout.Change{Kind: layout.Edit, Generation: state.Generation, First: 1}, layout.Record{}, nil)
		dump, err := s.Admin().Dump(t.Context(), key).Result()
		if err == nil {
			err = s.Admin().RestoreReplace(t.Context(), key, 0, dump).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.commitStep(t.Context(), step); !errors.Is(err, ErrConflict) {
			t.Errorf("%s was written meanwhile: %v", key, err)
		}
	}
	expect(t, p, first)
}

func TestKeepsNoMoreThanOneTransaction(t *testing.T) {
	var b batch
	for b.fits() {
		b.add("RPUSH", "key", strings.Repeat("x", 1000))
	}
	if b.bytes > layout.MaxTransaction+2000 {
		t.Errorf("a transaction of %d bytes fits", b.bytes)
	}
	_, p := server(t)
	if err := p.commit(t.Context(), &b); !errors.Is(err, errTooLarge) {
		t.Errorf("it was committed: %v", err)
	}
	if s := read(t, p); s.Version != 0 {
		t.Errorf("version %d", s.Version)
	}
}
