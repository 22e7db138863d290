package layout

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"asid-authz/authz"
)

// A Digest is where a chain of changes has got to.
type Digest [sha256.Size]byte

// String returns 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest accepts what String returns.
func ParseDigest(s string) (d Digest, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) || strings.ToLower(s) != s {
		return Digest{}, fmt.Errorf("a digest is %d lower-case hexadecimal digits, not %s", 2*len(d), authz.Excerpt(s))
	}
	return Digest(b), nil
}

// Next returns the digest after a change: the SHA-256 of the digest before it (32 zero
// bytes before the first), the version as eight bytes, most significant first, and the
// encoded change. Whoever holds a digest and meets the next entry of the log can tell
// whether anything is missing between them, whatever happened to the log and to the
// server meanwhile.
func (d Digest) Next(version uint64, change string) Digest {
	b := make([]byte, 0, len(d)+8+len(change))
	b = append(b, d[:]...)
	b = binary.BigEndian.AppendUint64(b, version)
	b = append(b, change...)
	return sha256.Sum256(b)
}

// A Tally says what a hash or a list holds: how many elements, and the sum modulo 2^256
// of the SHA-256 of each element. The order in which they were added leaves no trace, and
// one element can be replaced without reading the others, which is why it is a sum.
//
// It finds what was lost, torn or touched by accident. It is no signature: whoever may
// write to the server can write a tally that fits.
type Tally struct {
	Count int
	sum   [4]uint64 // most significant first
}

// Add counts an element in: its field name (of a list: its index in decimal digits) and
// its value.
func (t *Tally) Add(field, value string) {
	t.Count++
	h := elementHash(field, value)
	var carry uint64
	for i := 3; i >= 0; i-- {
		t.sum[i], carry = bits.Add64(t.sum[i], h[i], carry)
	}
}

// Remove takes an element out that was counted in.
func (t *Tally) Remove(field, value string) {
	t.Count--
	h := elementHash(field, value)
	var borrow uint64
	for i := 3; i >= 0; i-- {
		t.sum[i], borrow = bits.Sub64(t.sum[i], h[i], borrow)
	}
}

// elementHash is the SHA-256 of the field name, a zero byte and the value. No field name
// holds a zero byte, so no two elements are hashed alike.
func elementHash(field, value string) (h [4]uint64) {
	b := make([]byte, 0, len(field)+1+len(value))
	b = append(append(append(b, field...), 0), value...)
	sum := sha256.Sum256(b)
	for i := range h {
		h[i] = binary.BigEndian.Uint64(sum[8*i:])
	}
	return h
}

// String returns the count in decimal digits, a blank, and the sum as 64 lower-case
// hexadecimal digits.
func (t Tally) String() string {
	var b [32]byte
	for i, v := range t.sum {
		binary.BigEndian.PutUint64(b[8*i:], v)
	}
	return strconv.Itoa(t.Count) + " " + hex.EncodeToString(b[:])
}

// ParseTally accepts what String returns.
func ParseTally(s string) (Tally, error) {
	number, sum, _ := strings.Cut(s, " ")
	count, err := parseNumber(number)
	d, err2 := ParseDigest(sum)
	if err != nil || err2 != nil || count > MaxSystems {
		return Tally{}, fmt.Errorf("a tally is a count and a sum, not %s", authz.Excerpt(s))
	}
	t := Tally{Count: int(count)}
	for i := range t.sum {
		t.sum[i] = binary.BigEndian.Uint64(d[8*i:])
	}
	if t.Count == 0 && t.sum != [4]uint64{} {
		return Tally{}, fmt.Errorf("a tally of nothing has no sum, not %s", authz.Excerpt(s))
	}
	return t, nil
}
