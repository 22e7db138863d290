package cache_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/cache"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
	"asid-authz/cache/publish"
	"asid-authz/cache/redistest"
)

// A benchServer is a server with a map of systems that may do fifty interactions each.
type benchServer struct {
	*redistest.Server
	b         *testing.B
	publisher *publish.Publisher
	m         *authz.InteractionMap
	empty     float64 // bytes of the server without the map
}

// newBenchServer starts one whose map also has what is in more.
func newBenchServer(b *testing.B, systems int, more ...*authz.InteractionMap) *benchServer {
	b.Helper()
	s := &benchServer{Server: redistest.Standalone(b, redistest.Options{}), b: b}
	// Without WAIT, which takes a tenth of a second where there are no replicas.
	if err := s.Admin().Do(b.Context(), "ACL", "SETUSER", redistest.Publisher, "-wait").Err(); err != nil {
		b.Fatal(err)
	}
	f, err := cache.DecodeMap("map.yaml", largeMap(systems, false))
	if err != nil {
		b.Fatal(err)
	}
	if s.m, err = f.Build(1); err != nil {
		b.Fatal(err)
	}
	if len(more) > 0 {
		s.m = joined(b, append(more, s.m)...)
	}
	if s.publisher, err = publish.Open(b.Context(), s.as(redistest.Publisher), layout.DefaultNamespace); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.publisher.Close() })
	s.empty = s.info("memory", "used_memory")
	s.publish(false)
	return s
}

func (s *benchServer) as(user string) conn.Options {
	o := s.ClientOptions(user)
	return conn.Options{Addresses: o.Addrs, Name: "bench-" + user,
		Credentials: func() (string, string, error) { return o.Username, o.Password, nil }}
}

// publish publishes the map; anew, although it is there already, if that is said.
func (s *benchServer) publish(anew bool) {
	s.b.Helper()
	read := func() *publish.State {
		state, err := s.publisher.Read(s.b.Context())
		if err != nil {
			s.b.Fatal(err)
		}
		return state
	}
	state := read()
	if anew { // only what is damaged is written anew as a whole
		if err := s.Admin().Del(s.b.Context(), layout.DefaultNamespace.Bucket(state.Generation, 0)).Err(); err != nil {
			s.b.Fatal(err)
		}
		state = read()
	}
	plan := publish.NewPlan(state, s.m)
	plan.Repair = anew
	if _, err := s.publisher.Apply(s.b.Context(), plan, publish.Meta{By: "bench", Reason: "bench", Action: "apply"}); err != nil {
		s.b.Fatal(err)
	}
}

// info returns a number of INFO.
func (s *benchServer) info(section, field string) float64 {
	s.b.Helper()
	n, err := strconv.ParseFloat(s.Admin().InfoMap(s.b.Context(), section).Item(map[string]string{
		"memory": "Memory", "stats": "Stats"}[section], field), 64)
	if err != nil {
		s.b.Fatal(err)
	}
	return n
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

const mega = 1 << 20

// BenchmarkLoad is a whole map from Redis into a replica, beside the buckets read alone.
func BenchmarkLoad(b *testing.B) {
	for _, systems := range []int{1_000, 100_000} {
		s := newBenchServer(b, systems)
		b.Run(fmt.Sprintf("systems=%d/load", systems), func(b *testing.B) {
			b.ReportAllocs()
			before, out := heap(), s.info("stats", "total_net_output_bytes")
			var l *cache.Loaded
			var err error
			for b.Loop() {
				if l, err = cache.Load(b.Context(), s.as(redistest.Reader), layout.DefaultNamespace); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((s.info("stats", "total_net_output_bytes")-out)/float64(b.N)/mega, "MB-wire")
			b.ReportMetric((s.info("memory", "used_memory")-s.empty)/mega, "MB-redis")
			b.ReportMetric((heap()-before)/mega, "MB-replica")
			runtime.KeepAlive(l)
		})
		b.Run(fmt.Sprintf("systems=%d/baseline-hgetall", systems), func(b *testing.B) {
			b.ReportAllocs()
			fields, err := s.Admin().HGetAll(b.Context(), layout.DefaultNamespace.Manifest()).Result()
			if err != nil {
				b.Fatal(err)
			}
			manifest, err := layout.ParseManifest(fields)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				for first := 0; first < layout.Buckets; first += 4 {
					p := s.Admin().Pipeline()
					for i := range 4 {
						p.HGetAll(b.Context(), layout.DefaultNamespace.Bucket(manifest.Generation, byte(first+i)))
					}
					if _, err := p.Exec(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkChange is one entry of the log applied: it costs the same in every map.
func BenchmarkChange(b *testing.B) {
	for _, systems := range []int{1_000, 100_000} {
		s := newBenchServer(b, systems)
		l, err := cache.Load(b.Context(), s.as(redistest.Reader), layout.DefaultNamespace)
		if err != nil {
			b.Fatal(err)
		}
		value := string(layout.AppendEntry(nil, &authz.AccreditedSystem{ODSCode: "RXB", State: authz.Active}, []int{1, 5, 9}))
		b.Run(fmt.Sprintf("systems=%d", systems), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Change("000000000001", value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// replicas runs that many of them until the returned function is called, and waits until
// all are loaded.
func (s *benchServer) replicas(n int) (all []*cache.Replica, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range n {
		r := cache.NewReplica(zap.NewNop(), s.as(redistest.Reader), layout.DefaultNamespace)
		all = append(all, r)
		running.Go(func() { r.Run(ctx) })
	}
	s.all(all, func(st cache.ReplicaStatus) bool { return st.Version > 0 })
	return all, func() { cancel(); running.Wait() }
}

// all waits until a condition holds of every replica.
func (s *benchServer) all(replicas []*cache.Replica, condition func(cache.ReplicaStatus) bool) {
	s.b.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for _, r := range replicas {
		for !condition(r.Status()) {
			if time.Now().After(deadline) {
				s.b.Fatalf("a replica is late: %+v", r.Status())
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// report reports how the times are spread.
func report(b *testing.B, times []time.Duration, name string, unit time.Duration) {
	slices.Sort(times)
	at := func(share float64) float64 {
		return float64(times[min(int(share*float64(len(times))), len(times)-1)]) / float64(unit)
	}
	b.ReportMetric(at(0.5), "p50-"+name)
	b.ReportMetric(at(0.99), "p99-"+name)
	b.ReportMetric(at(1), "worst-"+name)
}

// BenchmarkPropagation is from before a suspension is written until the last of fifty
// replicas denies by it, beside a message to fifty subscribers and one round trip.
func BenchmarkPropagation(b *testing.B) {
	const replicas = 50
	s := newBenchServer(b, 1_000)
	asid, err := authz.ParseASID("000000000007")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("change", func(b *testing.B) {
		all, stop := s.replicas(replicas)
		defer stop()
		var times []time.Duration
		var cpu time.Duration
		for b.Loop() {
			for i := range 200 {
				step := s.publisher.Suspend
				if i%2 == 1 {
					step = s.publisher.Resume
				}
				used, began := s.CPU(), time.Now()
				result, err := step(b.Context(), asid, publish.Meta{By: "bench", Reason: "bench"})
				if err != nil {
					b.Fatal(err)
				}
				s.all(all, func(st cache.ReplicaStatus) bool { return st.Version >= result.Version })
				times = append(times, time.Since(began))
				cpu += s.CPU() - used
			}
		}
		report(b, times, "ms", time.Millisecond)
		b.ReportMetric(cpu.Seconds()*1000/float64(len(times)), "redis-cpu-ms/change")
	})
	b.Run("baseline-pubsub", func(b *testing.B) {
		var seen atomic.Int64
		for range replicas {
			sub := s.Admin().Subscribe(b.Context(), "bench")
			defer sub.Close()
			if _, err := sub.Receive(b.Context()); err != nil {
				b.Fatal(err)
			}
			go func() {
				for range sub.Channel() {
					seen.Add(1)
				}
			}()
		}
		var times []time.Duration
		for b.Loop() {
			for range 200 {
				want, began := seen.Load()+replicas, time.Now()
				if err := s.Admin().Publish(b.Context(), "bench", "x").Err(); err != nil {
					b.Fatal(err)
				}
				for seen.Load() < want {
					if time.Since(began) > time.Minute {
						b.Fatal("a subscriber is late")
					}
					time.Sleep(50 * time.Microsecond)
				}
				times = append(times, time.Since(began))
			}
		}
		report(b, times, "ms", time.Millisecond)
	})
	b.Run("baseline-round-trip", func(b *testing.B) {
		var times []time.Duration
		for b.Loop() {
			for range 200 {
				began := time.Now()
				if err := s.Admin().Do(b.Context(), "PING").Err(); err != nil && err != redis.Nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(began))
			}
		}
		report(b, times, "ms", time.Millisecond)
	})
}
