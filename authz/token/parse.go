package token

import (
	"encoding/base64"
	"strings"
)

// Bounds of a token; authz.MaxCredential bounds all of it.
var tokenBounds = bounds{depth: 8, members: 64, values: 1024}

// unverified is a token taken apart. Anybody may have written it.
type unverified struct {
	signed    string // the bytes that the signature is over
	signature []byte
	algorithm string
	kid       string
	access    bool // the header says that it is an access token
	claims    []member
}

var base64url = base64.RawURLEncoding.Strict()

// parse takes a token apart. ok is false if it is none: the client learns no more than
// that, because no honest one sends such a thing.
func parse(credential string) (u unverified, ok bool) {
	// The decoder skips line ends, so that many texts were one token. The bytes are
	// looked at here; decoding then refuses what is left: padding, and bits that no
	// encoder sets.
	dots := [2]int{}
	count := 0
	for i := range len(credential) {
		switch c := credential[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', isDigit(c), c == '-', c == '_':
		case c == '.' && count < len(dots):
			dots[count] = i
			count++
		default:
			return u, false
		}
	}
	if count != len(dots) || dots[1] == len(credential)-1 {
		return u, false
	}
	header, err := base64url.DecodeString(credential[:dots[0]])
	if err != nil {
		return u, false
	}
	payload, err := base64url.DecodeString(credential[dots[0]+1 : dots[1]])
	if err != nil {
		return u, false
	}
	if u.signature, err = base64url.DecodeString(credential[dots[1]+1:]); err != nil {
		return u, false
	}
	u.signed = credential[:dots[1]]
	if u.claims, err = parseObject(string(payload), tokenBounds); err != nil {
		return u, false
	}
	return u, u.header(string(header))
}

// header reads the JOSE header. crit and b64 change what the rest of a token means in
// ways that are not known here: taking no notice of them is a known hole. Anything else
// that is not known has no effect.
func (u *unverified) header(text string) bool {
	members, err := parseObject(text, tokenBounds)
	if err != nil {
		return false
	}
	for _, m := range members {
		switch m.name {
		case "alg":
			if m.kind != kindString {
				return false
			}
			u.algorithm = m.text
		case "kid":
			if m.kind != kindString {
				return false
			}
			u.kid = m.text
		case "typ":
			if m.kind != kindString {
				return false
			}
			switch strings.TrimPrefix(strings.ToLower(m.text), "application/") {
			case "jwt":
			case "at+jwt":
				u.access = true
			default: // a logout token, a client's assertion, a credential: not for us
				return false
			}
		case "crit", "b64":
			return false
		}
	}
	return u.algorithm != "" && u.kid != ""
}
