package authz

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestHashIsUndone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 10_000 {
		for _, a := range []ASID{{uint64(n)}, {1_000_000_000_000 - uint64(n)}, {r.Uint64()}} {
			if back := a.hash().asid(); back != a {
				t.Fatalf("%d comes back as %d", a.plusOne, back.plusOne)
			}
		}
	}
}

// TestTrieHistories changes tries at random and holds every one of a history, at its end,
// against a Go map. Some of the hashes agree in all but their last bits, as no ASIDs do:
// the trie is as deep there as it can get.
func TestTrieHistories(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		random := func() hash {
			switch r.IntN(3) {
			case 0:
				return ASID{1 + r.Uint64N(2000)}.hash()
			case 1:
				return 0xABCD<<48 | hash(r.Uint64N(1<<10))
			}
			return hash(r.Uint64N(200)) << 56
		}
		type version struct {
			root  node
			model map[hash]string
		}
		history := []version{{model: map[hash]string{}}}
		for round := range 30 {
			from := history[max(0, len(history)-1-r.IntN(3))]
			batch := map[hash]string{}
			for range 1 << r.IntN(11) {
				batch[random()] = fmt.Sprintf("%d in %d%*d", r.IntN(1000), round, r.IntN(300), 0)
			}
			// The more a round removes, the more leaves grow together again.
			for h := range from.model {
				if r.IntN(30) < round {
					batch[h] = ""
				}
			}
			model := maps.Clone(from.model)
			maps.Copy(model, batch)
			maps.DeleteFunc(model, func(_ hash, record string) bool { return record == "" })
			c := &changes{made: map[ASID]bool{}}
			for h := range batch { // what is changed twice is what it became last
				if r.IntN(10) == 0 {
					c.add(h.asid(), []byte(strings.Repeat("earlier", r.IntN(2))))
				}
			}
			for h, record := range batch {
				c.add(h.asid(), []byte(record))
			}
			history = append(history, version{from.root.withAll(c), model})
		}
		for i, v := range history {
			if got := checkShape(t, &v.root, 0); got != len(v.model) {
				t.Fatalf("seed %d, trie %d: %d records, want %d", seed, i, got, len(v.model))
			}
			var all []placed
			for _, h := range slices.Sorted(maps.Keys(v.model)) {
				all = append(all, placed{h, v.model[h]})
			}
			if got := v.root.appendTo(nil); !slices.Equal(got, all) {
				t.Fatalf("seed %d, trie %d lists\n%v, want\n%v", seed, i, got, all)
			}
			for range 3000 {
				if h := random(); v.root.find(h.asid()) != v.model[h] {
					t.Fatalf("seed %d, trie %d: %x is %q, want %q", seed, i, h, v.root.find(h.asid()), v.model[h])
				}
			}
			for h, record := range v.model {
				if got := v.root.find(h.asid()); got != record {
					t.Fatalf("seed %d, trie %d: %x is %q, want %q", seed, i, h, got, record)
				}
			}
		}
	}
}

// TestLeafSizes: a leaf that is just as long as offsets of two bytes can say, one that is
// a byte longer, the longest that there can be, and the shortest.
func TestLeafSizes(t *testing.T) {
	longest := AccreditedSystem{ODSCode: strings.Repeat("o", maxText), Name: strings.Repeat("n", maxText), PartyKey: strings.Repeat("p", maxText)}
	for range maxBindings {
		longest.FQDNs = append(longest.FQDNs, strings.Repeat("f", maxText))
		longest.TokenClients = append(longest.TokenClients, strings.Repeat("c", maxText))
		longest.Fingerprints = append(longest.Fingerprints, [32]byte{})
	}
	set := make([]uint64, MaxInteractions*8) // each interaction in a word of its own
	for i := range MaxInteractions {
		set[8*i] = 1
	}
	var p packer
	record := string(p.record(&longest, set))
	for _, count := range []int{1, 2, 8, 9, maxLeaf - 1, maxLeaf} {
		overhead := count*(1+2+keySize) + 2
		for _, records := range []int{count, narrow - overhead, narrow - overhead + 1, count * len(record)} {
			var all []placed
			for i := range count {
				part := record[:min(records/count, len(record))]
				if i == count-1 {
					part = strings.Repeat("x", records-len(part)*i)
				}
				all = append(all, placed{hash(i) << 56, string(rune('A'+i)) + part[1:]})
			}
			n := newNode(all, 0)
			if n.inner != nil || (len(n.leaf) > narrow) != (records > narrow-overhead) {
				t.Fatalf("%d records of %d bytes are a leaf of %d", count, records, len(n.leaf))
			}
			if got := n.appendTo(nil); !slices.Equal(got, all) {
				t.Fatalf("%d records of %d bytes came back as %d others", count, records, len(got))
			}
			for i := range all {
				if n.find(all[i].hash.asid()) != all[i].record {
					t.Fatalf("record %d of %d, of %d bytes, was not found", i, count, records)
				}
				if other := all[i].hash + 1; n.find(other.asid()) != "" {
					t.Fatalf("%x was found among %d", other, count)
				}
			}
		}
	}
}

// checkShape holds a trie to what node promises, and returns how many records it has.
func checkShape(t *testing.T, n *node, level int) (records int) {
	t.Helper()
	if n.inner == nil {
		if n.count > maxLeaf {
			t.Fatalf("a leaf of %d", n.count)
		}
		return n.count
	}
	if n.count != 0 || n.leaf != "" || level == 64/fanBits {
		t.Fatalf("an inner node at level %d that is a leaf as well, with %d records", level, n.count)
	}
	for i := range n.inner {
		records += checkShape(t, &n.inner[i], level+1)
	}
	if records <= maxLeaf {
		t.Fatalf("an inner node above %d records, which one leaf can hold", records)
	}
	return records
}

// TestMapIsSmall counts what a map takes at the most: no two of its sets are equal. It is
// counted, not measured, so what the allocator rounds up (a few percent) is not in it.
func TestMapIsSmall(t *testing.T) {
	const systems, most = 20_000, 175
	c := newCrowd()
	all, sets := c.systems(systems)
	m := c.build(t, all, sets)
	if size := footprint(&m.root); size > systems*most {
		t.Errorf("%d systems take %d bytes each, not %d at the most", systems, size/systems, most)
	}
}

func footprint(n *node) int {
	size := len(n.leaf)
	if n.inner != nil {
		size += int(reflect.TypeFor[[fanOut]node]().Size())
		for i := range n.inner {
			size += footprint(&n.inner[i])
		}
	}
	return size
}
