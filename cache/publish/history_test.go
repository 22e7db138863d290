package publish

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

// randomMap returns one of many small maps.
func randomMap(t *testing.T, random *rand.Rand) *authz.InteractionMap {
	t.Helper()
	var systems []authz.AccreditedSystem
	for asid := range 12 {
		if random.IntN(3) == 0 {
			continue
		}
		s := entry(t, asid, fmt.Sprint("O", random.IntN(3)), random.Perm(8)[:random.IntN(5)]...)
		if random.IntN(4) == 0 {
			s.State = authz.Suspended
		}
		if random.IntN(3) == 0 {
			s.Name, s.TokenClients, s.Fingerprints = "Näme \u2028 \"", []string{"c2", "c1"}, [][32]byte{{byte(random.IntN(2))}}
		}
		systems = append(systems, s)
	}
	return mapOf(t, systems...)
}

// Whatever was published, a rollback makes the map exactly what it was, over edits, new
// generations, suspensions and other rollbacks.
func TestRollback(t *testing.T) {
	s, p := server(t)
	ctx := t.Context()
	random := rand.New(rand.NewPCG(7, 7))
	versions, contents := []uint64{}, map[uint64]*authz.InteractionMap{}
	publish := func(plan *Plan, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Apply(ctx, plan, by)
		if err != nil {
			t.Fatal(err)
		}
		versions, contents[r.Version] = append(versions, r.Version), plan.Target
	}
	for i := range 40 {
		switch {
		case i%9 == 8:
			version := versions[random.IntN(len(versions)-1)]
			plan, err := p.RollbackTo(ctx, version)
			publish(plan, err)
			if got, want := describe(plan.Target), describe(contents[version]); got != want {
				t.Fatalf("back at %d the map is\n%swant\n%s", version, got, want)
			}
		case i%7 == 6:
			r, err := p.Suspend(ctx, parseASID(t, fmt.Sprintf("%012d", i)), by)
			if err != nil {
				t.Fatal(err)
			}
			versions, contents[r.Version] = append(versions, r.Version), contents[versions[len(versions)-1]]
		case i == 20:
			publish(NewPlan(read(t, p), many(t, 4000, 100)), nil)
		default:
			publish(NewPlan(read(t, p), randomMap(t, random)), nil)
		}
	}
	expect(t, p, contents[versions[len(versions)-1]])
	for _, version := range versions[:len(versions)-1] {
		plan, err := p.RollbackTo(ctx, version)
		if err != nil {
			t.Fatalf("%d: %v", version, err)
		}
		if describe(plan.Target) != describe(contents[version]) {
			t.Errorf("back at %d the map differs", version)
		}
	}
	expectKeys(t, s, read(t, p))
}

func TestRollbackRefuses(t *testing.T) {
	s, p := server(t)
	ctx := t.Context()
	refused := func(version uint64, want string) {
		t.Helper()
		_, err := p.RollbackTo(ctx, version)
		var history HistoryError
		if !errors.As(err, &history) || !strings.Contains(err.Error(), want) {
			t.Errorf("back to %d: %v, want %q", version, err, want)
		}
	}
	refused(0, "only an older one")
	first := apply(t, p, mapOf(t, entry(t, 1, "AAA", 1))).Version
	refused(first, "only an older one")
	refused(first+10, "only an older one")
	refused(0, "is not kept")
	second := apply(t, p, mapOf(t)).Version
	third := apply(t, p, mapOf(t, entry(t, 1, "BBB", 1))).Version
	refused(second-1, "there was no version")
	refused(first-1, "is not kept")
	if err := s.Admin().Do(ctx, "LSET", ns.Undo(third), "0", "x").Err(); err != nil {
		t.Fatal(err)
	}
	refused(second, "cannot be read")
	if err := s.Admin().Del(ctx, ns.Undo(third)).Err(); err != nil {
		t.Fatal(err)
	}
	refused(second, "is not whole")
	if v, err := p.Verify(ctx); err != nil || len(v.Damage) > 0 || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "is gone") {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if err := s.Admin().XDel(ctx, ns.History(), layout.LogID(second)).Err(); err != nil {
		t.Fatal(err)
	}
	_, p.KeepHistory = apply(t, p, mapOf(t)), DefaultKeepHistory
	if v, err := p.Verify(ctx); err != nil || len(v.Damage) > 0 || len(v.Notes) != 2 {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

// The history keeps what was said of what changes replaced, and the records of that.
func TestHistoryIsBounded(t *testing.T) {
	s, p := server(t)
	ctx := t.Context()
	apply(t, p, mapOf(t, entry(t, 0, "AAA", 1)))
	p.KeepHistory = 2000
	for i := range 30 {
		apply(t, p, mapOf(t, entry(t, i+1, "AAA", 1)))
		records, err := p.History(ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		sum, kept := 0, map[string]bool{}
		for _, r := range records {
			sum += r.UndoBytes
			kept[ns.Undo(r.Version)] = r.UndoBytes > 0
		}
		if sum > p.KeepHistory {
			t.Errorf("%d bytes are kept", sum)
		}
		for _, key := range keys(t, s) {
			if strings.Contains(key, ":undo:") && !kept[key] {
				t.Errorf("%s belongs to no record", key)
			}
		}
		if i == 29 && (len(records) < 5 || len(records) > 20) {
			t.Errorf("%d records", len(records))
		}
	}
	// What is larger than all that may be kept is not.
	p.KeepHistory = 10
	version := apply(t, p, mapOf(t, entry(t, 50, "AAA", 1))).Version
	records, err := p.History(ctx, 1000)
	if err != nil || len(records) != 1 || records[0].Version != version || records[0].UndoBytes != 0 {
		t.Errorf("records %+v, %v", records, err)
	}
	expectKeys(t, s, read(t, p))
}

// A suspension takes no way back away, whatever its publisher would keep.
func TestSuspensionKeepsHistory(t *testing.T) {
	_, p := server(t)
	first := apply(t, p, mapOf(t)).Version
	apply(t, p, mapOf(t, entry(t, 1, "AAA", 1)))
	p.KeepHistory = 0
	if _, err := p.Suspend(t.Context(), parseASID(t, "000000000001"), by); err != nil {
		t.Fatal(err)
	}
	if _, err := p.RollbackTo(t.Context(), first); err != nil {
		t.Error(err)
	}
}
