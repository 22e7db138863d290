package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

// entriesInPart is how many entries are read in one round trip: as many as a server
// answers in a few milliseconds, so that nobody else waits longer.
const entriesInPart = 2048

// load reads the whole map, beside whatever is held. Buckets are read one after the
// other while publishers go on publishing; each part is checked against the manifest of
// its own moment, and at the end the log since the beginning is gone through once more,
// which makes all parts one version. asked is when the question was sent whose answer
// proved that version to be the newest.
func load(ctx context.Context, s server, pace pace, objects func(asid string, err error)) (h *held, asked time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, pace.load)
	defer cancel()
	const attempts = 3 // a new generation may come in between, which is seldom
	for range attempts {
		h, asked, err = loadOnce(ctx, s, pace, objects)
		var moved movedError
		if !errors.As(err, &moved) {
			return h, asked, err
		}
	}
	return nil, time.Time{}, incomplete("it changed too fast: %v", err)
}

// A movedError says that the map was written anew while it was read.
type movedError struct{ text string }

func (e movedError) Error() string { return e.text }

func loadOnce(ctx context.Context, s server, pace pace, objects func(asid string, err error)) (*held, time.Time, error) {
	never := time.Time{}
	within := func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, pace.part) }

	step, cancel := within()
	begin, err := s.start(step)
	cancel()
	if err != nil {
		return nil, never, err
	}
	manifest, err := layout.ParseManifest(begin.manifest)
	if err != nil {
		return nil, never, unusable(err)
	}
	h := &held{head: manifest.Head, suspended: map[string]bool{}, refused: map[string]bool{}}
	var layer layout.Tally
	for asid, value := range begin.suspended {
		layer.Add(asid, value)
		h.suspended[asid] = true
	}
	if layer != manifest.Suspended {
		return nil, never, incomplete("the suspension layer does not fit the manifest")
	}

	// The next part is on its way while this one is decoded.
	ctx, stop := context.WithCancel(ctx)
	var b authz.MapBuilder
	var buffer []int
	ask := func(first int) *pending {
		p := &pending{first: first, done: make(chan struct{})}
		for entries := 0; first+p.n < layout.Buckets && (p.n == 0 || entries+manifest.Buckets[first+p.n].Count <= entriesInPart); p.n++ {
			entries += manifest.Buckets[first+p.n].Count
		}
		known := len(h.ids)
		go func() {
			defer close(p.done)
			step, cancel := within()
			defer cancel()
			p.read, p.err = s.buckets(step, manifest.Generation, first, p.n, known)
		}()
		return p
	}
	part := ask(0)
	defer func() { // nobody may be on the connection after a load that failed
		stop()
		<-part.done
	}()
	for {
		<-part.done
		if part.err != nil {
			return nil, never, part.err
		}
		read, first, last := part.read, part.first, part.first+part.n == layout.Buckets
		if err := h.check(&b, read, manifest.Generation, first); err != nil {
			return nil, never, err
		}
		if !last {
			part = ask(first + part.n)
		}
		for i, bucket := range read.buckets {
			h.inBucket[first+i] = len(bucket)
			for field, value := range bucket {
				system, numbers, err := h.system(field, value, h.suspended, &buffer)
				if err == nil {
					err = b.AddNumbered(system, numbers)
				}
				if err != nil {
					h.refused[field] = true
					objects(field, err)
				}
			}
		}
		if last {
			break
		}
	}
	if h.m, err = b.Build(h.head.Version); err != nil {
		return nil, never, err
	}

	// A bucket that was read late may hold a change already that is applied again here:
	// entries are put whole, so the last one wins either way.
	for {
		step, cancel := within()
		asked := time.Now()
		a, err := s.follow(step, h.head.Version, 0)
		cancel()
		if err != nil {
			return nil, never, err
		}
		if a.headErr != nil {
			return nil, never, unusable(a.headErr)
		}
		if a.head.Version == h.head.Version && a.head.Tip == h.head.Tip {
			return h, asked, nil
		}
		if len(a.entries) == 0 {
			return nil, never, movedError{fmt.Sprintf("the log ends at version %d, and the manifest is at %d", h.head.Version, a.head.Version)}
		}
		for _, e := range a.entries {
			next, err := h.again(e, objects)
			if err != nil {
				return nil, never, movedError{err.Error()}
			}
			h = next
		}
	}
}

// A pending part of a load is there when done is closed.
type pending struct {
	first, n int // buckets
	read     part
	err      error
	done     chan struct{}
}

// check takes the dictionary's part of a read for the map that b builds, and compares the
// read with the manifest of its moment.
func (h *held) check(b *authz.MapBuilder, read part, generation uint64, first int) error {
	if read.headErr != nil {
		return unusable(read.headErr)
	}
	if read.head.Generation != generation {
		return movedError{fmt.Sprintf("generation %d became %d", generation, read.head.Generation)}
	}
	if err := h.addIDs(b, read.ids); err != nil {
		return err
	}
	if read.idTally != h.idTally.String() {
		return incomplete("the dictionary does not fit the manifest")
	}
	for i, bucket := range read.buckets {
		if tally := tallyOf(bucket); tally.String() != orEmpty(read.tallies[i]) {
			return incomplete("bucket %s does not fit the manifest", layout.BucketName(byte(first+i)))
		}
	}
	return nil
}

func tallyOf(bucket map[string]string) (t layout.Tally) {
	for field, value := range bucket {
		t.Add(field, value)
	}
	return t
}

// orEmpty returns what a manifest means that says nothing about a bucket.
func orEmpty(tally string) string {
	if tally == "" {
		return layout.Tally{}.String()
	}
	return tally
}

// unusable takes what is wrong with a manifest: unless there is none at all, or nothing is
// wrong, the map is not whole.
func unusable(err error) error {
	if err == nil || errors.Is(err, layout.ErrNothingPublished) {
		return err
	}
	return incompleteError{err.Error()}
}

// noVersion is after every version: who asks for what comes after it gets only the head.
const noVersion = math.MaxUint64
