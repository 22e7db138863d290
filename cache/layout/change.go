package layout

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A Change is one entry of the log: what leads from the version before to this one. In
// the stream it has two fields:
//
//	change  the encoded change
//	digest  of the chain after it, see Digest.Next
//
// The encoded change is
//
//	kind        one byte: 1 edit, 2 generation
//	generation  number: the generation that the map is in after the change
//	first       number: how many ids the dictionary had before
//	ids         list of texts: what was appended to the dictionary
//	put         list of pairs of texts: ASID and entry
//	drop        list of texts: ASIDs
//	suspend     list of pairs of texts: ASID and Suspension
//	resume      list of texts: ASIDs; those that the map holds are in put too
//
// The lists of ASIDs ascend and repeat nothing. A change of kind generation says only
// that the whole map was written anew: its lists are empty, and whoever follows loads it.
type Change struct {
	Kind       Kind
	Generation uint64
	First      int
	IDs        []string
	Put        []Pair
	Drop       []string
	Suspend    []Pair
	Resume     []string
}

// A Pair is a field of a hash and its value.
type Pair struct{ Field, Value string }

// Kind is what a change does.
type Kind byte

const (
	Edit       Kind = 1
	Generation Kind = 2
)

// Encode returns the encoded change.
func (c *Change) Encode() string {
	b := []byte{byte(c.Kind)}
	b = binary.AppendUvarint(b, c.Generation)
	b = binary.AppendUvarint(b, uint64(c.First))
	b = appendTexts(b, c.IDs)
	b = appendPairs(b, c.Put)
	b = appendTexts(b, c.Drop)
	b = appendPairs(b, c.Suspend)
	b = appendTexts(b, c.Resume)
	return string(b)
}

func appendPairs(b []byte, all []Pair) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, p := range all {
		b = appendText(appendText(b, p.Field), p.Value)
	}
	return b
}

// DecodeChange accepts what Encode returns. The strings share memory with text.
func DecodeChange(text string) (*Change, error) {
	if len(text) > MaxChange {
		return nil, fmt.Errorf("a change of more than %d bytes", MaxChange)
	}
	r := reader{rest: text}
	c := &Change{Kind: Kind(r.byte()), Generation: r.number()}
	first := r.number()
	if first > MaxIDs {
		r.fail("the dictionary had %d ids", first)
	}
	c.First = int(first)
	c.IDs = r.texts()
	c.Put, c.Drop = r.pairs(), r.texts()
	c.Suspend, c.Resume = r.pairs(), r.texts()
	if err := r.end(); err != nil {
		return nil, err
	}
	switch {
	case c.Kind != Edit && c.Kind != Generation:
		return nil, fmt.Errorf("a change of kind %d", c.Kind)
	case c.Generation == 0:
		return nil, fmt.Errorf("a change of no generation")
	case c.Kind == Generation && len(c.IDs)+len(c.Put)+len(c.Drop)+len(c.Suspend)+len(c.Resume) > 0:
		return nil, fmt.Errorf("a new generation with edits")
	case c.First+len(c.IDs) > MaxIDs:
		return nil, fmt.Errorf("a dictionary of more than %d ids", MaxIDs)
	}
	put := fieldsOf(c.Put)
	for _, list := range [][]string{put, c.Drop, fieldsOf(c.Suspend), c.Resume} {
		for i := 1; i < len(list); i++ {
			if list[i-1] >= list[i] {
				return nil, fmt.Errorf("a list of ASIDs does not ascend")
			}
		}
	}
	for _, asid := range c.Drop {
		if _, both := slices.BinarySearch(put, asid); both {
			return nil, fmt.Errorf("an ASID is put and dropped")
		}
	}
	return c, nil
}

func fieldsOf(pairs []Pair) []string {
	all := make([]string, len(pairs))
	for i, p := range pairs {
		all[i] = p.Field
	}
	return all
}

func (r *reader) pairs() (all []Pair) {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	all = make([]Pair, 0, n)
	for range n {
		all = append(all, Pair{r.text(), r.text()})
	}
	return all
}
