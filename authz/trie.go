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
	for rest := h; n.inner != nil; rest <<= fanBits {
		n = &n.inner[rest>>(64-fanBits)]
	}
	return n.leaf.find(n.count, h)
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
		return newNode(merge(n.appendTo(make([]placed, 0, n.count)), changes), level)
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
		to = append(to, n.leaf.at(n.count, i))
	}
	return to
}

// A leaf is the records of up to maxLeaf systems in one string: of each a mark, a byte of
// its hash; then where in the leaf each of them starts, and where the last one ends; and
// then the records themselves, in the order of their hashes, each behind its hash. It
// holds no pointer, so the garbage collector does not look into it.
//
// The offsets are two bytes each, little-endian, and four in a leaf that is longer than
// two bytes can say, which is one of systems such as there are none.
type leaf string

const (
	keySize = 8
	minLeaf = maxLeaf   // bytes, so that find may look at as many marks as there can be
	narrow  = 1<<16 - 1 // bytes, of the longest leaf whose offsets are of two
)

func newLeaf(all []placed) leaf {
	if len(all) == 0 {
		return ""
	}
	records := 0
	for i := range all {
		records += keySize + len(all[i].record)
	}
	offsetSize := 2
	if len(all)+(len(all)+1)*offsetSize+records > narrow {
		offsetSize = 4
	}
	offset := len(all) + (len(all)+1)*offsetSize
	var b strings.Builder
	b.Grow(max(offset+records, minLeaf))
	var buf [keySize]byte
	for i := range all {
		b.WriteByte(all[i].hash.mark())
	}
	for i := range len(all) + 1 {
		binary.LittleEndian.PutUint32(buf[:], uint32(offset))
		b.Write(buf[:offsetSize])
		if i < len(all) {
			offset += keySize + len(all[i].record)
		}
	}
	for i := range all {
		binary.LittleEndian.PutUint64(buf[:], uint64(all[i].hash))
		b.Write(buf[:])
		b.WriteString(all[i].record)
	}
	for b.Len() < minLeaf {
		b.WriteByte(0)
	}
	return leaf(b.String())
}

// mark returns a byte of the hash that does not say where in the trie it belongs.
func (h hash) mark() byte { return byte(h >> 24) }

// find returns the record of h among the count of the leaf, "" if there is none. It
// compares all marks at once, which is some arithmetic and no branch: what a processor
// guesses wrong costs more than the rest of the look-up, and it finds out only when the
// memory has answered. The marks and the record are the two places that a look-up in a
// large map waits for.
func (l leaf) find(count int, h hash) string {
	if count == 0 {
		return ""
	}
	m := l[:minLeaf]
	const low = 0x0101010101010101
	same := uint64(h.mark()) * low
	hits := zeros(same^load8(m[0:8]))>>7 | zeros(same^load8(m[8:16]))>>6 |
		zeros(same^load8(m[16:24]))>>5 | zeros(same^load8(m[24:32]))>>4
	for hits &= marks[count&63]; hits != 0; hits &= hits - 1 {
		at := bits.TrailingZeros64(hits)
		p := l.at(count, at&7<<3|at>>3)
		if p.hash == h {
			return p.record
		}
	}
	return ""
}

// marks are, by the count of a leaf, the bits that stand for one of its marks: bit n of
// byte i for mark 8n + i.
var marks = func() (marks [64]uint64) {
	for count := range maxLeaf + 1 {
		for i := range count {
			marks[count] |= 1 << (i&7<<3 | i>>3)
		}
	}
	return marks
}()

// zeros returns the highest bit of every byte of n that is zero.
func zeros(n uint64) uint64 {
	const most = 0x7f7f7f7f7f7f7f7f
	return ^(n&most + most | n | most)
}

func (l leaf) at(count, i int) placed {
	var start, end int
	if len(l) <= narrow {
		o := l[count+2*i:][:4]
		start, end = int(o[0])|int(o[1])<<8, int(o[2])|int(o[3])<<8
	} else {
		o := load8(l[count+4*i:][:8])
		start, end = int(uint32(o)), int(o>>32)
	}
	r := l[start:end]
	return placed{hash(load8(r[:keySize])), string(r[keySize:])}
}

// The compiler makes one load of this.
func load8(s leaf) uint64 {
	s = s[:8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
