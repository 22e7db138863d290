package token

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
)

// Keys are where an issuer's keys come from: [FileKeys] or [RemoteKeys]. One may serve
// several issuers; each has its own rules for them all the same.
type Keys interface {
	// Status says what is held, for gauges and readiness.
	Status() Status

	// current returns what is held, in one piece. It never returns nil and never blocks.
	current() *held

	// unknown returns what it means that the set that is held has no key of a token's
	// kid: TokenKeyUnknown if the set is as good as new, else KeysUnavailable. It never
	// blocks; it may ask for a refresh in the background.
	unknown(h *held, now time.Time) authz.Reason
}

// Status is what gauges show of Keys.
type Status struct {
	Source    string    // the file, or the URL
	Confirmed time.Time // when it was last known that these are the newest keys; zero: there are none
	Keys      int       // how many can be used
	Dropped   []string  // why the others cannot; for people
	Err       error     // why the last attempt to confirm them failed; nil if it did not
}

// Age returns how long before now the keys were confirmed.
func (s Status) Age(now time.Time) time.Duration { return authz.Age(now, s.Confirmed) }

// held is what Keys hold at one moment. It is immutable.
type held struct {
	set       *keySet   // nil: there never was any. Equal content keeps the pointer
	confirmed time.Time // when the question was asked whose answer confirmed it
	sum       [32]byte  // SHA-256 of the text that set was read from
	err       error
}

// A holder holds the keys of one source behind one pointer.
type holder struct {
	source string
	log    *zap.Logger

	mu  sync.Mutex // one writer at a time; readers take none
	ptr atomic.Pointer[held]
}

var nothing held

func (h *holder) current() *held {
	if now := h.ptr.Load(); now != nil {
		return now
	}
	return &nothing
}

// Status says what is held.
func (h *holder) Status() Status {
	now := h.current()
	s := Status{Source: h.source, Confirmed: now.confirmed, Err: now.err}
	if now.set != nil {
		s.Keys, s.Dropped = len(now.set.keys), now.set.dropped
	}
	return s
}

// accept takes the text of a key set that was asked for at that time. Text equal to
// what is held confirms it; text that is no usable key set is an error and leaves what
// is held as it is.
func (h *holder) accept(text []byte, asked time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.current()
	sum := sha256.Sum256(text)
	if old.set != nil && old.sum == sum {
		h.confirmed(old, asked)
		return nil
	}
	set, err := parseJWKS(text)
	if err != nil {
		return err
	}
	h.ptr.Store(&held{set: set, confirmed: asked, sum: sum})
	h.log.Info("keys accepted", zap.String("source", h.source), zap.Int("keys", len(set.keys)), zap.Strings("dropped", set.dropped))
	return nil
}

// confirm takes the answer that what is held is the newest.
func (h *holder) confirm(asked time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.confirmed(h.current(), asked)
}

func (h *holder) confirmed(old *held, asked time.Time) {
	h.ptr.Store(&held{set: old.set, confirmed: asked, sum: old.sum})
	if old.err != nil {
		h.log.Info("keys confirmed again", zap.String("source", h.source))
	}
}

// refuse notes that what is held could not be confirmed; it goes on ageing. The log has
// an error once, not each time that it comes back: a file is looked at each second.
func (h *holder) refuse(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.current()
	h.ptr.Store(&held{set: old.set, confirmed: old.confirmed, sum: old.sum, err: err})
	if old.err == nil || old.err.Error() != err.Error() {
		h.log.Warn("keys not confirmed", zap.String("source", h.source), zap.Error(err), zap.Bool("held", old.set != nil))
	}
}
