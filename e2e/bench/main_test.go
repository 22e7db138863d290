package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/e2e/mesh"
)

// A short run answers every request, accounts for every decision and has a line for every
// variant in every table, and leaves nothing behind.
func TestBench(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "bench-") // short, for Unix sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	t.Setenv("TMPDIR", tmp)
	sources(t)
	var out, progress bytes.Buffer
	if err := bench(t.Context(), &out, &progress, options{rounds: 1, warm: 20 * time.Millisecond, length: 200 * time.Millisecond}); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	said := out.String()
	for _, want := range []string{"no ext_authz", "always OK, TCP", "asid-authz, TCP", "always OK, mTLS", "asid-authz, mTLS", "always OK, Unix socket", "asid-authz, Unix socket"} {
		if n := strings.Count(said, "\n| "+want+" | "); n != 4 {
			t.Errorf("%d tables of 4 have a line %q", n, want)
		}
	}
	for _, want := range []string{"; Envoy 1.", "HTTP/1.1, saturation", "HTTP/2, saturation", " cores, ", "load average"} {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("left behind: %s", entry.Name())
	}
}

// A request that is refused, and one that nobody decided about, end a run.
func TestNothingUndecidedIsMeasured(t *testing.T) {
	sources(t)
	s, err := newStage(t.Context(), 1)
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	m, replica := s.meshes[0], s.meshes[0].Replica()
	for _, c := range []struct {
		changes []mesh.Change
		want    string
	}{
		{[]mesh.Change{mesh.Answering, mesh.Disabled}, "answered 403"},
		{[]mesh.Change{mesh.Answering, mesh.Disabled, mesh.Unlocked}, " and 0 decided about"},
	} {
		edge, err := m.Edge(t.Context(), c.changes...)
		if err != nil {
			t.Fatal(err)
		}
		v := &variant{name: "undecided", edge: edge, decided: func(ctx context.Context) (uint64, error) { return allowedBy(ctx, replica) }}
		_, err = s.measure(t.Context(), v, mesh.HTTP2, pace{length: 20 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// sources makes `go test` run the tests again when what they build has changed.
func sources(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob("alwaysok/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources of alwaysok: %v", err)
	}
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		all    []float64
		digits int
		want   string
	}{
		{[]float64{0.5}, 3, "0.500"},
		{[]float64{3, 1, 2}, 0, "2 (1 to 3)"},
		{[]float64{1000, 4000, 2000, 1234567}, 0, "3,000 (1,000 to 1,234,567)"},
	} {
		if got := spread(c.all, c.digits); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// What is held against the baseline is held against that of the same round.
func TestTimes(t *testing.T) {
	base := &variant{name: "always OK"}
	r := &report{variants: []*variant{base, {name: "asid-authz", baseline: base}}, results: map[cell][]*result{
		{mesh.HTTP1, saturation, 0}: {{perSecond: 100}, {perSecond: 200}},
		{mesh.HTTP1, saturation, 1}: {{perSecond: 90}, {perSecond: 160}},
	}}
	if got := r.times(cell{mesh.HTTP1, saturation, 1}, perSecond); !slices.Equal(got, []float64{0.9, 0.8}) {
		t.Errorf("got %v", got)
	}
}
