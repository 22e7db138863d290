package authz

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// Changes are records on their way into a map, packed, and apart from each other by the slot
// of the root that they belong into. The map is made slot by slot, and what a slot was made
// from is let go before the next one: so a large map takes hardly more memory while it is
// built than afterwards. While a replica loads one it holds another, and a process has to be
// given what it has at its highest.
type changes struct {
	made  map[ASID]bool // whether the record of an ASID was put last, or removed
	again bool          // one was made twice, and the later one counts
	slots [fanOut]*batch
}

// A batch is changes one behind the other, each a hash, the length of a record and the
// record, which is empty if it is to be removed. None is in two parts.
type batch struct {
	count int
	full  []string
	last  strings.Builder
}

const (
	smallestPart = 128
	largestPart  = 32 << 10
)

func (c *changes) add(a ASID, record []byte) {
	_, again := c.made[a]
	c.again = c.again || again
	c.made[a] = len(record) > 0
	h := a.hash()
	b := &c.slots[h.slot(0)]
	if *b == nil {
		*b = &batch{}
	}
	(*b).add(h, record)
}

func (b *batch) add(h hash, record []byte) {
	var head [keySize + binary.MaxVarintLen64]byte
	binary.LittleEndian.PutUint64(head[:], uint64(h))
	n := keySize + binary.PutUvarint(head[keySize:], uint64(len(record)))
	if need := n + len(record); b.last.Cap()-b.last.Len() < need {
		size := max(min(2*b.last.Cap(), largestPart), smallestPart, need)
		if b.last.Len() > 0 {
			b.full = append(b.full, b.last.String())
		}
		b.last.Reset()
		b.last.Grow(size)
	}
	b.count++
	b.last.Write(head[:n])
	b.last.Write(record)
}

// take returns the changes of a slot, each ASID once and in the order of the trie, and lets
// go of them.
func (c *changes) take(slot int) (all []placed) {
	b := c.slots[slot]
	if b == nil {
		return nil
	}
	c.slots[slot] = nil
	all = make([]placed, 0, b.count)
	for _, rest := range append(b.full, b.last.String()) {
		for rest != "" {
			h := hash(binary.LittleEndian.Uint64([]byte(rest[:keySize])))
			n, record := nextLength(rest[keySize:])
			all = append(all, placed{h, record[:n]})
			rest = record[n:]
		}
	}
	order := func(a, b placed) int { return cmp.Compare(a.hash, b.hash) }
	if !c.again {
		slices.SortFunc(all, order)
		return all
	}
	slices.Reverse(all) // so that of those that are equal the first one counts
	slices.SortStableFunc(all, order)
	return slices.CompactFunc(all, func(a, b placed) bool { return a.hash == b.hash })
}
