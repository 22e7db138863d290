package cache_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
	"asid-authz/cache"
	"asid-authz/cache/cachetest"
)

func TestMemory(t *testing.T) {
	cachetest.Test(t, func(t *testing.T) cachetest.Store {
		return &polled{Memory: cache.NewMemory(zap.NewNop())}
	})
}

// polled is a Memory whose file is read whenever a door is used.
type polled struct {
	*cache.Memory
	content string
}

func (p *polled) Publish(t *testing.T, text string) {
	t.Helper()
	p.content = text
	if _, err := p.Load("map.yaml", []byte(text), time.Now()); err != nil {
		t.Fatalf("a good map was refused: %v", err)
	}
}

func (p *polled) Spoil(t *testing.T) {
	t.Helper()
	p.content = "format: 1\nsystems:\n  - {asid: 12"
	if _, err := p.Load("map.yaml", []byte(p.content), time.Now()); err == nil {
		t.Fatal("half a map was accepted")
	}
}

func (p *polled) Confirm(t *testing.T) {
	t.Helper()
	if changed, _ := p.Load("map.yaml", []byte(p.content), time.Now()); changed {
		t.Fatal("looking again changed the map")
	}
}

// file returns a map file of one system.
func file(ods string) string {
	return "format: 1\nsystems: [{asid: 100000000001, ods: " + ods + ", state: active, interactions: []}]\n"
}

const broken, alsoBroken = "format: 1\n", "format: 1\nsystems: [x]\n"

// TestMemoryClock: what each read does to the version and to the time of confirmation.
// Times and versions are seconds after start.
func TestMemoryClock(t *testing.T) {
	const start = 1_700_000_000
	type step struct {
		at      int64
		read    string
		want    string // changed, same or refused
		version int64  // of the map afterwards
		confirm int64
	}
	const none, never = -start, -start // a version of 0 and no time, less start
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"the version is the time", []step{{0, file("A"), "changed", 0, 0}, {60, file("B"), "changed", 60, 60}, {61, file("A"), "changed", 61, 61}}},
		{"two in a second", []step{{5, file("A"), "changed", 5, 5}, {5, file("B"), "changed", 6, 5}, {6, file("A"), "changed", 7, 6}, {9, file("B"), "changed", 9, 9}}},
		{"an equal read confirms", []step{{0, file("A"), "changed", 0, 0}, {1, file("A"), "same", 0, 1}, {2, file("A"), "same", 0, 2}}},
		{"a refused content ages", []step{{0, file("A"), "changed", 0, 0}, {1, broken, "refused", 0, 0}, {2, broken, "refused", 0, 0}, {3, alsoBroken, "refused", 0, 0}, {4, broken, "refused", 0, 0}}},
		{"the good content again", []step{{0, file("A"), "changed", 0, 0}, {1, broken, "refused", 0, 0}, {2, file("A"), "same", 0, 2}, {3, broken, "refused", 0, 2}}},
		{"a better content", []step{{0, file("A"), "changed", 0, 0}, {1, broken, "refused", 0, 0}, {2, file("B"), "changed", 2, 2}}},
		{"refused from the beginning", []step{{0, broken, "refused", none, never}, {1, broken, "refused", none, never}, {2, file("A"), "changed", 2, 2}}},
		{"a read that was overtaken", []step{{100, file("A"), "changed", 100, 100}, {102, file("B"), "changed", 102, 102}, {101, file("A"), "same", 102, 102}, {102, file("B"), "same", 102, 102}, {103, file("A"), "changed", 103, 103}}},
		{"a confirming read that was overtaken", []step{{100, file("A"), "changed", 100, 100}, {105, file("A"), "same", 100, 105}, {104, file("A"), "same", 100, 105}}},
		{"a good read that was overtaken by a refused one", []step{{100, file("A"), "changed", 100, 100}, {102, broken, "refused", 100, 100}, {101, file("A"), "refused", 100, 100}, {101, file("B"), "refused", 100, 100}}},
		{"a refused read that was overtaken", []step{{100, file("A"), "changed", 100, 100}, {99, broken, "same", 100, 100}, {100, file("A"), "same", 100, 100}}},
		{"a clock that was never set", []step{{-start - 5, file("A"), "changed", 1 - start, -start - 5}, {-start - 4, file("B"), "changed", 2 - start, -start - 4}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := cache.NewMemory(zap.NewNop())
			for i, s := range test.steps {
				changed, err := m.Load("map.yaml", []byte(s.read), time.Unix(start+s.at, 0))
				got := "same"
				switch {
				case err != nil && changed:
					got = "changed and refused"
				case err != nil:
					got = "refused"
				case changed:
					got = "changed"
				}
				status := m.Status()
				version, confirmed := int64(status.Version)-start, int64(never)
				if !status.Confirmed.IsZero() {
					confirmed = status.Confirmed.Unix() - start
				}
				if got != s.want || version != s.version || confirmed != s.confirm {
					t.Errorf("step %d: %s, version start%+d, confirmed at %d; want %s, start%+d, %d", i, got, version, confirmed, s.want, s.version, s.confirm)
				}
				if (status.Err != nil) != (s.want == "refused") {
					t.Errorf("step %d: status says %v", i, status.Err)
				}
			}
		})
	}
}

func TestMemoryStatus(t *testing.T) {
	m := cache.NewMemory(zap.NewNop())
	if got := m.Status(); got != (cache.MemoryStatus{}) {
		t.Errorf("before the first Load: %+v", got)
	}
	at := time.Unix(1_700_000_000, 0)
	var first error
	for i, text := range []string{file("A"), broken, broken, file("A"), file("B"), broken} {
		_, err := m.Load("map.yaml", []byte(text), at.Add(time.Duration(i)*time.Second))
		if i == 1 {
			first = err
		}
		if text == broken && fmt.Sprint(err) != "map.yaml:1: systems is missing" {
			t.Errorf("read %d: error %v", i, err)
		}
	}
	got := m.Status()
	want := cache.MemoryStatus{Version: 1_700_000_004, Systems: 1, Confirmed: at.Add(4 * time.Second), Accepted: 2, Refused: 2}
	if fmt.Sprint(got.Err) != fmt.Sprint(first) {
		t.Errorf("status says %v, the file %v", got.Err, first)
	}
	if got.Err = nil; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var problems strictyaml.Problems
	if !errors.As(m.Status().Err, &problems) || len(problems) != 1 || problems[0].Line != 1 {
		t.Errorf("the error is %#v, want its problems", m.Status().Err)
	}
}

func TestMemoryAbsent(t *testing.T) {
	m := cache.NewMemory(zap.NewNop())
	if _, err := m.Load("map.yaml", []byte(broken), time.Now()); err == nil {
		t.Fatal("accepted")
	}
	if current, confirmed, absent := m.Current(); current != nil || !confirmed.IsZero() || absent != authz.MapUnavailable {
		t.Errorf("map %v, confirmed %v, absent %s; want none and map-unavailable", current, confirmed, absent)
	}
}

// TestMemoryLog: a line for what happened, and none for a poll at which nothing did.
func TestMemoryLog(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	m := cache.NewMemory(zap.New(core))
	at := time.Unix(1_700_000_000, 0)
	two := "format: 1\nsystems:\n" +
		"  - {asid: 100000000001, ods: A, state: suspended, interactions: []}\n" +
		"  - {asid: 100000000002, ods: A, state: active, interactions: []}\n"
	other := strings.ReplaceAll(two, "100000000001", "100000000003")
	wrong := "format: 1\nsystems:\n" + strings.Repeat("  - {asid: 1, ods: A, state: active, interactions: []}\n", 30)
	for _, step := range []struct{ read, want string }{
		{file("A"), `info: map loaded {added=1 changed=0 file=map.yaml removed=0 systems=1 version=1700000000}`},
		{file("A"), ``},
		{two, `info: map loaded {added=1 changed=1 file=map.yaml removed=0 systems=2 version=1700000001}`},
		{other, `info: map loaded {added=1 changed=0 file=map.yaml removed=1 systems=2 version=1700000002}`},
		{broken, `error: map file refused; the map that was accepted before, if any, stays and ages {file=map.yaml first=[map.yaml:1: systems is missing] problems=1}`},
		{broken, ``},
		{alsoBroken, `error: map file refused; the map that was accepted before, if any, stays and ages {file=map.yaml first=[map.yaml:2: this must be a mapping, not text] problems=1}`},
		{other, `info: map file is the accepted one again {file=map.yaml version=1700000002}`},
		{other, ``},
		{alsoBroken, `error: map file refused; the map that was accepted before, if any, stays and ages {file=map.yaml first=[map.yaml:2: this must be a mapping, not text] problems=1}`},
		{wrong, `error: map file refused; the map that was accepted before, if any, stays and ages {file=map.yaml first=10 problems=30}`},
	} {
		_, _ = m.Load("map.yaml", []byte(step.read), at)
		var got []string
		for _, e := range logs.TakeAll() {
			fields := e.ContextMap()
			if first, ok := fields["first"].([]any); ok && len(first) > 1 {
				fields["first"] = len(first)
			}
			var pairs []string
			for _, key := range slices.Sorted(maps.Keys(fields)) {
				pairs = append(pairs, fmt.Sprint(key, "=", fields[key]))
			}
			got = append(got, fmt.Sprintf("%s: %s {%s}", e.Level, e.Message, strings.Join(pairs, " ")))
		}
		if strings.Join(got, "\n") != step.want {
			t.Errorf("read %.40q:\n got %s\nwant %s", step.read, got, step.want)
		}
	}
}
