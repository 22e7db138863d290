package cache

import (
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
)

// Memory is the [authz.MapSource] of a deployment without Redis: it holds the map of the
// newest file content that it could accept. It reads no file itself; whoever polls one
// calls Load with what it read.
//
// Current and Status take no lock and never wait for a Load.
type Memory struct {
	log   *zap.Logger
	load  sync.Mutex // one Load at a time
	state atomic.Pointer[memoryState]
}

// A memoryState is immutable: a reader sees a map together with the time that belongs to it.
type memoryState struct {
	m         *authz.InteractionMap
	confirmed time.Time
	read      time.Time         // of the content that was taken last, good or bad
	accepted  [sha256.Size]byte // the content that m was made of, if there is an m

	err     error             // why the content that was read last was refused, or nil
	refused [sha256.Size]byte // that content, if there is an err

	accepts, refusals uint64
}

// NewMemory returns a Memory without a map.
func NewMemory(log *zap.Logger) *Memory {
	m := &Memory{log: log}
	m.state.Store(&memoryState{})
	return m
}

// Current returns the map and when it was last known to be the newest, or no map and
// MapUnavailable.
func (m *Memory) Current() (*authz.InteractionMap, time.Time, authz.Reason) {
	s := m.state.Load()
	if s.m == nil {
		return nil, time.Time{}, authz.MapUnavailable
	}
	return s.m, s.confirmed, authz.Undecided
}

// Load takes the content of the map file and the time when it was about to be read, as
// [time.Now] gives it. name is the file's, for errors and logs.
//
//   - The content of the current map: the map is confirmed at now.
//   - Another one that can be accepted: it becomes the map, at once and as a whole, and
//     changed is true.
//   - One that cannot: the current map stays, and is not confirmed, because a newer one
//     exists. The error, a [strictyaml.Problems], says everything that is wrong with it;
//     the same content read again returns it again, without being decoded.
//   - One that was read before the content that was taken last: nothing. A read that is
//     overtaken must not bring back what a newer one took away. The error, if any, is
//     that of the newer one.
//
// The version of a map is one more than that of the map before it, or the Unix time of
// now in seconds if that is more, so that it rises also over a restart of the process,
// unless the clock was set back meanwhile. Two processes that read the same file have
// versions of their own.
func (m *Memory) Load(name string, text []byte, now time.Time) (changed bool, err error) {
	m.load.Lock()
	defer m.load.Unlock()
	s := *m.state.Load()
	if now.Before(s.read) {
		return false, s.err
	}
	old, content := s.m, sha256.Sum256(text)
	s.read = now
	switch {
	case old != nil && content == s.accepted:
		if s.err != nil {
			m.log.Info("map file is the accepted one again", zap.String("file", name), zap.Uint64("version", old.Version()))
		}
		s.err, s.confirmed = nil, now
	case s.err != nil && content == s.refused:
	default:
		var next *authz.InteractionMap
		if next, s.err = decodeAndBuild(name, text, nextVersion(old, now)); s.err != nil {
			s.refused = content
			s.refusals++
			m.logRefused(name, s.err)
			break
		}
		s.m, s.accepted, s.confirmed = next, content, now
		s.accepts++
		changed = true
	}
	m.state.Store(&s)
	if changed {
		m.logLoaded(name, old, s.m) // compares the maps, which takes its time
	}
	return changed, s.err
}

func decodeAndBuild(name string, text []byte, version uint64) (*authz.InteractionMap, error) {
	f, err := DecodeMap(name, text)
	if err != nil {
		return nil, err
	}
	return f.Build(version)
}

func nextVersion(old *authz.InteractionMap, now time.Time) uint64 {
	version := uint64(1)
	if old != nil {
		version = old.Version() + 1
	}
	return max(version, uint64(max(0, now.Unix())))
}

// A MemoryStatus is what there is to know about a [Memory] at one moment.
type MemoryStatus struct {
	Version   uint64    // of the current map; 0: there is none
	Systems   int       // in the current map
	Confirmed time.Time // when the current map was last known to be the newest
	Err       error     // why the content that was read last was refused; nil: it is the current map's

	// How many contents became the map, and how many were refused: not how often they
	// were read.
	Accepted, Refused uint64
}

// Status returns what there is to know now.
func (m *Memory) Status() MemoryStatus {
	s := m.state.Load()
	status := MemoryStatus{Confirmed: s.confirmed, Err: s.err, Accepted: s.accepts, Refused: s.refusals}
	if s.m != nil {
		status.Version, status.Systems = s.m.Version(), s.m.Len()
	}
	return status
}

// maxLogged bounds the problems of one file in the log: a generated file can be wrong
// in every line.
const maxLogged = 10

// logRefused says why, once for a content: it is read again at every poll.
func (m *Memory) logRefused(name string, err error) {
	texts := []string{err.Error()}
	var problems strictyaml.Problems
	if errors.As(err, &problems) {
		texts = texts[:0]
		for _, p := range problems[:min(len(problems), maxLogged)] {
			texts = append(texts, p.Error())
		}
	}
	m.log.Error("map file refused; the map that was accepted before, if any, stays and ages",
		zap.String("file", name), zap.Int("problems", max(len(texts), len(problems))), zap.Strings("first", texts))
}

func (m *Memory) logLoaded(name string, old, current *authz.InteractionMap) {
	added, removed, changed := difference(old, current)
	m.log.Info("map loaded", zap.String("file", name), zap.Uint64("version", current.Version()), zap.Int("systems", current.Len()),
		zap.Int("added", added), zap.Int("removed", removed), zap.Int("changed", changed))
}

// difference counts the systems in which current differs from old, which may be nil.
func difference(old, current *authz.InteractionMap) (added, removed, changed int) {
	if old == nil {
		return current.Len(), 0, 0
	}
	for s := range current.Systems() {
		switch before, known := old.System(s.ASID); {
		case !known:
			added++
		case !equal(&before, &s):
			changed++
		}
	}
	return added, old.Len() + added - current.Len(), changed
}

func equal(a, b *authz.AccreditedSystem) bool {
	return a.Name == b.Name && a.ODSCode == b.ODSCode && a.PartyKey == b.PartyKey && a.State == b.State &&
		slices.Equal(a.FQDNs, b.FQDNs) && slices.Equal(a.Fingerprints, b.Fingerprints) &&
		slices.Equal(a.TokenClients, b.TokenClients) && slices.Equal(a.Interactions, b.Interactions)
}
