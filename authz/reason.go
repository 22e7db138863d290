package authz

import "fmt"

// A Reason is the stable name of why a request was denied. It is safe to log, to
// count and to return: it never holds data of the request.
//
// Reasons are an operator's interface: alerts and runbooks are written against their
// names. Never rename one and never use one for something else; add.
//
// The zero Reason is Undecided: a path that forgets to decide denies and says so.
type Reason uint8

// The Reasons, by class, in the order of the decision.
const (
	Undecided Reason = iota

	// malformed
	MethodNotAllowed
	PathNotCanonical
	HeaderMissing
	HeaderRepeated
	HeaderMalformed
	HeaderForbidden
	QueryForbidden
	RequestTooLarge
	RequestMalformed

	// unauthenticated
	CertificateMissing
	CertificateMalformed
	CertificateNotYetValid
	CertificateExpired
	CertificateUntrusted
	CertificateRevoked
	TokenMissing
	TokenRepeated
	TokenMalformed
	TokenAlgorithmRefused
	TokenKeyUnknown
	TokenSignatureInvalid
	TokenIssuerUnknown
	TokenAudienceWrong
	TokenNotYetValid
	TokenExpired
	TokenNotBound
	ClaimMissing
	ClaimMalformed

	// forbidden
	ASIDUnknown
	CertificateNotOfASID
	ReceiverUnknown
	EndpointUnknown
	EndpointMismatch
	InteractionNotOfEndpoint
	ClaimMismatch
	ScopeInsufficient
	SystemSuspended
	InteractionNotGranted

	// unavailable (and Undecided)
	MapUnavailable
	MapIncomplete
	MapStale
	KeysUnavailable
	TrustUnavailable
	RevocationUnknown
	Overloaded
	Cancelled
	AuditUnavailable
	InternalError

	reasonCount = int(iota)
)

// A Class groups Reasons by what the client can do about them.
type Class uint8

const (
	Unavailable     Class = iota // could not find out: 503, worth a retry. Zero, because Undecided is of this class.
	Malformed                    // the client can repair the request: 400
	Unauthenticated              // who the client is was not proved: 401
	Forbidden                    // the client is known and may not: 403
)

var classNames = [...]string{"unavailable", "malformed", "unauthenticated", "forbidden"}

// String returns the lower-case name of the class.
func (c Class) String() string { return classNames[c] }

// Status returns the HTTP status of the class. An error dialect may answer otherwise.
func (c Class) Status() int {
	switch c {
	case Malformed:
		return 400
	case Unauthenticated:
		return 401
	case Forbidden:
		return 403
	}
	return 503
}

var reasonNames = [reasonCount]string{
	Undecided: "undecided",

	MethodNotAllowed: "method-not-allowed",
	PathNotCanonical: "path-not-canonical",
	HeaderMissing:    "header-missing",
	HeaderRepeated:   "header-repeated",
	HeaderMalformed:  "header-malformed",
	HeaderForbidden:  "header-forbidden",
	QueryForbidden:   "query-forbidden",
	RequestTooLarge:  "request-too-large",
	RequestMalformed: "request-malformed",

	CertificateMissing:     "certificate-missing",
	CertificateMalformed:   "certificate-malformed",
	CertificateNotYetValid: "certificate-not-yet-valid",
	CertificateExpired:     "certificate-expired",
	CertificateUntrusted:   "certificate-untrusted",
	CertificateRevoked:     "certificate-revoked",
	TokenMissing:           "token-missing",
	TokenRepeated:          "token-repeated",
	TokenMalformed:         "token-malformed",
	TokenAlgorithmRefused:  "token-algorithm-refused",
	TokenKeyUnknown:        "token-key-unknown",
	TokenSignatureInvalid:  "token-signature-invalid",
	TokenIssuerUnknown:     "token-issuer-unknown",
	TokenAudienceWrong:     "token-audience-wrong",
	TokenNotYetValid:       "token-not-yet-valid",
	TokenExpired:           "token-expired",
	TokenNotBound:          "token-not-bound",
	ClaimMissing:           "claim-missing",
	ClaimMalformed:         "claim-malformed",

	ASIDUnknown:              "asid-unknown",
	CertificateNotOfASID:     "certificate-not-of-asid",
	ReceiverUnknown:          "receiver-unknown",
	EndpointUnknown:          "endpoint-unknown",
	EndpointMismatch:         "endpoint-mismatch",
	InteractionNotOfEndpoint: "interaction-not-of-endpoint",
	ClaimMismatch:            "claim-mismatch",
	ScopeInsufficient:        "scope-insufficient",
	SystemSuspended:          "system-suspended",
	InteractionNotGranted:    "interaction-not-granted",

	MapUnavailable:    "map-unavailable",
	MapIncomplete:     "map-incomplete",
	MapStale:          "map-stale",
	KeysUnavailable:   "keys-unavailable",
	TrustUnavailable:  "trust-unavailable",
	RevocationUnknown: "revocation-unknown",
	Overloaded:        "overloaded",
	Cancelled:         "cancelled",
	AuditUnavailable:  "audit-unavailable",
	InternalError:     "internal-error",
}

// String returns the kebab-case name.
func (r Reason) String() string {
	if int(r) >= reasonCount {
		return fmt.Sprintf("reason-%d", uint8(r))
	}
	return reasonNames[r]
}

// Class returns the class that r belongs to.
func (r Reason) Class() Class {
	switch {
	case r >= MethodNotAllowed && r <= RequestMalformed:
		return Malformed
	case r >= CertificateMissing && r <= ClaimMalformed:
		return Unauthenticated
	case r >= ASIDUnknown && r <= InteractionNotGranted:
		return Forbidden
	}
	return Unavailable
}

// Public returns the Reason that the client may be told. Until a certificate is bound
// to the claimed ASID the client learns only that it is not, or anybody with a
// certificate could find out which ASIDs exist; the exact Reason is in the record.
func (r Reason) Public() Reason {
	if r == ASIDUnknown {
		return CertificateNotOfASID
	}
	return r
}

// Reasons returns every Reason in the order of their declaration.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// ParseReason returns the Reason of that name.
func ParseReason(name string) (Reason, error) {
	for i, n := range reasonNames {
		if n == name {
			return Reason(i), nil
		}
	}
	return Undecided, fmt.Errorf("no Reason is named %s", Excerpt(name))
}
