package publish

import (
	"fmt"
	"testing"

	"asid-authz/authz"
	"asid-authz/cache/redistest"
)

// What publishing costs by the size of the map, with 50 interactions a system: writing all
// of it anew, reading all of it, and one change of one system by a plan that is there.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		s := redistest.Standalone(b, redistest.Options{})
		if err := s.Admin().Do(b.Context(), "ACL", "SETUSER", redistest.Publisher, "-wait").Err(); err != nil {
			b.Fatal(err)
		}
		p, err := Open(b.Context(), options(s), ns)
		if err != nil {
			b.Fatal(err)
		}
		m := many(b, n, 50)
		apply(b, p, m)
		b.Run(fmt.Sprintf("systems=%d/generation", n), func(b *testing.B) {
			for b.Loop() {
				if err := s.Admin().FlushAll(b.Context()).Err(); err != nil {
					b.Fatal(err)
				}
				apply(b, p, m)
			}
		})
		b.Run(fmt.Sprintf("systems=%d/read", n), func(b *testing.B) {
			for b.Loop() {
				read(b, p)
			}
		})
		b.Run(fmt.Sprintf("systems=%d/edit", n), func(b *testing.B) {
			state, i := read(b, p), 0
			for b.Loop() {
				i++
				changed := entry(b, 1, fmt.Sprint("O", i), 1)
				before, _ := state.Map.System(changed.ASID)
				target, err := state.Map.With(state.Version+1, []authz.AccreditedSystem{changed}, nil)
				if err != nil {
					b.Fatal(err)
				}
				plan := &Plan{From: state, Target: target, Diff: Diff{Changed: []Change{{before, changed}}}}
				if _, err := p.Apply(b.Context(), plan, by); err != nil {
					b.Fatal(err)
				}
				standing, err := p.standing(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				state = &State{Version: standing.manifest.Version, Generation: state.Generation, Map: target, standing: standing, ids: state.ids}
			}
		})
		p.Close()
	}
}
