package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

// Apply publishes the target of a plan as a new version, even if nothing differs: after
// Redis was restored from an old dump, that is what tells replicas that it is meant.
//
// It returns [ErrConflict] if the map is not the one any more that the plan was made
// from, and a [DamageError] if the map is damaged and plan.Repair is not set.
func (p *Publisher) Apply(ctx context.Context, plan *Plan, meta Meta) (Result, error) {
	if n := plan.Target.Len(); n > layout.MaxSystems {
		return Result{}, fmt.Errorf("%d systems are more than a map can hold, %d", n, layout.MaxSystems)
	}
	if len(plan.From.Damage) > 0 && !plan.Repair {
		return Result{}, DamageError{plan.From.Damage}
	}
	if err := p.ready(ctx); err != nil {
		return Result{}, err
	}
	if err := p.removeDead(ctx, time.Now()); err != nil {
		return Result{}, err
	}
	var chunks []string
	if plan.From.Version > 0 && len(plan.From.Damage) == 0 {
		// Of a damaged map nobody can say what it was, so nobody can go back to it.
		var err error
		if chunks, err = undo(&plan.Diff); err != nil {
			return Result{}, err
		}
		if size(chunks) > p.KeepHistory {
			chunks = nil
		}
	}
	r := layout.Record{Time: time.Now().UTC(), By: meta.By, Reason: meta.Reason, Action: meta.Action,
		Added: len(plan.Added), Removed: len(plan.Removed), Changed: len(plan.Changed)}
	if plan.editable() {
		result, err := p.edit(ctx, plan, r, chunks)
		if !errors.Is(err, errTooLarge) {
			return result, err
		}
	}
	return p.generation(ctx, plan, r, chunks)
}

func size(texts []string) (n int) {
	for _, s := range texts {
		n += len(s)
	}
	return n
}

// editable reports whether an edit of the live generation could be what the plan needs.
// A dictionary of which most is in no use any more is a reason to write a new one.
func (plan *Plan) editable() bool {
	s := plan.From
	if s.Version == 0 || len(s.Damage) > 0 {
		return false
	}
	known := make(map[string]bool, len(s.ids))
	for _, id := range s.ids {
		known[id] = true
	}
	put := slices.Clone(plan.Added)
	for i := range plan.Changed {
		put = append(put, plan.Changed[i].After)
	}
	for i := range put {
		for _, id := range put[i].Interactions {
			known[id.String()] = true
		}
	}
	all := len(known)
	return all <= smallDictionary || all <= layout.MaxIDs && all <= 2*len(interactions(plan.Target))
}

// smallDictionary is one that it is not worth looking through the whole map for.
const smallDictionary = 1024

// interactions counts how many systems have each interaction.
func interactions(m *authz.InteractionMap) map[authz.InteractionID]int {
	used := map[authz.InteractionID]int{}
	for s := range m.Systems() {
		for _, id := range s.Interactions {
			used[id]++
		}
	}
	return used
}

// edit makes the change in the live generation, in one transaction, or returns
// errTooLarge and has done nothing.
func (p *Publisher) edit(ctx context.Context, plan *Plan, r layout.Record, chunks []string) (Result, error) {
	n, generation := p.namespace, plan.From.Generation
	e := newEncoder(plan.From.ids)
	change := &layout.Change{Kind: layout.Edit, Generation: generation, First: len(plan.From.ids)}
	put := slices.Clone(plan.Added)
	for i := range plan.Changed {
		put = append(put, plan.Changed[i].After)
	}
	for i := range put {
		value, err := e.encode(&put[i])
		if err != nil {
			return Result{}, err
		}
		change.Put = append(change.Put, layout.Pair{Field: put[i].ASID.String(), Value: value})
	}
	slices.SortFunc(change.Put, byField)
	for i := range plan.Removed {
		change.Drop = append(change.Drop, plan.Removed[i].ASID.String())
	}
	change.IDs = e.ids[change.First:]
	if 2*len(change.Encode()) > layout.MaxTransaction {
		return Result{}, errTooLarge
	}

	touched := map[byte]bool{}
	for _, pair := range change.Put {
		touched[layout.BucketOf(pair.Field)] = true
	}
	for _, asid := range change.Drop {
		touched[layout.BucketOf(asid)] = true
	}
	buckets := slices.Sorted(maps.Keys(touched))
	keys := []string{n.IDs(generation)}
	for _, b := range buckets {
		keys = append(keys, n.Bucket(generation, b))
	}
	s, err := p.watch(ctx, keys...)
	if err != nil {
		return Result{}, err
	}
	t, err := p.editOn(ctx, s, plan, change, buckets, r, chunks)
	if err != nil {
		p.unwatch(ctx)
		return Result{}, err
	}
	return p.commitStep(ctx, t)
}

// editOn makes the transaction of an edit, of what is read under WATCH.
func (p *Publisher) editOn(ctx context.Context, s *standing, plan *Plan, change *layout.Change, buckets []byte, r layout.Record, chunks []string) (*step, error) {
	n, generation := p.namespace, change.Generation
	if !maps.Equal(s.fields, plan.From.standing.fields) {
		return nil, ErrConflict
	}
	if _, err := p.readIDs(ctx, s); err != nil {
		return nil, err
	}
	hashes := make(map[byte]map[string]string, len(buckets))
	for some := range slices.Chunk(buckets, bucketsAtOnce) {
		read, err := p.readBuckets(ctx, s, some)
		if err != nil {
			return nil, err
		}
		for i, b := range some {
			hashes[b] = read[i]
		}
	}
	if len(s.damage) > 0 {
		return nil, DamageError{s.damage}
	}

	m := s.manifest
	m.IDs = tallyIDs(m.IDs, change.First, change.IDs)
	set, gone := map[byte][]string{}, map[byte][]string{}
	for _, pair := range change.Put {
		b := layout.BucketOf(pair.Field)
		if old, there := hashes[b][pair.Field]; there {
			m.Buckets[b].Remove(pair.Field, old)
		}
		m.Buckets[b].Add(pair.Field, pair.Value)
		set[b] = append(set[b], pair.Field, pair.Value)
	}
	for _, asid := range change.Drop {
		b := layout.BucketOf(asid)
		if old, there := hashes[b][asid]; there {
			m.Buckets[b].Remove(asid, old)
		}
		gone[b] = append(gone[b], asid)
	}
	version := s.next(time.Now())
	t := p.step(s, version, m, change, r, chunks)
	if len(change.IDs) > 0 {
		t.batch.add(append([]string{"RPUSH", n.IDs(generation)}, change.IDs...)...)
	}
	for _, b := range buckets {
		if set[b] != nil {
			t.batch.add(append([]string{"HSET", n.Bucket(generation, b)}, set[b]...)...)
		}
		if gone[b] != nil {
			t.batch.add(append([]string{"HDEL", n.Bucket(generation, b)}, gone[b]...)...)
		}
	}
	p.keepUndo(&t.batch, version, chunks)
	return t, nil
}

func byField(a, b layout.Pair) int {
	if a.Field < b.Field {
		return -1
	}
	return 1
}

// An encoder writes entries, and appends to the dictionary what it does not have.
type encoder struct {
	ids    []string
	number map[string]int
}

func newEncoder(ids []string) *encoder {
	e := &encoder{ids: slices.Clip(ids), number: make(map[string]int, len(ids))}
	for i, id := range ids {
		e.number[id] = i
	}
	return e
}

func (e *encoder) encode(s *authz.AccreditedSystem) (string, error) {
	numbers := make([]int, len(s.Interactions))
	for i, id := range s.Interactions {
		text := id.String()
		number, known := e.number[text]
		if !known {
			number = len(e.ids)
			e.number[text] = number
			e.ids = append(e.ids, text)
		}
		numbers[i] = number
	}
	slices.Sort(numbers)
	value := layout.AppendEntry(nil, s, numbers)
	if len(e.ids) > layout.MaxIDs || len(value) > layout.MaxEntry/2 {
		return "", fmt.Errorf("asid %s: an entry of %d bytes, or a map of %d interactions, is more than a map can hold", s.ASID, len(value), len(e.ids))
	}
	return string(value), nil
}
