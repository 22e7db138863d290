package authz

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// The records of a map are the leaves of a trie over the hash of the ASID. A node is
// never written again once it is there: a changed map has new nodes on the way from its
// root to what was changed, and shares all others. So look-ups need no lock, whatever
// is made of the map meanwhile.
//
// The shape follows from the content alone: a node is inner if there are more than
// maxLeaf records below it, otherwise it is a leaf. ASIDs hash differently whenever they
// differ, so no choice of them makes a leaf larger or the trie deeper than 64 bits.
type node struct {
	inner *[fanOut]node // nil: a leaf
	leaf  leaf
	count int // of the records in the leaf; 0 if the node is inner
}

const (
	fanBits = 4
	fanOut  = 1 << fanBits
	// A larger leaf costs a change more bytes to copy, a smaller one the map more nodes.
	maxLeaf = 32
)

// A hash stands for an ASID, and is as good as it: every step from one to the other can
// be undone. ASIDs are handed out in order, and the top bits of their hashes decide first.
type hash uint64

const (
	odd     = 0x9E3779B97F4A7C15
	inverse = 0xF1DE83E19937733D // odd * inverse is 1, in 64 bits
)

func (a ASID) hash() hash {
	h := a.plusOne * odd
	h ^= h >> 32
	return hash(h * odd)
}

func (h hash) asid() ASID {
	a := uint64(h) * inverse
	a ^= a >> 32
	return ASID{a * inverse}
}

// slot returns where in an inner node of that level h belongs.
func (h hash) slot(level int) int { return int(h << (level * fanBits) >> (64 - fanBits)) }

// find returns the record of a, "" if there is none.
func (n *node) find(a ASID) string {
	h := a.hash()
	rest := h
	for ; n.inner != nil; rest <<= fanBits {
		n = &n.inner[rest>>(64-fanBits)]
	}
	return n.leaf.find(n.count, h, rest)
}

// placed is a record and where in the trie it belongs. Lists of them are in that order.
type placed struct {
	hash   hash
	record string
}

// with returns the node at that level with the changes: records to add or to replace,
// and "" for ASIDs to remove.
func (n node) with(changes []placed, level int) node {
	switch {
	case len(changes) == 0:
		return n
	case n.inner == nil:
		return newNode(merge(n.appendTo(nil), changes), level)
	}
	inner := *n.inner
	split(changes, level, func(slot int, part []placed) { inner[slot] = inner[slot].with(part, level+1) })
	return over(&inner, level)
}

// withAll is with, of a root.
func (n node) withAll(c *changes) node {
	var inner [fanOut]node
	if n.inner != nil {
		inner = *n.inner
	} else {
		split(n.appendTo(nil), 0, func(slot int, part []placed) { inner[slot] = newNode(part, 1) })
	}
	for slot := range inner {
		inner[slot] = inner[slot].with(c.take(slot), 1)
	}
	return over(&inner, 0)
}

// over returns the node of that level over those: a leaf, if few records are left.
func over(inner *[fanOut]node, level int) node {
	n := node{inner: inner}
	below := 0
	for i := range inner {
		if below += inner[i].count; inner[i].inner != nil || below > maxLeaf {
			return n
		}
	}
	return newNode(n.appendTo(nil), level)
}

func newNode(all []placed, level int) node {
	if len(all) <= maxLeaf {
		return node{leaf: newLeaf(all), count: len(all)}
	}
	var inner [fanOut]node
	split(all, level, func(slot int, part []placed) { inner[slot] = newNode(part, level+1) })
	return node{inner: &inner}
}

// split calls do with the part of all that belongs into each slot of an inner node of
// that level, unless it is empty.
func split(all []placed, level int, do func(slot int, part []placed)) {
	for len(all) > 0 {
		slot, n := all[0].hash.slot(level), 1
		for n < len(all) && all[n].hash.slot(level) == slot {
			n++
		}
		do(slot, all[:n])
		all = all[n:]
	}
}

// merge returns what is in old or in changes, and of both what is in changes, without
// what they remove, be it there or not.
func merge(old, changes []placed) []placed {
	merged := make([]placed, 0, len(old)+len(changes))
	for _, change := range changes {
		for len(old) > 0 && old[0].hash < change.hash {
			merged, old = append(merged, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].hash == change.hash {
			old = old[1:]
		}
		if change.record != "" {
			merged = append(merged, change)
		}
	}
	return append(merged, old...)
}

// appendTo appends every record below the node.
func (n *node) appendTo(to []placed) []placed {
	if n.inner != nil {
		for i := range n.inner {
			to = n.inner[i].appendTo(to)
		}
		return to
	}
	for i := range n.count {
		to = append(to, placed{n.leaf.key(i), n.leaf.record(n.count, i)})
	}
	return to
}

// A leaf is the records of up to maxLeaf systems in one string: for each its key and
// where in the leaf it ends, in the order of the keys, and then the records themselves.
// It holds no pointer, so the garbage collector does not look into it.
type leaf string

const (
	keySize   = 8
	entrySize = keySize + 4 // a key and an end
)

func newLeaf(all []placed) leaf {
	end := len(all) * entrySize
	size := end
	for i := range all {
		size += len(all[i].record)
	}
	var b strings.Builder
	b.Grow(size)
	var entry [entrySize]byte
	for i := range all {
		end += len(all[i].record)
		binary.LittleEndian.PutUint64(entry[:], uint64(all[i].hash))
		binary.LittleEndian.PutUint32(entry[keySize:], uint32(end))
		b.Write(entry[:])
	}
	for i := range all {
		b.WriteString(all[i].record)
	}
	return leaf(b.String())
}

// find returns the record of h among the count of the leaf, "" if there is none. The
// rest of h, below what led here, says nearly where it must be: the keys are spread
// evenly and in order, so one or two are compared, of which the first is the one line of
// memory that a look-up in a large map has to wait for.
func (l leaf) find(count int, h, rest hash) string {
	if count == 0 {
		return ""
	}
	guess, _ := bits.Mul64(uint64(rest), uint64(count))
	i := int(guess)
	for i > 0 && l.key(i) > h {
		i--
	}
	for i < count-1 && l.key(i) < h {
		i++
	}
	if l.key(i) != h {
		return ""
	}
	return l.record(count, i)
}

func (l leaf) record(count, i int) string {
	start := count * entrySize
	if i > 0 {
		start = l.end(i - 1)
	}
	return string(l[start:l.end(i)])
}

// The compiler makes one load of each of these.

func (l leaf) key(i int) hash {
	e := l[i*entrySize:][:entrySize]
	return hash(e[0]) | hash(e[1])<<8 | hash(e[2])<<16 | hash(e[3])<<24 |
		hash(e[4])<<32 | hash(e[5])<<40 | hash(e[6])<<48 | hash(e[7])<<56
}

func (l leaf) end(i int) int {
	e := l[i*entrySize:][:entrySize]
	return int(uint32(e[8]) | uint32(e[9])<<8 | uint32(e[10])<<16 | uint32(e[11])<<24)
}
