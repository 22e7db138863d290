package publish

import (
	"context"
	"errors"
	"time"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

// Actions that are a change's own.
const (
	suspend = "suspend"
	resume  = "resume"
)

// suspendTries is how often a suspension is tried while others publish: unlike an apply
// it does not depend on what the map was when somebody decided on it.
const suspendTries = 10

// Suspend adds a system to the suspension layer. A system that the map does not have may
// be suspended too: it is when it comes.
func (p *Publisher) Suspend(ctx context.Context, asid authz.ASID, meta Meta) (Result, error) {
	meta.Action = suspend
	return p.layer(ctx, asid, meta)
}

// Resume takes a system out of the suspension layer.
func (p *Publisher) Resume(ctx context.Context, asid authz.ASID, meta Meta) (Result, error) {
	meta.Action = resume
	return p.layer(ctx, asid, meta)
}

func (p *Publisher) layer(ctx context.Context, asid authz.ASID, meta Meta) (result Result, err error) {
	for range suspendTries {
		if err := p.ready(ctx); err != nil {
			return Result{}, err
		}
		if result, err = p.layerOnce(ctx, asid, meta); !errors.Is(err, ErrConflict) {
			return result, err
		}
	}
	return Result{}, err
}

func (p *Publisher) layerOnce(ctx context.Context, asid authz.ASID, meta Meta) (Result, error) {
	s, err := p.watch(ctx, p.namespace.Suspended())
	if err != nil {
		return Result{}, err
	}
	t, result, err := p.layerOn(ctx, s, asid, meta)
	if err != nil || t == nil {
		p.unwatch(ctx)
		return result, err
	}
	inMap := result.InMap
	result, err = p.commitStep(ctx, t)
	result.InMap = inMap
	return result, err
}

// layerOn makes the transaction; nil if the layer is already as it shall be.
func (p *Publisher) layerOn(ctx context.Context, s *standing, asid authz.ASID, meta Meta) (*step, Result, error) {
	n, m, text := p.namespace, s.manifest, asid.String()
	if m.Version == 0 && len(s.damage) == 0 {
		return nil, Result{}, layout.ErrNothingPublished
	}
	// A log that ends elsewhere only makes replicas load the map anew; nothing that
	// is damaged may keep a system from being suspended but what the change extends.
	before := len(s.damage)
	layer, err := p.readSuspended(ctx, s)
	if err != nil {
		return nil, Result{}, err
	}
	if m.Version == 0 || len(s.wrong) > 0 || len(s.damage) > before {
		return nil, Result{}, DamageError{s.damage[min(before, len(s.damage)-1):]}
	}
	entries := len(s.damage)
	bucket := layout.BucketOf(text)
	if err := p.c.Do(ctx, "WATCH", n.Bucket(m.Generation, bucket)).Err(); err != nil {
		return nil, Result{}, err
	}
	hashes, err := p.readBuckets(ctx, s, []byte{bucket})
	if err != nil {
		return nil, Result{}, err
	}
	entry, known := hashes[0][text]
	value, suspended := layer[text]
	if suspended == (meta.Action == suspend) {
		return nil, Result{Version: m.Version, Before: m.Version, Unchanged: true, InMap: known}, nil
	}
	r := layout.Record{Time: time.Now().UTC(), By: meta.By, Reason: meta.Reason, Action: meta.Action, ASID: text}
	change := &layout.Change{Kind: layout.Edit, Generation: m.Generation, First: m.IDs.Count}
	var b batch
	if meta.Action == suspend {
		value = layout.Suspension{By: r.By, Time: r.Time, Reason: r.Reason}.Encode()
		change.Suspend = []layout.Pair{{Field: text, Value: value}}
		m.Suspended.Add(text, value)
		b.add("HSET", n.Suspended(), text, value)
	} else {
		if len(s.damage) > entries { // a right is only given back by an entry that can be trusted
			return nil, Result{}, DamageError{s.damage[entries:]}
		}
		change.Resume = []string{text}
		if known {
			change.Put = []layout.Pair{{Field: text, Value: entry}}
		}
		m.Suspended.Remove(text, value)
		b.add("HDEL", n.Suspended(), text)
	}
	t := p.step(s, s.next(time.Now()), m, change, r, nil)
	t.batch.append(&b)
	return t, Result{InMap: known}, nil
}
