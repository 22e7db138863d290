package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/redis/go-redis/v9"

	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// A standing is what a change is made on top of: the ends of everything that it extends.
type standing struct {
	fields   map[string]string // of the manifest
	manifest layout.Manifest   // zero if nothing is published, or nothing that can be read

	logged    uint64 // version of the last entry of the log; 0: it is empty
	logTip    string // digest of that entry, as it stands there
	logChange string // the change of that entry, as it stands there

	records int64            // in the history
	newest  layout.Record    // of them, or zero
	oldest  []redis.XMessage // of them, a few

	top    uint64 // the highest version that any of them names
	damage []Damage
	wrong  map[string]bool // keys that hold another type than they should
}

// Damage is one thing in Redis that is not as it should be.
type Damage struct {
	Key  string // where it is
	ASID string // of the system that is concerned, as it stands there, or ""
	Text string
}

func (d Damage) String() string { return d.Key + ": " + d.Text }

func (s *standing) damaged(key, asid, format string, args ...any) {
	s.damage = append(s.damage, Damage{key, asid, fmt.Sprintf(format, args...)})
}

// trimmedAtOnce bounds how much of the history one change removes.
const trimmedAtOnce = 200

// standing reads the standing. What is not as it should be is damage, not an error; a
// layout that this release does not know is an error, because nobody may repair that.
func (p *Publisher) standing(ctx context.Context) (*standing, error) {
	n := p.namespace
	s := &standing{wrong: map[string]bool{}}
	var hello *redis.MapStringInterfaceCmd
	var manifest *redis.MapStringStringCmd
	var log, newest, oldest *redis.XMessageSliceCmd
	var records *redis.IntCmd
	_, err := p.c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		hello = conn.Hello(ctx, pipe)
		manifest = pipe.HGetAll(ctx, n.Manifest())
		log = pipe.XRevRangeN(ctx, n.Log(), "+", "-", 1)
		records = pipe.XLen(ctx, n.History())
		newest = pipe.XRevRangeN(ctx, n.History(), "+", "-", 1)
		oldest = pipe.XRangeN(ctx, n.History(), "-", "+", trimmedAtOnce)
		return nil
	})
	if err != nil && !conn.IsAnswer(err) {
		return nil, err
	}
	if err := conn.IsMaster(hello); err != nil {
		return nil, err
	}
	for key, err := range map[string]error{
		n.Manifest(): manifest.Err(), n.Log(): log.Err(), n.History(): errors.Join(records.Err(), newest.Err(), oldest.Err()),
	} {
		switch {
		case wrongType(err):
			s.wrong[key] = true
			s.damaged(key, "", "it holds something else than a map's")
		case err != nil:
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if s.fields = manifest.Val(); len(s.fields) > 0 {
		m, err := layout.ParseManifest(s.fields)
		var newer layout.NewerLayoutError
		switch {
		case errors.As(err, &newer):
			return nil, err
		case err != nil:
			s.damaged(n.Manifest(), "", "%v", err)
		default:
			s.manifest = *m
		}
	}
	s.top = s.manifest.Version
	s.readLog(n, log.Val())
	s.readHistory(n, records.Val(), newest.Val())
	s.oldest = oldest.Val()
	return s, nil
}

func (s *standing) readLog(n layout.Namespace, last []redis.XMessage) {
	if len(last) == 0 {
		return
	}
	s.logTip, _ = last[0].Values["digest"].(string)
	s.logChange, _ = last[0].Values["change"].(string)
	version, err := layout.ParseLogID(last[0].ID)
	switch s.logged = version; {
	case err != nil:
		s.damaged(n.Log(), "", "%v", err)
	case version != s.manifest.Version || s.logTip != s.manifest.Tip.String():
		s.damaged(n.Log(), "", "its last entry is that of version %d, and the manifest is that of %d, or their digests differ", version, s.manifest.Version)
	}
	s.top = max(s.top, streamTime(last[0].ID))
}

func (s *standing) readHistory(n layout.Namespace, records int64, newest []redis.XMessage) {
	s.records = records
	if len(newest) == 0 {
		return
	}
	s.top = max(s.top, streamTime(newest[0].ID))
	var err error
	if s.newest, err = record(newest[0]); err != nil {
		s.damaged(n.History(), "", "%v", err)
	}
}

// streamTime returns the first half of the ID of a stream's entry.
func streamTime(id string) (n uint64) {
	fmt.Sscanf(id, "%d-", &n)
	return n
}

// next returns the version of a change on top of s.
func (s *standing) next(now time.Time) uint64 {
	return max(s.top+1, uint64(max(now.UnixMilli(), 1)))
}

// watch reads the standing under WATCH: a commit on it fails if one of those keys, or of
// those that every change changes, changes meanwhile.
func (p *Publisher) watch(ctx context.Context, keys ...string) (*standing, error) {
	n := p.namespace
	arguments := []any{"WATCH", n.Manifest(), n.Log(), n.History()}
	for _, key := range keys {
		arguments = append(arguments, key)
	}
	if err := p.c.Do(ctx, arguments...).Err(); err != nil {
		return nil, err
	}
	s, err := p.standing(ctx)
	if err != nil {
		p.unwatch(ctx)
	}
	return s, err
}

// unwatch gives up what watch began.
func (p *Publisher) unwatch(ctx context.Context) { p.c.Do(ctx, "UNWATCH") }

// A step is what leads from a standing to the next version.
type step struct {
	from     *standing
	manifest layout.Manifest // Version, Tip and everything else after it
	digest   layout.Digest
	batch    batch
}

// step begins a transaction: it sets the version and the tip of manifest, which holds
// everything else already, and writes log, history and manifest. undo is kept if not nil
// and not too much.
func (p *Publisher) step(s *standing, version uint64, manifest layout.Manifest, change *layout.Change, record layout.Record, undo []string) *step {
	n := p.namespace
	text := change.Encode()
	manifest.Version = version
	manifest.Tip = s.manifest.Tip.Next(version, text)
	t := &step{from: s, manifest: manifest, digest: manifest.Tip}

	fields := manifest.Fields()
	set, gone := []string{"HSET", n.Manifest()}, []string{"HDEL", n.Manifest()}
	for field, value := range fields {
		if s.fields[field] != value {
			set = append(set, field, value)
		}
	}
	for field := range s.fields {
		if _, stays := fields[field]; !stays {
			gone = append(gone, field)
		}
	}
	if s.manifest.Version == 0 { // there may be anything
		t.batch.add("DEL", n.Manifest())
		set, gone = []string{"HSET", n.Manifest()}, nil
		for field, value := range fields {
			set = append(set, field, value)
		}
	}
	t.batch.add(set...)
	if len(gone) > 2 {
		t.batch.add(gone...)
	}
	if s.logged == 0 || len(s.damage) > 0 && change.Kind == layout.Generation {
		// A stream of which entries were deleted remembers their IDs, and could refuse ours.
		t.batch.add("DEL", n.Log())
	}
	t.batch.add("XADD", n.Log(), "MAXLEN", fmt.Sprint(logLength(len(text))), layout.LogID(version), "change", text, "digest", manifest.Tip.String())

	record.Version, record.Before = version, s.manifest.Version
	record.Systems = manifest.Systems()
	p.remember(t, record, undo)
	return t
}

// logLength is how many entries the log keeps, so that it stays below some 16 MiB if the
// others are as large as this one.
func logLength(bytes int) int { return min(10_000, max(16, 16<<20/max(bytes, 1))) }

// commit makes the step, or finds out whether it was made when the connection broke.
func (p *Publisher) commitStep(ctx context.Context, t *step) (Result, error) {
	result := Result{Version: t.manifest.Version, Before: t.from.manifest.Version}
	err := p.commit(ctx, &t.batch)
	switch {
	case err == nil:
	case errors.Is(err, ErrConflict), errors.Is(err, errTooLarge), conn.IsAnswer(err):
		return Result{}, err
	default:
		if err := p.settle(ctx, t, err); err != nil {
			return Result{}, err
		}
	}
	result.Acknowledged = p.acknowledged(ctx)
	return result, nil
}

// settle finds out over a new connection whether a step was made: nil if it was.
func (p *Publisher) settle(ctx context.Context, t *step, broken error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.settling)
	defer cancel()
	unknown := UnknownError{t.manifest.Version, broken}
	for {
		if err := p.dial(ctx); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return unknown
		case <-time.After(100 * time.Millisecond):
		}
	}
	id := layout.LogID(t.manifest.Version)
	entries, err := p.c.XRangeN(ctx, p.namespace.Log(), id, id, 1).Result()
	if err != nil {
		return unknown
	}
	if len(entries) == 1 && entries[0].Values["digest"] == t.digest.String() {
		return nil
	}
	fields, err := p.c.HGetAll(ctx, p.namespace.Manifest()).Result()
	if err != nil || !maps.Equal(fields, t.from.fields) {
		return unknown
	}
	return fmt.Errorf("the connection broke before anything was written: the map is the one that it was: %w", broken)
}
