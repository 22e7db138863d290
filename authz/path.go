package authz

import (
	"errors"
	"fmt"
	"strings"
)

// pathByte classifies the bytes of a path after Envoy's normalisation. What is legal
// in a segment may stand there as it is; everything else is refused, never repaired:
// a path that two programs read differently is how authorization gets bypassed.
var pathByte = func() (table [256]uint8) {
	for c := range 256 {
		if isPathChar(byte(c)) {
			table[c] = charSegment
		}
	}
	table['/'], table['.'], table['%'] = charSlash, charDot, charPercent
	return table
}()

const (
	charRefused uint8 = iota
	charSegment
	charSlash
	charDot
	charPercent
)

// isPathChar reports whether c may stand unescaped in a path segment: RFC 3986 pchar
// without ";", which some servers cut a segment at and others do not (CVE-2026-73511).
func isPathChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~!$&'()*+,=:@", c) >= 0
}

// isCanonicalPath reports whether path has one reading only. Refused are: no leading
// slash, an empty segment other than the last, dot segments, path parameters (";"),
// backslash, "#", control bytes, blanks, bytes that are not ASCII, a bad escape, an
// escape of "/", "\", "%" or a control byte, and an escape of what needs none.
//
// It allocates nothing: the path is the caller's, and every request has one.
func isCanonicalPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	start := 1 // of the current segment
	for i := 1; i < len(path); i++ {
		switch pathByte[path[i]] {
		case charRefused:
			return false
		case charSlash:
			if i == start || isDots(path[start:i]) {
				return false
			}
			start = i + 1
		case charPercent:
			if i+2 >= len(path) {
				return false
			}
			hi, lo := upperHex(path[i+1]), upperHex(path[i+2])
			if hi < 0 || lo < 0 {
				return false
			}
			switch c := byte(hi<<4 | lo); {
			case c < 0x20, c == 0x7f, c == '/', c == '\\', c == '%', c == ';', isPathChar(c):
				return false
			}
			i += 2
		}
	}
	return !isDots(path[start:])
}

func isDots(segment string) bool { return segment == "." || segment == ".." }

// upperHex returns the value of an upper-case hexadecimal digit, or -1: RFC 3986 knows
// one normal form of an escape, and lower case would be a second spelling.
func upperHex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// A PathTemplate is the path of an endpoint below the base: "/DocumentReference/{id}".
// A segment is either literal or the parameter {id}, which stands for a FHIR logical
// id, [A-Za-z0-9.-]{1,64} (https://hl7.org/fhir/STU3/datatypes.html#id). Only
// [ParsePathTemplate] makes one.
type PathTemplate struct {
	text     string
	segments []string // "" is {id}
}

const idParameter = "{id}"

// MaxID is the longest id that {id} matches: FHIR's bound.
const MaxID = 64

// ParsePathTemplate reads a template. "" is the base itself.
func ParsePathTemplate(s string) (PathTemplate, error) {
	t := PathTemplate{text: s}
	if s == "" {
		return t, nil
	}
	if s[0] != '/' {
		return PathTemplate{}, errors.New("a path template is empty or begins with /")
	}
	for _, segment := range strings.Split(s[1:], "/") {
		switch {
		case segment == idParameter:
			t.segments = append(t.segments, "")
		case segment == "", strings.ContainsAny(segment, "{}%"), !isCanonicalPath("/" + segment):
			return PathTemplate{}, fmt.Errorf("segment %s of a path template is neither plain text nor {id}", Excerpt(segment))
		default:
			t.segments = append(t.segments, segment)
		}
	}
	return t, nil
}

// String returns the template as it was parsed.
func (t PathTemplate) String() string { return t.text }

// Regexp returns an RE2 expression that matches, as a whole, the paths that t matches.
func (t PathTemplate) Regexp() string {
	var b strings.Builder
	for _, segment := range t.segments {
		b.WriteByte('/')
		if segment == "" {
			fmt.Fprintf(&b, "[A-Za-z0-9.-]{1,%d}", MaxID)
			continue
		}
		for i := range len(segment) {
			if strings.IndexByte(`.$()*+`, segment[i]) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(segment[i])
		}
	}
	return b.String()
}

// IsLiteral reports whether t has no parameter.
func (t PathTemplate) IsLiteral() bool {
	for _, segment := range t.segments {
		if segment == "" {
			return false
		}
	}
	return true
}

// match reports whether path, below the base, is one of t's.
func (t PathTemplate) match(path string) bool {
	for _, want := range t.segments {
		if path == "" || path[0] != '/' {
			return false
		}
		path = path[1:]
		end := strings.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		if got := path[:end]; want == "" && !isID(got) || want != "" && got != want {
			return false
		}
		path = path[end:]
	}
	return path == ""
}

func isID(s string) bool {
	if s == "" || len(s) > MaxID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// overlaps reports whether some path is matched by both. Two templates of one method
// must not overlap: which of them a request means would depend on their order.
func (t PathTemplate) overlaps(o PathTemplate) bool {
	if len(t.segments) != len(o.segments) {
		return false
	}
	for i, a := range t.segments {
		b := o.segments[i]
		switch {
		case a == b, a == "" && isID(b), b == "" && isID(a):
		default:
			return false
		}
	}
	return true
}

// ParseBase accepts the path that all endpoints of a deployment stand below: "" or
// "/STU3", canonical, without a slash at the end.
func ParseBase(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if !isCanonicalPath(s) || strings.HasSuffix(s, "/") || strings.Contains(s, "%") {
		return "", fmt.Errorf("a base path is empty or like /STU3, without a slash at the end, not %s", Excerpt(s))
	}
	return s, nil
}

// forbiddenParameter reports whether the query has a parameter that would carry a
// credential past us or rename the method. Names are compared as the most lenient
// server would read them: unescaped, without case, split at "&" and ";".
func forbiddenParameter(query string) (name string, found bool) {
	for query != "" {
		end := strings.IndexAny(query, "&;")
		part := query
		if end >= 0 {
			part, query = query[:end], query[end+1:]
		} else {
			query = ""
		}
		key, _, _ := strings.Cut(part, "=")
		for _, forbidden := range [...]string{"access_token", "_method"} {
			if equalUnescaped(key, forbidden) {
				return forbidden, true
			}
		}
	}
	return "", false
}

// equalUnescaped reports whether key, percent-decoded and without case, is want.
func equalUnescaped(key, want string) bool {
	n := 0
	for i := 0; i < len(key); i++ {
		c := key[i]
		if c == '%' && i+2 < len(key) {
			hi, lo := upperHex(upper(key[i+1])), upperHex(upper(key[i+2]))
			if hi >= 0 && lo >= 0 {
				c, i = byte(hi<<4|lo), i+2
			}
		}
		if n >= len(want) || lower(c) != want[n] {
			return false
		}
		n++
	}
	return n == len(want)
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
