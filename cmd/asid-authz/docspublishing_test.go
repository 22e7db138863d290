package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

var (
	versionPattern = regexp.MustCompile(`\b1[0-9]{12}\b`)
	timePattern    = regexp.MustCompile(`\b20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?Z`)
)

// redisFile starts a server whose publisher may write the given namespaces, and writes the
// file that says where it is.
func redisFile(t *testing.T, dir string, namespaces ...string) (file string, s *redistest.Server) {
	t.Helper()
	s = redistest.Standalone(t, redistest.Options{})
	for _, name := range namespaces {
		n, err := layout.ParseNamespace(name)
		if err == nil {
			err = s.Admin().Do(t.Context(), "ACL", "SETUSER", redistest.Publisher, "~"+n.Pattern()).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(dir, "redis.yaml")
	text := fmt.Sprintf("addresses: [%q]\nusername: %s\npassword_file: %s\n", s.Address(), redistest.Publisher, s.PasswordFile(redistest.Publisher))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, s
}

// nextMap is the example map with a change of every kind.
func nextMap(example string) string {
	return strings.NewReplacer(
		"name: Example Trust EPR\n", "name: Example Trust EPR\n    token_clients: [example-trust-epr]\n",
		"party_key: 1E5-0000812\n", "party_key: 1E5-0000813\n",
		"interactions: [nrl-consumer, nrl-provider]", "interactions: [nrl-provider, urn:nhs:names:services:nrl:DocumentReference.read]",
		"200000000221", "200000000248",
	).Replace(example)
}

// TestDocsPublishing runs the console examples of docs/publishing.md, one after another,
// and compares what they print. With -update it writes what they print.
func TestDocsPublishing(t *testing.T) {
	const name = "../../docs/publishing.md"
	document, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../docs/map.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	redisFile(t, dir, "canary")
	for file, text := range map[string]string{"map.yaml": string(example), "next.yaml": nextMap(string(example))} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	e := examples{t: t, versions: map[string]string{}}
	text, rest, next := "", string(document), ""
	for {
		before, after, found := strings.Cut(rest, "```console\n")
		next += before
		if !found {
			break
		}
		text, rest, _ = strings.Cut(after, "```\n")
		next += "```console\n" + e.run(text) + "```\n"
	}
	if e.commands < 15 {
		t.Errorf("%d commands: where are the others?", e.commands)
	}
	switch {
	case next == string(document):
	case *update:
		if err := os.WriteFile(path, []byte(next), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("docs/publishing.md shows something else than is printed (make docs rewrites it):\n%s", firstDifference(string(document), next))
	}
}

type examples struct {
	t        *testing.T
	commands int
	code     int
	versions map[string]string // of the document → of this run
}

// run runs the commands of a block. Where what they print differs from the block by versions
// and times only, it returns the block as it is.
func (e *examples) run(block string) (out string) {
	for _, part := range strings.Split("\n"+block, "\n$ ")[1:] {
		line, want, _ := strings.Cut(part, "\n")
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		got := e.command(line)
		e.learn(want, got)
		if likeness(got) == likeness(want) {
			got = want
		}
		out += "$ " + line + "\n" + got
	}
	return out
}

func likeness(text string) string {
	return timePattern.ReplaceAllString(versionPattern.ReplaceAllString(text, "VERSION"), "TIME")
}

// learn takes which version of the document is which of this run.
func (e *examples) learn(document, printed string) {
	ours := versionPattern.FindAllString(printed, -1)
	for i, theirs := range versionPattern.FindAllString(document, -1) {
		if _, known := e.versions[theirs]; !known && i < len(ours) {
			e.versions[theirs] = ours[i]
		}
	}
}

func (e *examples) command(line string) string {
	if line == "echo $?" {
		return fmt.Sprintln(e.code)
	}
	line = versionPattern.ReplaceAllStringFunc(line, func(v string) string {
		if e.versions[v] == "" { // the document is being written
			for _, ours := range e.versions {
				return ours
			}
		}
		return e.versions[v]
	})
	words := fields(line)
	if len(words) < 2 || words[0] != "asid-authz" {
		e.t.Fatalf("no command that can be run: %s", line)
	}
	e.commands++
	var out bytes.Buffer
	e.code = run(e.t.Context(), words[1:], &out, &out)
	if e.code != exitOK && e.code != exitDifferences {
		e.t.Errorf("%s: exit %d: %s", line, e.code, out.String())
	}
	return out.String()
}

// fields splits a command line whose only quotes are double ones.
func fields(line string) (words []string) {
	inQuotes := false
	for _, word := range strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			inQuotes = !inQuotes
		}
		return unicode.IsSpace(r) && !inQuotes
	}) {
		words = append(words, strings.ReplaceAll(word, `"`, ""))
	}
	return words
}
