package profile_test

import (
	"slices"
	"strings"
	"testing"

	"asid-authz/authz"
)

const (
	generation3 = "urn:nhs:names:services:nrl:DocumentReference."
	system      = "https://fhir.nhs.uk/Id/accredited-system|" + sender
	user        = "https://fhir.nhs.uk/Id/sds-role-profile-id|4387293874928"
	patient     = "https://fhir.nhs.net/Id/nhs-number|9000000009"
	read        = "patient/DocumentReference.read"
	write       = "patient/DocumentReference.write"
)

var allOfNRL = []string{
	generation3 + "read", generation3 + "search", generation3 + "create", generation3 + "update", generation3 + "delete",
}

var unattended = claims{
	"sub":                     system,
	"reason_for_request":      "directcare",
	"scope":                   read + " " + write,
	"requesting_system":       system,
	"requesting_organization": "https://fhir.nhs.uk/Id/ods-organization-code|RXA",
}

var professional = unattended.with(claims{"sub": user, "requesting_user": user, "scope": read})

var citizen = unattended.with(claims{"sub": patient, "requesting_patient": patient, "reason_for_request": "patientaccess", "scope": read})

func TestNRLEndpoints(t *testing.T) {
	const id = "/STU3/DocumentReference/da2b6e8a-3c8f-11e8-baae-6c3be5a609f5-584d385036514c383142"
	a := world{profile: nrl(t), granted: allOfNRL, claims: unattended}.authorizer(t)
	for _, test := range []struct{ method, target, want, interaction string }{
		{"GET", id, "read", "read"},
		{"GET", "/STU3/DocumentReference/1", "read", "read"},
		{"GET", "/STU3/DocumentReference/_search", "endpoint-unknown", ""}, // an underscore is in no FHIR id
		{"GET", "/STU3/DocumentReference?subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F9000000009", "search", "search"},
		{"GET", "/STU3/DocumentReference?_id=1", "search", "search"},
		{"POST", "/STU3/DocumentReference", "create", "create"},
		{"POST", id, "endpoint-unknown", ""},
		{"PATCH", id, "update", "update"},
		{"PATCH", "/STU3/DocumentReference?subject=x&identifier=y%7Cz", "update-conditional", "update"},
		{"DELETE", id, "delete", "delete"},
		{"DELETE", "/STU3/DocumentReference?_id=1", "delete-conditional", "delete"},

		{"PUT", id, "method-not-allowed", ""},
		{"HEAD", id, "method-not-allowed", ""},
		{"OPTIONS", "/STU3/DocumentReference", "method-not-allowed", ""},
		{"get", id, "method-not-allowed", ""},
		{"GET", "/STU3/metadata", "endpoint-unknown", ""},
		{"GET", "/STU3/documentreference/1", "endpoint-unknown", ""},
		{"GET", "/stu3/DocumentReference/1", "endpoint-unknown", ""},
		{"GET", "/DocumentReference/1", "endpoint-unknown", ""},
		{"GET", "/STU3/STU3/DocumentReference/1", "endpoint-unknown", ""},
		{"GET", "/STU3DocumentReference/1", "endpoint-unknown", ""},
		{"GET", "/STU3/DocumentReference/1/", "endpoint-unknown", ""},
		{"GET", "/STU3/DocumentReference/", "endpoint-unknown", ""},
		{"GET", "/STU3/DocumentReference/1/_history", "endpoint-unknown", ""},
		{"GET", "/STU3/DocumentReference/" + strings.Repeat("a", 64), "read", "read"},
		{"GET", "/STU3/DocumentReference/" + strings.Repeat("a", 65), "endpoint-unknown", ""},
		{"GET", "/STU3/DocumentReference/a%20b", "endpoint-unknown", ""},
		{"GET", "/STU3//DocumentReference/1", "path-not-canonical", ""},
		{"GET", "/STU3/DocumentReference/..", "path-not-canonical", ""},
		{"GET", "/STU3/DocumentReference/1;x=y", "path-not-canonical", ""},
		{"GET", "/STU3/%44ocumentReference/1", "path-not-canonical", ""},
		{"GET", "/STU3/DocumentReference%2F1", "path-not-canonical", ""},
		{"GET", "/STU3/DocumentReference/1#", "path-not-canonical", ""},
		{"GET", "/STU3/DocumentReference\\1", "path-not-canonical", ""},
		{"GET", "https://nrl.example/STU3/DocumentReference/1", "path-not-canonical", ""},
	} {
		d := check(a, test.method, test.target)
		got, interaction := decided(&d), ""
		if d.Allowed() {
			got, interaction = d.Facts().Endpoint, strings.TrimPrefix(d.Facts().Interaction.String(), generation3)
		}
		if got != test.want || interaction != test.interaction {
			t.Errorf("%s %s: %s %s, want %s %s", test.method, test.target, got, interaction, test.want, test.interaction)
		}
	}
}

// Every endpoint hangs on its own interaction and on no other one: of this generation,
// and of the older ones, which spell the same words for other things.
func TestNRLPermissions(t *testing.T) {
	p := nrl(t)
	targets := map[string]string{
		"read": "/STU3/DocumentReference/1", "search": "/STU3/DocumentReference", "create": "/STU3/DocumentReference",
		"update": "/STU3/DocumentReference/1", "update-conditional": "/STU3/DocumentReference",
		"delete": "/STU3/DocumentReference/1", "delete-conditional": "/STU3/DocumentReference",
	}
	suffices := map[string][]string{"update-conditional": {"update", "patch"}, "update": {"update", "patch"}, "delete-conditional": {"delete"}}
	everything := append([]string{
		generation3 + "patch", generation3 + "write", generation3 + "content", generation3 + "content.read",
		"urn:nhs:names:services:nrl:DocumentReferenceRead.read", "urn:nhs:names:services:nrl:DocumentReferencePatch.write",
		"urn:nhs:names:services:nrls:fhir:rest:read:documentreference", "urn:nhs:names:services:nrls:fhir:rest:search:documentreference",
		"urn:nhs:names:services:nrls:fhir:rest:create:documentreference", "urn:nhs:names:services:nrls:fhir:rest:update:documentreference",
		"urn:nhs:names:services:nrls:fhir:rest:delete:documentreference",
	}, allOfNRL...)
	for _, e := range p.Endpoints {
		a := world{profile: p, granted: allOfNRL, claims: unattended.with(claims{"scope": read})}.authorizer(t)
		reads := e.Name == "read" || e.Name == "search"
		if d := check(a, e.Method, targets[e.Name]); d.Allowed() != reads || !reads && d.Reason() != authz.ScopeInsufficient {
			t.Errorf("%s with the scope of reading: %s", e.Name, decided(&d))
		}
		own := suffices[e.Name]
		if own == nil {
			own = []string{e.Name}
		}
		for _, id := range everything {
			want := "interaction-not-granted"
			if slices.Contains(own, strings.TrimPrefix(id, generation3)) {
				want = "allow"
			}
			a := world{profile: p, granted: []string{id}, claims: unattended}.authorizer(t)
			if d := check(a, e.Method, targets[e.Name]); decided(&d) != want {
				t.Errorf("%s with %s alone: %s, want %s", e.Name, id, decided(&d), want)
			}
		}
	}
}

func TestNRLHeaders(t *testing.T) {
	p := nrl(t)
	a := world{profile: p, granted: allOfNRL, claims: professional}.authorizer(t)
	for _, test := range []struct {
		want    string
		headers []authz.Header
	}{
		{"allow", []authz.Header{fromASID, toASID, bearer}},
		{"header-missing header.fromASID", []authz.Header{toASID, bearer}},
		{"header-missing header.toASID", []authz.Header{fromASID, bearer}},
		{"receiver-unknown header.toASID", []authz.Header{fromASID, {Name: "toasid", Value: sender}, bearer}},
		{"token-missing token", []authz.Header{fromASID, toASID}},
		{"header-missing header.fromASID", []authz.Header{{Name: "ssp-from", Value: sender}, {Name: "ssp-to", Value: receiver}, bearer}},
	} {
		d := checkOnly(a, "GET", "/STU3/DocumentReference/1", test.headers...)
		got := decided(&d)
		if !d.Allowed() {
			got += " " + string(d.Fault().Field)
		}
		if got != test.want {
			t.Errorf("%v: %s, want %s", test.headers, got, test.want)
		}
	}
	for _, name := range []string{
		"ssp-traceid", "ssp-from", "ssp-to", "ssp-interactionid", "ssp-version", "nhsd-asid", "nhsd-connection-metadata",
		"nhsd-client-rp-details", "nhsd-session-urid", "nhsd-end-user-organisation-ods",
	} {
		if !slices.Contains(p.UnusedHeaders, name) {
			t.Errorf("%s is not removed: the API could believe it", name)
		}
	}
}

// The interaction header may confirm what method and path say, and change nothing.
func TestNRLInteractionHeader(t *testing.T) {
	a := world{profile: nrl(t), granted: append([]string{generation3 + "patch"}, allOfNRL...), claims: unattended}.authorizer(t)
	for _, test := range []struct{ method, sent, want string }{
		{"GET", generation3 + "read", "allow"},
		{"GET", generation3 + "search", "interaction-not-of-endpoint"},
		{"GET", "urn:nhs:names:services:nrls:fhir:rest:read:documentreference", "interaction-not-of-endpoint"},
		{"PATCH", generation3 + "update", "allow"},
		{"PATCH", generation3 + "patch", "allow"},
		{"GET", "read", "header-malformed"},
		{"GET", "", "header-malformed"},
		{"GET", generation3 + "read," + generation3 + "read", "header-repeated"},
	} {
		d := check(a, test.method, "/STU3/DocumentReference/1", authz.Header{Name: "interactionid", Value: test.sent})
		if decided(&d) != test.want {
			t.Errorf("%s with InteractionID %q: %s, want %s", test.method, test.sent, decided(&d), test.want)
		}
	}
}

func TestNRLToken(t *testing.T) {
	const otherUser = "https://fhir.nhs.uk/Id/sds-role-profile-id|1"
	encoded := func(s string) string { return strings.Replace(s, "|", "%7C", 1) }
	for _, test := range []struct {
		name, want string
		claims     claims
	}{
		{"professional", "allow", professional},
		{"citizen", "allow", citizen},
		{"unattended", "allow", unattended},
		{"citizen, http", "allow", citizen.with(claims{"sub": "http://fhir.nhs.net/Id/nhs-number|9000000009", "requesting_patient": "http://fhir.nhs.net/Id/nhs-number|9000000009"})},
		{"citizen for another", "allow", citizen.with(claims{"act": notText})},
		{"encoded pipes", "allow", professional.with(claims{"sub": encoded(user), "requesting_system": encoded(system)})},

		{"no sub", "claim-missing claim.sub", professional.without("sub")},
		{"sub is not text", "claim-malformed claim.sub", professional.with(claims{"sub": notText})},
		{"sub of another user", "claim-mismatch claim.sub", professional.with(claims{"sub": otherUser})},
		{"sub is the system, beside a user", "claim-mismatch claim.sub", professional.with(claims{"sub": system})},
		{"sub of another patient", "claim-mismatch claim.sub", citizen.with(claims{"sub": "https://fhir.nhs.net/Id/nhs-number|9000000017"})},
		{"sub in the other spelling", "claim-mismatch claim.sub", citizen.with(claims{"sub": "http://fhir.nhs.net/Id/nhs-number|9000000009"})},
		{"sub of another system", "claim-mismatch claim.sub", unattended.with(claims{"sub": "https://fhir.nhs.uk/Id/accredited-system|200000000115"})},
		{"sub of a user that no claim names", "claim-mismatch claim.sub", unattended.with(claims{"sub": user})},

		{"user and patient", "claim-mismatch claim.requesting_user", citizen.with(claims{"requesting_user": user})},
		{"user and patient, sub of the user", "claim-mismatch claim.requesting_user", professional.with(claims{"requesting_patient": patient, "reason_for_request": "patientaccess"})},
		{"user of another kind", "claim-malformed claim.requesting_user", professional.with(claims{"sub": "https://example.nhs.uk/users|1", "requesting_user": "https://example.nhs.uk/users|1"})},
		{"user without a name", "claim-malformed claim.requesting_user", professional.with(claims{"requesting_user": "https://fhir.nhs.uk/Id/sds-role-profile-id|"})},
		{"user form without a pipe", "claim-malformed claim.requesting_user", professional.with(claims{"requesting_user": "https://fhir.nhs.uk/Id/sds-role-profile-id/1"})},
		{"user is null", "claim-malformed claim.requesting_user", professional.with(claims{"requesting_user": notText})},
		{"patient is null", "claim-malformed claim.requesting_patient", unattended.with(claims{"requesting_patient": notText})},
		{"patient is empty", "claim-malformed claim.requesting_patient", unattended.with(claims{"requesting_patient": ""})},
		{"patient of another kind", "claim-malformed claim.requesting_patient", citizen.with(claims{"requesting_patient": "https://fhir.nhs.uk/Id/nhs-number|9000000009"})},

		{"no reason", "claim-missing claim.reason_for_request", professional.without("reason_for_request")},
		{"reason of care for a citizen", "claim-malformed claim.reason_for_request", citizen.with(claims{"reason_for_request": "directcare"})},
		{"reason of a citizen for care", "claim-malformed claim.reason_for_request", professional.with(claims{"reason_for_request": "patientaccess"})},
		{"another reason", "claim-malformed claim.reason_for_request", professional.with(claims{"reason_for_request": "secondaryuses"})},
		{"reason in capitals", "claim-malformed claim.reason_for_request", professional.with(claims{"reason_for_request": "DirectCare"})},

		{"no system", "claim-missing claim.requesting_system", professional.without("requesting_system")},
		{"another system", "claim-mismatch claim.requesting_system", professional.with(claims{"requesting_system": "https://fhir.nhs.uk/Id/accredited-system|200000000115"})},
		{"system of another form", "claim-malformed claim.requesting_system", professional.with(claims{"requesting_system": "https://fhir.nhs.uk/Id/accredited-system/" + sender})},
		{"system and more", "claim-malformed claim.requesting_system", professional.with(claims{"requesting_system": system + "0"})},
		{"no organisation", "claim-missing claim.requesting_organization", professional.without("requesting_organization")},
		{"organisation with s", "claim-missing claim.requesting_organization", professional.without("requesting_organization").with(claims{"requesting_organisation": "https://fhir.nhs.uk/Id/ods-organization-code|RXA"})},
		{"another organisation", "claim-mismatch claim.requesting_organization", professional.with(claims{"requesting_organization": "https://fhir.nhs.uk/Id/ods-organization-code|RXB"})},
		{"organisation in small letters", "claim-mismatch claim.requesting_organization", professional.with(claims{"requesting_organization": "https://fhir.nhs.uk/Id/ods-organization-code|rxa"})},

		{"no scope", "claim-missing claim.scope", professional.without("scope")},
		{"scope of writing", "scope-insufficient claim.scope", professional.with(claims{"scope": write})},
		{"scope as the published examples spell it", "claim-malformed claim.scope", professional.with(claims{"scope": "patient/Documentreference.read"})},
		{"a scope too many", "claim-malformed claim.scope", professional.with(claims{"scope": read + " patient/*.read"})},
		{"wildcard", "claim-malformed claim.scope", professional.with(claims{"scope": "patient/*.read"})},
		{"two blanks", "claim-malformed claim.scope", professional.with(claims{"scope": read + "  " + write})},
		{"a blank at the end", "claim-malformed claim.scope", professional.with(claims{"scope": read + " "})},
		{"a list of scopes", "claim-malformed claim.scope", professional.with(claims{"scope": notText})},
	} {
		a := world{profile: nrl(t), granted: allOfNRL, claims: test.claims}.authorizer(t)
		d := check(a, "GET", "/STU3/DocumentReference/1")
		got := decided(&d)
		if !d.Allowed() {
			got += " " + string(d.Fault().Field)
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if text := d.Fault().Value + d.Fault().OtherValue; strings.Contains(text, "nhs-number") {
			t.Errorf("%s: the fault says %q, which names a patient", test.name, text)
		}
	}
}

// What should equal the first of some claims, and finds none of them, equals nothing.
func TestNothingToEqual(t *testing.T) {
	p := nrl(t)
	p.Token.Rules = []authz.ClaimRule{{Name: "subject", Claim: "sub", EqualsFirstOf: []string{"requesting_user", "requesting_patient"}}}
	a := world{profile: p, granted: allOfNRL, claims: unattended}.authorizer(t)
	if d := check(a, "GET", "/STU3/DocumentReference/1"); decided(&d) != "claim-mismatch" {
		t.Errorf("%s, want claim-mismatch", decided(&d))
	}
}

// What is handed to the API names a person only if that person is no patient.
func TestNRLSubject(t *testing.T) {
	for _, test := range []struct {
		claims claims
		want   string
	}{{professional, user}, {unattended, system}, {citizen, ""}} {
		d := check(world{profile: nrl(t), granted: allOfNRL, claims: test.claims}.authorizer(t), "GET", "/STU3/DocumentReference/1")
		if !d.Allowed() || d.Facts().Subject != test.want {
			t.Errorf("%s, subject %q, want %q", decided(&d), d.Facts().Subject, test.want)
		}
	}
}

// A deployment switches a rule off by its name: those that are documented are there.
func TestNRLRules(t *testing.T) {
	var names []string
	for _, r := range nrl(t).Token.Rules {
		names = append(names, r.Name)
		world{profile: nrl(t), rulesOff: []string{r.Name}}.authorizer(t)
	}
	want := []string{"user-form", "patient-form", "user-or-patient", "subject", "reason-direct-care", "reason-patient-access"}
	if !slices.Equal(names, want) {
		t.Errorf("rules %q, want %q: they are never renamed", names, want)
	}
	both := citizen.with(claims{"requesting_user": user})
	for _, test := range []struct {
		off, want string
		claims    claims
	}{
		{"reason-direct-care", "allow", professional.without("reason_for_request")},
		{"user-or-patient", "claim-mismatch", both}, // the user comes first
		{"user-or-patient", "allow", both.with(claims{"sub": user})},
	} {
		a := world{profile: nrl(t), granted: allOfNRL, claims: test.claims, rulesOff: []string{test.off}}.authorizer(t)
		if d := check(a, "GET", "/STU3/DocumentReference/1"); decided(&d) != test.want {
			t.Errorf("%s off: %s, want %s", test.off, decided(&d), test.want)
		}
	}
}
