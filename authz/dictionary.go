package authz

import (
	"encoding/binary"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// A dictionary numbers InteractionIDs in the order in which they were first seen, so a
// hundred thousand systems with fifty interactions each share a few hundred strings. It
// only grows, so the sets of an older map stay valid under a newer one's.
type dictionary struct {
	number map[InteractionID]int
	id     []InteractionID // by number

	// The order of the ids, so that whoever lists a set need not compare strings.
	inOrder []int // numbers
	place   []int // by number, in inOrder
}

// clone returns a dictionary that can be added to; that of nil is empty.
func (d *dictionary) clone() *dictionary {
	if d == nil {
		return &dictionary{number: map[InteractionID]int{}}
	}
	return &dictionary{number: maps.Clone(d.number), id: slices.Clone(d.id)}
}

// add gives the next number to an id that has none. The id is often a part of a whole
// file, which must not stay in memory for it.
func (d *dictionary) add(id InteractionID) int {
	n := len(d.id)
	id.s = strings.Clone(id.s)
	d.id = append(d.id, id)
	d.number[id] = n
	return n
}

// sort makes what inIDs needs, after the last add.
func (d *dictionary) sort() {
	d.inOrder = make([]int, len(d.id))
	for n := range d.inOrder {
		d.inOrder[n] = n
	}
	slices.SortFunc(d.inOrder, func(a, b int) int { return strings.Compare(d.id[a].s, d.id[b].s) })
	d.place = make([]int, len(d.id))
	for i, n := range d.inOrder {
		d.place[n] = i
	}
}

// list returns the ids of s in order, nil if there are none.
func (d *dictionary) list(s numberSet) []InteractionID {
	if s == "" {
		return nil
	}
	var few [128]int
	places := few[:0]
	for n := range s.all() {
		places = append(places, d.place[n])
	}
	slices.Sort(places)
	ids := make([]InteractionID, len(places))
	for i, place := range places {
		ids[i] = d.id[d.inOrder[place]]
	}
	return ids
}

// A numberSet is a set of numbers, packed: a bitset in bytes without those that are
// zero, behind a field with a bit for each byte that says whether it is there. Whether a
// number is in it is known after counting bits, of which there is one for eight numbers.
type numberSet string

// appendNumberSet appends the set of the bits that are set.
func appendNumberSet(to []byte, set []uint64) []byte {
	for len(set) > 0 && set[len(set)-1] == 0 {
		set = set[:len(set)-1]
	}
	if len(set) == 0 {
		return to
	}
	to = binary.AppendUvarint(to, uint64(len(set)))
	mask := len(to)
	to = append(to, make([]byte, len(set))...)
	for i, word := range set {
		for k := range 8 {
			if b := byte(word >> (8 * k)); b != 0 {
				to[mask+i] |= 1 << k
				to = append(to, b)
			}
		}
	}
	return to
}

func (s numberSet) has(n int) bool {
	if s == "" {
		return false
	}
	mask, there := nextText(string(s))
	word, bit := n>>6, n>>3&7
	if word >= len(mask) || mask[word]>>bit&1 == 0 {
		return false
	}
	// Eight bytes at a time, and also what is left of them: a loop whose length is that
	// of the way to the number would be guessed wrong by the processor nearly every time.
	before := 0
	for ; word >= 8; word -= 8 {
		before += bits.OnesCount64(first8(mask))
		mask = mask[8:]
	}
	before += bits.OnesCount64(first8(mask) & (1<<(word<<3|bit) - 1))
	return there[before]>>(n&7)&1 != 0
}

// first8 returns the first eight bytes of s, which may be fewer.
func first8(s string) (n uint64) {
	if len(s) >= 8 {
		return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	}
	for i := range len(s) {
		n |= uint64(s[i]) << (8 * i)
	}
	return n
}

// all yields the numbers, ascending.
func (s numberSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		if s == "" {
			return
		}
		mask, there := nextText(string(s))
		for i := range len(mask) {
			for m := mask[i]; m != 0; m &= m - 1 {
				for b := there[0]; b != 0; b &= b - 1 {
					if !yield(i<<6 | bits.TrailingZeros8(m)<<3 | bits.TrailingZeros8(b)) {
						return
					}
				}
				there = there[1:]
			}
		}
	}
}
