package publish

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/redis/go-redis/v9"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

// maxRecords is how many changes the history keeps at most.
const maxRecords = 10_000

// History returns the newest records, newest first, at most limit of them.
func (p *Publisher) History(ctx context.Context, limit int) ([]layout.Record, error) {
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	return p.records(ctx, limit)
}

// records is History on the connection as it is: what is being watched stays so.
func (p *Publisher) records(ctx context.Context, limit int) ([]layout.Record, error) {
	const page = 500
	var all []layout.Record
	for end := "+"; len(all) < limit; {
		messages, err := p.c.XRevRangeN(ctx, p.namespace.History(), end, "-", page).Result()
		if err != nil {
			return nil, keyError(p.namespace.History(), err)
		}
		for _, m := range messages {
			r, err := record(m)
			if err != nil {
				return all, fmt.Errorf("%s: %w: %w", p.namespace.History(), errNoRecord, err)
			}
			all = append(all, r)
		}
		if len(messages) < page {
			break
		}
		end = "(" + messages[page-1].ID
	}
	return all[:min(limit, len(all))], nil
}

var errNoRecord = errors.New("an entry is no record of a change")

func record(m redis.XMessage) (r layout.Record, err error) {
	version, err := layout.ParseLogID(m.ID)
	if err != nil {
		return r, err
	}
	text, _ := m.Values["record"].(string)
	if r, err = layout.DecodeRecord(text); err == nil && r.Version != version {
		err = fmt.Errorf("it says version %d", r.Version)
	}
	if err != nil {
		return r, fmt.Errorf("the record of version %d: %w", version, err)
	}
	return r, nil
}

// remember adds a record to the transaction, with what undoes its change, and takes out
// the oldest ones that are too much.
func (p *Publisher) remember(t *step, r layout.Record, undo []string) {
	n, s := p.namespace, t.from
	if s.wrong[n.History()] {
		t.batch.add("DEL", n.History())
	}
	bytes := 0
	for _, chunk := range undo {
		bytes += len(chunk)
	}
	if bytes > 0 && bytes <= p.KeepHistory {
		r.UndoBytes = bytes
	}
	r.UndoTotal = s.newest.UndoTotal + r.UndoBytes

	last, dropped := uint64(0), []string{"UNLINK"}
	for i, m := range s.oldest {
		old, err := record(m)
		kept := r.UndoTotal - old.UndoTotal + old.UndoBytes // with this one and all after it
		if r.Added+r.Removed+r.Changed == 0 {
			kept = 0 // a change of no system takes no way back away, whatever its publisher would keep
		}
		if err == nil && kept <= p.KeepHistory && s.records-int64(i) < maxRecords {
			break
		}
		last = streamTime(m.ID)
		dropped = append(dropped, n.Undo(last))
	}
	if last > 0 {
		t.batch.add("XTRIM", n.History(), "MINID", layout.LogID(last+1))
		t.batch.add(dropped...)
	}
	t.batch.add("XADD", n.History(), layout.LogID(r.Version), "record", r.Encode())
}

// keepUndo adds what undoes the change to the transaction.
func (p *Publisher) keepUndo(b *batch, version uint64, undo []string) {
	if len(undo) > 0 {
		b.add(append([]string{"RPUSH", p.namespace.Undo(version)}, undo...)...)
	}
}

// undoSystems is how many systems are in one chunk of undo data.
const undoSystems = 1000

// undo returns the chunks that lead back from a difference.
func undo(d *Diff) ([]string, error) {
	var all []string
	var chunk layout.UndoChunk
	flush := func(least int) error {
		if len(chunk.Systems)+len(chunk.Absent) < least {
			return nil
		}
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if err := json.NewEncoder(w).Encode(chunk); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		all, chunk = append(all, b.String()), layout.UndoChunk{}
		return nil
	}
	before := slices.Clone(d.Removed)
	for i := range d.Changed {
		before = append(before, d.Changed[i].Before)
	}
	for i := range before {
		chunk.Systems = append(chunk.Systems, undoSystem(&before[i]))
		if err := flush(undoSystems); err != nil {
			return nil, err
		}
	}
	for i := range d.Added {
		chunk.Absent = append(chunk.Absent, d.Added[i].ASID.String())
		if err := flush(10 * undoSystems); err != nil {
			return nil, err
		}
	}
	return all, flush(1)
}

func undoSystem(s *authz.AccreditedSystem) layout.UndoSystem {
	u := layout.UndoSystem{ASID: s.ASID.String(), Name: s.Name, ODS: s.ODSCode, PartyKey: s.PartyKey, FQDNs: s.FQDNs,
		TokenClients: s.TokenClients, State: s.State.String(), Interactions: []string{}}
	for _, f := range s.Fingerprints {
		u.Certificates = append(u.Certificates, hex.EncodeToString(f[:]))
	}
	for _, id := range s.Interactions {
		u.Interactions = append(u.Interactions, id.String())
	}
	return u
}

func redoSystem(u *layout.UndoSystem) (s authz.AccreditedSystem, err error) {
	s = authz.AccreditedSystem{Name: u.Name, ODSCode: u.ODS, PartyKey: u.PartyKey, FQDNs: u.FQDNs, TokenClients: u.TokenClients}
	if s.ASID, err = authz.ParseASID(u.ASID); err != nil {
		return s, err
	}
	if s.State, err = authz.ParseState(u.State); err != nil {
		return s, err
	}
	for _, text := range u.Certificates {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 32 {
			return s, fmt.Errorf("a certificate is 64 hex digits, not %s", authz.Excerpt(text))
		}
		s.Fingerprints = append(s.Fingerprints, [32]byte(b))
	}
	for _, text := range u.Interactions {
		id, err := authz.ParseInteractionID(text)
		if err != nil {
			return s, err
		}
		s.Interactions = append(s.Interactions, id)
	}
	return s, nil
}

// maxUndoChunk bounds what a chunk may unpack to.
const maxUndoChunk = 256 << 20

func decodeUndo(text string) (chunk layout.UndoChunk, err error) {
	r, err := gzip.NewReader(bytes.NewReader([]byte(text)))
	if err != nil {
		return chunk, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxUndoChunk))
	if err != nil {
		return chunk, err
	}
	return chunk, json.Unmarshal(b, &chunk)
}

// A HistoryError says why the map cannot be taken back to a version.
type HistoryError struct{ text string }

func (e HistoryError) Error() string { return e.text }

// RollbackTo returns a plan that makes the map what it was at a version that the history
// knows. Suspensions stay as they are.
func (p *Publisher) RollbackTo(ctx context.Context, version uint64) (*Plan, error) {
	state, err := p.Read(ctx)
	if err != nil {
		return nil, err
	}
	if len(state.Damage) > 0 {
		return nil, DamageError{state.Damage}
	}
	if version >= state.Version {
		return nil, HistoryError{fmt.Sprintf("the map has version %d: only an older one can be gone back to", state.Version)}
	}
	records, err := p.records(ctx, maxRecords+1)
	if err != nil && !errors.Is(err, errNoRecord) {
		return nil, err
	}
	target := systemsOf(state.Map)
	at := state.Version
	for _, r := range records {
		if r.Version > at && at == state.Version {
			return nil, ErrConflict // it was changed while we read
		}
		if at == version {
			break
		}
		if r.Version != at {
			return nil, HistoryError{fmt.Sprintf("version %d is not in the history: it knows what was changed after version %d, and no further", version, at)}
		}
		if err := p.undoRecord(ctx, target, &r); err != nil {
			return nil, err
		}
		if at = r.Before; at < version {
			return nil, HistoryError{fmt.Sprintf("there was no version %d: version %d was followed by %d", version, at, r.Version)}
		}
	}
	if at != version {
		return nil, HistoryError{fmt.Sprintf("version %d is not in the history: it knows what was changed after version %d, and no further", version, at)}
	}
	m, err := build(target, max(version, 1))
	if err != nil {
		return nil, err
	}
	return NewPlan(state, m), nil
}

// undoRecord takes back in target what a change did.
func (p *Publisher) undoRecord(ctx context.Context, target map[authz.ASID]authz.AccreditedSystem, r *layout.Record) error {
	if r.Added+r.Removed+r.Changed == 0 {
		return nil
	}
	if r.UndoBytes == 0 {
		return HistoryError{fmt.Sprintf("what version %d replaced is not kept: nothing before it can be gone back to", r.Version)}
	}
	key, bytes := p.namespace.Undo(r.Version), 0
	const page = 64
	for start := int64(0); ; start += page {
		chunks, err := p.c.LRange(ctx, key, start, start+page-1).Result()
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		for _, text := range chunks {
			bytes += len(text)
			if err := takeBack(target, text); err != nil {
				return HistoryError{fmt.Sprintf("%s: what version %d replaced cannot be read: %v", key, r.Version, err)}
			}
		}
		if len(chunks) < page {
			break
		}
	}
	if bytes != r.UndoBytes {
		return HistoryError{fmt.Sprintf("%s: what version %d replaced is not whole: %d bytes of %d", key, r.Version, bytes, r.UndoBytes)}
	}
	return nil
}

func takeBack(target map[authz.ASID]authz.AccreditedSystem, text string) error {
	chunk, err := decodeUndo(text)
	if err != nil {
		return err
	}
	for i := range chunk.Systems {
		s, err := redoSystem(&chunk.Systems[i])
		if err != nil {
			return err
		}
		target[s.ASID] = s
	}
	for _, text := range chunk.Absent {
		asid, err := authz.ParseASID(text)
		if err != nil {
			return err
		}
		delete(target, asid)
	}
	return nil
}
