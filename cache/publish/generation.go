package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

const (
	// chunkBytes is about how much of a new generation is written at once.
	chunkBytes = layout.MaxTransaction / 2

	// longestPause bounds the pause after a chunk, which is as long as the chunk took:
	// half of the server's time is left to those who read.
	longestPause = 100 * time.Millisecond

	// abandonedAfter is when the writer of a generation is taken for dead.
	abandonedAfter = time.Hour
)

// generation writes the whole map beside the live one and switches to it.
func (p *Publisher) generation(ctx context.Context, plan *Plan, r layout.Record, chunks []string) (Result, error) {
	n := p.namespace
	g := plan.From.standing.next(time.Now())
	for {
		added, err := p.c.SAdd(ctx, n.Pending(), g).Result()
		if err != nil {
			return Result{}, keyError(n.Pending(), err)
		}
		if added == 1 {
			break
		}
		g++ // another publisher began in the same millisecond
	}
	result, err := p.writeAndSwitch(ctx, plan, g, r, chunks)
	var unknown UnknownError
	if err != nil && !errors.As(err, &unknown) {
		p.abandon(ctx, g)
	}
	return result, err
}

func (p *Publisher) writeAndSwitch(ctx context.Context, plan *Plan, g uint64, r layout.Record, chunks []string) (Result, error) {
	n := p.namespace
	// Nothing should be there, and what is there all the same would become part of the map.
	if err := p.c.Do(ctx, leftovers(n, g)...).Err(); err != nil {
		return Result{}, err
	}
	var b batch
	for _, chunk := range chunks {
		p.keepUndo(&b, g, []string{chunk})
		if err := p.pace(ctx, &b, chunkBytes); err != nil {
			return Result{}, err
		}
	}
	m, err := p.write(ctx, &b, plan.Target, g)
	if err != nil {
		return Result{}, err
	}
	s, err := p.watch(ctx, n.Pending(), n.Suspended())
	if err != nil {
		return Result{}, err
	}
	t, err := p.switchTo(ctx, s, plan, m, r, chunks)
	if err != nil {
		p.unwatch(ctx)
		return Result{}, err
	}
	result, err := p.commitStep(ctx, t)
	result.Generation = err == nil
	return result, err
}

// write writes dictionary and buckets of generation g, and returns their tallies.
func (p *Publisher) write(ctx context.Context, b *batch, target *authz.InteractionMap, g uint64) (*layout.Manifest, error) {
	n := p.namespace
	m := &layout.Manifest{Head: layout.Head{Generation: g}}
	// The ids that most systems have get the smallest numbers, which take the fewest bytes.
	used := interactions(target)
	sorted := slices.SortedFunc(maps.Keys(used), func(a, b authz.InteractionID) int {
		return cmp.Or(used[b]-used[a], cmp.Compare(a.String(), b.String()))
	})
	ids := make([]string, len(sorted))
	for i, id := range sorted {
		ids[i] = id.String()
	}
	if len(ids) > layout.MaxIDs {
		return nil, fmt.Errorf("%d interactions are more than a map can hold, %d", len(ids), layout.MaxIDs)
	}
	m.IDs = tallyIDs(m.IDs, 0, ids)
	for some := range slices.Chunk(ids, 512) {
		b.add(append([]string{"RPUSH", n.IDs(g)}, some...)...)
		if err := p.pace(ctx, b, chunkBytes); err != nil {
			return nil, err
		}
	}

	e := newEncoder(ids)
	var buckets [layout.Buckets][]authz.AccreditedSystem
	for s := range target.Systems() {
		canonical(&s)
		i := layout.BucketOf(s.ASID.String())
		buckets[i] = append(buckets[i], s)
	}
	written := 0
	for i, systems := range buckets {
		for some := range slices.Chunk(systems, 64) {
			command := []string{"HSET", n.Bucket(g, byte(i))}
			for j := range some {
				value, err := e.encode(&some[j])
				if err != nil {
					return nil, err
				}
				asid := some[j].ASID.String()
				m.Buckets[i].Add(asid, value)
				if b.bytes+size(command)+len(value) > chunkBytes && len(command) > 2 {
					b.add(command...)
					command = command[:2:2]
					if err := p.pace(ctx, b, 0); err != nil {
						return nil, err
					}
				}
				command = append(command, asid, value)
			}
			b.add(command...)
			written += len(some)
			if err := p.pace(ctx, b, chunkBytes/2); err != nil {
				return nil, err
			}
			if p.Progress != nil {
				p.Progress(written, target.Len())
			}
		}
	}
	return m, p.pace(ctx, b, 0)
}

// pace sends the batch if it has at least that many bytes, and waits as long as that took.
func (p *Publisher) pace(ctx context.Context, b *batch, least int) error {
	if b.bytes < least || len(b.commands) == 0 {
		return nil
	}
	began := time.Now()
	if _, err := p.send(ctx, b); err != nil {
		return err
	}
	*b = batch{}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(time.Since(began), longestPause)):
		return nil
	}
}

// switchTo makes the transaction that makes the generation of m the map.
func (p *Publisher) switchTo(ctx context.Context, s *standing, plan *Plan, m *layout.Manifest, r layout.Record, chunks []string) (*step, error) {
	n, g := p.namespace, m.Generation
	if !maps.Equal(s.fields, plan.From.standing.fields) {
		return nil, ErrConflict
	}
	if len(s.damage) > 0 && !plan.Repair {
		return nil, DamageError{s.damage}
	}
	if err := p.complete(ctx, m); err != nil {
		return nil, err
	}
	if s.top >= g {
		return nil, ErrConflict
	}
	next := *m
	next.Suspended = s.manifest.Suspended
	old := s.manifest.Generation
	var layer batch
	if plan.Repair {
		var err error
		if next.Suspended, err = p.restore(ctx, s, &layer); err != nil {
			return nil, err
		}
		if c, err := layout.DecodeChange(s.logChange); err == nil && old == 0 {
			old = c.Generation // the manifest is gone, and the log remembers
		}
	}
	t := p.step(s, g, next, &layout.Change{Kind: layout.Generation, Generation: g}, r, chunks)
	t.batch.append(&layer)
	t.batch.add("SREM", n.Pending(), strconv.FormatUint(g, 10))
	if old != 0 && old != g {
		t.batch.add(append([]string{"UNLINK"}, n.Generation(old)...)...)
	}
	return t, nil
}

// complete looks whether everything that was written is still there: another publisher
// that takes this one for dead removes it.
func (p *Publisher) complete(ctx context.Context, m *layout.Manifest) error {
	n, g := p.namespace, m.Generation
	var pending *redis.BoolCmd
	var ids *redis.IntCmd
	var buckets [layout.Buckets]*redis.IntCmd
	if _, err := p.c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pending = pipe.SIsMember(ctx, n.Pending(), g)
		ids = pipe.LLen(ctx, n.IDs(g))
		for i := range buckets {
			buckets[i] = pipe.HLen(ctx, n.Bucket(g, byte(i)))
		}
		return nil
	}); err != nil {
		return err
	}
	whole := pending.Val() && int(ids.Val()) == m.IDs.Count
	for i := range buckets {
		whole = whole && int(buckets[i].Val()) == m.Buckets[i].Count
	}
	if !whole {
		return errors.New("what was written is not there any more: another publisher removed it, or the server evicts keys (maxmemory-policy must be noeviction)")
	}
	return nil
}

// restore adds to b what makes the suspension layer whole again: what is there stays, and
// what the history says is suspended comes back. A suspension too many stops a system
// until somebody resumes it; one too few lets a system through.
func (p *Publisher) restore(ctx context.Context, s *standing, b *batch) (layout.Tally, error) {
	key, known := p.namespace.Suspended(), len(s.damage)
	layer, err := p.readSuspended(ctx, s)
	if err != nil || s.manifest.Version > 0 && len(s.damage) == known {
		return s.manifest.Suspended, err
	}
	if s.wrong[key] {
		b.add("DEL", key)
	}
	var tally layout.Tally
	for field, value := range layer {
		if _, err := authz.ParseASID(field); err != nil {
			b.add("HDEL", key, field)
			continue
		}
		tally.Add(field, value)
	}
	var records []layout.Record
	if !s.wrong[p.namespace.History()] {
		if records, err = p.records(ctx, maxRecords+1); err != nil && errors.Is(err, errNoRecord) {
			err = nil // what is older than a record that cannot be read is not known
		}
		if err != nil {
			return tally, err
		}
	}
	decided := map[string]bool{}
	for _, r := range records { // newest first
		if _, err := authz.ParseASID(r.ASID); err != nil || decided[r.ASID] {
			continue
		}
		decided[r.ASID] = true
		if _, there := layer[r.ASID]; !there && r.Action == suspend {
			value := layout.Suspension{By: r.By, Time: r.Time, Reason: r.Reason}.Encode()
			tally.Add(r.ASID, value)
			b.add("HSET", key, r.ASID, value)
		}
	}
	return tally, nil
}

// leftovers returns the command that removes everything that a writer of generation g
// may have written.
func leftovers(n layout.Namespace, g uint64) []any {
	command := []any{"UNLINK", n.Undo(g)}
	for _, key := range n.Generation(g) {
		command = append(command, key)
	}
	return command
}

// abandon removes a generation that will not become the map.
func (p *Publisher) abandon(ctx context.Context, g uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if p.ready(ctx) == nil {
		p.remove(ctx, []uint64{g})
	}
}

// removeDead removes the generations of publishers that died long ago.
func (p *Publisher) removeDead(ctx context.Context, now time.Time) error {
	members, err := p.c.SMembers(ctx, p.namespace.Pending()).Result()
	if err != nil {
		return keyError(p.namespace.Pending(), err)
	}
	var dead []uint64
	for _, text := range members {
		g, err := strconv.ParseUint(text, 10, 64)
		if err == nil && int64(g) < now.Add(-abandonedAfter).UnixMilli() {
			dead = append(dead, g)
		}
	}
	return p.remove(ctx, dead)
}

// remove removes generations that are pending, each in a transaction of its own: a writer
// that was only slow finds that its generation is not pending any more, and one that has
// switched meanwhile keeps it.
func (p *Publisher) remove(ctx context.Context, generations []uint64) error {
	n := p.namespace
	for _, g := range generations {
		s, err := p.watch(ctx, n.Pending())
		if err != nil {
			return err
		}
		if there, err := p.c.SIsMember(ctx, n.Pending(), g).Result(); err != nil || !there || s.manifest.Generation == g {
			p.unwatch(ctx)
			if err != nil {
				return err
			}
			continue
		}
		var b batch
		b.add("SREM", n.Pending(), strconv.FormatUint(g, 10))
		var texts []string
		for _, a := range leftovers(n, g) {
			texts = append(texts, a.(string))
		}
		b.add(texts...)
		if err := p.commit(ctx, &b); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return nil
}
