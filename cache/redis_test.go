package cache_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"asid-authz/authz"
	"asid-authz/cache"
	"asid-authz/cache/cachetest"
	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

// patience bounds every wait for something that comes by itself.
const patience = time.Minute

// until waits for a condition; what says what it is.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

// run runs a replica until the test ends.
func run(t *testing.T, r *cache.Replica) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
}

// log is a replica's, shown when the test fails.
func log(t *testing.T) *zap.Logger { return zaptest.NewLogger(t) }

// TestRedis runs the suite of every store over a replica of real servers, in every
// topology, under the documented users.
func TestRedis(t *testing.T) {
	for name, start := range map[string]func(*testing.T, redistest.Options) *deployment{
		"standalone": standalone, "sentinel": sentinel, "cluster": cluster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting for the next look
			d := start(t, redistest.Options{})
			cachetest.Test(t, func(t *testing.T) cachetest.Store {
				if err := d.admin(t).FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				s := &redisStore{Replica: cache.NewHastyReplica(log(t), d.conn(redistest.Reader), layout.DefaultNamespace), d: d}
				run(t, s.Replica)
				return s
			})
		})
	}
}

// A redisStore is a replica with what publishes to its server.
type redisStore struct {
	*cache.Replica
	d *deployment
}

func (s *redisStore) Publish(t *testing.T, text string) {
	t.Helper()
	before := time.Now()
	version := s.d.publish(t, text).Version
	until(t, fmt.Sprint("version ", version, " confirmed"), func() bool {
		status := s.Status()
		return status.Version == version && !status.Confirmed.Before(before)
	})
}

// Spoil puts a manifest there that fits nothing.
func (s *redisStore) Spoil(t *testing.T) {
	t.Helper()
	fields := (&layout.Manifest{Head: layout.Head{Generation: 1, Version: uint64(time.Now().UnixMilli()) + 1000, Tip: layout.Digest{1}}}).Fields()
	fields[layout.FieldIDs] = "7 " + strings.Repeat("0", 64)
	if err := s.d.admin(t).HSet(t.Context(), manifest, fields).Err(); err != nil {
		t.Fatal(err)
	}
	s.looked(t)
	if status := s.Status(); !status.Incomplete {
		t.Fatalf("a manifest that fits nothing is not refused: %+v", status)
	}
}

func (s *redisStore) Confirm(t *testing.T) {
	t.Helper()
	_, before, _ := s.Current()
	if s.Status().Err != nil || before.IsZero() {
		s.looked(t)
		return
	}
	now := time.Now()
	until(t, "another look", func() bool { return s.Status().Confirmed.After(now) })
}

// looked waits until the replica has looked twice more, as the server counts it: the
// first look may have begun before.
func (s *redisStore) looked(t *testing.T) {
	t.Helper()
	count := func() (n int) {
		text, err := s.d.admin(t).Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			fmt.Sscanf(line, "cmdstat_xread:calls=%d", &n)
		}
		return n
	}
	before := count()
	until(t, "three more looks", func() bool { return count() >= before+3 })
}

// A replica has one connection to the server that holds the map, and what it takes to
// find that server is bounded, whatever happened to it.
func TestConnections(t *testing.T) {
	for name, start := range map[string]func(*testing.T, redistest.Options) *deployment{
		"standalone": standalone, "sentinel": sentinel, "cluster": cluster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, redistest.Options{})
			version := d.publish(t, oneSystem).Version
			const replicas = 3
			var all []*cache.Replica
			for range replicas {
				r := cache.NewReplica(log(t), d.conn(redistest.Reader), layout.DefaultNamespace)
				run(t, r)
				all = append(all, r)
			}
			for _, r := range all {
				until(t, "the map is there", func() bool { return r.Status().Version == version })
			}
			master, err := d.master(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			limit := replicas
			if d.cluster != nil {
				limit = 2 * replicas // the slots may be read from this node too
			}
			count := func() int {
				n, err := master.Connections(t.Context(), "test-"+redistest.Reader)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			check := func(when string) {
				t.Helper()
				if n := count(); n < replicas || n > limit {
					t.Errorf("%s: %d connections of %d replicas, want at most %d", when, n, replicas, limit)
				}
			}
			check("at first")
			for range 3 {
				if err := d.admin(t).ClientKillByFilter(t.Context(), "USER", redistest.Reader).Err(); err != nil {
					t.Fatal(err)
				}
				killed := time.Now()
				for _, r := range all {
					until(t, "confirmed again", func() bool { return r.Status().Confirmed.After(killed) })
				}
			}
			until(t, "the old connections are gone", func() bool { return count() <= limit })
			check("after all were killed")
			if d.sentinel != nil {
				for _, s := range d.sentinel.Sentinels() {
					if n, err := s.Connections(t.Context(), ""); err != nil || n > 40 {
						t.Errorf("a Sentinel has %d connections, %v", n, err)
					}
				}
			}
		})
	}
}

// A server that refuses the user is what a replica says, and not that it looked at no master.
func TestPasswordRefused(t *testing.T) {
	for name, start := range map[string]func(*testing.T, redistest.Options) *deployment{
		"standalone": standalone, "sentinel": sentinel, "cluster": cluster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := start(t, redistest.Options{}).conn(redistest.Reader)
			options.Credentials = func() (string, string, error) { return redistest.Reader, "wrong", nil }
			r := cache.NewReplica(log(t), options, layout.DefaultNamespace)
			run(t, r)
			until(t, "the replica says that it was refused", func() bool {
				err := r.Status().Err
				return err != nil && strings.Contains(err.Error(), "WRONGPASS")
			})
		})
	}
}

const oneSystem = "format: 1\nsystems: [{asid: 100000000001, ods: RXA, state: active, interactions: [urn:nhs:a]}]\n"

// grants reports whether a map has a system that may do an interaction.
func grants(m *authz.InteractionMap, asid, interaction string) bool {
	a, err := authz.ParseASID(asid)
	if err != nil {
		return false
	}
	s, known := m.System(a)
	if !known || s.State != authz.Active {
		return false
	}
	for _, id := range s.Interactions {
		if id.String() == interaction {
			return true
		}
	}
	return false
}
