package envoy

import (
	"fmt"
	"strings"

	"asid-authz/authz"
)

// nrl28 is the dialect of the NRL FHIR API 2.8: never 401, MISSING_OR_INVALID_HEADER
// for whatever the client can put right, ACCESS_DENIED for what it must ask for. Codes
// and displays are those of the API's error guidance; where it is silent (a Reason that
// only this service has), the nearest of its codes is used. Texts about the token are
// those of its JWT guidance (1.2.3-beta, which 2.8 refers to), with two repairs: a pipe
// where the document prints the slash that no client may send, and the claim's own
// spelling, requesting_organization, where the document writes it with an s.
var nrl28 = dialect{
	name:    "nrl-2.8",
	profile: "https://fhir.nhs.uk/STU3/StructureDefinition/Spine-OperationOutcome-1",
	system:  "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1",
	displays: map[string]string{
		"BAD_REQUEST":               "Bad request",
		"MISSING_OR_INVALID_HEADER": "There is a required header missing or invalid",
		"ACCESS_DENIED":             "Access has been denied to process this request",
		"ACCESS_DENIED_SSL":         "SSL Protocol or Cipher requirements not met",
		"INTERNAL_SERVER_ERROR":     "Unexpected internal server error",
	},
	answers:     nrl28Answers(),
	diagnostics: nrl28Diagnostics,
}

func nrl28Answers() map[authz.Reason]spineAnswer {
	var (
		form        = spineAnswer{400, "invalid", "BAD_REQUEST"}
		header      = spineAnswer{400, "invalid", "MISSING_OR_INVALID_HEADER"}
		token       = spineAnswer{400, "structure", "MISSING_OR_INVALID_HEADER"}
		certificate = spineAnswer{403, "forbidden", "ACCESS_DENIED_SSL"}
		forbidden   = spineAnswer{403, "forbidden", "ACCESS_DENIED"}
		unavailable = spineAnswer{503, "transient", "INTERNAL_SERVER_ERROR"}
	)
	answers := map[authz.Reason]spineAnswer{}
	for _, group := range []struct {
		answer  spineAnswer
		reasons []authz.Reason
	}{
		{form, []authz.Reason{authz.MethodNotAllowed, authz.PathNotCanonical, authz.QueryForbidden,
			authz.RequestTooLarge, authz.RequestMalformed, authz.HeaderForbidden}},
		{header, []authz.Reason{authz.HeaderMissing, authz.HeaderRepeated, authz.HeaderMalformed,
			authz.ASIDUnknown, authz.CertificateNotOfASID, authz.ReceiverUnknown, authz.InteractionNotOfEndpoint}},
		{certificate, []authz.Reason{authz.CertificateMissing, authz.CertificateMalformed, authz.CertificateNotYetValid,
			authz.CertificateExpired, authz.CertificateUntrusted, authz.CertificateRevoked}},
		{token, []authz.Reason{authz.TokenMissing, authz.TokenRepeated, authz.TokenMalformed, authz.TokenAlgorithmRefused,
			authz.TokenKeyUnknown, authz.TokenSignatureInvalid, authz.TokenIssuerUnknown, authz.TokenAudienceWrong,
			authz.TokenNotYetValid, authz.TokenExpired, authz.TokenNotBound, authz.ClaimMissing, authz.ClaimMalformed,
			authz.ClaimMismatch, authz.ScopeInsufficient}},
		{forbidden, []authz.Reason{authz.EndpointUnknown, authz.EndpointMismatch, authz.SystemSuspended, authz.InteractionNotGranted}},
		{unavailable, []authz.Reason{authz.Undecided, authz.MapUnavailable, authz.MapIncomplete, authz.MapStale,
			authz.KeysUnavailable, authz.TrustUnavailable, authz.RevocationUnknown, authz.Overloaded, authz.Cancelled,
			authz.AuditUnavailable, authz.InternalError}},
	} {
		for _, reason := range group.reasons {
			answers[reason] = group.answer
		}
	}
	return answers
}

// nrl28Diagnostics says in words what is wrong. It names what the client sent and what
// we derived from it, never what else is registered or granted.
func nrl28Diagnostics(d *authz.Decision) string {
	f := d.Fault()
	name := fieldName(f.Field)
	switch f.Reason {
	case authz.MethodNotAllowed:
		return "The HTTP method" + shown(f.Value) + " is not supported"
	case authz.PathNotCanonical:
		return "The path of the request URL must be in its canonical form: no empty or dot segments, no ';', no needless or invalid percent-encoding"
	case authz.QueryForbidden:
		return "The query parameter" + shown(f.Value) + " must not be used"
	case authz.RequestTooLarge:
		return "The request URL or its headers are too large"
	case authz.RequestMalformed:
		return "The request is malformed"
	case authz.HeaderForbidden:
		return name + " HTTP Header must not be used"

	case authz.HeaderMissing:
		return name + " HTTP Header is missing"
	case authz.HeaderRepeated:
		return name + " HTTP Header must be given once"
	case authz.HeaderMalformed:
		return name + " HTTP Header" + shown(f.Value) + " is invalid"
	case authz.ASIDUnknown, authz.CertificateNotOfASID:
		// One text for both, from the claimed ASID alone: whether it exists, what is
		// registered for it and which of it did not match stays with us.
		return "The client certificate does not belong to the ASID" + shown(d.Facts().ClaimedASID.String()) + " of the request"
	case authz.ReceiverUnknown:
		return name + " HTTP Header" + shown(f.Value) + " is not the ASID of this service"
	case authz.InteractionNotOfEndpoint:
		return name + " HTTP Header" + shown(f.Value) + " does not match the request"

	case authz.CertificateMissing:
		return "A client certificate is required"
	case authz.CertificateMalformed:
		return "The client certificate cannot be read"
	case authz.CertificateNotYetValid:
		return "The client certificate is not valid yet"
	case authz.CertificateExpired:
		return "The client certificate has expired"
	case authz.CertificateUntrusted:
		return "The client certificate is not issued by a trusted authority for client authentication"
	case authz.CertificateRevoked:
		return "The client certificate has been revoked"

	case authz.EndpointUnknown, authz.EndpointMismatch:
		return "The request URL and method are not an endpoint of this service"
	case authz.SystemSuspended:
		return "The system with ASID" + shown(d.Facts().ASID.String()) + " is suspended"
	case authz.InteractionNotGranted:
		return "The system with ASID" + shown(d.Facts().ASID.String()) + " is not accredited for the interaction" + shown(d.Facts().Interaction.String())
	}
	if text := nrl28TokenDiagnostics(d, f, name); text != "" {
		return text
	}
	return "The service cannot decide about the request at present; try again later (" + f.Reason.String() + ")"
}

// nrl28TokenDiagnostics returns "" for a Reason that is not about the token.
func nrl28TokenDiagnostics(d *authz.Decision, f *authz.Fault, name string) string {
	switch f.Reason {
	case authz.TokenMissing:
		return "The Authorisation header must be supplied"
	case authz.TokenRepeated:
		return "The Authorisation header must be supplied once"
	case authz.TokenMalformed:
		return "The Authorisation header must be supplied as a valid JWT: the word Bearer and the 3 sections of a signed token"
	case authz.TokenAlgorithmRefused:
		return "The JWT associated with the Authorisation header is not signed with an accepted algorithm"
	case authz.TokenKeyUnknown:
		return "The JWT associated with the Authorisation header is signed with a key that its issuer does not publish"
	case authz.TokenSignatureInvalid:
		return "The signature of the JWT associated with the Authorisation header is invalid"
	case authz.TokenIssuerUnknown:
		return "The issuer (iss) of the JWT associated with the Authorisation header is not accepted"
	case authz.TokenAudienceWrong:
		return "The JWT associated with the Authorisation header is not meant for this service (aud)"
	case authz.TokenNotYetValid:
		return "The JWT associated with the Authorisation header is not valid yet"
	case authz.TokenExpired:
		return "The JWT associated with the Authorisation header has expired"
	case authz.TokenNotBound:
		return "The JWT associated with the Authorisation header was not issued to the calling system"
	case authz.ClaimMissing:
		return "The mandatory claim " + name + " from the JWT associated with the Authorisation header is missing"
	case authz.ClaimMalformed:
		return nrl28ClaimForm(f, name)
	case authz.ClaimMismatch:
		return nrl28ClaimMismatch(d, f, name)
	case authz.ScopeInsufficient:
		return "Required scopes not found in token" + shown(f.Value)
	}
	return ""
}

// nrl28ClaimForm says what a claim must look like, in the words of the JWT guidance
// where it has any.
func nrl28ClaimForm(f *authz.Fault, name string) string {
	claim := name + shown(f.Value)
	switch name {
	case "requesting_system":
		return claim + " must be of the form [https://fhir.nhs.uk/Id/accredited-system|[ASID]]"
	case "requesting_organization":
		return claim + " must be of the form [https://fhir.nhs.uk/Id/ods-organization-code|[ODSCode]]"
	case "requesting_user":
		return claim + " must be of the form [https://fhir.nhs.uk/Id/sds-role-profile-id|[SDSRoleProfileID]]"
	case "requesting_patient":
		return claim + " must be of the form [https://fhir.nhs.net/Id/nhs-number|[NHSNumber]]"
	case "reason_for_request":
		if f.OtherValue != "" {
			return claim + " must be ‘" + authz.ExcerptBare(f.OtherValue) + "’"
		}
	case "scope":
		return claim + " must match either ‘patient/DocumentReference.read’ or ‘patient/DocumentReference.write’"
	}
	return "The claim " + claim + " from the JWT associated with the Authorisation header is invalid"
}

func nrl28ClaimMismatch(d *authz.Decision, f *authz.Fault, name string) string {
	other := fieldName(f.Other)
	switch name {
	case "sub":
		return other + shown(f.OtherValue) + " and sub claim’s values must match"
	case "requesting_system":
		return "The ASID defined in the requesting_system" + shown(afterPipe(f.Value)) + " does not match the FromASID in the request"
	case "requesting_organization":
		return "requesting_system ASID" + shown(d.Facts().ASID.String()) + " is not associated with the requesting_organization ODS code" + shown(afterPipe(f.Value))
	}
	if strings.HasPrefix(string(f.Other), "claim.") {
		return "The claims " + name + " and " + other + " contradict each other"
	}
	return "The claim " + name + " contradicts the request"
}

// shown returns " (value)", with the value cut and escaped, or "" if there is none to
// show: a value that must not be repeated is left out with its brackets.
func shown(value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", authz.ExcerptBare(value))
}

func afterPipe(value string) string {
	if i := strings.LastIndex(value, "|"); i >= 0 {
		return value[i+1:]
	}
	if i := strings.LastIndex(value, "%7C"); i >= 0 {
		return value[i+len("%7C"):]
	}
	return value
}

// fieldName returns the name of a header or a claim without the kind before it.
func fieldName(f authz.Field) string {
	_, name, found := strings.Cut(string(f), ".")
	if !found {
		return string(f)
	}
	return name
}
