package authz

import (
	"errors"
	"fmt"
)

// A MapBuilder collects systems, one at a time, into an [InteractionMap]. The zero
// MapBuilder starts from an empty map, that of [InteractionMap.Change] from one that is
// there. An error of Add, Put or Remove says all that is wrong, and nothing was changed.
//
// A set of interactions comes with the system, or as the numbers that Number gave its
// ids: whoever reads a large map in which the ids are numbered already need not look up
// every id of every system.
type MapBuilder struct {
	from    InteractionMap
	changes *changes // to from; nil: none yet
	systems int      // that the built map will hold
	ids     *dictionary
	owned   bool // ids is the builder's own; otherwise it is that of from, and read
	built   bool

	// Used again by each system.
	numbers []int
	bits    []uint64
	packer  packer
}

// Change returns a builder that holds what m holds. The map that it builds shares with m
// whatever was not changed, and m stays as it is: a change costs the same in a large map
// as in a small one.
func (m *InteractionMap) Change() *MapBuilder {
	return &MapBuilder{from: *m, systems: m.systems, ids: m.ids}
}

// Add adds a system that is not there yet. The builder keeps nothing of what s points at.
func (b *MapBuilder) Add(s AccreditedSystem) error {
	if err := b.accepts(&s, false); err != nil {
		return err
	}
	b.take(&s, b.numbersOf(s.Interactions))
	return nil
}

// AddNumbered is Add of a system whose set is given as numbers that [MapBuilder.Number]
// returned, in any order; s.Interactions is empty.
func (b *MapBuilder) AddNumbered(s AccreditedSystem, interactions []int) error {
	return b.takeNumbered(&s, interactions, false)
}

// Put adds a system, or replaces the one of that ASID.
func (b *MapBuilder) Put(s AccreditedSystem) error {
	if err := b.accepts(&s, true); err != nil {
		return err
	}
	b.take(&s, b.numbersOf(s.Interactions))
	return nil
}

// PutNumbered is to Put what AddNumbered is to Add.
func (b *MapBuilder) PutNumbered(s AccreditedSystem, interactions []int) error {
	return b.takeNumbered(&s, interactions, true)
}

// Remove removes the system of a, which must be there.
func (b *MapBuilder) Remove(a ASID) error {
	if b.built {
		return errBuilt
	}
	if !b.holds(a) {
		return fmt.Errorf("asid %s is not in the map, or dropped twice", a)
	}
	b.change(a, nil)
	b.systems--
	return nil
}

// Number returns the number under which AddNumbered and PutNumbered take id: the same one
// for this builder, the map that it started from and every map that descends from it. It
// is -1 for the zero id and, of an id that is new to it, from a builder that is spent.
//
// Numbers are never given back: a map that is changed for years knows every id that it
// ever held, and one that is built anew is rid of them.
func (b *MapBuilder) Number(id InteractionID) int {
	if b.ids != nil {
		if n, known := b.ids.number[id]; known {
			return n
		}
	}
	if b.built || id.IsZero() {
		return -1
	}
	if !b.owned {
		b.ids, b.owned = b.ids.clone(), true
	}
	return b.ids.add(id)
}

// Build returns the map of what was collected, with that version, which must be higher
// than that of the map that the builder started from. The builder is spent.
func (b *MapBuilder) Build(version uint64) (*InteractionMap, error) {
	switch {
	case b.built:
		return nil, errBuilt
	case version == 0 && b.from.version == 0:
		return nil, errors.New("version 0 is no version: it would be that of a map that was never loaded")
	case version <= b.from.version:
		return nil, fmt.Errorf("version %d does not rise above %d", version, b.from.version)
	}
	b.built = true
	if b.ids == nil {
		b.ids, b.owned = b.ids.clone(), true
	}
	if b.owned {
		b.ids.sort()
	}
	m := &InteractionMap{version: version, systems: b.systems, root: b.from.root, ids: b.ids}
	if b.changes != nil {
		b.changes.made = nil
		m.root = m.root.withAll(b.changes)
	}
	b.from, b.changes = InteractionMap{}, nil
	return m, nil
}

var errBuilt = errors.New("the map is built")

// holds reports whether the built map would hold a system of a.
func (b *MapBuilder) holds(a ASID) bool {
	if b.changes != nil {
		if there, changed := b.changes.made[a]; changed {
			return there
		}
	}
	return b.from.root.find(a) != ""
}

func (b *MapBuilder) change(a ASID, record []byte) {
	if b.changes == nil {
		b.changes = &changes{made: map[ASID]bool{}}
	}
	b.changes.add(a, record)
}

// accepts returns why s may not be taken.
func (b *MapBuilder) accepts(s *AccreditedSystem, replace bool) error {
	if b.built {
		return errBuilt
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if !replace && b.holds(s.ASID) {
		return fmt.Errorf("asid %s stands twice", s.ASID)
	}
	return nil
}

func (b *MapBuilder) numbersOf(ids []InteractionID) []int {
	b.numbers = b.numbers[:0]
	for _, id := range ids {
		b.numbers = append(b.numbers, b.Number(id))
	}
	return b.numbers
}

func (b *MapBuilder) takeNumbered(s *AccreditedSystem, interactions []int, replace bool) error {
	if err := b.accepts(s, replace); err != nil {
		return err
	}
	if len(s.Interactions) > 0 {
		return errors.New("interactions stand both as ids and as numbers")
	}
	if len(interactions) > MaxInteractions {
		return errTooManyInteractions
	}
	known := 0
	if b.ids != nil {
		known = len(b.ids.id)
	}
	for _, n := range interactions {
		if n < 0 || n >= known {
			return fmt.Errorf("interaction %d has no id", n)
		}
	}
	b.take(s, interactions)
	return nil
}

// take packs s, which was accepted, and the set of those numbers, which have ids.
func (b *MapBuilder) take(s *AccreditedSystem, numbers []int) {
	for _, n := range numbers {
		for len(b.bits) <= n>>6 {
			b.bits = append(b.bits, 0)
		}
		b.bits[n>>6] |= 1 << (n & 63)
	}
	record := b.packer.record(s, b.bits)
	clear(b.bits)
	if !b.holds(s.ASID) {
		b.systems++
	}
	b.change(s.ASID, record)
}
