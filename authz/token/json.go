package token

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding/json takes the last of two members of one name, matches names without case
// and repairs bad UTF-8. Each of these lets two readers of one token see two tokens, so
// what strangers wrote is read here: strictly as RFC 8259 has it, and no name twice.

// A kind is the JSON type of a value.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// A value is one JSON value. text is a string decoded, and anything else as written.
type value struct {
	kind kind
	text string
}

// A member is one name of an object and its value.
type member struct {
	name string
	value
}

// bounds of a JSON text; an honest one is far below them.
type bounds struct {
	depth   int // of nesting
	members int // of one object
	values  int // in all
}

// maxName is the longest name of a member, in bytes: claims are named by URLs too.
const maxName = 256

// find returns the value of that name.
func find(members []member, name string) (value, bool) {
	for i := range members {
		if members[i].name == name {
			return members[i].value, true
		}
	}
	return value{}, false
}

// parseObject returns the members of the object that text is. The whole of text is
// checked; objects and arrays in it are returned as text, to be parsed when they are used.
func parseObject(text string, b bounds) ([]member, error) {
	r := reader{text: text, bounds: b}
	r.blanks()
	if r.peek() != '{' {
		return nil, r.fault("this is not a JSON object")
	}
	members, err := r.object()
	if err != nil {
		return nil, err
	}
	return members, r.end()
}

// parseArray returns the elements of the array that text is, likewise.
func parseArray(text string, b bounds) ([]value, error) {
	r := reader{text: text, bounds: b}
	r.blanks()
	if r.peek() != '[' {
		return nil, r.fault("this is not a JSON array")
	}
	elements, err := r.array()
	if err != nil {
		return nil, err
	}
	return elements, r.end()
}

// A reader goes through a JSON text once. depth and values are what is left of them.
type reader struct {
	text string
	at   int
	bounds
}

func (r *reader) fault(problem string) error {
	return fmt.Errorf("byte %d: %s", r.at, problem)
}

// peek returns the next byte, 0 at the end. A 0 in the text is no JSON either.
func (r *reader) peek() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

func (r *reader) blanks() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

func (r *reader) end() error {
	if r.blanks(); r.at != len(r.text) {
		return r.fault("something follows the JSON value")
	}
	return nil
}

func (r *reader) value() (value, error) {
	if r.values--; r.values < 0 {
		return value{}, r.fault("too many values")
	}
	v, start, err := value{}, r.at, error(nil)
	switch c := r.peek(); {
	case c == '"':
		v.kind = kindString
		v.text, err = r.quoted()
		return v, err
	case c == '{':
		v.kind = kindObject
		_, err = r.object()
	case c == '[':
		v.kind = kindArray
		_, err = r.array()
	case c == '-' || isDigit(c):
		v.kind = kindNumber
		err = r.number()
	case r.word("true"), r.word("false"):
		v.kind = kindBool
	case r.word("null"):
		v.kind = kindNull
	default:
		err = r.fault("a JSON value is missing")
	}
	if err != nil {
		return value{}, err
	}
	v.text = r.text[start:r.at]
	return v, nil
}

func (r *reader) word(w string) bool {
	if !strings.HasPrefix(r.text[r.at:], w) {
		return false
	}
	r.at += len(w)
	return true
}

func (r *reader) enter() error {
	if r.depth--; r.depth < 0 {
		return r.fault("nested too deeply")
	}
	r.at++
	r.blanks()
	return nil
}

func (r *reader) leave() {
	r.depth++
	r.at++
}

func (r *reader) object() (all []member, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	for r.peek() != '}' {
		if len(all) > 0 {
			if r.peek() != ',' {
				return nil, r.fault("a comma or the end of the object is missing")
			}
			r.at++
			r.blanks()
		}
		if len(all) == r.members {
			return nil, r.fault("too many names in one object")
		}
		if r.peek() != '"' {
			return nil, r.fault("a name is missing")
		}
		var m member
		if m.name, err = r.quoted(); err != nil {
			return nil, err
		}
		if len(m.name) > maxName {
			return nil, r.fault("a name is too long")
		}
		if _, twice := find(all, m.name); twice {
			return nil, r.fault("a name stands twice in one object")
		}
		r.blanks()
		if r.peek() != ':' {
			return nil, r.fault("a colon is missing")
		}
		r.at++
		r.blanks()
		if m.value, err = r.value(); err != nil {
			return nil, err
		}
		all = append(all, m)
		r.blanks()
	}
	r.leave()
	return all, nil
}

func (r *reader) array() (all []value, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	for r.peek() != ']' {
		if len(all) > 0 {
			if r.peek() != ',' {
				return nil, r.fault("a comma or the end of the array is missing")
			}
			r.at++
			r.blanks()
		}
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		r.blanks()
	}
	r.leave()
	return all, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (r *reader) digits() bool {
	start := r.at
	for isDigit(r.peek()) {
		r.at++
	}
	return r.at > start
}

func (r *reader) number() error {
	if r.peek() == '-' {
		r.at++
	}
	if r.peek() == '0' {
		r.at++
	} else if !r.digits() {
		return r.fault("a digit is missing")
	}
	if r.peek() == '.' {
		r.at++
		if !r.digits() {
			return r.fault("a digit is missing")
		}
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		r.at++
		if c := r.peek(); c == '+' || c == '-' {
			r.at++
		}
		if !r.digits() {
			return r.fault("a digit is missing")
		}
	}
	return nil
}

// quoted returns the string that begins here. One without escapes, as nearly all are,
// is a part of the text.
func (r *reader) quoted() (string, error) {
	r.at++
	start, ascii := r.at, true
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			s := r.text[start:r.at]
			if !ascii && !utf8.ValidString(s) {
				return "", r.fault("a string is not UTF-8")
			}
			r.at++
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return "", r.fault("a control byte in a string")
		case c >= utf8.RuneSelf:
			ascii = false
		}
		r.at++
	}
	return "", r.fault("a string has no end")
}

// escaped goes on with a string that began at start, from its first escape.
func (r *reader) escaped(start int) (string, error) {
	var b strings.Builder
	b.WriteString(r.text[start:r.at])
	for r.at < len(r.text) {
		c := r.text[r.at]
		r.at++
		switch {
		case c == '"':
			if s := b.String(); utf8.ValidString(s) {
				return s, nil
			}
			return "", r.fault("a string is not UTF-8")
		case c < ' ':
			return "", r.fault("a control byte in a string")
		case c != '\\':
			b.WriteByte(c)
			continue
		}
		c = r.peek()
		i := strings.IndexByte(`"\/bfnrtu`, c)
		if i < 0 {
			return "", r.fault("an escape that JSON does not have")
		}
		r.at++
		if c == 'u' {
			char, ok := r.unicode()
			if !ok {
				return "", r.fault("a \\u escape that is no character")
			}
			b.WriteRune(char)
			continue
		}
		b.WriteByte("\"\\/\b\f\n\r\t"[i])
	}
	return "", r.fault("a string has no end")
}

// unicode returns the character of a \u escape whose four digits begin here. Half of a
// surrogate pair is none: every reader makes something else of it.
func (r *reader) unicode() (rune, bool) {
	c, ok := r.hex()
	if !ok || !utf16.IsSurrogate(c) {
		return c, ok
	}
	if !strings.HasPrefix(r.text[r.at:], `\u`) {
		return 0, false
	}
	r.at += 2
	low, ok := r.hex()
	c = utf16.DecodeRune(c, low)
	return c, ok && c != utf8.RuneError
}

func (r *reader) hex() (c rune, ok bool) {
	if len(r.text)-r.at < 4 {
		return 0, false
	}
	for range 4 {
		d := r.text[r.at]
		switch {
		case isDigit(d):
			d -= '0'
		case 'a' <= d && d <= 'f':
			d -= 'a' - 10
		case 'A' <= d && d <= 'F':
			d -= 'A' - 10
		default:
			return 0, false
		}
		c = c<<4 | rune(d)
		r.at++
	}
	return c, true
}
