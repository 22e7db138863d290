package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/cache"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
	"asid-authz/cache/publish"
	"asid-authz/cache/redistest"
)

// TestHistoriesOfServers lets replicas follow random histories of real servers: changes,
// rollbacks, suspensions, damage and its repair, broken and silent connections, restarts,
// failovers, and servers that lose what they had acknowledged. All the time somebody looks
// at what the replicas serve, as the same oracle as in TestHistories judges it. In the end
// all of them are equal to what lies in Redis, and that is what was published.
//
// The actions depend on the seed alone; what meets what in the servers depends on the
// machine too. ASID_AUTHZ_SEED=7 plays that one on every topology.
func TestHistoriesOfServers(t *testing.T) {
	seeds := map[string][]uint64{"standalone": {1}}
	if exhaustive() {
		seeds = map[string][]uint64{"standalone": {1, 2, 3, 4}, "Sentinel": {5, 6, 7}, "Cluster": {8, 9, 10}}
	}
	if text := os.Getenv("ASID_AUTHZ_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("ASID_AUTHZ_SEED: %v", err)
		}
		seeds = map[string][]uint64{"standalone": {seed}, "Sentinel": {seed}, "Cluster": {seed}}
	}
	for topology, all := range seeds {
		for _, seed := range all {
			t.Run(fmt.Sprint(topology, "/", seed), func(t *testing.T) {
				t.Parallel()
				newPast(t, topology, seed).play()
			})
		}
	}
}

// A past is a history on real servers, and three replicas that follow it: one with a steady
// connection, one behind a proxy, one that is restarted.
type past struct {
	t      *testing.T
	d      *deployment
	proxy  *redistest.Proxy // between the second replica and the server
	random *rand.Rand
	oracle *cache.Oracle

	content  cache.Content            // that was published last, and not lost
	version  uint64                   // of it
	versions map[uint64]cache.Content // that the server can know of
	damaged  bool                     // somebody touched what lies there, so only an apply helps
	behind   bool                     // the server lost versions, so only a publication helps
	restore  func()                   // lets the proxy go on, if it lets nothing through
	done     map[string]int           // how often what was done

	steady, proxied, restarted *follower

	mu       sync.Mutex
	watching []*follower
}

// A follower is a replica from its start to its end, with who watches it.
type follower struct {
	name    string
	r       *cache.Replica
	witness *cache.Witness
	stop    func()
}

func newPast(t *testing.T, topology string, seed uint64) *past {
	t.Helper()
	p := &past{t: t, random: rand.New(rand.NewPCG(seed, 11)), oracle: cache.NewOracle(),
		versions: map[uint64]cache.Content{}, done: map[string]int{}}
	t.Cleanup(func() { t.Logf("ASID_AUTHZ_SEED=%d: %v", seed, p.done) })
	o := redistest.Options{Patient: true} // no failover but those of the history
	switch topology {
	case "standalone":
		p.d = standalone(t, o)
		// Without WAIT, which takes a tenth of a second where there are no replicas.
		if err := p.d.admin(t).Do(t.Context(), "ACL", "SETUSER", redistest.Publisher, "-wait").Err(); err != nil {
			t.Fatal(err)
		}
	case "Sentinel":
		p.d = sentinel(t, o)
	case "Cluster":
		p.d = cluster(t, o)
	}
	// More than one part of a load, so that a load can meet a change.
	p.publish("apply", cache.NewContent(2500))
	p.proxy = redistest.NewProxy(t, p.server().Address())
	p.steady = p.start("the steady one", p.d.conn(redistest.Reader))
	p.proxied = p.start("the one behind the proxy", p.d.at(redistest.Reader, p.proxy.Address()))
	p.restarted = p.start("the one that is restarted", p.d.conn(redistest.Reader))
	p.watch()
	return p
}

func (p *past) server() *redistest.Server {
	p.t.Helper()
	s, err := p.d.master(p.t.Context())
	p.must(err)
	return s
}

func (p *past) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *past) admin(args ...any) {
	p.t.Helper()
	p.must(p.d.admin(p.t).Do(p.t.Context(), args...).Err())
}

// start starts a replica.
func (p *past) start(name string, o conn.Options) *follower {
	f := &follower{name: name, r: cache.NewHastyReplica(log(p.t), o, layout.DefaultNamespace), witness: p.oracle.Witness()}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { f.r.Run(ctx); close(stopped) }()
	f.stop = func() { cancel(); <-stopped }
	p.t.Cleanup(f.stop)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching = append(p.watching, f)
	return f
}

// watch looks at all replicas all the time until the test ends.
func (p *past) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	look := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, f := range p.watching {
			m, confirmed, _ := f.r.Current()
			if err := f.witness.Look(m, confirmed); err != nil {
				p.t.Errorf("%s: %v", f.name, err)
				return false
			}
		}
		return true
	}
	go func() {
		defer close(stopped)
		for ctx.Err() == nil && look() {
			time.Sleep(50 * time.Microsecond)
		}
	}()
	p.t.Cleanup(func() { cancel(); <-stopped })
}

// play plays the history. What is done more than once is what happens more often.
func (p *past) play() {
	actions := []struct {
		name string
		do   func()
	}{
		{"apply", p.apply}, {"apply", p.apply}, {"apply", p.apply}, {"apply", p.apply}, {"apply", p.apply},
		{"suspend or resume", p.suspendOrResume}, {"suspend or resume", p.suspendOrResume}, {"suspend or resume", p.suspendOrResume},
		{"roll back", p.rollBack}, {"roll back", p.rollBack},
		{"trim the log", p.trim}, {"trim the log", p.trim},
		{"damage", p.damage}, {"damage", p.damage}, {"damage", p.damage},
		{"cut or restore", p.cutOrRestore}, {"cut or restore", p.cutOrRestore}, {"cut or restore", p.cutOrRestore},
		{"restart a replica", p.restartReplica}, {"restart a replica", p.restartReplica},
		{"fail over", p.failOver},
		{"kill connections", p.killConnections}, {"kill connections", p.killConnections},
		{"wait until all follow", p.quiet}, {"wait until all follow", p.quiet}, {"wait until all follow", p.quiet},
	}
	// Each once in any case, in any order, and a loss of what was acknowledged in the middle.
	order := p.random.Perm(len(actions))
	for range 15 {
		order = append(order, p.random.IntN(len(actions)))
	}
	p.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for i, action := range order {
		if i == len(order)/2 {
			p.done["lose"]++
			p.lose()
		}
		p.done[actions[action].name]++
		actions[action].do()
		if p.t.Failed() {
			return
		}
	}
	p.end()
}

// published notes what was published.
func (p *past) published(version uint64, c cache.Content) {
	p.oracle.Published(version, c)
	p.oracle.Acknowledged(version, time.Now())
	p.versions[version] = c
	p.version, p.content, p.behind = version, c, false
}

// publisher calls do with somebody who may publish.
func (p *past) publisher(do func(context.Context, *publish.Publisher)) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	publisher, err := publish.Open(ctx, p.d.conn(redistest.Publisher), layout.DefaultNamespace)
	p.must(err)
	defer publisher.Close()
	do(ctx, publisher)
}

// publish makes the systems of c the map, whatever lies there: what is damaged is repaired,
// which writes all of it anew.
func (p *past) publish(action string, c cache.Content) {
	p.t.Helper()
	target, err := c.Map()
	p.must(err)
	p.publisher(func(ctx context.Context, publisher *publish.Publisher) {
		state, err := publisher.Read(ctx)
		p.must(err)
		plan := publish.NewPlan(state, target)
		if plan.Repair = len(state.Damage) > 0; plan.Repair {
			p.done["repair"]++
		}
		result, err := publisher.Apply(ctx, plan, publish.Meta{By: "test", Reason: "test", Action: action})
		p.must(err)
		p.damaged = false
		p.published(result.Version, c)
	})
}

func (p *past) apply() {
	p.t.Helper()
	p.publish("apply", p.content.Applied(p.random, fmt.Sprint("V", p.random.Uint32()))) // so that each version is another one
}

func (p *past) suspendOrResume() {
	next, text, suspend := p.content.Switched(p.random)
	if p.damaged { // it may be refused, and need not be
		p.done["nothing"]++
		return
	}
	asid, err := authz.ParseASID(text)
	p.must(err)
	p.publisher(func(ctx context.Context, publisher *publish.Publisher) {
		do := publisher.Resume
		if suspend {
			do = publisher.Suspend
		}
		result, err := do(ctx, asid, publish.Meta{By: "test", Reason: "test"})
		if err != nil || result.Unchanged {
			p.t.Fatalf("%+v, %v", result, err)
		}
		p.published(result.Version, next)
	})
}

// rollBack goes back to some version. It is refused where the history does not reach: what
// a repair replaced nobody knows.
func (p *past) rollBack() {
	var older []uint64
	for version := range p.versions {
		if version < p.version {
			older = append(older, version)
		}
	}
	slices.Sort(older)
	if len(older) == 0 || p.damaged {
		p.done["nothing"]++
		return
	}
	version := older[len(older)-1-min(p.random.IntN(len(older)), p.random.IntN(len(older)))]
	p.publisher(func(ctx context.Context, publisher *publish.Publisher) {
		plan, err := publisher.RollbackTo(ctx, version)
		var history publish.HistoryError
		if errors.As(err, &history) {
			p.done["a rollback refused"]++
			return
		}
		p.must(err)
		result, err := publisher.Apply(ctx, plan, publish.Meta{By: "test", Reason: "test", Action: "rollback"})
		p.must(err)
		p.published(result.Version, p.content.With(p.versions[version]))
	})
}

func (p *past) trim() { p.admin("XTRIM", layout.DefaultNamespace.Log(), "MAXLEN", p.random.IntN(3)) }

// damage touches what lies there as no publisher does.
func (p *past) damage() {
	n := layout.DefaultNamespace
	generation, err := p.d.admin(p.t).HGet(p.t.Context(), manifest, "generation").Uint64()
	kind := p.random.IntN(7)
	if err != nil { // the manifest is gone already
		p.done["nothing"]++
		return
	}
	bucket := n.Bucket(generation, byte(p.random.IntN(layout.Buckets)))
	p.damaged = true
	switch kind {
	case 0:
		p.admin("DEL", bucket)
	case 1:
		p.admin("HSET", bucket, "100000000001", "\x01\x00\x01X\x00\x00\x00\x00\x00")
	case 2:
		p.admin("DEL", n.IDs(generation))
	case 3:
		p.admin("DEL", n.Suspended())
	case 4:
		p.admin("DEL", n.Manifest())
	case 5:
		p.admin("XADD", n.Log(), layout.LogID(p.version+1), "change", "x", "digest", "y")
	case 6:
		p.admin("DEL", bucket)
		p.admin("SET", bucket, "x")
	}
}

// cutOrRestore cuts the replica behind the proxy off, or ends that.
func (p *past) cutOrRestore() {
	silent := p.random.IntN(2) == 0
	switch {
	case p.restore != nil:
		p.restore()
		p.restore = nil
	case silent:
		p.proxy.Partition()
		p.restore = p.proxy.Heal
	default:
		p.proxy.Disable()
		p.restore = p.proxy.Enable
	}
}

// restartReplica ends a replica and starts another one, which has seen nothing: it may serve
// an older version than the one before, if the server lost what came since.
func (p *past) restartReplica() {
	p.restarted.stop()
	p.mu.Lock()
	p.watching = slices.DeleteFunc(p.watching, func(f *follower) bool { return f == p.restarted })
	p.mu.Unlock()
	p.settle(p.restarted)
	p.restarted = p.start("the one that is restarted", p.d.conn(redistest.Reader))
}

// settle asks a witness once more when all is known that was published. Nobody may be
// watching any more.
func (p *past) settle(f *follower) {
	p.t.Helper()
	if err := f.witness.Settle(); err != nil {
		p.t.Errorf("%s: %v", f.name, err)
	}
}

func (p *past) killConnections() { p.admin("CLIENT", "KILL", "USER", redistest.Reader) }

// failOver makes another server the one that holds the map, and nothing is lost. A single
// server is restarted with all that it had.
func (p *past) failOver() {
	if p.d.sentinel != nil || p.d.cluster != nil {
		p.d.replicated(p.t)
		p.d.failover(p.t)
		p.proxy.To(p.server().Address())
		return
	}
	s := p.server()
	dump, err := s.Dump(p.t.Context())
	p.must(err)
	s.Kill()
	p.must(s.Restart(p.t.Context(), dump))
}

// lose lets the server lose what it had acknowledged.
func (p *past) lose() {
	if p.damaged || p.behind {
		p.apply()
	}
	version, content := p.version, p.content
	write := func() {
		for range 1 + p.random.IntN(3) {
			p.apply()
		}
		p.suspendOrResume()
		lost := p.version
		until(p.t, "the steady one has what will be lost", func() bool { return p.steady.r.Status().Version == lost })
		p.oracle.Lost(version)
	}
	if p.d.sentinel != nil || p.d.cluster != nil {
		p.d.replicated(p.t)
		old := p.d.lose(p.t, write)
		p.must(old.Restart(p.t.Context(), nil)) // it follows, or the next failover has nobody
		p.d.awaitFailover(p.t, old)
		p.proxy.To(p.server().Address())
	} else {
		s := p.server()
		dump, err := s.Dump(p.t.Context())
		p.must(err)
		write()
		s.Kill()
		p.must(s.Restart(p.t.Context(), dump))
	}
	for v := range p.versions {
		if v > version {
			delete(p.versions, v)
		}
	}
	p.version, p.content, p.behind = version, content, true
	until(p.t, "the steady one says that what is published is older", func() bool { return p.steady.r.Status().Regressed })
}

// quiet waits until all replicas that can have what is published.
func (p *past) quiet() {
	if p.damaged || p.behind {
		p.done["nothing"]++
		return
	}
	for _, f := range []*follower{p.steady, p.proxied, p.restarted} {
		if f == p.proxied && p.restore != nil {
			continue
		}
		until(p.t, fmt.Sprint(f.name, " has version ", p.version), func() bool {
			status := f.r.Status()
			return status.Version == p.version && status.Err == nil || p.t.Failed()
		})
	}
}

// end lets everything be well again, and compares all that there is.
func (p *past) end() {
	if p.restore != nil {
		p.cutOrRestore()
	}
	p.apply()
	p.quiet()
	var state *publish.State
	p.publisher(func(ctx context.Context, publisher *publish.Publisher) {
		v, err := publisher.Verify(ctx)
		p.must(err)
		if len(v.Damage) > 0 || v.State.Version != p.version {
			p.t.Fatalf("version %d lies there, want %d, damage %v", v.State.Version, p.version, v.Damage)
		}
		state = v.State
	})
	suspended := func(asid authz.ASID) bool { _, is := state.Suspended[asid]; return is }
	if d := p.content.Differs(state.Map, suspended); d != "" {
		p.t.Errorf("what lies there is not what was published: %s", d)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.steady.witness.Versions(); n < 5 {
		p.t.Errorf("the steady one showed %d versions: this tests nothing", n)
	}
	for _, f := range p.watching {
		m, _, _ := f.r.Current()
		if d := p.content.Differs(m, func(authz.ASID) bool { return false }); d != "" || m.Version() != state.Version {
			p.t.Errorf("%s, version %d, is not what lies there, version %d: %s", f.name, m.Version(), state.Version, d)
		}
		p.settle(f)
	}
}
