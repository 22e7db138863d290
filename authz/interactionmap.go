package authz

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// An InteractionMap is an immutable snapshot of all AccreditedSystems, with a version.
// How fresh it is, is not part of it. Look-ups take no lock and allocate nothing.
//
// A set of interactions is a bitset over a dictionary of all ids that the map knows:
// 100,000 systems with fifty interactions each share a few hundred strings.
type InteractionMap struct {
	version uint64
	systems int
	shards  [shardCount]map[ASID]*system
	ids     *dictionary
}

// A map is cut into shards so that a changed map can share what did not change.
const shardCount = 256

func shardOf(a ASID) int {
	// Fibonacci hashing: consecutive ASIDs, as they are handed out, spread evenly.
	return int(a.plusOne * 0x9E3779B97F4A7C15 >> 56)
}

// A dictionary numbers InteractionIDs in the order in which they were first seen.
// It only grows, so the bitsets of an older map stay valid under a newer one.
type dictionary struct {
	number map[InteractionID]int
	id     []InteractionID
}

// A system is an AccreditedSystem as the steps need it.
type system struct {
	AccreditedSystem        // FQDNs as comparableName makes them
	set              bitset // of its Interactions
}

type bitset []uint64

func (b bitset) has(n int) bool { return n>>6 < len(b) && b[n>>6]&(1<<(n&63)) != 0 }

// Version returns the number that rises with each accepted content.
func (m *InteractionMap) Version() uint64 { return m.version }

// Len returns the number of systems.
func (m *InteractionMap) Len() int { return m.systems }

func (m *InteractionMap) system(a ASID) *system { return m.shards[shardOf(a)][a] }

// grants reports whether s may do i.
func (m *InteractionMap) grants(s *system, i InteractionID) bool {
	n, known := m.ids.number[i]
	return known && s.set.has(n)
}

// System returns a copy of the entry of a, and whether there is one.
func (m *InteractionMap) System(a ASID) (AccreditedSystem, bool) {
	s := m.system(a)
	if s == nil {
		return AccreditedSystem{}, false
	}
	return s.copy(), true
}

// Systems yields a copy of every entry, in the order of their ASIDs.
func (m *InteractionMap) Systems() iter.Seq[AccreditedSystem] {
	return func(yield func(AccreditedSystem) bool) {
		asids := make([]ASID, 0, m.systems)
		for _, shard := range m.shards {
			asids = slices.AppendSeq(asids, maps.Keys(shard))
		}
		slices.SortFunc(asids, func(a, b ASID) int {
			if a.plusOne < b.plusOne {
				return -1
			}
			return 1
		})
		for _, a := range asids {
			if !yield(m.system(a).copy()) {
				return
			}
		}
	}
}

func (s *system) copy() AccreditedSystem {
	c := s.AccreditedSystem
	c.FQDNs = slices.Clone(c.FQDNs)
	c.Fingerprints = slices.Clone(c.Fingerprints)
	c.TokenClients = slices.Clone(c.TokenClients)
	c.Interactions = slices.Clone(c.Interactions)
	return c
}

// With returns a map of that version in which put replaced or added entries and drop
// removed them. It shares everything else with m, which stays as it is. The version
// must be higher than m's: a map never goes back.
func (m *InteractionMap) With(version uint64, put []AccreditedSystem, drop []ASID) (*InteractionMap, error) {
	if version <= m.version {
		return nil, fmt.Errorf("version %d does not rise above %d", version, m.version)
	}
	b := &MapBuilder{m: *m, fresh: map[int]bool{}}
	for _, a := range drop {
		if b.m.system(a) == nil {
			return nil, fmt.Errorf("asid %s is not in the map, or dropped twice", a)
		}
		b.remove(a)
	}
	put = slices.Clone(put)
	for i := range put {
		if b.m.system(put[i].ASID) != nil {
			b.remove(put[i].ASID)
		}
		if err := b.Add(put[i]); err != nil {
			return nil, err
		}
	}
	return b.Build(version)
}

// A MapBuilder collects systems, one at a time, into an InteractionMap. The zero
// MapBuilder is an empty one.
type MapBuilder struct {
	m     InteractionMap
	fresh map[int]bool // shards that are the builder's own; the others belong to an older map
	owned bool         // the dictionary is the builder's own
	built bool
}

// Add adds a system that is not there yet. What is wrong with it is in the error, all
// of it, and nothing was added. The builder keeps what s points at.
func (b *MapBuilder) Add(s AccreditedSystem) error {
	if b.built {
		return errors.New("the map is built")
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if b.m.system(s.ASID) != nil {
		return fmt.Errorf("asid %s stands twice", s.ASID)
	}
	entry := &system{AccreditedSystem: s}
	entry.FQDNs = make([]string, len(s.FQDNs))
	for i, fqdn := range s.FQDNs {
		entry.FQDNs[i] = comparableName(fqdn)
	}
	// A set, in a stable order, whatever order and repetitions it came with.
	entry.Interactions = slices.Clone(s.Interactions)
	slices.SortFunc(entry.Interactions, compareIDs)
	entry.Interactions = slices.Compact(entry.Interactions)
	for i, id := range entry.Interactions {
		n := b.intern(id)
		entry.Interactions[i] = b.m.ids.id[n] // one string for all systems that hold the id
		for len(entry.set) <= n>>6 {
			entry.set = append(entry.set, 0)
		}
		entry.set[n>>6] |= 1 << (n & 63)
	}
	entry.set = slices.Clip(entry.set)
	b.shard(s.ASID)[s.ASID] = entry
	b.m.systems++
	return nil
}

func compareIDs(a, b InteractionID) int {
	switch {
	case a.s < b.s:
		return -1
	case a.s > b.s:
		return 1
	}
	return 0
}

func (b *MapBuilder) remove(a ASID) {
	delete(b.shard(a), a)
	b.m.systems--
}

// shard returns the shard of a, made the builder's own first.
func (b *MapBuilder) shard(a ASID) map[ASID]*system {
	n := shardOf(a)
	if b.fresh == nil {
		b.fresh = map[int]bool{}
	}
	if !b.fresh[n] {
		b.fresh[n] = true
		if b.m.shards[n] = maps.Clone(b.m.shards[n]); b.m.shards[n] == nil {
			b.m.shards[n] = map[ASID]*system{}
		}
	}
	return b.m.shards[n]
}

func (b *MapBuilder) intern(id InteractionID) int {
	if b.m.ids == nil {
		b.m.ids, b.owned = &dictionary{number: map[InteractionID]int{}}, true
	}
	n, known := b.m.ids.number[id]
	if known {
		return n
	}
	if !b.owned {
		b.m.ids, b.owned = &dictionary{number: maps.Clone(b.m.ids.number), id: slices.Clone(b.m.ids.id)}, true
	}
	n = len(b.m.ids.id)
	b.m.ids.id = append(b.m.ids.id, id)
	b.m.ids.number[id] = n
	return n
}

// Build returns the map of what was added, with that version. The builder is spent.
func (b *MapBuilder) Build(version uint64) (*InteractionMap, error) {
	if b.built {
		return nil, errors.New("the map is built")
	}
	if version == 0 {
		return nil, errors.New("version 0 is no version: it would be that of a map that was never loaded")
	}
	b.built = true
	if b.m.ids == nil {
		b.m.ids = &dictionary{number: map[InteractionID]int{}}
	}
	m := b.m
	m.version = version
	return &m, nil
}
