// Package strictyaml reads the files that people write: the configuration, profiles
// and interaction maps. A file is one YAML (or JSON) document that says exactly what
// its struct knows, each thing once, or it is refused, with every problem at once,
// each with its line and what to do.
package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"asid-authz/authz"
)

// A Problem is one thing that is wrong with a file.
type Problem struct {
	File string
	Line int // from 1; 0: the file as a whole
	Text string
}

// Error returns "file:line: text", which editors and terminals can jump to.
func (p Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems is an error: a file's problems in the order of its lines.
type Problems []Problem

// Error returns a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// MaxSize is the largest file that is read: a map of 100,000 systems is below it.
const MaxSize = 512 << 20

// Decode reads text into v, a pointer to a struct whose fields carry yaml tags. name is
// the file's, for the Problems; they are the only kind of error.
//
// Scalars that land in strings are taken as they are written: NO, 1E5 and 0x10 are
// themselves. A key without a value is a problem, because a list that was forgotten and
// a list that is meant to be empty look the same otherwise. So are aliases: what a
// line says must not depend on another.
func Decode(name string, text []byte, v any) error {
	if len(text) > MaxSize {
		return Problems{{File: name, Text: fmt.Sprintf("larger than %d bytes", MaxSize)}}
	}
	var problems Problems
	var root yaml.Node
	if err := yaml.Load(text, &root); err != nil {
		return convert(name, err, nil)
	}
	walk(name, &root, &problems)
	if err := root.Load(v, yaml.WithKnownFields()); err != nil {
		problems = append(problems, convert(name, err, knownKeys(reflect.TypeOf(v)))...)
	}
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(problems)
}

func walk(name string, n *yaml.Node, problems *Problems) {
	object := func(text string) { *problems = append(*problems, Problem{name, n.Line, text}) }
	switch {
	case n.Kind == yaml.AliasNode:
		object("an alias: write the value out, so that a line says what it means")
		return
	case n.Style&yaml.TaggedStyle != 0:
		object("a tag: write the value plainly, so that what is written is what is meant")
	case n.Anchor != "":
		object("an anchor: write the value out where it is meant, so that a line says what it means")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!merge":
		// Also where it is no key: the library reads it into anything, as nothing, in silence.
		object("a merge (<<): write the keys out, so that each stands once")
	}
	for i, child := range n.Content {
		if child.Kind == yaml.ScalarNode && child.ShortTag() == "!!null" && child.Style&yaml.TaggedStyle == 0 {
			switch {
			case n.Kind == yaml.MappingNode && i%2 == 1:
				*problems = append(*problems, Problem{name, child.Line, fmt.Sprintf("key %s has no value: remove it or give it one (text is put in quotes)", authz.ExcerptBare(n.Content[i-1].Value))})
			default:
				*problems = append(*problems, Problem{name, child.Line, "an empty value: remove it, or put text in quotes"})
			}
			continue
		}
		walk(name, child, problems)
	}
}

var (
	unknownKey   = regexp.MustCompile(`(?s)^field (.*) not found in type .*$`)
	duplicateKey = regexp.MustCompile(`(?s)^mapping key "(.*)" already defined at line (\d+)$`)
	wrongKind    = regexp.MustCompile("(?s)^cannot construct (\\S+)(?: `(.*)`)? into (.*)$")
)

// convert turns the library's errors into Problems in this project's words.
func convert(name string, err error, keys []string) Problems {
	all := []*yaml.LoadError{}
	var several *yaml.LoadErrors
	var one *yaml.LoadError
	switch {
	case errors.As(err, &several):
		all = several.Errors
	case errors.As(err, &one):
		all = append(all, one)
	default:
		return Problems{{File: name, Text: err.Error()}}
	}
	var problems Problems
	for _, e := range all {
		text := e.Message
		if inner := e.Unwrap(); inner != nil {
			text = inner.Error()
		}
		for _, line := range strings.Split(reword(text, keys), "\n") {
			problems = append(problems, Problem{name, e.Mark.Line, line})
		}
	}
	return problems
}

func reword(text string, keys []string) string {
	if m := unknownKey.FindStringSubmatch(text); m != nil {
		text = "unknown key " + authz.Excerpt(m[1])
		if near := Nearest(m[1], keys); near != "" {
			text += "; did you mean " + near + "?"
		}
		return text
	}
	if m := duplicateKey.FindStringSubmatch(text); m != nil {
		return "key " + authz.Excerpt(m[1]) + " stands twice, first at line " + m[2]
	}
	if m := wrongKind.FindStringSubmatch(text); m != nil {
		got := map[string]string{"!!map": "a mapping", "!!seq": "a list", "!!str": "text", "!!int": "a number", "!!float": "a number", "!!bool": "true or false"}[m[1]]
		want := "a mapping"
		switch kind := m[3]; {
		case kind == "string":
			want = "text"
		case strings.HasPrefix(kind, "[]"):
			want = "a list"
		case kind == "bool":
			want = "true or false"
		case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"), strings.HasPrefix(kind, "float"):
			want = "a number"
		}
		return "this must be " + want + ", not " + got
	}
	switch text {
	case "yaml: expected single document, found multiple":
		return "a second document (---): a file holds one, or half of it would be ignored"
	case "yaml: no documents in stream":
		return "the file is empty"
	}
	return strings.TrimPrefix(text, "yaml: ")
}

// knownKeys returns every yaml key that t and what it holds know.
func knownKeys(t reflect.Type) []string {
	var keys []string
	seen := map[reflect.Type]bool{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] {
			return
		}
		seen[t] = true
		for field := range t.Fields() {
			if key, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); key != "" && key != "-" {
				keys = append(keys, key)
			}
			visit(field.Type)
		}
	}
	visit(t)
	return keys
}

// Nearest returns the candidate that word was probably meant to be, or "" if none is
// near: at most a third of its letters differ, or two.
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, candidate := range candidates {
		if d := distance(word, candidate, bestDistance); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is Levenshtein's, or limit if it is not below it.
func distance(a, b string, limit int) int {
	if diff := len(a) - len(b); diff >= limit || -diff >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
