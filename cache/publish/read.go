package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"asid-authz/authz"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// A State is what was read: one version of the map, and what is not as it should be.
type State struct {
	Version    uint64 // 0: nothing is published
	Generation uint64
	Map        *authz.InteractionMap // of what could be read; without Damage that is everything
	Suspended  map[authz.ASID]layout.Suspension
	Damage     []Damage

	standing  *standing
	ids       []string          // the dictionary
	suspended map[string]string // the layer, as it stands there
}

// readTries is how often a map is read that changes while it is read.
const readTries = 5

// Read reads the map and compares all of it with the manifest.
func (p *Publisher) Read(ctx context.Context) (*State, error) {
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	for range readTries {
		s, err := p.readOnce(ctx)
		if err != nil {
			return nil, err
		}
		fields, err := p.c.HGetAll(ctx, p.namespace.Manifest()).Result()
		if err != nil && !wrongType(err) {
			return nil, err
		}
		if maps.Equal(fields, s.standing.fields) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("the map changed %d times while it was being read", readTries)
}

func (p *Publisher) readOnce(ctx context.Context) (*State, error) {
	standing, err := p.standing(ctx)
	if err != nil {
		return nil, err
	}
	s := &State{Version: standing.manifest.Version, Generation: standing.manifest.Generation, standing: standing}
	s.suspended, err = p.readSuspended(ctx, standing)
	if err != nil {
		return nil, err
	}
	s.Suspended = suspensions(standing, p.namespace.Suspended(), s.suspended)
	if len(standing.fields) == 0 && !standing.wrong[p.namespace.Manifest()] && (standing.logged > 0 || standing.records > 0 || len(s.suspended) > 0) {
		standing.damaged(p.namespace.Manifest(), "", "it is gone, and other parts of a map are there")
	}
	if err := p.readSystems(ctx, s); err != nil {
		return nil, err
	}
	s.Damage = standing.damage
	return s, nil
}

// readSuspended reads the suspension layer and compares it with the manifest.
func (p *Publisher) readSuspended(ctx context.Context, s *standing) (map[string]string, error) {
	key := p.namespace.Suspended()
	layer, err := p.c.HGetAll(ctx, key).Result()
	if wrongType(err) {
		s.wrong[key] = true
		s.damaged(key, "", "it holds something else than a map's")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s.manifest.Version > 0 {
		s.compare(key, layer, s.manifest.Suspended)
	}
	return layer, nil
}

// compare compares a hash with its tally.
func (s *standing) compare(key string, hash map[string]string, want layout.Tally) {
	var got layout.Tally
	for field, value := range hash {
		got.Add(field, value)
	}
	if got != want {
		s.damaged(key, "", "%s", differs(got, want))
	}
}

func differs(got, want layout.Tally) string {
	if got.Count == want.Count {
		return "its content is not what the manifest says"
	}
	return fmt.Sprintf("it has %d elements, and the manifest says %d", got.Count, want.Count)
}

// suspensions decodes the layer. A text that says nothing suspends all the same.
func suspensions(s *standing, key string, layer map[string]string) map[authz.ASID]layout.Suspension {
	all := make(map[authz.ASID]layout.Suspension, len(layer))
	for field, value := range layer {
		asid, err := authz.ParseASID(field)
		if err != nil {
			s.damaged(key, field, "%v", err)
			continue
		}
		all[asid], _ = layout.DecodeSuspension(value)
	}
	return all
}

// bucketsAtOnce is how many buckets are asked for in one round trip.
const bucketsAtOnce = 16

func (p *Publisher) readSystems(ctx context.Context, s *State) error {
	m := &s.standing.manifest
	var b authz.MapBuilder
	if m.Version > 0 {
		var err error
		if s.ids, err = p.readIDs(ctx, s.standing); err != nil {
			return err
		}
		d := newDecoder(s.standing, p.namespace, s.ids)
		all := make([]byte, layout.Buckets)
		for i := range all {
			all[i] = byte(i)
		}
		for some := range slices.Chunk(all, bucketsAtOnce) {
			hashes, err := p.readBuckets(ctx, s.standing, some)
			if err != nil {
				return err
			}
			for i, hash := range hashes {
				d.decode(some[i], hash, &b)
			}
		}
	}
	var err error
	s.Map, err = b.Build(max(m.Version, 1))
	return err
}

// readIDs reads the dictionary and compares it with the manifest.
func (p *Publisher) readIDs(ctx context.Context, s *standing) ([]string, error) {
	key := p.namespace.IDs(s.manifest.Generation)
	const page = 4096
	var all []string
	for {
		ids, err := p.c.LRange(ctx, key, int64(len(all)), int64(len(all))+page-1).Result()
		if wrongType(err) {
			s.damaged(key, "", "it holds something else than a map's")
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
		if len(ids) < page || len(all) > layout.MaxIDs {
			break
		}
	}
	if got := tallyIDs(layout.Tally{}, 0, all); got != s.manifest.IDs {
		s.damaged(key, "", "%s", differs(got, s.manifest.IDs))
	}
	return all, nil
}

// tallyIDs counts in ids, of which the first has that number.
func tallyIDs(t layout.Tally, first int, ids []string) layout.Tally {
	for i, id := range ids {
		t.Add(fmt.Sprint(first+i), id)
	}
	return t
}

// readBuckets reads buckets and compares them with the manifest.
func (p *Publisher) readBuckets(ctx context.Context, s *standing, buckets []byte) ([]map[string]string, error) {
	m := &s.manifest
	var commands []*redis.MapStringStringCmd
	_, err := p.c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, b := range buckets {
			commands = append(commands, pipe.HGetAll(ctx, p.namespace.Bucket(m.Generation, b)))
		}
		return nil
	})
	if err != nil && !conn.IsAnswer(err) {
		return nil, err
	}
	hashes := make([]map[string]string, len(buckets))
	for i, b := range buckets {
		key := p.namespace.Bucket(m.Generation, b)
		switch err := commands[i].Err(); {
		case wrongType(err):
			s.damaged(key, "", "it holds something else than a map's")
		case err != nil:
			return nil, fmt.Errorf("%s: %w", key, err)
		default:
			hashes[i] = commands[i].Val()
			s.compare(key, hashes[i], m.Buckets[b])
		}
	}
	return hashes, nil
}

// A decoder turns entries into systems.
type decoder struct {
	standing *standing
	n        layout.Namespace
	ids      []authz.InteractionID // zero where the dictionary has none
	buffer   []int
}

func newDecoder(s *standing, n layout.Namespace, ids []string) *decoder {
	d := &decoder{standing: s, n: n, ids: make([]authz.InteractionID, len(ids))}
	seen := make(map[string]bool, len(ids))
	for i, text := range ids {
		id, err := authz.ParseInteractionID(text)
		if err == nil && seen[text] {
			err = errors.New("it stands twice in the dictionary")
		}
		if err != nil {
			s.damaged(n.IDs(s.manifest.Generation), "", "interaction %d: %v", i, err)
			continue
		}
		d.ids[i], seen[text] = id, true
	}
	return d
}

func (d *decoder) decode(bucket byte, hash map[string]string, b *authz.MapBuilder) {
	for asid, value := range hash {
		s, numbers, err := layout.DecodeEntry(asid, value, d.buffer)
		d.buffer = numbers
		if err == nil && layout.BucketOf(asid) != bucket {
			err = fmt.Errorf("it belongs into bucket %s", layout.BucketName(layout.BucketOf(asid)))
		}
		for _, n := range numbers {
			switch {
			case n >= len(d.ids):
				err = fmt.Errorf("it has interaction %d, and the dictionary has %d", n, len(d.ids))
			case d.ids[n] != authz.InteractionID{}: // a bad one was reported already
				s.Interactions = append(s.Interactions, d.ids[n])
			}
		}
		if err == nil {
			err = b.Add(s)
		}
		if err != nil {
			d.standing.damaged(d.n.Bucket(d.standing.manifest.Generation, bucket), asid, "the entry of %s: %v", authz.Excerpt(asid), err)
		}
	}
}
