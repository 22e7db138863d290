package authz

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// A crowd makes systems as Spine has them, each with fifty interactions drawn at random
// from five hundred: no two sets are equal, which is the worst case for the memory.
type crowd struct {
	random *rand.Rand
	ids    []InteractionID
}

const setSize = 50

func newCrowd() *crowd {
	c := &crowd{random: rand.New(rand.NewPCG(1, 2))}
	for i := range 500 {
		c.ids = append(c.ids, InteractionID{fmt.Sprintf("urn:nhs:names:services:example%d:rest:read:resource-%d", i%40, i)})
	}
	return c
}

// systems returns that many without interactions, and the places in ids of each one's.
func (c *crowd) systems(count int) ([]AccreditedSystem, [][]int) {
	all, sets := make([]AccreditedSystem, count), make([][]int, count)
	numbers := make([]int, count*setSize)
	for n := range all {
		all[n] = AccreditedSystem{
			ASID:     ASID{uint64(200_000_000_000 + n*7)},
			Name:     fmt.Sprintf("Example Practice %05d EPR", n),
			ODSCode:  fmt.Sprintf("A%05d", n%100_000),
			PartyKey: fmt.Sprintf("A%05d-%07d", n%100_000, n),
			FQDNs:    []string{fmt.Sprintf("gp-%06d.example.nhs.uk", n)},
			State:    Active,
		}
		sets[n] = numbers[n*setSize : (n+1)*setSize]
		for i := range sets[n] {
			sets[n][i] = c.random.IntN(len(c.ids))
		}
	}
	return all, sets
}

func (c *crowd) build(tb testing.TB, all []AccreditedSystem, sets [][]int) *InteractionMap {
	tb.Helper()
	var b MapBuilder
	for _, id := range c.ids {
		b.Number(id)
	}
	for n := range all {
		if err := b.AddNumbered(all[n], sets[n]); err != nil {
			tb.Fatal(err)
		}
	}
	m, err := b.Build(1)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// BenchmarkMapMemory builds maps, and counts what the collector leaves of them.
func BenchmarkMapMemory(b *testing.B) {
	for _, count := range []int{1_000, 10_000, 100_000, 200_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			c := newCrowd()
			all, sets := c.systems(count)
			var m *InteractionMap
			for b.Loop() {
				m = nil
				before := held()
				m = c.build(b, all, sets)
				b.ReportMetric(float64(held()-before)/float64(count), "bytes/system")
			}
			runtime.KeepAlive(m)
		})
	}
}

func held() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkMapLookup finds a system and asks for one interaction, as a check does: in a
// map that the processor's caches hold as far as it fits, with a thousand systems that
// are asked for again and again, or with all of them at random. The baseline is the
// plainest map that can answer both.
func BenchmarkMapLookup(b *testing.B) {
	for _, count := range []int{1_000, 100_000, 1_000_000} {
		c := newCrowd()
		all, sets := c.systems(count)
		m := c.build(b, all, sets)
		type granting struct {
			AccreditedSystem
			set []uint64
		}
		plain, number := make(map[ASID]*granting, count), make(map[InteractionID]int)
		for i, id := range c.ids {
			number[id] = i
		}
		for n := range all {
			s := &granting{all[n], make([]uint64, 8)}
			for _, i := range sets[n] {
				s.set[i>>6] |= 1 << (i & 63)
			}
			plain[s.ASID] = s
		}
		for _, asked := range []struct {
			name string
			of   int
		}{{"hot", 1000}, {"random", count}} {
			order, granted := make([]ASID, 1<<20), make([]InteractionID, 1<<20)
			for i := range order {
				n := c.random.IntN(asked.of)
				order[i], granted[i] = all[n].ASID, c.ids[sets[n][i%setSize]]
			}
			b.Run(fmt.Sprintf("%d/%s", count, asked.name), func(b *testing.B) {
				var s system
				for i := 0; b.Loop(); i++ {
					if !m.find(order[i%len(order)], &s) {
						b.Fatal("not found")
					}
				}
			})
			b.Run(fmt.Sprintf("%d/%s/granted", count, asked.name), func(b *testing.B) {
				var s system
				for i := 0; b.Loop(); i++ {
					if !m.find(order[i%len(order)], &s) || !m.grants(&s, granted[i%len(order)]) {
						b.Fatal("not granted")
					}
				}
			})
			// Each waits for the one before it, as a check does for its own: otherwise the
			// processor has several of them wait for memory at the same time.
			b.Run(fmt.Sprintf("%d/%s/waiting", count, asked.name), func(b *testing.B) {
				var s system
				for i := 0; b.Loop(); i += 1 + int(s.state>>7) {
					if !m.find(order[i%len(order)], &s) || !m.grants(&s, granted[i%len(order)]) {
						b.Fatal("not granted")
					}
				}
			})
			b.Run(fmt.Sprintf("%d/%s/waiting/baseline", count, asked.name), func(b *testing.B) {
				for i := 0; b.Loop(); {
					s := plain[order[i%len(order)]]
					if n := number[granted[i%len(order)]]; s == nil || s.set[n>>6]>>(n&63)&1 == 0 {
						b.Fatal("not granted")
					}
					i += 1 + int(s.State>>7)
				}
			})
			b.Run(fmt.Sprintf("%d/%s/baseline", count, asked.name), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					s := plain[order[i%len(order)]]
					if n := number[granted[i%len(order)]]; s == nil || s.set[n>>6]>>(n&63)&1 == 0 {
						b.Fatal("not granted")
					}
				}
			})
		}
	}
}

// BenchmarkMapChange replaces one system. The baseline is an insertion into a Go map,
// which leaves no older map behind.
func BenchmarkMapChange(b *testing.B) {
	for _, count := range []int{1_000, 100_000, 1_000_000} {
		c := newCrowd()
		all, sets := c.systems(count)
		m := c.build(b, all, sets)
		few := all[:1000]
		for n := range few {
			for _, i := range sets[n] {
				few[n].Interactions = append(few[n].Interactions, c.ids[i])
			}
			few[n].State = Suspended
		}
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := m.With(2, few[i%len(few):][:1], nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/numbered", count), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s := few[i%len(few)]
				s.Interactions = nil
				change := m.Change()
				if err := change.PutNumbered(s, sets[i%len(few)]); err != nil {
					b.Fatal(err)
				}
				if _, err := change.Build(2); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/baseline", count), func(b *testing.B) {
			plain := make(map[ASID]*AccreditedSystem, count)
			for n := range all {
				plain[all[n].ASID] = &all[n]
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s := few[i%len(few)]
				plain[s.ASID] = &s
			}
		})
	}
}

// BenchmarkMapBuild builds the map of 100,000 systems: from ids, from numbers, and, as
// the baseline, what it takes to keep the systems in a Go map.
func BenchmarkMapBuild(b *testing.B) {
	c := newCrowd()
	all, sets := c.systems(100_000)
	b.Run("numbered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.build(b, all, sets)
		}
	})
	for n := range all {
		for _, i := range sets[n] {
			all[n].Interactions = append(all[n].Interactions, c.ids[i])
		}
	}
	b.Run("ids", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var builder MapBuilder
			for n := range all {
				if err := builder.Add(all[n]); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := builder.Build(1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("baseline", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			plain := map[ASID]*AccreditedSystem{}
			for n := range all {
				s := all[n]
				plain[s.ASID] = &s
			}
		}
	})
}
