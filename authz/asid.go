package authz

import (
	"errors"
	"fmt"
)

// An ASID is an Accredited System ID: exactly twelve ASCII digits. Only
// [ParseASID] makes one; the zero ASID is none, and equals no parsed one.
type ASID struct {
	// plusOne is the number that the digits spell, plus one: the zero value must
	// not be 000000000000, or a forgotten assignment would be somebody's identity.
	plusOne uint64
}

const asidDigits = 12

var errASID = errors.New("an ASID is exactly twelve digits")

// ParseASID accepts exactly twelve ASCII digits. It trims nothing: two spellings of
// one identity are how permission checks get bypassed.
func ParseASID(s string) (ASID, error) {
	a, ok := parseASID(s)
	if !ok {
		return ASID{}, fmt.Errorf("%w, not %s", errASID, Excerpt(s))
	}
	return a, nil
}

// parseASID is ParseASID without an error to allocate, for the hot path.
func parseASID(s string) (ASID, bool) {
	if len(s) != asidDigits {
		return ASID{}, false
	}
	var n uint64
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return ASID{}, false
		}
		n = n*10 + uint64(d)
	}
	return ASID{n + 1}, true
}

// IsZero reports whether a is the zero ASID, which stands for "none".
func (a ASID) IsZero() bool { return a.plusOne == 0 }

// String returns the twelve digits, or "" for the zero ASID.
func (a ASID) String() string {
	if a.IsZero() {
		return ""
	}
	var digits [asidDigits]byte // not by fmt: each decision says two
	for n, i := a.plusOne-1, asidDigits-1; i >= 0; n, i = n/10, i-1 {
		digits[i] = '0' + byte(n%10)
	}
	return string(digits[:])
}
