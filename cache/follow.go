package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

// errRegressed says that what is published is older than what is held.
var errRegressed = errors.New("what is published is older than the map that is held: publish again, and it rises above both")

// session is the life of one connection. It ends with the error that ended it, or with
// nil when the connection was used for long enough: a name that moved to another address
// is followed, and a rotated password is used, from the next one on.
func (r *Replica) session(ctx context.Context) error {
	s, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	r.counts.connections++
	end := time.Now().Add(jittered(r.pace.recycle))
	nextVerify := time.Now().Add(jittered(r.pace.verify))
	wait := time.Duration(0) // the first question is answered at once, so that an outage ends at once
	for ctx.Err() == nil && time.Now().Before(end) {
		if err := r.ask(ctx, s, wait); err != nil {
			return err
		}
		switch {
		case r.trouble != nil && r.loadIsDue():
			if err := r.reload(ctx, s); err != nil {
				return err
			}
			wait = 0
		case r.trouble != nil:
			sleep(ctx, jittered(r.pace.block)) // only a publisher can help: look for him now and then
			wait = 0
		default:
			if wait = r.pace.block; !time.Now().Before(nextVerify) {
				nextVerify = time.Now().Add(jittered(r.pace.verify))
				if err := r.verify(ctx, s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ask asks once what is new, and takes what it is told.
func (r *Replica) ask(ctx context.Context, s server, wait time.Duration) error {
	after := uint64(noVersion)
	if r.held != nil {
		after = r.held.head.Version
	}
	asked := time.Now() // what the answer proves, it proves of this moment and no later one
	step, cancel := context.WithTimeout(ctx, wait+r.pace.answer)
	a, err := s.follow(step, after, wait)
	cancel()
	if err != nil {
		return err
	}
	if err := r.take(a); err != nil {
		r.object(err)
		return nil
	}
	r.confirm(asked)
	return nil
}

// take applies an answer. The map is confirmed if there is no error: the answer's head is
// what is held, or the entries of the log lead from what is held to it and beyond.
func (r *Replica) take(a answer) error {
	r.seen = a.head
	switch {
	case a.headErr != nil && r.held != nil && errors.Is(a.headErr, layout.ErrNothingPublished):
		return fmt.Errorf("%w (%w)", errRegressed, a.headErr)
	case a.headErr != nil:
		return unusable(a.headErr)
	case r.held == nil && r.doubt != nil:
		return r.doubt
	case r.held == nil:
		return errNoMapYet
	}
	before := r.held.head
	switch {
	case a.head.Version < before.Version, a.head.Version == before.Version && a.head.Tip != before.Tip:
		return errRegressed
	}
	for _, e := range a.entries {
		next, err := r.held.follow(e, r.leftOut)
		if err != nil {
			return r.broken(err)
		}
		r.held = next
		r.counts.changes++
		r.publish(r.state.Load().confirmed)
	}
	if a.head.Version > r.held.head.Version {
		return r.broken(fmt.Errorf("the log ends at version %d, and the manifest is at %d", r.held.head.Version, a.head.Version))
	}
	return r.doubt
}

// broken says that the log does not lead from what is held to what is published, unless
// there is worse to say.
func (r *Replica) broken(err error) error {
	if r.doubt != nil {
		return r.doubt
	}
	return brokenError{err}
}

var errNoMapYet = errors.New("the map is not loaded yet")

type brokenError struct{ err error }

func (e brokenError) Error() string { return e.err.Error() }

// loadIsDue reports whether loading could end the trouble, and is not to wait.
func (r *Replica) loadIsDue() bool {
	var broken brokenError
	switch {
	case errors.Is(r.trouble, errNoMapYet), errors.As(r.trouble, &broken):
	case r.doubt != nil && r.trouble == r.doubt:
	default:
		return false // nothing that can be read is newer and whole
	}
	return r.seen != r.failed || !time.Now().Before(r.retry)
}

// reload loads the map and swaps it in. Only an error of the connection is returned.
func (r *Replica) reload(ctx context.Context, s server) error {
	if r.held != nil {
		sleep(ctx, jittered(r.pace.spread))
	}
	began := time.Now()
	refused := 0
	h, asked, err := load(ctx, s, r.pace, func(asid string, err error) {
		if refused++; refused <= maxLogged {
			r.leftOut(asid, err)
		}
	})
	var notWhole incompleteError
	switch {
	case errors.Is(err, layout.ErrNothingPublished), errors.As(err, &notWhole):
		r.fails++
		r.failed, r.retry = r.seen, time.Now().Add(jittered(min(time.Second<<min(r.fails, 10), r.pace.reload)))
		r.doubt = err
		r.object(err)
		return nil
	case err != nil:
		return err
	case r.held != nil && (h.head.Version < r.held.head.Version || h.head.Version == r.held.head.Version && h.head.Tip != r.held.head.Tip):
		r.object(errRegressed)
		return nil
	}
	old := r.held
	r.held, r.doubt, r.fails, r.retry = h, nil, 0, time.Time{}
	r.counts.loads++
	r.confirm(asked)
	var before layout.Head
	if old != nil {
		before = old.head
	}
	// Only what costs nothing: to compare two large maps takes half as long again as to load
	// one, and three times what that allocates, and nothing is followed meanwhile.
	r.log.Info("interaction map loaded", zap.Uint64("version", h.head.Version), zap.Int("systems", h.m.Len()), zap.Duration("took", time.Since(began)),
		zap.Uint64("before", before.Version), zap.Int("left_out", len(h.refused)), zap.Int("unparsable_interactions", h.unparsable))
	return nil
}

func (r *Replica) leftOut(asid string, err error) {
	r.log.Error("an entry of the interaction map makes no sense and is left out: its system is denied",
		zap.String("asid", authz.Excerpt(asid)), zap.Error(err))
}

// layerEvery is after how many parts that were compared the suspension layer has its turn. A
// bucket is one of many, and the layer is what suspends a system in a hurry: whoever starts
// while it is not whole has no map, so that it is not must be known within a minute.
const layerEvery = 16

// verify compares a part of what is held with the server: a bucket at a time, and now and
// then the suspension layer. What a foreign writer touched without the log, or the server
// evicted, is found so; nobody can say then what is published, and the map is not
// confirmed until it was loaded whole.
func (r *Replica) verify(ctx context.Context, s server) error {
	step, cancel := context.WithTimeout(ctx, r.pace.part)
	defer cancel()
	h := r.held
	if r.turn%layerEvery == layerEvery-1 {
		begin, err := s.start(step)
		if err != nil {
			return r.unread(err)
		}
		manifest, err := layout.ParseManifest(begin.manifest)
		if err == nil && manifest.Head != h.head {
			return nil // something was published meanwhile: ask first
		}
		if err == nil && !h.sameLayer(manifest, begin.suspended) {
			err = incomplete("the suspension layer does not fit the manifest")
		}
		r.verified(unusable(err))
		return nil
	}
	bucket := (r.turn - r.turn/layerEvery) % layout.Buckets
	read, err := s.buckets(step, h.head.Generation, bucket, 1, 0)
	if err != nil {
		return r.unread(err)
	}
	if read.headErr == nil && read.head != h.head {
		return nil
	}
	r.verified(h.same(read, bucket))
	return nil
}

// unread takes the error of a read that was to be compared: one of the map is a doubt, one
// of the connection ends it.
func (r *Replica) unread(err error) error {
	var notWhole incompleteError
	if errors.As(err, &notWhole) {
		r.verified(err)
		return nil
	}
	return err
}

func (r *Replica) verified(err error) {
	switch {
	case err == nil:
		r.turn++
	case errors.Is(err, layout.ErrNothingPublished): // the next answer says it, and what it means
	default:
		r.doubt = err
		r.object(err)
	}
}

func (h *held) sameLayer(manifest *layout.Manifest, suspended map[string]string) bool {
	var layer layout.Tally
	for asid, value := range suspended {
		layer.Add(asid, value)
		if !h.suspended[asid] {
			return false
		}
	}
	return layer == manifest.Suspended && len(suspended) == len(h.suspended)
}

// same compares a bucket and the dictionary, as the server has them, with the manifest
// and with what is held of them.
func (h *held) same(read part, bucket int) error {
	if read.headErr != nil {
		return unusable(read.headErr)
	}
	// Decoded by the server's own dictionary, which must be the one that is held.
	there := &held{suspended: h.suspended, refused: map[string]bool{}}
	var b authz.MapBuilder // so that both sides are written alike
	if err := there.check(&b, read, h.head.Generation, bucket); err != nil {
		return err
	}
	if there.idTally != h.idTally {
		return incomplete("the dictionary is not the one that was published")
	}
	if len(read.buckets[0]) != h.inBucket[bucket] {
		return incomplete("bucket %s has %d entries, and %d are held", layout.BucketName(byte(bucket)), len(read.buckets[0]), h.inBucket[bucket])
	}
	var buffer []int
	for field, value := range read.buckets[0] {
		s, numbers, err := there.system(field, value, h.suspended, &buffer)
		if err == nil {
			err = b.AddNumbered(s, numbers)
		}
		if (err != nil) != h.refused[field] {
			return incomplete("the entry of %s is not the one that is held", authz.Excerpt(field))
		}
	}
	m, err := b.Build(1)
	if err != nil {
		return err
	}
	for s := range m.Systems() {
		if here, known := h.m.System(s.ASID); !known || !equal(&here, &s) {
			return incomplete("the entry of %s is not the one that is held", s.ASID)
		}
	}
	return nil
}
