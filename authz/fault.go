package authz

import (
	"strconv"
	"unicode/utf8"
)

// A Field names the part of a request that a Fault is about: one of the constants
// below, or "header." or "claim." with a name that the profile gives. It never holds
// text of the client, so it is safe as a log field.
type Field string

// The Fields that every profile has.
const (
	FieldRequest     Field = "request"
	FieldMethod      Field = "method"
	FieldPath        Field = "path"
	FieldQuery       Field = "query"
	FieldRoute       Field = "route" // the endpoint named by Envoy's route
	FieldCertificate Field = "certificate"
	FieldName        Field = "certificate.name"        // the name in the configured place
	FieldFingerprint Field = "certificate.fingerprint" // SHA-256 of the DER
	FieldASID        Field = "certificate.asid"        // the ASID that the certificate carries
	FieldToken       Field = "token"
	FieldEndpoint    Field = "endpoint" // what we derived from method and path
	FieldSystem      Field = "system"   // the bound entry of the map
	FieldMap         Field = "map"
	FieldTrust       Field = "trust"
	FieldBreakGlass  Field = "break_glass" // the orders of an emergency
	FieldHeaders     Field = "headers"     // all of them together
)

// HeaderField returns the Field of a header, in the profile's spelling.
func HeaderField(name string) Field { return Field("header." + name) }

// ClaimField returns the Field of a claim of the token.
func ClaimField(name string) Field { return Field("claim." + name) }

// A Fault is one objection: why, about what, and, for a comparison, against what.
type Fault struct {
	Reason Reason
	Field  Field
	Other  Field // the other side of a comparison, or ""

	// What the client sent in Field and Other, or what we derived from it; "" where
	// there is nothing to say or where it must not be said: never a credential, never
	// a subject that may be a patient. As sent: [Excerpt] cuts and escapes it, and it
	// may alias the transport's buffer.
	Value, OtherValue string
}

// Error makes a *Fault an error, for a [TokenVerifier] to return.
func (f *Fault) Error() string {
	s := f.Reason.String()
	if f.Field != "" {
		s += " (" + string(f.Field) + ")"
	}
	return s
}

// maxExcerpt bounds what is repeated of a stranger's text, in bytes before escaping:
// enough for every interactionId that is in use, too little to carry a document.
const maxExcerpt = 120

// Excerpt returns s as it may leave the process: cut, every byte that is not
// printable escaped as Go escapes it, and put in double quotes. Nothing that a
// stranger sent reaches a terminal, a log or an answer except through here.
func Excerpt(s string) string { return strconv.QuoteToASCII(cut(s)) }

// ExcerptBare is Excerpt without the quotes, for texts that bring brackets of their own.
func ExcerptBare(s string) string {
	q := Excerpt(s)
	return q[1 : len(q)-1]
}

func cut(s string) string {
	if len(s) <= maxExcerpt {
		return s
	}
	end := maxExcerpt
	for end > maxExcerpt-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}
