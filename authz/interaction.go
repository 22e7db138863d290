package authz

import (
	"errors"
	"fmt"
	"strings"
)

// An InteractionID names what a system may do, as the Spine Directory Service
// spells it: "urn:nhs:names:services:nrl:DocumentReference.read". Real records hold
// other URNs too, so any "urn:" of at most 255 visible ASCII bytes without a comma
// is one. IDs are compared byte by byte. Only [ParseInteractionID] makes one; the
// zero InteractionID is none.
type InteractionID struct{ s string }

const maxInteractionID = 255

var errInteractionID = errors.New("an interactionId is urn:… of at most 255 visible ASCII characters without comma")

// ParseInteractionID accepts a well-formed interactionId as it is. A comma is refused
// because Envoy joins repeated headers with one: "a,b" is two claims, never one id.
func ParseInteractionID(s string) (InteractionID, error) {
	if !isInteractionID(s) {
		return InteractionID{}, fmt.Errorf("%w, not %s", errInteractionID, Excerpt(s))
	}
	return InteractionID{s}, nil
}

func isInteractionID(s string) bool {
	if len(s) <= len("urn:") || len(s) > maxInteractionID || !strings.HasPrefix(s, "urn:") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == ',' {
			return false
		}
	}
	return true
}

// IsZero reports whether i is the zero InteractionID, which stands for "none".
func (i InteractionID) IsZero() bool { return i.s == "" }

// String returns the id as it was parsed, or "" for the zero InteractionID.
func (i InteractionID) String() string { return i.s }
