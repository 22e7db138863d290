package authz_test

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// What follows is the decision for NRL a second time, in other words: expressions and
// sets instead of steps, and no Reason, only yes or no. It shares no code with the
// rules. Where the two differ, one of them is wrong.

// A question is a request in the form that the oracle reads.
type question struct {
	method, target, route string
	headers               []authz.Header
	certificate           *peer // nil: none
	claims                map[string]any
	mapAge, trustAge      time.Duration
	cancelled             bool
}

// A peer is a certificate of which it is known what it is, because it was made so.
type peer struct {
	parsed *authz.PeerCertificate
	sha256 [32]byte
	usable bool     // parses, is valid now, and was issued for clients by an authority of ours
	names  []string // common names, as they are
}

const nrlPrefix = "urn:nhs:names:services:nrl:DocumentReference."

var nrlEndpoints = []struct {
	name, method string
	path         *regexp.Regexp
	scope        string
	accepted     []string
}{
	{"read", "GET", withID, "read", []string{"read"}},
	{"search", "GET", withoutID, "read", []string{"search"}},
	{"create", "POST", withoutID, "write", []string{"create"}},
	{"update", "PATCH", withID, "write", []string{"update", "patch"}},
	{"update-conditional", "PATCH", withoutID, "write", []string{"update", "patch"}},
	{"delete", "DELETE", withID, "write", []string{"delete"}},
	{"delete-conditional", "DELETE", withoutID, "write", []string{"delete"}},
}

var (
	withID     = regexp.MustCompile(`^/STU3/DocumentReference/[A-Za-z0-9.-]{1,64}$`)
	withoutID  = regexp.MustCompile(`^/STU3/DocumentReference$`)
	twelve     = regexp.MustCompile(`^[0-9]{12}$`)
	bearer     = regexp.MustCompile(`^(?i:bearer) [!-+--~]+$`)
	isURN      = regexp.MustCompile(`^urn:[!-+--~]{1,251}$`)
	escape     = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	systemForm = regexp.MustCompile(`^https://fhir\.nhs\.uk/Id/accredited-system(?:\||%7C)([0-9]{12})$`)
	orgForm    = regexp.MustCompile(`(?s)^https://fhir\.nhs\.uk/Id/ods-organization-code(?:\||%7C)(.+)$`)
	userForm   = regexp.MustCompile(`(?s)^https://fhir\.nhs\.uk/Id/sds-role-profile-id(?:\||%7C).+$`)
	personForm = regexp.MustCompile(`(?s)^https?://fhir\.nhs\.net/Id/nhs-number(?:\||%7C).+$`)
)

// renaming are the headers that rename a method or a path, written down a second time.
var renaming = strings.Fields(`x-http-method x-http-method-override x-method x-method-override x-original-method
	x-original-path x-original-uri x-original-url x-rewrite-url x-forwarded-method x-forwarded-path x-forwarded-uri`)

// reference says whether q may pass, given the entries of the map.
func reference(q *question, systems map[string]authz.AccreditedSystem) bool {
	values := map[string][]string{}
	size := 0
	for _, h := range q.headers {
		values[h.Name] = append(values[h.Name], h.Value)
		size += len(h.Name) + len(h.Value)
	}
	one := func(name string, form *regexp.Regexp) (string, bool) {
		v := values[name]
		if len(v) != 1 || strings.Contains(v[0], ",") || !form.MatchString(v[0]) {
			return "", false
		}
		return v[0], true
	}
	text := func(claim string) (s string, there, ok bool) {
		v, there := q.claims[claim]
		s, ok = v.(string)
		return s, there, ok && s != ""
	}
	if q.cancelled || q.mapAge > authztest.MaxStaleness || q.trustAge > authztest.MaxTrustAge ||
		len(q.target) > 8192 || len(q.headers) > 128 || size > 65536 ||
		slices.ContainsFunc(renaming, func(name string) bool { return values[name] != nil }) {
		return false
	}

	// Who calls whom.
	from, fromOK := one("fromasid", twelve)
	to, toOK := one("toasid", twelve)
	token, tokenOK := one("authorization", bearer)
	system, known := systems[from]
	if !fromOK || !toOK || !tokenOK || len(token) > len("Bearer ")+16384 || !known || to != "999999999999" && to != "200000000370" {
		return false
	}
	if q.certificate == nil || !q.certificate.usable || len(q.certificate.names) != 1 ||
		!slices.Contains(system.FQDNs, asciiLower(q.certificate.names[0])) {
		return false
	}

	// What for.
	path, query, _ := strings.Cut(q.target, "?")
	for _, parameter := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' }) {
		name, _, _ := strings.Cut(parameter, "=")
		name = escape.ReplaceAllStringFunc(name, func(e string) string {
			return string([]byte{hexByte(e[1])<<4 | hexByte(e[2])})
		})
		if n := asciiLower(name); n == "access_token" || n == "_method" {
			return false
		}
	}
	at := slices.IndexFunc(nrlEndpoints, func(e struct {
		name, method string
		path         *regexp.Regexp
		scope        string
		accepted     []string
	}) bool {
		return e.method == q.method && e.path.MatchString(path) && !strings.HasSuffix(path, "/.") && !strings.HasSuffix(path, "/..")
	})
	if at < 0 || q.route != "" && q.route != nrlEndpoints[at].name {
		return false
	}
	endpoint := nrlEndpoints[at]
	accepts := func(id string) bool {
		short, is := strings.CutPrefix(id, nrlPrefix)
		return is && slices.Contains(endpoint.accepted, short)
	}
	if values["interactionid"] != nil {
		if said, ok := one("interactionid", isURN); !ok || !accepts(said) {
			return false
		}
	}
	if system.State != authz.Active || !slices.ContainsFunc(system.Interactions, func(id authz.InteractionID) bool { return accepts(id.String()) }) {
		return false
	}

	// In whose name.
	claimed, _, _ := text("requesting_system")
	if m := systemForm.FindStringSubmatch(claimed); m == nil || m[1] != from {
		return false
	}
	organisation, _, _ := text("requesting_organization")
	if m := orgForm.FindStringSubmatch(organisation); m == nil || m[1] != system.ODSCode {
		return false
	}
	scope, _, _ := text("scope")
	scopes := strings.Split(scope, " ")
	for _, s := range scopes {
		if s != "patient/DocumentReference.read" && s != "patient/DocumentReference.write" {
			return false
		}
	}
	if !slices.Contains(scopes, "patient/DocumentReference."+endpoint.scope) {
		return false
	}
	user, isUser, userOK := text("requesting_user")
	patient, isPatient, patientOK := text("requesting_patient")
	subject, _, _ := text("sub")
	reason, _, _ := text("reason_for_request")
	wantSubject, wantReason := claimed, "directcare"
	switch {
	case isUser && isPatient:
		return false
	case isUser:
		if !userOK || !userForm.MatchString(user) {
			return false
		}
		wantSubject = user
	case isPatient:
		if !patientOK || !personForm.MatchString(patient) {
			return false
		}
		wantSubject, wantReason = patient, "patientaccess"
	}
	plain := func(s string) string { return strings.ReplaceAll(s, "%7C", "|") }
	if subject == "" || plain(subject) != plain(wantSubject) || reason != wantReason {
		return false
	}
	clients := map[string]bool{}
	for _, claim := range []string{"azp", "client_id"} {
		if client, there, ok := text(claim); there {
			if !ok {
				return false
			}
			clients[client] = true
		}
	}
	if len(clients) > 1 {
		return false
	}
	if cnf, there := q.claims["cnf"]; there {
		confirmation, _ := cnf.(map[string]any)
		if confirmation["x5t#S256"] != base64.RawURLEncoding.EncodeToString(q.certificate.sha256[:]) {
			return false
		}
	}
	return true
}

func hexByte(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
