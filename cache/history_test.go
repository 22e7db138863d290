package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestHistories lets replicas follow random histories of changes, broken connections,
// failovers that lose changes, restores, evictions and clock time. At every moment what a
// replica serves is exactly one version as it was published, versions only rise, and what
// is called confirmed was the newest at that moment by the server's own account. In the
// end, once a publisher has published again, all of them hold what the server has.
func TestHistories(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { history(t, rand.New(rand.NewPCG(uint64(seed), 5))) })
		})
	}
}

func history(t *testing.T, random *rand.Rand) {
	f := newFakeServer()
	f.turn.Lock()
	defer f.turn.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	var replicas []*Replica
	done := make(chan struct{}, 3)
	for range 3 {
		r := newReplica(zap.NewNop(), f.open, defaultPace)
		replicas = append(replicas, r)
		go func() { r.Run(ctx); done <- struct{}{} }()
	}
	defer func() {
		cancel()
		f.turn.Unlock()
		for range replicas {
			<-done
		}
		f.turn.Lock()
	}()
	wait := func(d time.Duration) {
		f.turn.Unlock()
		time.Sleep(d)
		synctest.Wait()
		f.turn.Lock()
	}

	content := NewContent(0)
	type save struct {
		data    fakeData
		content fakeContent
	}
	var saved []save
	version := uint64(0)
	published := func(e fakeEdit) {
		version += 1 + uint64(random.IntN(3))
		content = f.publish(version, content, e)
	}
	edit := func() fakeEdit {
		e := content.randomEdit(random, fmt.Sprint("V", version))
		e.anew = random.IntN(6) == 0
		return e
	}
	// Publishers do not wait until a load is over. The fake has no clock of its own, so
	// all of this happens in turns.
	f.reading = func(int) {
		if random.IntN(40) == 0 {
			published(edit())
		}
	}
	var witnesses []*Witness
	for range replicas {
		witnesses = append(witnesses, f.oracle.Witness())
	}
	check := func() {
		t.Helper()
		for i, r := range replicas {
			m, confirmed, _ := r.Current()
			if err := witnesses[i].Look(m, confirmed); err != nil {
				t.Fatalf("replica %d: %v", i, err)
			}
			if m != nil && !f.newest(m.Version(), confirmed) {
				t.Fatalf("replica %d says that version %d was the newest at %v", i, m.Version(), confirmed)
			}
		}
	}
	for range 60 {
		switch random.IntN(22) {
		default:
			if !f.down && !f.frozen {
				published(edit())
			}
		case 0:
			f.cutAll()
		case 1:
			f.stop()
		case 2:
			f.frozen = !f.frozen
		case 3:
			f.slow = time.Duration(random.IntN(3000)) * time.Millisecond
		case 4:
			saved = append(saved, save{f.data.clone(), content.clone()})
		case 5: // a failover that loses what came since, or the restore of a dump
			if len(saved) > 0 {
				s := saved[random.IntN(len(saved))]
				f.data, content = s.data.clone(), s.content.clone()
				f.cutAll()
				f.written()
			}
		case 6:
			f.role = []string{"master", "replica"}[random.IntN(2)]
		case 7: // the log trimmed
			if n := len(f.data.log); n > 0 {
				f.data.log = f.data.log[random.IntN(n+1):]
			}
		case 8: // evicted
			for g := range f.data.buckets {
				delete(f.data.buckets[g], random.IntN(256))
			}
		case 9: // touched by somebody who does not know the log
			for _, buckets := range f.data.buckets {
				for _, bucket := range buckets {
					for asid := range bucket {
						bucket[asid] = "\x01\x00\x01X\x00\x00\x00\x00\x00"
					}
				}
			}
		case 10:
			if random.IntN(4) == 0 {
				f.data = fakeData{}.clone()
				content = NewContent(0)
				f.written()
			}
		}
		wait(time.Duration(random.IntN(4000)) * time.Millisecond)
		check()
		f.down = f.down && random.IntN(2) == 0
	}

	f.down, f.frozen, f.slow, f.role, f.reading = false, false, 0, "master", nil
	e := edit()
	e.anew = true
	published(e)
	wait(20 * time.Second)
	check()
	for i, r := range replicas {
		m, confirmed, absent := r.Current()
		if m == nil || m.Version() != version || time.Since(confirmed) > 2*defaultPace.block {
			t.Fatalf("replica %d does not hold version %d, confirmed: %v (%s), %+v", i, version, m != nil, absent, r.Status())
		}
		if err := witnesses[i].Settle(); err != nil {
			t.Fatalf("replica %d: %v", i, err)
		}
	}
}
