package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var buildTags = regexp.MustCompile(`go"?,? "?build"?,? "?-tags"?,? "?([a-z,]+)`)

// TestLinked: nothing in the binary looks methods up by name. A single function that does
// (text/template has one) makes the linker keep every exported method of every type that
// can be in an interface: 12 MB more, in every pull of the image, for code that is never
// run. What brings it in is named; packages that only import such a one are no harm.
//
// The tag is part of it: without it grpc-go can be told to trace into golang.org/x/net/trace,
// whose pages are templates. It removes nothing that could be switched on here: nobody sets
// grpc.EnableTracing, and nobody serves the pages.
func TestLinked(t *testing.T) {
	var tags string
	for _, file := range []string{"Dockerfile", "Makefile", "e2e/mesh/programs.go"} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		m := buildTags.FindSubmatch(text)
		switch {
		case m == nil:
			t.Fatalf("%s builds without tags", file)
		case tags != "" && string(m[1]) != tags:
			t.Errorf("%s builds with the tags %s, the other with %s: one would test what the other does not ship", file, m[1], tags)
		}
		tags = string(m[1])
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-buildvcs=false", "-ldflags", "-s -w -dumpdep", "-o", filepath.Join(t.TempDir(), "asid-authz"), ".")
	var said bytes.Buffer // the linker's edges, "one symbol -> another"; what it knows of a symbol stands behind its name
	build.Stdout, build.Stderr = &said, &said
	if err := build.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.Bytes())
	}
	edges, found := 0, map[string]bool{}
	lines := bufio.NewScanner(&said)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		from, to, is := strings.Cut(lines.Text(), " -> ")
		if !is {
			continue
		}
		edges++
		for _, symbol := range []string{from, to} {
			if strings.Contains(symbol, "<ReflectMethod>") && !found[symbol] {
				found[symbol] = true
				t.Errorf("linked: %s, by %s", symbol, from)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if edges < 10_000 {
		t.Errorf("the linker names only %d edges: this test holds for nothing", edges)
	}
}
