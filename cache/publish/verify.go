package publish

import (
	"context"
	"errors"
	"fmt"

	"asid-authz/cache/layout"
)

// A Verification is what came of looking at everything.
type Verification struct {
	State   *State
	Damage  []Damage // of the map, of the log and of the history
	Entries int      // of the log
	Records int      // of the history
	Notes   []string // what is not damage, and somebody should know
}

// Verify reads everything that a replica reads, as it does when it starts, and compares
// it with the manifest; it follows the chain of the log, and reads the history.
func (p *Publisher) Verify(ctx context.Context) (*Verification, error) {
	for range readTries {
		s, err := p.Read(ctx)
		if err != nil {
			return nil, err
		}
		v := &Verification{State: s, Damage: s.Damage}
		if err := p.verifyLog(ctx, v); err != nil {
			return nil, err
		}
		if err := p.verifyHistory(ctx, v); err != nil {
			return nil, err
		}
		if now, err := p.standing(ctx); err != nil {
			return nil, err
		} else if now.manifest.Head == s.standing.manifest.Head {
			return v, nil
		}
	}
	return nil, fmt.Errorf("the map changed %d times while it was being read", readTries)
}

func (p *Publisher) verifyLog(ctx context.Context, v *Verification) error {
	key := p.namespace.Log()
	if v.State.standing.wrong[key] {
		return nil
	}
	object := func(format string, args ...any) {
		v.Damage = append(v.Damage, Damage{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	const page = 16 // entries of up to 1 MB
	var tip layout.Digest
	for start := "-"; ; {
		entries, err := p.c.XRangeN(ctx, key, start, "+", page).Result()
		if err != nil {
			return keyError(key, err)
		}
		for _, entry := range entries {
			v.Entries++
			text, _ := entry.Values["change"].(string)
			digest, _ := entry.Values["digest"].(string)
			version, err := layout.ParseLogID(entry.ID)
			if err != nil {
				object("%v", err)
				continue
			}
			if _, err := layout.DecodeChange(text); err != nil {
				object("the change of version %d: %v", version, err)
			}
			next, err := layout.ParseDigest(digest)
			if err != nil {
				object("the change of version %d: %v", version, err)
			} else if v.Entries > 1 && tip.Next(version, text) != next {
				object("the change of version %d does not follow the one before it", version)
			}
			tip = next
		}
		if len(entries) < page {
			break
		}
		start = "(" + entries[page-1].ID
	}
	if v.Entries == 0 && v.State.Version > 0 {
		v.Notes = append(v.Notes, "the log is empty: a replica that loses its connection loads the whole map anew")
	}
	return nil
}

func (p *Publisher) verifyHistory(ctx context.Context, v *Verification) error {
	key := p.namespace.History()
	if v.State.standing.wrong[key] {
		return nil
	}
	records, err := p.records(ctx, maxRecords+1)
	if v.Records = len(records); errors.Is(err, errNoRecord) {
		v.Notes = append(v.Notes, fmt.Sprintf("%v: nothing before it can be gone back to", err))
	} else if err != nil {
		return err
	}
	for i := 1; i < len(records); i++ {
		if after, before := records[i-1], records[i]; after.Before != before.Version {
			v.Notes = append(v.Notes, fmt.Sprintf("the history does not know what came between version %d and %d: nothing before it can be gone back to", before.Version, after.Version))
			break
		}
	}
	for _, r := range records {
		if r.UndoBytes == 0 {
			continue
		}
		if n, err := p.c.LLen(ctx, p.namespace.Undo(r.Version)).Result(); err != nil && !wrongType(err) {
			return err
		} else if n == 0 {
			v.Notes = append(v.Notes, fmt.Sprintf("what version %d replaced is gone: nothing before it can be gone back to", r.Version))
			break
		}
	}
	return nil
}
