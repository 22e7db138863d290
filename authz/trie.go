package authz

import (
	"encoding/binary"
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
}

const (
	fanBits = 4
	fanOut  = 1 << fanBits
	// A larger leaf costs a change more bytes to copy, a smaller one the map more nodes.
	maxLeaf = 32
)

// spread returns the hash of a: multiplications by odd numbers and a shift that is
// folded in, each of which can be undone. ASIDs are handed out in order, and the top
// bits decide first.
func (a ASID) spread() uint64 {
	const odd = 0x9E3779B97F4A7C15
	h := a.plusOne * odd
	h ^= h >> 32
	return h * odd
}

// slotOf returns where in an inner node of that level a hash belongs.
func slotOf(hash uint64, level int) int { return int(hash << (level * fanBits) >> (64 - fanBits)) }

// find returns the record of a, "" if there is none.
func (n *node) find(a ASID) string {
	if n.inner != nil {
		for h := a.spread(); n.inner != nil; h <<= fanBits {
			n = &n.inner[h>>(64-fanBits)]
		}
	}
	return n.leaf.find(a)
}

// placed is a record with the place in the trie where it belongs. Lists of them are
// sorted by hash.
type placed struct {
	hash   uint64
	asid   ASID
	record string
}

// with returns the node at that level with the changes: records to add or to replace,
// and "" for ASIDs to remove.
func (n node) with(changes []placed, level int) node {
	switch {
	case len(changes) == 0:
		return n
	case n.inner == nil:
		return newNode(merge(n.leaf.appendTo(nil), changes), level)
	}
	inner := *n.inner
	split(changes, level, func(slot int, part []placed) { inner[slot] = inner[slot].with(part, level+1) })
	below := 0
	for i := range inner {
		if inner[i].inner != nil {
			return node{inner: &inner}
		}
		below += inner[i].leaf.len()
	}
	if below > maxLeaf {
		return node{inner: &inner}
	}
	return newNode(node{inner: &inner}.appendTo(nil), level)
}

func newNode(all []placed, level int) node {
	if len(all) <= maxLeaf {
		return node{leaf: newLeaf(all)}
	}
	var inner [fanOut]node
	split(all, level, func(slot int, part []placed) { inner[slot] = newNode(part, level+1) })
	return node{inner: &inner}
}

// split calls do with the part of all that belongs into each slot of an inner node of
// that level, unless it is empty.
func split(all []placed, level int, do func(slot int, part []placed)) {
	for len(all) > 0 {
		slot, n := slotOf(all[0].hash, level), 1
		for n < len(all) && slotOf(all[n].hash, level) == slot {
			n++
		}
		do(slot, all[:n])
		all = all[n:]
	}
}

// merge returns what is in old or in changes, and of both what is in changes, without
// what they remove.
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

// appendTo appends every record of the node, in the order of the trie.
func (n node) appendTo(to []placed) []placed {
	if n.inner == nil {
		return n.leaf.appendTo(to)
	}
	for i := range n.inner {
		to = n.inner[i].appendTo(to)
	}
	return to
}

// A leaf is the records of up to maxLeaf systems in one string: how many there are, for
// each the number of the ASID and where in the leaf its record ends, and the records.
// It holds no pointer, so the garbage collector does not look into it. The empty string
// is the empty leaf.
type leaf string

const (
	keySize   = 8
	entrySize = keySize + 4 // an ASID and an end
)

func newLeaf(all []placed) leaf {
	if len(all) == 0 {
		return ""
	}
	end := 1 + len(all)*entrySize
	size := end
	for i := range all {
		size += len(all[i].record)
	}
	var b strings.Builder
	b.Grow(size)
	b.WriteByte(byte(len(all)))
	var entry [entrySize]byte
	for i := range all {
		end += len(all[i].record)
		binary.LittleEndian.PutUint64(entry[:], all[i].asid.plusOne)
		binary.LittleEndian.PutUint32(entry[keySize:], uint32(end))
		b.Write(entry[:])
	}
	for i := range all {
		b.WriteString(all[i].record)
	}
	return leaf(b.String())
}

func (l leaf) len() int {
	if l == "" {
		return 0
	}
	return int(l[0])
}

func (l leaf) find(a ASID) string {
	if l == "" {
		return ""
	}
	index := l[1 : 1+int(l[0])*entrySize]
	for start := len(index) + 1; len(index) >= entrySize; index = index[entrySize:] {
		end := index.end()
		if index.key() == a.plusOne {
			return string(l[start:end])
		}
		start = end
	}
	return ""
}

func (l leaf) appendTo(to []placed) []placed {
	n := l.len()
	for i, start := 0, 1+n*entrySize; i < n; i++ {
		entry := l[1+i*entrySize:]
		a, end := ASID{entry.key()}, entry.end()
		to = append(to, placed{a.spread(), a, string(l[start:end])})
		start = end
	}
	return to
}

// key returns the number of the ASID that the entry at the beginning of l is of. The
// compiler makes one load of it.
func (l leaf) key() uint64 {
	_ = l[7]
	return uint64(l[0]) | uint64(l[1])<<8 | uint64(l[2])<<16 | uint64(l[3])<<24 |
		uint64(l[4])<<32 | uint64(l[5])<<40 | uint64(l[6])<<48 | uint64(l[7])<<56
}

// end returns where the record of the entry at the beginning of l ends.
func (l leaf) end() int {
	_ = l[11]
	return int(uint32(l[8]) | uint32(l[9])<<8 | uint32(l[10])<<16 | uint32(l[11])<<24)
}
