package envoy

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

// The templates are Mustache (https://mustache.github.io/mustache.5.html), as much of it
// as they need: variables, sections, inverted sections, and partials that stand alone on
// a line. Not text/template: that one looks methods up by name, and a program that does
// so must keep every exported method of every type in it, twelve megabytes of this one.
//
//go:embed bootstrap
var bootstrapFiles embed.FS

// fields are what a template can name:
//   - a string is a value: it is written in quotes, and is true if it is not empty;
//   - verbatim is YAML already, or stands in a comment: it is written as it is;
//   - a bool opens a section, or its inverse;
//   - fields, if not nil, open a section that sees them before what is around it;
//   - a list of fields repeats a section, once for each.
type fields map[string]any

type verbatim string

// rendered returns the template of that name with its places filled. Unlike Mustache,
// which leaves out what it does not know, it refuses a name that nobody set: a misspelt
// one would drop a setting that somebody relies on.
func (f fields) rendered(name string) (string, error) {
	text, err := wholeTemplate(name)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := (scope{f}).write(&out, sectionLine.ReplaceAllString(text, "$1")); err != nil {
		return "", fmt.Errorf("template %s: %w", name, err)
	}
	return strings.TrimSpace(out.String()), nil
}

var (
	partialLine = regexp.MustCompile(`(?m)^( *)\{\{> ([a-z-]+)\}\}\n`)
	// sectionLine is a line on which a tag of a section stands alone: it leaves no line.
	sectionLine = regexp.MustCompile(`(?m)^ *(\{\{[#^/][a-z_]+\}\})\n`)
)

// wholeTemplate returns the text of a template with its partials in it, each indented as
// its tag is.
func wholeTemplate(name string) (string, error) {
	text, err := bootstrapFiles.ReadFile("bootstrap/" + name + ".yaml.mustache")
	if err != nil {
		return "", err
	}
	whole := partialLine.ReplaceAllStringFunc(string(text), func(line string) string {
		m := partialLine.FindStringSubmatch(line)
		part, failed := wholeTemplate(m[2])
		if failed != nil {
			err = failed
		}
		return indented(part, m[1])
	})
	return whole, err
}

func indented(text, margin string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			out.WriteString(margin)
		}
		out.WriteString(line)
	}
	return out.String()
}

// A scope is what can be named where a section stands, from the outside in.
type scope []fields

func (s scope) value(name string) (any, error) {
	for i := len(s) - 1; i >= 0; i-- {
		if v, set := s[i][name]; set {
			return v, nil
		}
	}
	return nil, fmt.Errorf("nothing is named %q", name)
}

// write writes text with its places filled. What is filled in is not looked at again.
func (s scope) write(out *strings.Builder, text string) error {
	for {
		before, rest, found := strings.Cut(text, "{{")
		out.WriteString(before)
		if !found {
			return nil
		}
		tag, rest, closed := strings.Cut(rest, "}}")
		if !closed || tag == "" {
			return fmt.Errorf("a tag without an end, or without a name: %q", tag)
		}
		name := strings.TrimLeft(tag, "#^")
		v, err := s.value(name)
		if err != nil {
			return err
		}
		text = rest
		if name == tag {
			switch v := v.(type) {
			case string:
				out.WriteString(quote(v))
			case verbatim:
				out.WriteString(string(v))
			default:
				return fmt.Errorf("%s is a %T, which cannot be written", name, v)
			}
			continue
		}
		inner, after, closed := strings.Cut(rest, "{{/"+name+"}}")
		if !closed {
			return fmt.Errorf("section %s has no end", name)
		}
		text = after
		times, err := s.times(v)
		if err != nil {
			return fmt.Errorf("section %s: %w", name, err)
		}
		if tag[0] == '^' {
			if len(times) > 0 {
				continue
			}
			times = []scope{s}
		}
		for _, inside := range times {
			if err := inside.write(out, inner); err != nil {
				return err
			}
		}
	}
}

// times returns what a section of v sees, once for each time that it is written.
func (s scope) times(v any) ([]scope, error) {
	once := func(is bool, inside scope) ([]scope, error) {
		if !is {
			return nil, nil
		}
		return []scope{inside}, nil
	}
	switch v := v.(type) {
	case bool:
		return once(v, s)
	case string:
		return once(v != "", s)
	case verbatim:
		return once(v != "", s)
	case fields:
		return once(v != nil, s.with(v))
	case []fields:
		all := make([]scope, len(v))
		for i := range v {
			all[i] = s.with(v[i])
		}
		return all, nil
	}
	return nil, fmt.Errorf("a %T cannot open it", v)
}

func (s scope) with(f fields) scope { return append(s[:len(s):len(s)], f) }
