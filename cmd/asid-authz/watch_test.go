package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestWatch: every way in which a file changes is seen, each trouble is told once, and
// what did not change is still read again before long, because only a read confirms.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	core, logs := observer.New(zap.InfoLevel)
	var counted, loads []string
	w := newWatcher(zap.New(core), func(what, result string) { counted = append(counted, what+" "+result) })
	last := ""
	f := &watchedFile{what: "map", path: path, load: func(text []byte, now time.Time) (bool, error) {
		loads = append(loads, string(text))
		if string(text) == "broken" {
			return false, errors.New("no good")
		}
		changed := string(text) != last
		last = string(text)
		return changed, nil
	}}
	expect := func(step string, wantLoads, wantCounted []string) {
		t.Helper()
		if !slices.Equal(loads, wantLoads) || !slices.Equal(counted, wantCounted) {
			t.Errorf("%s: loads %q counted %q, want %q and %q", step, loads, counted, wantLoads, wantCounted)
		}
		loads, counted = nil, nil
	}

	write("file", "one")
	if err := readAll([]*watchedFile{f}); err != nil {
		t.Fatal(err)
	}
	expect("first read", []string{"one"}, nil)
	w.poll(f)
	expect("nothing changed", nil, nil)

	write("next", "two and longer")
	if err := os.Rename(filepath.Join(dir, "next"), path); err != nil {
		t.Fatal(err)
	}
	w.poll(f)
	expect("renamed over", []string{"two and longer"}, []string{"map loaded"})

	write("file", "in place, and longer still")
	w.poll(f)
	expect("written in place", []string{"in place, and longer still"}, []string{"map loaded"})

	write("file", "broken")
	w.poll(f)
	expect("broken", []string{"broken"}, []string{"map refused"})
	f.readAt = time.Now().Add(-rereadEvery)
	w.poll(f)
	expect("still broken", []string{"broken"}, nil)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.poll(f)
	expect("gone", nil, []string{"map refused"})

	// As Kubernetes swaps a volume: the file is a link to a link that is replaced.
	for _, v := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, v), 0o700); err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(v, "file"), v)
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "data")
	link(filepath.Join("data", "file"), "file")
	w.poll(f)
	expect("a link", []string{"v1"}, []string{"map loaded"})
	link("v2", "data.next")
	if err := os.Rename(filepath.Join(dir, "data.next"), filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	w.poll(f)
	expect("the link swapped", []string{"v2"}, []string{"map loaded"})

	f.readAt = time.Now().Add(-rereadEvery)
	w.poll(f)
	expect("read again for its age", []string{"v2"}, nil)

	if refused := logs.FilterMessageSnippet("refused").Len(); refused != 2 {
		t.Errorf("%d troubles in the log, want the broken file and the missing one, once each", refused)
	}
}
