package authztest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An option is key=value behind a symbol. A key may stand several times.
type option struct{ key, value string }

// parseSymbol reads `NAME key=value key="value with blanks"`. A value that begins with
// a quote is quoted as Go quotes it, so that it can hold any byte.
func parseSymbol(line string) (name string, options []option, err error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if name == "" || strings.ContainsAny(name, `="`) {
		return "", nil, fmt.Errorf("%q does not begin with a name", line)
	}
	options, err = parseOptions(rest)
	return name, options, err
}

func parseOptions(rest string) (options []option, err error) {
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, found := strings.Cut(rest, "=")
		if !found || key == "" || strings.ContainsAny(key, ` "`) {
			return nil, fmt.Errorf("%q is not key=value", rest)
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil {
				return nil, fmt.Errorf("value of %s: %w", key, err)
			}
			value, _ = strconv.Unquote(quoted)
			rest = after[len(quoted):]
			if rest != "" && rest[0] != ' ' {
				return nil, fmt.Errorf("value of %s: no blank behind the quoted text", key)
			}
		} else {
			value, rest, _ = strings.Cut(after, " ")
		}
		options = append(options, option{key, value})
	}
	return options, nil
}

// overlay returns base with every key that over has replaced by over's.
func overlay(base, over []option) []option {
	var all []option
	for _, o := range base {
		if !slices.ContainsFunc(over, func(p option) bool { return p.key == o.key }) {
			all = append(all, o)
		}
	}
	return append(all, over...)
}

func checkKeys(options []option, known ...string) error {
	for _, o := range options {
		if !slices.Contains(known, o.key) {
			return fmt.Errorf("unknown option %q; there are %s", o.key, strings.Join(known, ", "))
		}
	}
	return nil
}

// An object is a JSON object as it is written: in its order, a name as often as it stands.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

func parseObject(text string) (object, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object: %.40q", text)
	}
	var all object
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		all = append(all, member{name.(string), value})
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("text behind the JSON object")
	}
	return all, nil
}

func (o object) has(name string) bool {
	return slices.ContainsFunc(o, func(m member) bool { return m.name == name })
}

func (o object) without(name string) object {
	return slices.DeleteFunc(slices.Clone(o), func(m member) bool { return m.name == name })
}

// laidOver returns base with every name that o has replaced by all that o says of it.
func (o object) laidOver(base object) object {
	for _, m := range o {
		base = base.without(m.name)
	}
	return append(slices.Clone(base), o...)
}

func (o object) text() []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(must(json.Marshal(m.name)))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}
