package authz

import (
	"cmp"
	"iter"
	"slices"
)

// An InteractionMap is an immutable snapshot of all AccreditedSystems, with a version.
// How fresh it is, is not part of it. Look-ups take no lock and allocate nothing, and a
// large map costs them one or two steps more than a small one, and what the memory costs.
//
// Every replica of the service holds one of all systems that there are, so it is packed:
// a system is some 150 bytes with its fifty interactions, and for the garbage collector
// two dozen systems are one object without a pointer in it.
type InteractionMap struct {
	version uint64
	systems int
	root    node
	ids     *dictionary
}

// Version returns the number that rises with each accepted content.
func (m *InteractionMap) Version() uint64 { return m.version }

// Len returns the number of systems.
func (m *InteractionMap) Len() int { return m.systems }

// find unpacks the entry of a into s, and reports whether there is one.
func (m *InteractionMap) find(a ASID, s *system) bool {
	record := m.root.find(a)
	if record == "" {
		return false
	}
	s.unpack(a, record)
	return true
}

// grants reports whether s may do i.
func (m *InteractionMap) grants(s *system, i InteractionID) bool {
	n, known := m.ids.number[i]
	return known && s.interactions().has(n)
}

// System returns a copy of the entry of a, and whether there is one.
func (m *InteractionMap) System(a ASID) (AccreditedSystem, bool) {
	var s system
	if !m.find(a, &s) {
		return AccreditedSystem{}, false
	}
	return s.copy(m.ids), true
}

// Systems yields a copy of every entry, in the order of their ASIDs.
func (m *InteractionMap) Systems() iter.Seq[AccreditedSystem] {
	return func(yield func(AccreditedSystem) bool) {
		all := m.root.appendTo(make([]placed, 0, m.systems))
		slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.hash.asid().plusOne, b.hash.asid().plusOne) })
		for i := range all {
			var s system
			s.unpack(all[i].hash.asid(), all[i].record)
			if !yield(s.copy(m.ids)) {
				return
			}
		}
	}
}

// With returns a map of that version in which put replaced or added entries and drop
// removed them. It shares everything else with m, which stays as it is. The version
// must be higher than m's: a map never goes back.
func (m *InteractionMap) With(version uint64, put []AccreditedSystem, drop []ASID) (*InteractionMap, error) {
	b := m.Change()
	for _, a := range drop {
		if err := b.Remove(a); err != nil {
			return nil, err
		}
	}
	for _, s := range put {
		if err := b.Put(s); err != nil {
			return nil, err
		}
	}
	return b.Build(version)
}
