package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"asid-authz/authz"
)

// Bounds of what is read: far above any real map, and low enough that a broken number
// cannot make a replica reserve memory without end.
const (
	MaxSystems = 4 << 20
	MaxIDs     = 1 << 16
	MaxEntry   = 1 << 20 // bytes
	MaxChange  = 2 << 20 // bytes of an encoded change; a publisher stays below MaxTransaction
)

// MaxTransaction is how many bytes one transaction may write: a server that is busy with
// a larger one would keep every replica waiting.
const MaxTransaction = 1 << 20

// AppendEntry appends the value of a system in its bucket:
//
//	state          one byte: 0 suspended, 1 active
//	name           text
//	ods            text
//	party_key      text
//	fqdns          list of texts
//	certificates   list of 32 bytes each, the SHA-256 of the certificate's DER
//	token_clients  list of texts
//	interactions   list of numbers: the first number in the dictionary, then by how much
//	               each next one is greater, at least 1
//
// numbers are the system's interactions in the dictionary, ascending and without
// repetition; s.Interactions is not looked at.
func AppendEntry(b []byte, s *authz.AccreditedSystem, numbers []int) []byte {
	b = append(b, byte(s.State))
	b = appendText(b, s.Name)
	b = appendText(b, s.ODSCode)
	b = appendText(b, s.PartyKey)
	b = appendTexts(b, s.FQDNs)
	b = binary.AppendUvarint(b, uint64(len(s.Fingerprints)))
	for i := range s.Fingerprints {
		b = append(b, s.Fingerprints[i][:]...)
	}
	b = appendTexts(b, s.TokenClients)
	b = binary.AppendUvarint(b, uint64(len(numbers)))
	last := 0
	for _, n := range numbers {
		b = binary.AppendUvarint(b, uint64(n-last))
		last = n
	}
	return b
}

// DecodeEntry takes the field and the value of a bucket. numbers, which it appends to
// buffer, are the system's interactions in the dictionary, ascending; whether the
// dictionary has them is not its business, and neither is whether the content makes
// sense: see [authz.AccreditedSystem.Validate]. The strings of s share memory with value.
func DecodeEntry(asid, value string, buffer []int) (s authz.AccreditedSystem, numbers []int, err error) {
	if s.ASID, err = authz.ParseASID(asid); err != nil {
		return s, nil, err
	}
	if len(value) > MaxEntry {
		return s, nil, fmt.Errorf("an entry of more than %d bytes", MaxEntry)
	}
	r := reader{rest: value}
	switch state := r.byte(); state {
	case byte(authz.Suspended), byte(authz.Active):
		s.State = authz.State(state)
	default:
		r.fail("state %d", state)
	}
	s.Name, s.ODSCode, s.PartyKey = r.text(), r.text(), r.text()
	s.FQDNs = r.texts()
	for range r.count(32) {
		s.Fingerprints = append(s.Fingerprints, [32]byte([]byte(r.bytes(32))))
	}
	s.TokenClients = r.texts()
	n := r.countAtMost(1, authz.MaxInteractions)
	numbers = slices.Grow(buffer[:0], n)
	last := uint64(0)
	for i := range n {
		gap := r.number()
		if i > 0 && gap == 0 {
			r.fail("an interaction twice")
		}
		if last += gap; gap >= MaxIDs || last >= MaxIDs {
			r.fail("interaction number %d", last)
		}
		numbers = append(numbers, int(last))
	}
	return s, numbers, r.end()
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts(b []byte, all []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, s := range all {
		b = appendText(b, s)
	}
	return b
}

// A reader reads the primitives. After the first fault it reads nothing but zeroes, so
// that callers look at the fault once, at the end.
type reader struct {
	rest string
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.rest = ""
}

var errShort = errors.New("it ends too early")

func (r *reader) bytes(n int) string {
	if n > len(r.rest) {
		r.fail("%w", errShort)
		return string(make([]byte, min(n, 32)))
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail("%w", errShort)
		return 0
	}
	taken := r.rest[0]
	r.rest = r.rest[1:]
	return taken
}

func (r *reader) number() (n uint64) {
	for shift := 0; ; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		if shift == 63 && c > 1 || c == 0 && shift > 0 { // too large, or not the shortest form
			r.fail("a number is not in its shortest form")
			return 0
		}
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
}

// count reads the length of a list whose elements have at least that many bytes each:
// one that cannot be there is not believed.
func (r *reader) count(each int) int { return r.countAtMost(each, len(r.rest)) }

func (r *reader) countAtMost(each, most int) int {
	n := r.number()
	if n > uint64(most) || n*uint64(each) > uint64(len(r.rest)) {
		r.fail("a list of %d", n)
		return 0
	}
	return int(n)
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.fail("%w", errShort)
		return ""
	}
	return r.bytes(int(n))
}

func (r *reader) texts() (all []string) {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	all = make([]string, 0, n)
	for range n {
		all = append(all, r.text())
	}
	return all
}

func (r *reader) end() error {
	if r.err == nil && r.rest != "" {
		r.fail("%d bytes too many", len(r.rest))
	}
	return r.err
}
