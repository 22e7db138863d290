package cache_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/cache"
	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

var update = flag.Bool("update", false, "rewrite the table of faults in docs/caching.md")

// A fault is a row of the table in docs/caching.md, and what proves it.
type fault struct {
	name     string
	topology string // standalone, sentinel or cluster
	seldom   bool   // tried by make faults only: it takes long, and a shorter one is like it
	served   string
	age      string
	ends     string
	try      func(s *stage)
}

const (
	same    = "the map that is held"
	rises   = "rises"
	stays   = "stays below two looks"
	itself  = "by itself, without a load"
	loading = "by itself, with a load"
	again   = "when something is published again"
)

var faults = []fault{
	{"Redis killed, and started again with its data", "standalone", false, same, rises, itself, func(s *stage) {
		dump := s.dump()
		s.server.Kill()
		s.ages()
		s.must(s.server.Restart(s.t.Context(), dump))
		s.young()
		s.loaded(1)
	}},
	{"Redis frozen (SIGSTOP)", "standalone", false, same, rises, itself, func(s *stage) {
		s.must(s.server.Freeze())
		s.ages()
		s.must(s.server.Thaw())
		s.young()
		s.loaded(1)
	}},
	{"the network lets nothing through, and closes nothing", "standalone", false, same, rises, itself, func(s *stage) {
		s.proxy.Partition()
		s.ages()
		s.proxy.Heal()
		s.young()
		s.loaded(1)
	}},
	{"connections refused", "standalone", false, same, rises, itself, func(s *stage) {
		s.proxy.Disable()
		s.ages()
		s.proxy.Enable()
		s.young()
		s.loaded(1)
	}},
	{"too many connections (maxclients)", "standalone", false, same, rises, itself, func(s *stage) {
		s.admin("CONFIG", "SET", "maxclients", "1")
		s.admin("CLIENT", "KILL", "USER", redistest.Reader)
		s.ages()
		s.admin("CONFIG", "SET", "maxclients", "1000")
		s.young()
		s.loaded(1)
	}},
	{"every answer 200 ms late", "standalone", false, "the newest", "stays below two looks and 200 ms", "–", func(s *stage) {
		s.proxy.Delay(200 * time.Millisecond)
		version := s.publish(revoked)
		s.serves(version)
		s.young()
		s.loaded(1)
	}},
	{"every answer later than a replica waits", "standalone", false, same, rises, itself, func(s *stage) {
		s.proxy.Delay(5 * time.Second)
		s.ages()
		s.proxy.Heal()
		s.young()
		s.loaded(1)
	}},
	{"answers that drip, a few bytes at a time", "standalone", false, same, rises, itself, func(s *stage) {
		s.proxy.Drip(1, 100*time.Millisecond)
		s.ages()
		s.proxy.Heal()
		s.young()
		s.loaded(1)
	}},
	{"Redis comes back empty", "standalone", false, same, rises, again, func(s *stage) {
		s.server.Kill()
		s.must(s.server.Restart(s.t.Context(), nil))
		s.ages()
		s.regressed()
		s.serves(s.publish(granted))
		s.young()
	}},
	{"Redis comes back from an old dump, without a revocation", "standalone", false, same + ", the revocation too", rises, again, func(s *stage) {
		dump := s.dump()
		version := s.publish(revoked)
		s.serves(version)
		s.server.Kill()
		s.must(s.server.Restart(s.t.Context(), dump))
		s.ages()
		s.regressed()
		s.serves(version)
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"the log deleted", "standalone", false, "the newest", stays, "–", func(s *stage) {
		s.admin("DEL", layout.DefaultNamespace.Log())
		s.young()
		s.loaded(1)
		s.serves(s.publish(revoked)) // which repairs the log, so it is a load
		s.young()
	}},
	{"the log trimmed past a replica that was away", "standalone", false, "the newest", "rises while it is away", loading, func(s *stage) {
		s.proxy.Disable()
		s.publish(revoked)
		s.publish(granted)
		version := s.publish(revoked)
		s.admin("XTRIM", layout.DefaultNamespace.Log(), "MAXLEN", "1")
		s.proxy.Enable()
		s.serves(version)
		s.young()
		s.loaded(2)
	}},
	{"a bucket evicted or deleted", "standalone", false, same, rises, again, func(s *stage) {
		s.admin("DEL", layout.DefaultNamespace.Bucket(s.generation(), layout.BucketOf(asid)))
		s.incomplete()
		s.ages()
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"the dictionary evicted or deleted", "standalone", false, same, rises, again, func(s *stage) {
		s.admin("DEL", layout.DefaultNamespace.IDs(s.generation()))
		s.incomplete()
		s.ages()
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"the manifest evicted or deleted", "standalone", false, same, rises, again, func(s *stage) {
		s.admin("DEL", manifest)
		s.regressed()
		s.ages()
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"somebody writes an entry behind the log's back", "standalone", false, same, rises, again, func(s *stage) {
		bucket := layout.DefaultNamespace.Bucket(s.generation(), layout.BucketOf(asid))
		s.admin("HSET", bucket, asid, "\x01\x00\x03RXA\x00\x00\x00\x00\x00")
		s.incomplete()
		s.ages()
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"another type under a bucket", "standalone", false, same, rises, again, func(s *stage) {
		s.mistyped(layout.DefaultNamespace.Bucket(s.generation(), layout.BucketOf(asid)))
	}},
	{"another type under the dictionary", "standalone", false, same, rises, again, func(s *stage) {
		s.mistyped(layout.DefaultNamespace.IDs(s.generation()))
	}},
	{"another type under the suspension layer", "standalone", true, same, rises, again, func(s *stage) {
		s.mistyped(layout.DefaultNamespace.Suspended())
	}},
	{"another type under the manifest", "standalone", false, same, rises, "when it is gone", func(s *stage) {
		s.admin("RENAME", manifest, manifest+".away")
		s.admin("SET", manifest, "x")
		s.incomplete()
		s.ages()
		s.admin("RENAME", manifest+".away", manifest)
		s.young()
	}},
	{"another type under the log", "standalone", false, same, rises, "when it is gone", func(s *stage) {
		log := layout.DefaultNamespace.Log()
		s.admin("RENAME", log, log+".away")
		s.admin("SET", log, "x")
		s.incomplete()
		s.ages()
		s.admin("RENAME", log+".away", log)
		s.young()
		s.loaded(1)
	}},
	{"the password is not taken (WRONGPASS, NOAUTH)", "standalone", false, same, rises, itself, func(s *stage) {
		s.admin("ACL", "SETUSER", redistest.Reader, "resetpass", ">another")
		s.admin("CLIENT", "KILL", "USER", redistest.Reader)
		s.ages()
		s.admin("ACL", "SETUSER", redistest.Reader, ">"+s.server.Password(redistest.Reader))
		s.young()
		s.loaded(1)
	}},
	{"a right is missing (NOPERM)", "standalone", false, same, rises, itself, func(s *stage) {
		s.admin("ACL", "SETUSER", redistest.Reader, "-xread")
		s.ages()
		s.admin("ACL", "SETUSER", redistest.Reader, "+xread")
		s.young()
		s.loaded(1)
	}},
	{"the server follows another one, whose link is down", "standalone", false, same, rises, itself, func(s *stage) {
		s.admin("REPLICAOF", "127.0.0.1", "1")
		s.ages()
		s.admin("REPLICAOF", "NO", "ONE")
		s.young()
		s.loaded(1)
	}},
	{"Redis is out of memory", "standalone", false, same, stays, "– (publishing is refused)", func(s *stage) {
		s.admin("CONFIG", "SET", "maxmemory", "1")
		s.young()
		if err := s.tryToPublish(revoked); err == nil || !strings.Contains(err.Error(), "OOM") {
			s.t.Errorf("publishing without memory: %v", err)
		}
		s.young()
		s.loaded(1)
	}},
	{"Sentinels fail over, nothing is lost", "sentinel", true, "the newest", "rises for a moment", itself, func(s *stage) {
		_, err := s.d.sentinel.Failover(s.t.Context())
		s.must(err)
		s.young()
		s.loaded(1)
		s.serves(s.publish(revoked))
		s.loaded(1)
	}},
	{"the primary killed, Sentinels fail over", "sentinel", false, "the newest", "rises until another is primary", itself, func(s *stage) {
		s.server.Kill()
		_, err := s.d.sentinel.AwaitFailover(s.t.Context(), s.server)
		s.must(err)
		s.young()
		s.loaded(1)
		s.serves(s.publish(revoked))
		s.loaded(1)
	}},
	{"the primary frozen, Sentinels fail over", "sentinel", true, "the newest", "rises until another is primary", itself, func(s *stage) {
		s.must(s.server.Freeze())
		_, err := s.d.sentinel.AwaitFailover(s.t.Context(), s.server)
		s.must(err)
		s.young()
		s.loaded(1)
		s.must(s.server.Thaw())
		s.serves(s.publish(revoked))
	}},
	{"a failover loses a revocation that was acknowledged", "sentinel", true, same + ", the revocation too", rises, again, func(s *stage) {
		replicas, err := s.d.sentinel.Replicas(s.t.Context())
		s.must(err)
		for _, r := range replicas {
			s.must(r.CutReplication(s.t.Context()))
		}
		version := s.publish(revoked)
		s.serves(version)
		s.server.Kill()
		for _, r := range replicas {
			s.must(r.JoinReplication(s.t.Context()))
		}
		_, err = s.d.sentinel.AwaitFailover(s.t.Context(), s.server)
		s.must(err)
		s.regressed()
		s.ages()
		s.serves(version)
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"a node of the Cluster fails over", "cluster", false, "the newest", "rises for a moment", itself, func(s *stage) {
		_, err := s.d.cluster.Failover(s.t.Context(), manifest)
		s.must(err)
		s.young()
		s.serves(s.publish(revoked))
		s.loaded(1)
	}},
	{"the Cluster's node killed", "cluster", true, "the newest", "rises until another is master", itself, func(s *stage) {
		s.server.Kill()
		_, err := s.d.cluster.AwaitFailover(s.t.Context(), manifest, s.server)
		s.must(err)
		s.young()
		s.loaded(1)
		s.serves(s.publish(revoked))
	}},
	{"the slot moved to another node", "cluster", true, "the newest", "rises for a moment", itself, func(s *stage) {
		_, err := s.d.cluster.MoveSlot(s.t.Context(), manifest)
		s.must(err)
		s.young()
		s.serves(s.publish(revoked))
		s.loaded(1)
	}},
}

const (
	asid    = "100000000001"
	right   = "urn:nhs:b"
	granted = "format: 1\nsystems: [{asid: 100000000001, ods: RXA, state: active, interactions: [urn:nhs:a, urn:nhs:b]}]\n"
	revoked = "format: 1\nsystems: [{asid: 100000000001, ods: RXA, state: active, interactions: [urn:nhs:a]}]\n"
)

// A stage is a deployment with a replica that holds a map, and somebody who decides by it
// all the time.
type stage struct {
	t      *testing.T
	d      *deployment
	server *redistest.Server // that holds the map at first
	proxy  *redistest.Proxy  // between it and the replica; standalone only
	r      *cache.Replica

	mu     sync.Mutex
	grants map[uint64]bool // whether a version grants right
}

// TestFaults does to Redis what life does, while decisions are made all the time. Without
// ASID_AUTHZ_FAULTS=all (make faults) it leaves out what takes long.
func TestFaults(t *testing.T) {
	all := os.Getenv("ASID_AUTHZ_FAULTS") == "all"
	for _, f := range faults {
		if f.seldom && !all {
			continue
		}
		t.Run(f.topology+"/"+f.name, func(t *testing.T) {
			t.Parallel()
			s := &stage{t: t, grants: map[uint64]bool{}}
			switch f.topology {
			case "standalone":
				s.d = standalone(t, redistest.Options{})
			case "sentinel":
				s.d = sentinel(t, redistest.Options{Replicas: 1})
			case "cluster":
				s.d = cluster(t, redistest.Options{})
			}
			var err error
			s.server, err = s.d.master(t.Context())
			s.must(err)
			options := s.d.conn(redistest.Reader)
			if f.topology == "standalone" {
				s.proxy = redistest.NewProxy(t, s.server.Address())
				options = s.d.at(redistest.Reader, s.proxy.Address())
			}
			version := s.publish(granted)
			if f.topology != "standalone" {
				s.replicated()
			}
			s.r = cache.NewHastyReplica(log(t), options, layout.DefaultNamespace)
			run(t, s.r)
			s.serves(version)
			s.young()
			s.decide()
			f.try(s)
		})
	}
}

// decide looks at the map all the time until the test ends: it is never an older one than
// before, never nothing, and grants what its version grants.
func (s *stage) decide() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var last uint64
		var confirmed time.Time
		for ctx.Err() == nil {
			m, at, absent := s.r.Current()
			switch {
			case m == nil:
				s.t.Errorf("no map any more: %s", absent)
				return
			case m.Version() < last || at.Before(confirmed):
				s.t.Errorf("version %d of %v after %d of %v", m.Version(), at, last, confirmed)
				return
			}
			last, confirmed = m.Version(), at
			s.mu.Lock()
			want, known := s.grants[m.Version()]
			s.mu.Unlock()
			if known && grants(m, asid, right) != want {
				s.t.Errorf("version %d grants %t, and says %t", m.Version(), want, !want)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	s.t.Cleanup(func() { cancel(); <-done })
}

// replicated waits until a replica of the server has what was published: a failover before
// that loses it, which is another fault.
func (s *stage) replicated() {
	s.t.Helper()
	until(s.t, "a replica has what was published", func() bool {
		p := s.server.Admin().Pipeline()
		p.Set(s.t.Context(), "{asid-authz}:probe", "x", 0) // WAIT is about the connection's own writes
		n := p.Do(s.t.Context(), "WAIT", 1, 1000)
		_, err := p.Exec(s.t.Context())
		s.must(err)
		acknowledged, _ := n.Int()
		return acknowledged > 0
	})
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) admin(args ...any) {
	s.t.Helper()
	s.must(s.server.Admin().Do(s.t.Context(), args...).Err())
}

func (s *stage) dump() []byte {
	s.t.Helper()
	dump, err := s.server.Dump(s.t.Context())
	s.must(err)
	return dump
}

// publish publishes a map and returns its version.
func (s *stage) publish(text string) uint64 {
	s.t.Helper()
	version := s.d.publish(s.t, text).Version
	s.mu.Lock()
	s.grants[version] = text == granted
	s.mu.Unlock()
	return version
}

func (s *stage) tryToPublish(text string) error {
	_, err := s.d.tryToPublish(s.t, text)
	return err
}

func (s *stage) generation() uint64 {
	s.t.Helper()
	n, err := s.server.Admin().HGet(s.t.Context(), manifest, "generation").Uint64()
	s.must(err)
	return n
}

func (s *stage) age() time.Duration {
	_, confirmed, _ := s.r.Current()
	return authz.Age(time.Now(), confirmed)
}

// serves waits until that version is served.
func (s *stage) serves(version uint64) {
	s.t.Helper()
	until(s.t, fmt.Sprint("version ", version, " is served"), func() bool { return s.r.Status().Version == version })
}

// young waits until the map is confirmed by an answer to a question of now.
func (s *stage) young() {
	s.t.Helper()
	now := time.Now()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%+v", s.r.Status())
		}
	}()
	until(s.t, "the map is confirmed", func() bool { status := s.r.Status(); return status.Err == nil && status.Confirmed.After(now) })
}

// ages waits until nothing has confirmed the map for longer than any answer may take.
func (s *stage) ages() {
	s.t.Helper()
	until(s.t, "the map ages", func() bool { return s.age() > 3*time.Second })
}

func (s *stage) regressed() {
	s.t.Helper()
	until(s.t, "it says that what is published is older", func() bool { return s.r.Status().Regressed })
}

func (s *stage) incomplete() {
	s.t.Helper()
	until(s.t, "it says that what is published is not whole", func() bool { return s.r.Status().Incomplete })
}

// mistyped replaces a key of the map by something of another type: a
// replica that holds the map finds it and doubts, one that starts has none, and what is
// published next is followed by both.
func (s *stage) mistyped(key string) {
	s.t.Helper()
	s.admin("DEL", key)
	s.admin("SET", key, "x")
	s.incomplete()
	s.ages()
	another := cache.NewHastyReplica(log(s.t), s.d.conn(redistest.Reader), layout.DefaultNamespace)
	run(s.t, another)
	until(s.t, "one that starts says that the map is not whole", func() bool {
		m, _, absent := another.Current()
		return m == nil && absent == authz.MapIncomplete
	})
	version := s.publish(revoked)
	s.serves(version)
	s.young()
	until(s.t, "one that started follows too", func() bool { return another.Status().Version == version })
}

// loaded expects that many loads since the start.
func (s *stage) loaded(want uint64) {
	s.t.Helper()
	if got := s.r.Status().Loads; got != want {
		s.t.Errorf("%d loads, want %d", got, want)
	}
}

// TestFaultsTable holds the table in docs/caching.md against the faults that are tried.
func TestFaultsTable(t *testing.T) {
	const file = "../docs/caching.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "-update) -->\n", "<!-- faults:end -->"
	before, rest, found := strings.Cut(string(text), begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatal("the table has lost its markers")
	}
	var b strings.Builder
	b.WriteString("| Fault | Served | Age | It ends |\n|---|---|---|---|\n")
	for _, f := range faults {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.name, f.served, f.age, f.ends)
	}
	next := before + begin + b.String() + end + after
	if *update {
		if err := os.WriteFile(file, []byte(next), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if next != string(text) {
		t.Error("the table of faults says otherwise than the tests (go test ./cache -run TestFaultsTable -update rewrites it)")
	}
}
