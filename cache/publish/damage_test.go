package publish

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

// dump returns everything that the server holds, byte by byte.
func dump(t *testing.T, s *redistest.Server) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range keys(t, s) {
		value, err := s.Admin().Dump(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		all[key] = value
	}
	return all
}

// Whatever somebody else did to the map: it is found, named by its key, no change goes over
// it, and a repair makes it whole. A suspension survives as far as the history knows it.
func TestDamage(t *testing.T) {
	s, p := server(t)
	ctx := t.Context()
	m := mapOf(t, entry(t, 1, "AAA", 1, 2), entry(t, 2, "BBB", 2))
	bucket := layout.BucketOf("000000000001")
	for name, test := range map[string]struct {
		do        func(st *State) []any // a command of a foreign writer
		key       func(st *State) string
		elsewhere bool // an edit does not touch it, and leaves it as it is
	}{
		"an entry is gone":     {func(st *State) []any { return []any{"HDEL", ns.Bucket(st.Generation, bucket), "000000000001"} }, func(st *State) string { return ns.Bucket(st.Generation, bucket) }, false},
		"a bucket is gone":     {func(st *State) []any { return []any{"DEL", ns.Bucket(st.Generation, bucket)} }, func(st *State) string { return ns.Bucket(st.Generation, bucket) }, false},
		"an entry is changed":  {func(st *State) []any { return []any{"HSET", ns.Bucket(st.Generation, bucket), "000000000001", "x"} }, func(st *State) string { return ns.Bucket(st.Generation, bucket) }, false},
		"an entry more":        {func(st *State) []any { return []any{"HSET", ns.Bucket(st.Generation, 0), "x", "y"} }, func(st *State) string { return ns.Bucket(st.Generation, 0) }, true},
		"a foreign bucket":     {func(st *State) []any { return []any{"SET", ns.Bucket(st.Generation, bucket), "x"} }, func(st *State) string { return ns.Bucket(st.Generation, bucket) }, false},
		"an id more":           {func(st *State) []any { return []any{"RPUSH", ns.IDs(st.Generation), "x"} }, func(st *State) string { return ns.IDs(st.Generation) }, false},
		"no ids":               {func(st *State) []any { return []any{"DEL", ns.IDs(st.Generation)} }, func(st *State) string { return ns.IDs(st.Generation) }, false},
		"foreign ids":          {func(st *State) []any { return []any{"SET", ns.IDs(st.Generation), "x"} }, func(st *State) string { return ns.IDs(st.Generation) }, false},
		"no manifest":          {func(*State) []any { return []any{"DEL", ns.Manifest()} }, func(*State) string { return ns.Manifest() }, false},
		"a broken manifest":    {func(*State) []any { return []any{"HSET", ns.Manifest(), "tip", "x"} }, func(*State) string { return ns.Manifest() }, false},
		"a foreign manifest":   {func(*State) []any { return []any{"SET", ns.Manifest(), "x"} }, func(*State) string { return ns.Manifest() }, false},
		"no suspensions":       {func(*State) []any { return []any{"DEL", ns.Suspended()} }, func(*State) string { return ns.Suspended() }, true},
		"foreign suspensions":  {func(*State) []any { return []any{"SET", ns.Suspended(), "x"} }, func(*State) string { return ns.Suspended() }, true},
		"a foreign log entry":  {func(st *State) []any { return []any{"XADD", ns.Log(), layout.LogID(st.Version + 1), "a", "b"} }, func(*State) string { return ns.Log() }, false},
		"a foreign log":        {func(*State) []any { return []any{"SET", ns.Log(), "x"} }, func(*State) string { return ns.Log() }, false},
		"the log is cut":       {func(st *State) []any { return []any{"XDEL", ns.Log(), layout.LogID(st.Version)} }, func(*State) string { return ns.Log() }, false},
		"a foreign history":    {func(*State) []any { return []any{"SET", ns.History(), "x"} }, func(*State) string { return ns.History() }, false},
		"a record that is not": {func(st *State) []any { return []any{"XADD", ns.History(), layout.LogID(st.Version + 1), "record", "x"} }, func(*State) string { return ns.History() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			clear(t, s)
			apply(t, p, m)
			if _, err := p.Suspend(ctx, parseASID(t, "000000000002"), by); err != nil {
				t.Fatal(err)
			}
			healthy := read(t, p)
			if err := s.Admin().Do(ctx, test.do(healthy)...).Err(); err != nil {
				t.Fatal(err)
			}
			state, err := p.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, d := range state.Damage {
				found = found || d.Key == test.key(healthy)
			}
			if !found {
				t.Fatalf("damage at %s was not found: %v", test.key(healthy), state.Damage)
			}
			held := dump(t, s)
			change := mapOf(t, entry(t, 1, "ZZZ", 9))
			var damage DamageError
			if r, err := p.Apply(ctx, NewPlan(state, change), by); !errors.As(err, &damage) {
				t.Errorf("a change that saw the damage: %+v, %v", r, err)
			}
			if !test.elsewhere {
				if r, err := p.Apply(ctx, NewPlan(healthy, change), by); !errors.As(err, &damage) && !errors.Is(err, ErrConflict) {
					t.Errorf("a change that was planned before the damage: %+v, %v", r, err)
				}
			}
			if !maps.Equal(held, dump(t, s)) {
				t.Error("something was written")
			}
			state, err = p.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			plan := NewPlan(state, m)
			plan.Repair = true
			if _, err := p.Apply(ctx, plan, by); err != nil {
				t.Fatal(err)
			}
			repaired := expect(t, p, m)
			if repaired.Version <= healthy.Version {
				t.Errorf("version %d after %d", repaired.Version, healthy.Version)
			}
			if got := fmt.Sprint(suspended(repaired)); got != "[000000000002]" {
				t.Errorf("suspended are %s", got)
			}
			expectKeys(t, s, repaired)
		})
	}
}

// What is damaged keeps nobody from suspending a system, but where the suspension is written.
func TestSuspendInDamage(t *testing.T) {
	s, p := server(t)
	ctx, one := t.Context(), parseASID(t, "000000000001")
	m := mapOf(t, entry(t, 1, "AAA", 1))
	apply(t, p, m)
	key := ns.Bucket(read(t, p).Generation, layout.BucketOf("000000000001"))
	if err := s.Admin().HSet(ctx, key, "000000000001", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Suspend(ctx, one, by); err != nil || r.Unchanged {
		t.Errorf("suspend: %+v, %v", r, err)
	}
	var damage DamageError
	if r, err := p.Resume(ctx, one, by); !errors.As(err, &damage) {
		t.Errorf("resume on a damaged entry: %+v, %v", r, err)
	}
	if err := s.Admin().Del(ctx, ns.Suspended()).Err(); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Suspend(ctx, one, by); !errors.As(err, &damage) || !strings.Contains(err.Error(), ns.Suspended()) {
		t.Errorf("suspend in a damaged layer: %+v, %v", r, err)
	}
}

// A layout of a newer release is not touched, not even by a repair.
func TestNewerLayout(t *testing.T) {
	s, p := server(t)
	ctx := t.Context()
	apply(t, p, mapOf(t, entry(t, 1, "AAA", 1)))
	plan := NewPlan(read(t, p), mapOf(t))
	plan.Repair = true
	if err := s.Admin().HSet(ctx, ns.Manifest(), "layout", "2").Err(); err != nil {
		t.Fatal(err)
	}
	held := dump(t, s)
	var newer layout.NewerLayoutError
	_, readErr := p.Read(ctx)
	_, applyErr := p.Apply(ctx, plan, by)
	_, suspendErr := p.Suspend(ctx, parseASID(t, "000000000001"), by)
	_, rollbackErr := p.RollbackTo(ctx, 1)
	for name, err := range map[string]error{"read": readErr, "apply": applyErr, "suspend": suspendErr, "rollback": rollbackErr} {
		if !errors.As(err, &newer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !maps.Equal(held, dump(t, s)) {
		t.Error("something was written")
	}
}

// A publisher that was taken for dead while it was only slow does not publish what is gone.
func TestSlowPublisher(t *testing.T) {
	s, p := server(t)
	other := open(t, options(s))
	ctx := t.Context()
	apply(t, p, mapOf(t, entry(t, 1, "AAA", 1)))
	large := many(t, 4000, 100)
	plan := NewPlan(read(t, p), large)
	removed := false
	p.Progress = func(written, systems int) {
		if written > systems/2 && !removed {
			removed = true
			if err := other.removeDead(ctx, time.Now().Add(2*abandonedAfter)); err != nil {
				t.Error(err)
			}
		}
	}
	if r, err := p.Apply(ctx, plan, by); err == nil || !strings.Contains(err.Error(), "another publisher removed it") {
		t.Errorf("it published: %+v, %v", r, err)
	}
	if state := expect(t, p, mapOf(t, entry(t, 1, "AAA", 1))); len(state.ids) != 1 {
		t.Errorf("the dictionary is %v", state.ids)
	}
	// A generation that is in use is never taken for a dead one.
	if err := s.Admin().SAdd(ctx, ns.Pending(), read(t, p).Generation).Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.removeDead(ctx, time.Now().Add(2*abandonedAfter)); err != nil {
		t.Fatal(err)
	}
	expect(t, p, mapOf(t, entry(t, 1, "AAA", 1)))
}

// A foreign key where generations are announced is met with an error that names it.
func TestForeignPending(t *testing.T) {
	s, p := server(t)
	if err := s.Admin().Set(t.Context(), ns.Pending(), "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	_, err := p.Apply(t.Context(), NewPlan(read(t, p), mapOf(t)), by)
	if err == nil || !strings.Contains(err.Error(), ns.Pending()+" holds something else than a map's") {
		t.Error(err)
	}
}

// An answer that refuses a command of the transaction means that nothing was written, and
// says which it was.
func TestNotPermitted(t *testing.T) {
	s, p := server(t)
	ctx := t.Context()
	m := mapOf(t, entry(t, 1, "AAA", 1))
	apply(t, p, m)
	for _, command := range []string{"rpush", "xadd", "hset", "multi", "watch", "hgetall"} {
		permit(t, s, "-"+command)
		state, err := p.Read(ctx)
		if err == nil {
			_, err = p.Apply(ctx, NewPlan(state, mapOf(t, entry(t, 1, "BBB", 2))), by)
		}
		if err == nil || !strings.Contains(err.Error(), "NOPERM") || !strings.Contains(strings.ToLower(err.Error()), command) {
			t.Errorf("without %s: %v", command, err)
		}
		permit(t, s, "+"+command)
		expect(t, p, m)
	}
}
