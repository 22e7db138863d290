package cache

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

// A held is a map and what it takes to change it by the next entry of the log.
type held struct {
	m    *authz.InteractionMap
	head layout.Head

	ids        []int // the dictionary, as numbers in m; -1 where an id does not parse
	idTally    layout.Tally
	unparsable int

	suspended map[string]bool     // the layer
	refused   map[string]bool     // ASIDs that were left out
	inBucket  [layout.Buckets]int // entries, those left out included
}

// An incompleteError says that what is published is not whole.
type incompleteError struct{ text string }

func (e incompleteError) Error() string { return "the map in Redis is not whole: " + e.text }

func incomplete(format string, args ...any) error {
	return incompleteError{fmt.Sprintf(format, args...)}
}

// addIDs takes the next ids of the dictionary, for the map that b builds.
func (h *held) addIDs(b *authz.MapBuilder, ids []string) error {
	if len(h.ids)+len(ids) > layout.MaxIDs {
		return incomplete("a dictionary of more than %d interactions", layout.MaxIDs)
	}
	for _, text := range ids {
		id, err := authz.ParseInteractionID(text)
		if err != nil {
			h.unparsable++
		}
		h.idTally.Add(strconv.Itoa(len(h.ids)), text)
		h.ids = append(h.ids, b.Number(id))
	}
	return nil
}

// system returns the entry of a field and value of a bucket, with the layer over it, and
// its interactions as numbers in the map. Whether it makes sense is for the builder to say.
func (h *held) system(field, value string, suspended map[string]bool, buffer *[]int) (s authz.AccreditedSystem, numbers []int, err error) {
	s, numbers, err = layout.DecodeEntry(field, value, *buffer)
	if err != nil {
		return s, nil, err
	}
	*buffer = numbers
	known := numbers[:0]
	for _, n := range numbers {
		if n >= len(h.ids) {
			return s, nil, fmt.Errorf("interaction %d is not in the dictionary of %d", n, len(h.ids))
		}
		if number := h.ids[n]; number >= 0 {
			known = append(known, number)
		}
	}
	if suspended[field] {
		s.State = authz.Suspended
	}
	return s, known, nil
}

// next returns the change in the entry of the log that follows on h. An error says that
// the entry is not the next one, or not one that can be understood: then nothing of it
// may be taken, and the map must be loaded.
func (h *held) next(e logEntry) (*layout.Change, error) {
	if e.version <= h.head.Version || h.head.Tip.Next(e.version, e.change).String() != e.digest {
		return nil, fmt.Errorf("the log does not go on from version %d", h.head.Version)
	}
	c, err := layout.DecodeChange(e.change)
	if err != nil {
		return nil, fmt.Errorf("version %d: %w", e.version, err)
	}
	if c.Kind != layout.Edit || c.Generation != h.head.Generation {
		return nil, fmt.Errorf("version %d was written anew", e.version)
	}
	return c, nil
}

// follow returns what h becomes by the next entry of the log. h stays as it is. objects
// takes what is left out.
func (h *held) follow(e logEntry, objects func(asid string, err error)) (*held, error) {
	c, err := h.next(e)
	if err != nil {
		return nil, err
	}
	return h.apply(e, c, objects)
}

// again is follow for an entry whose ids may have been read already.
func (h *held) again(e logEntry, objects func(asid string, err error)) (*held, error) {
	c, err := h.next(e)
	if err != nil {
		return nil, err
	}
	if had := len(h.ids) - c.First; had > 0 {
		c.First, c.IDs = len(h.ids), c.IDs[min(had, len(c.IDs)):]
	}
	return h.apply(e, c, objects)
}

func (h *held) apply(e logEntry, c *layout.Change, objects func(asid string, err error)) (*held, error) {
	if c.First != len(h.ids) {
		return nil, fmt.Errorf("version %d goes on from a dictionary of %d, and this one has %d", e.version, c.First, len(h.ids))
	}
	n := *h
	n.head.Version, n.head.Tip = e.version, h.head.Tip.Next(e.version, e.change)
	n.ids = slices.Clip(n.ids) // what is appended must not be seen by h
	b := h.m.Change()
	if err := n.addIDs(b, c.IDs); err != nil {
		return nil, err
	}
	if len(c.Suspend)+len(c.Resume) > 0 {
		n.suspended = maps.Clone(h.suspended)
		for _, p := range c.Suspend {
			n.suspended[p.Field] = true
		}
		for _, asid := range c.Resume {
			delete(n.suspended, asid)
		}
	}
	n.refused = maps.Clone(h.refused)
	var buffer []int
	touched := map[string]bool{}
	// out takes the entry out of the count; what is left of it in the map, if anything,
	// is in the way of nothing: it is replaced, or dropped.
	out := func(asid string) (left authz.ASID, is bool) {
		touched[asid] = true
		a, err := authz.ParseASID(asid)
		if err == nil {
			_, is = h.m.System(a)
		}
		if is || n.refused[asid] {
			n.inBucket[layout.BucketOf(asid)]--
		}
		delete(n.refused, asid)
		return a, is
	}
	for _, asid := range c.Drop {
		if a, is := out(asid); is {
			if err := b.Remove(a); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range c.Put {
		a, is := out(p.Field)
		n.inBucket[layout.BucketOf(p.Field)]++
		s, numbers, err := n.system(p.Field, p.Value, n.suspended, &buffer)
		if err == nil {
			err = b.PutNumbered(s, numbers)
		}
		if err == nil {
			continue
		}
		objects(p.Field, err)
		n.refused[p.Field] = true
		if is {
			if err := b.Remove(a); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range c.Suspend {
		if a, err := authz.ParseASID(p.Field); err == nil && !touched[p.Field] {
			if s, known := h.m.System(a); known {
				s.State = authz.Suspended
				if err := b.Put(s); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, asid := range c.Resume {
		if a, err := authz.ParseASID(asid); err == nil && !touched[asid] {
			if _, known := h.m.System(a); known {
				return nil, fmt.Errorf("version %d resumes %s without its entry", e.version, authz.Excerpt(asid))
			}
		}
	}
	var err error
	if n.m, err = b.Build(e.version); err != nil {
		return nil, err
	}
	return &n, nil
}
