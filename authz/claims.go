package authz

import (
	"strings"
	"sync/atomic"
)

// Claims is what a verified token says. Only a [TokenVerifier] makes one that matters:
// a Request cannot carry it. It is immutable but for a memory of its own: which
// Authorizer's claim rules it passed.
type Claims struct {
	// All top-level claims, each name once.
	All []Claim

	// Confirmation is the certificate that the token is bound to: cnf.x5t#S256 of
	// RFC 8705. HasConfirmation says that there is a cnf at all; one that is of another
	// kind leaves Confirmation zero, which equals no certificate.
	HasConfirmation bool
	Confirmation    [32]byte

	passed atomic.Pointer[passedRules]
}

// passedRules says that claims passed the rules of one Authorizer. The rules look at
// nothing but the claims, so what passed once passes on every request that brings the
// token; an Authorizer of another generation finds that the memory is not its own. A
// no is not remembered: it is rare, and must say what is wrong.
type passedRules struct {
	by      *Authorizer
	subject string // of the claims, if it can be no patient
}

// A Claim is one top-level claim. Text is its value if that is a string, otherwise "".
type Claim struct {
	Name string
	Kind ClaimKind
	Text string
}

// ClaimKind is the JSON type of a claim's value.
type ClaimKind uint8

const (
	ClaimOther ClaimKind = iota // number, boolean, null, array or object
	ClaimString
)

// find returns the claim of that name, or nil. A token has a dozen claims: comparing
// them in turn is quicker than a map, and a map could not be shared without care.
func (c *Claims) find(name string) *Claim {
	for i := range c.All {
		if c.All[i].Name == name {
			return &c.All[i]
		}
	}
	return nil
}

// neverEchoed are claims whose values may name a patient. They leave the process in
// no answer, whatever the profile says.
func neverEchoed(claim string) bool {
	return claim == "sub" || claim == "requesting_patient" || claim == "act"
}

// echo returns what may be repeated of a claim's value: nothing of one that may name a
// patient, by its claim or, in a claim where it has no place, by what it looks like.
func echo(claim, value string) string {
	if neverEchoed(claim) || strings.Contains(value, "nhs-number") {
		return ""
	}
	return value
}

// claimFault returns a Fault about a claim, with as much of its value as may be repeated.
func claimFault(r Reason, claim string, value string) Fault {
	return Fault{Reason: r, Field: ClaimField(claim), Value: echo(claim, value)}
}

// after returns what follows the first of the prefixes that text begins with. A pipe at
// the end of a prefix may be percent-encoded in the token: clients send both.
func after(text string, prefixes []string) (rest string, ok bool) {
	for _, prefix := range prefixes {
		if rest, ok = strings.CutPrefix(text, prefix); ok {
			return rest, true
		}
		if head, pipe := strings.CutSuffix(prefix, "|"); pipe {
			if rest, ok = strings.CutPrefix(text, head); ok {
				if rest, ok = strings.CutPrefix(rest, "%7C"); ok {
					return rest, true
				}
			}
		}
	}
	return "", false
}

// sameClaim compares two claim values, an encoded pipe being a pipe.
func sameClaim(a, b string) bool {
	if a == b {
		return true
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		x, n := pipe(a[i:])
		y, m := pipe(b[j:])
		if x != y {
			return false
		}
		i, j = i+n, j+m
	}
	return i == len(a) && j == len(b)
}

// pipe returns the first byte of s and its length, "%7C" being a pipe of length 3.
func pipe(s string) (byte, int) {
	if strings.HasPrefix(s, "%7C") {
		return '|', 3
	}
	return s[0], 1
}
