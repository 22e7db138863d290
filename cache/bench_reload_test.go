package cache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/cache"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

// How a process whose memory is measured is told what to do.
type reloadOrder struct {
	Address, Username, Password string
	GOGC                        int
	Limit                       int64 // of Go's memory; 0: none
}

// What it found, in bytes.
type reloadMemory struct {
	Steady, First, Again          float64 // live heap: holding a map; its highest while the first is loaded, and while another is
	HeapFirst, HeapAgain          float64 // the same of all that is allocated and not yet swept away
	RSSSteady, RSSFirst, RSSAgain float64 // the same of the process; 0 where the kernel does not say
}

const reloadVariable = "ASID_AUTHZ_BENCH_RELOAD"

func TestMain(m *testing.M) {
	if text := os.Getenv(reloadVariable); text != "" {
		if err := reloadChild([]byte(text)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// BenchmarkReloadMemory is how much memory a process has at its highest while it loads a map
// beside the one that it holds. Each measurement is of a process that does nothing else.
//
// With collect, the collector runs all the time, and what is measured is what is reachable:
// what was marked as live at the end of each of its cycles. With service it runs as under
// `asid-authz serve` in a control group of 256 MiB: then what is allocated is mostly garbage
// that nobody needed to collect yet. The baseline is a first load, beside no other map.
func BenchmarkReloadMemory(b *testing.B) {
	for _, systems := range []int{1_000, 100_000} {
		s := newBenchServer(b, systems)
		o := s.ClientOptions(redistest.Reader)
		for _, run := range []struct {
			name  string
			order reloadOrder
		}{
			{"collect", reloadOrder{GOGC: 1}},
			{"service", reloadOrder{GOGC: 400, Limit: 256 << 20 * 9 / 10}},
		} {
			b.Run(fmt.Sprintf("systems=%d/%s", systems, run.name), func(b *testing.B) {
				run.order.Address, run.order.Username, run.order.Password = s.Address(), o.Username, o.Password
				order, err := json.Marshal(run.order)
				if err != nil {
					b.Fatal(err)
				}
				var got reloadMemory
				for b.Loop() {
					child := exec.CommandContext(b.Context(), os.Args[0])
					child.Env = append(os.Environ(), reloadVariable+"="+string(order))
					child.Stderr = os.Stderr
					out, err := child.Output()
					if err == nil {
						err = json.Unmarshal(out, &got)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(got.Steady/mega, "MB-live")
				if run.name == "collect" {
					b.ReportMetric(got.Again/mega, "MB-live-reload")
					b.ReportMetric(got.Again/got.Steady, "x-live")
					b.ReportMetric(got.First/mega, "MB-live-baseline")
					return
				}
				b.ReportMetric(got.HeapAgain/mega, "MB-heap-reload")
				b.ReportMetric(got.HeapFirst/mega, "MB-heap-baseline")
				b.ReportMetric(got.RSSSteady/mega, "MB-rss")
				b.ReportMetric(got.RSSAgain/mega, "MB-rss-reload")
				b.ReportMetric(got.RSSFirst/mega, "MB-rss-baseline")
			})
		}
	}
}

// reloadChild loads a map, and then five times another in its place.
func reloadChild(text []byte) error {
	var order reloadOrder
	if err := json.Unmarshal(text, &order); err != nil {
		return err
	}
	debug.SetGCPercent(order.GOGC)
	if order.Limit > 0 {
		debug.SetMemoryLimit(order.Limit)
	}
	options := conn.Options{Addresses: []string{order.Address}, Name: "bench-memory",
		Credentials: func() (string, string, error) { return order.Username, order.Password, nil }}
	var found reloadMemory
	var held *cache.Loaded
	var loadErr error
	load := func() {
		var next *cache.Loaded
		if next, loadErr = cache.Load(context.Background(), options, layout.DefaultNamespace); loadErr == nil {
			held = next
		}
	}
	if found.First, found.HeapFirst, found.RSSFirst = highest(load); loadErr != nil {
		return loadErr
	}
	for range 5 {
		debug.FreeOSMemory() // collects, and then gives back what Go would give back in minutes
		found.Steady, found.RSSSteady = heap(), memoryOf("VmRSS")
		live, all, rss := highest(load)
		if loadErr != nil {
			return loadErr
		}
		found.Again, found.HeapAgain, found.RSSAgain = max(found.Again, live), max(found.HeapAgain, all), max(found.RSSAgain, rss)
	}
	runtime.KeepAlive(held)
	return json.NewEncoder(os.Stdout).Encode(found)
}

// highest returns how high the live heap, the whole heap and the process came in do.
func highest(do func()) (live, all, rss float64) {
	os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // VmHWM begins anew; elsewhere than on Linux there is none
	done, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(samples)
			live, all = max(live, float64(samples[0].Value.Uint64())), max(all, float64(samples[1].Value.Uint64()))
			select {
			case <-done:
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
	}()
	do()
	close(done)
	<-sampled
	return live, all, memoryOf("VmHWM")
}

// memoryOf returns a size of /proc/self/status, 0 where there is none.
func memoryOf(name string) float64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), "\n"+name+":")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kilobytes, _ := strconv.ParseFloat(number, 64)
	return kilobytes * 1024
}

// A decider decides the request of the corpus's case allow-read, whose system is in the map
// among the others, whose certificate is known, and whose token is in the verifier's cache.
type decider struct {
	b       *testing.B
	a       *authz.Authorizer
	request *authz.Request
}

// world returns the world of the case, with its map.
func world(b *testing.B) (*authztest.Minted, *authztest.Case, *authz.InteractionMap) {
	b.Helper()
	corpus, err := authztest.Load(filepath.Join("..", "authz", "testdata"))
	if err != nil {
		b.Fatal(err)
	}
	m, err := corpus.Worlds["registered-cn"].Mint(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	config, err := m.Config(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range corpus.Cases {
		if c.File == "allow-read" {
			systems, _, _ := config.Map.Current()
			return m, c, systems
		}
	}
	b.Fatal("the corpus has no case allow-read")
	return nil, nil, nil
}

// joined returns a map with the systems of both.
func joined(b *testing.B, maps ...*authz.InteractionMap) *authz.InteractionMap {
	b.Helper()
	var builder authz.MapBuilder
	for _, m := range maps {
		for s := range m.Systems() {
			if err := builder.Add(s); err != nil {
				b.Fatal(err)
			}
		}
	}
	m, err := builder.Build(1)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func newDecider(b *testing.B, m *authztest.Minted, c *authztest.Case, maps authz.MapSource) *decider {
	b.Helper()
	config, err := m.Config(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	config.Map = maps
	d := &decider{b: b}
	if d.request, err = m.Request(c, &config.Profile, time.Now()); err != nil {
		b.Fatal(err)
	}
	if d.a, err = authz.New(config); err != nil {
		b.Fatal(err)
	}
	return d
}

// decide decides ten thousand times a second until ctx ends, and returns how long each
// decision took.
func (d *decider) decide(ctx context.Context) (times []time.Duration) {
	for ctx.Err() == nil {
		began := time.Now()
		d.request.Now = began
		decision := d.a.Check(ctx, d.request)
		times = append(times, time.Since(began))
		if !decision.Allowed() && ctx.Err() == nil {
			d.b.Errorf("denied: %s", decision.Reason())
			return times
		}
		time.Sleep(100 * time.Microsecond) // a load of decisions, and no busy loop beside it
	}
	return times
}

// steady returns decisions of a second in which nothing else happens.
func (d *decider) steady() []time.Duration {
	ctx, cancel := context.WithTimeout(d.b.Context(), time.Second)
	defer cancel()
	return d.decide(ctx)
}

// BenchmarkDecisionsDuringReload is what a decision takes while the process loads a map of
// 100,000 systems beside the one that it decides by, and as the baseline while it does not.
// Redis is on the same machine, so with two processors both are busy during a load.
func BenchmarkDecisionsDuringReload(b *testing.B) {
	minted, request, systems := world(b)
	s := newBenchServer(b, 100_000, systems)
	all, stop := s.replicas(1)
	defer stop()
	d := newDecider(b, minted, request, all[0])
	steady := d.steady()
	var during []time.Duration
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		decided := make(chan []time.Duration)
		go func() { decided <- d.decide(ctx) }()
		if _, err := cache.Load(b.Context(), s.as(redistest.Reader), layout.DefaultNamespace); err != nil {
			b.Fatal(err)
		}
		cancel()
		during = append(during, <-decided...)
	}
	report(b, steady, "us-baseline", time.Microsecond)
	report(b, during, "us-during", time.Microsecond)
}
