package authz_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// An oracle asks the rules and the reference the same questions.
type oracle struct {
	*scenario
	asked   *authz.Authorizer
	systems map[string]authz.AccreditedSystem
	peers   []*peer
	claims  map[string]any // of the question that is being asked
}

func newOracle(tb testing.TB) *oracle {
	tb.Helper()
	o := &oracle{scenario: newScenario(tb), systems: map[string]authz.AccreditedSystem{}}
	for s := range o.maps.Map.Systems() {
		o.systems[s.ASID.String()] = s
	}
	o.config.Tokens = verifier(func(context.Context, string, time.Time) (*authz.Claims, error) { return claimsOf(o.claims), nil })
	o.asked = o.authorizer()
	root := authztest.NewCA("Oracle Root")
	issuing, foreign := root.Intermediate("Oracle Issuing"), authztest.NewCA("Foreign Root")
	o.trust.Trust = parseTrust(tb, root.PEM(), issuing.PEM())
	now := o.request.Now
	for _, p := range []struct {
		names  string // separated by blanks
		ca     *authztest.CA
		usable bool
		change func(*authztest.CertificateSpec)
	}{
		{"gp-one.example.nhs.uk", issuing, true, nil},
		{"gp-two.example.nhs.uk", issuing, true, nil},
		{"gp-two.new.example.nhs.uk", issuing, true, nil},
		{"epr.trust.example.nhs.uk", root, true, func(s *authztest.CertificateSpec) { s.RSA = true }},
		{"portal.example.nhs.uk", issuing, true, nil},
		{"left.example.nhs.uk", issuing, true, nil},
		{"nobody.example.nhs.uk", issuing, true, nil},
		{"GP-ONE.Example.nhs.UK", issuing, true, nil},
		{"gp-one.example.nhs.u\u212a", issuing, true, nil},
		{"*.example.nhs.uk", issuing, true, nil},
		{"gp-one.example.nhs.uk.", issuing, true, nil},
		{"gp-one.example.nhs.uk gp-two.example.nhs.uk", issuing, true, nil},
		{"gp-one.example.nhs.uk gp-one.example.nhs.uk", issuing, true, nil},
		{"", issuing, true, func(s *authztest.CertificateSpec) { s.DNSNames = []string{"gp-one.example.nhs.uk"} }},
		{"gp-one.example.nhs.uk", issuing, true, func(s *authztest.CertificateSpec) { s.ExtKeyUsages = nil }},
		{"gp-one.example.nhs.uk", issuing, false, func(s *authztest.CertificateSpec) { s.ExtKeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
		{"gp-one.example.nhs.uk", issuing, false, func(s *authztest.CertificateSpec) { s.NotAfter = now.Add(-time.Minute) }},
		{"gp-one.example.nhs.uk", issuing, false, func(s *authztest.CertificateSpec) { s.NotBefore = now.Add(time.Hour) }},
		{"gp-one.example.nhs.uk", issuing, false, func(s *authztest.CertificateSpec) { s.EmailAddresses = []string{"a\x00b"} }},
		{"gp-one.example.nhs.uk", foreign, false, nil},
		{"gp-one.example.nhs.uk", nil, false, nil},
	} {
		names := strings.Fields(p.names)
		spec := authztest.CertificateSpec{CommonNames: names, ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if p.change != nil {
			p.change(&spec)
		}
		certificate := issue(tb, spec)
		if p.ca != nil {
			var err error
			if certificate, err = p.ca.Issue(spec); err != nil {
				tb.Fatal(err)
			}
		}
		o.peers = append(o.peers, &peer{authz.ParseCertificate(certificate.DER), certificate.SHA256(), p.usable, names})
	}
	o.peers = append(o.peers, &peer{parsed: authz.ParseCertificate([]byte("no certificate"))}, nil)
	return o
}

// claimsOf does what a verifier does with the claims of a token that it believes.
func claimsOf(claims map[string]any) *authz.Claims {
	result := &authz.Claims{}
	for name, value := range claims {
		c := authz.Claim{Name: name}
		if text, is := value.(string); is {
			c.Kind, c.Text = authz.ClaimString, text
		}
		result.All = append(result.All, c)
	}
	if cnf, there := claims["cnf"]; there {
		result.HasConfirmation = true
		if object, is := cnf.(map[string]any); is {
			text, _ := object["x5t#S256"].(string)
			if sum, err := base64.RawURLEncoding.Strict().DecodeString(text); err == nil && len(sum) == 32 && !strings.ContainsAny(text, "\r\n") {
				result.Confirmation = [32]byte(sum)
			}
		}
	}
	return result
}

// ask puts q to both, and fails if they differ.
func (o *oracle) ask(t testing.TB, q *question) bool {
	t.Helper()
	now := o.request.Now
	o.claims = q.claims
	o.maps.Confirmed, o.trust.Confirmed = now.Add(-q.mapAge), now.Add(-q.trustAge)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if q.cancelled {
		cancel()
	}
	r := &authz.Request{Now: now, Method: q.method, Target: q.target, Route: q.route, Headers: q.headers}
	if q.certificate != nil {
		r.Certificate = q.certificate.parsed
	}
	d := o.asked.Check(ctx, r)
	want := reference(q, o.systems)
	if d.Allowed() != want {
		claims, _ := json.Marshal(q.claims)
		t.Fatalf("the rules say allowed=%v (%v %s), the reference %v\n%s %q route=%q cancelled=%v ages %v, %v\n%q\ncertificate %+v\nclaims %s",
			d.Allowed(), d.Reason(), d.Fault().Field, want, q.method, q.target, q.route, q.cancelled, q.mapAge, q.trustAge, q.headers, q.certificate, claims)
	}
	return d.Allowed()
}

// A choice is a way to pick among things: at random, or by the bytes of a fuzzer.
type choice func(n int) int

func pick[T any](c choice, all ...T) T { return all[c(len(all))] }

// random returns a question that is not far from one that would be allowed.
func (o *oracle) random(c choice) *question {
	const system, organisation, user = "https://fhir.nhs.uk/Id/accredited-system|", "https://fhir.nhs.uk/Id/ods-organization-code|", "https://fhir.nhs.uk/Id/sds-role-profile-id|"
	caller := pick(c, []string{"200000000117", "A20047"}, []string{"200000000118", "B81002"}, []string{"200000000201", "RXA"},
		[]string{"200000000203", "RN1"}, []string{"200000000204", "RS1"}, []string{"200000000210", "RLF"}, []string{"200000000211", "RUB"}, []string{"200000000999", "X"})
	certificate := map[string]int{"200000000117": 0, "200000000118": 1, "200000000201": 3, "200000000203": 4, "200000000204": 4, "200000000210": 5}[caller[0]]
	q := &question{
		method:      pick(c, "GET", "GET", "POST", "PATCH", "DELETE"),
		target:      pick(c, "/STU3/DocumentReference", "/STU3/DocumentReference/1", "/STU3/DocumentReference?_id=1"),
		certificate: o.peers[certificate],
		claims: map[string]any{
			"sub":                     system + caller[0],
			"reason_for_request":      "directcare",
			"scope":                   "patient/DocumentReference.read patient/DocumentReference.write",
			"requesting_system":       system + caller[0],
			"requesting_organization": organisation + caller[1],
		},
	}
	header := func(name, value string) {
		q.headers = append(q.headers, authz.Header{Name: name, Value: value})
	}
	header("fromasid", caller[0])
	header("toasid", "999999999999")
	header("authorization", "Bearer x")
	switch c(4) {
	case 0:
		q.claims["requesting_user"], q.claims["sub"] = user+"1", user+"1"
	case 1:
		q.claims["requesting_patient"], q.claims["sub"] = "http://fhir.nhs.net/Id/nhs-number|1", "http://fhir.nhs.net/Id/nhs-number|1"
		q.claims["reason_for_request"] = "patientaccess"
	}
	// Up to two things are changed; most of them for the worse.
	for range c(3) {
		switch c(16) {
		case 0:
			q.certificate = o.peers[c(len(o.peers))]
		case 1:
			q.method = pick(c, "PUT", "get", "HEAD", "", "PATCH", "DELETE")
		case 2:
			q.target = pick(c, "/STU3/DocumentReference/", "/STU3/DocumentReference/..", "/STU3//DocumentReference", "/STU3/DocumentReference/a_b", "/DocumentReference",
				"/STU3/DocumentReference/"+strings.Repeat("a", 63+c(3)), "/STU3/DocumentReference/%31", "/STU3/DocumentReference/...", "/stu3/DocumentReference", "")
		case 3:
			q.target += pick(c, "?access_token=1", "&access_token", "?_METHOD=x", "?%61ccess_token", "?a;%5Fmethod=1", "?access_token_", "?a=access_token", "?"+strings.Repeat("a", 9000))
		case 4:
			header(pick(c, "fromasid", "toasid", "authorization", "interactionid", "x-original-url", "x-http-method-override", "x-asid", "cookie"),
				pick(c, "200000000117", "999999999999", "Bearer y", "", "DELETE"))
		case 5:
			header("interactionid", nrlPrefix+pick(c, "read", "search", "create", "update", "patch", "delete", "Read", "read,"+nrlPrefix+"search", "read x", ""))
		case 6:
			i := c(len(q.headers))
			q.headers[i].Value = pick(c, "", "200000000118", "200000000370", "20000000011", "bearer a.b.c", "Basic x", "Bearer", "Bearer  x", "Bearer a,b", "200000000117,", "x")
		case 7:
			i := c(len(q.headers))
			q.headers = slices.Delete(q.headers, i, i+1)
		case 8:
			q.route = pick(c, "read", "search", "delete", "nothing")
		case 9:
			q.mapAge = pick(c, authztest.MaxStaleness, authztest.MaxStaleness+1, time.Minute)
		case 10:
			q.trustAge = pick(c, authztest.MaxTrustAge, authztest.MaxTrustAge+1, time.Minute)
		case 11:
			q.cancelled = c(2) == 0
		case 12:
			delete(q.claims, pick(c, "sub", "reason_for_request", "scope", "requesting_system", "requesting_organization", "requesting_user", "requesting_patient"))
		case 13:
			q.claims[pick(c, "sub", "requesting_user", "requesting_patient", "requesting_system", "requesting_organization", "scope", "reason_for_request", "azp", "client_id")] =
				pick[any](c, "", "x", 7, nil, system+"200000000117", system+"200000000118", strings.Replace(system+caller[0], "|", "%7C", 1), organisation+"A20047",
					user+"1", user, "http://fhir.nhs.net/Id/nhs-number|1", "directcare", "patientaccess", "patient/DocumentReference.read", "patient/DocumentReference.read ", "patient/*.read")
		case 14:
			sum := o.peers[c(4)].sha256
			q.claims["cnf"] = pick[any](c, "x", map[string]any{}, map[string]any{"jkt": "x"}, map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])})
		case 15:
			q.claims["azp"], q.claims["client_id"] = "a", pick(c, "a", "b")
		}
	}
	return q
}

// TestOracle: tens of thousands of questions, half of them nearly right.
func TestOracle(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(1, 2))
	const questions = 30_000
	allowed := 0
	for range questions {
		if o.ask(t, o.random(r.IntN)) {
			allowed++
		}
	}
	if allowed < questions/20 || allowed > questions/2 {
		t.Errorf("%d of %d questions were allowed: they no longer try both answers", allowed, questions)
	}
}

// FuzzCheck: whatever a client sends, it is let through only if the reference would let
// it through. What is free text in a request is free here; the rest is picked by bytes.
func FuzzCheck(f *testing.F) {
	o := newOracle(f)
	now := o.request.Now
	for _, c := range loadCorpus(f).Cases {
		if c.World != o.minted.Name {
			continue
		}
		r, err := o.minted.Request(c, &o.config.Profile, now)
		if err != nil {
			f.Fatal(err)
		}
		token, err := o.minted.Token(c, now)
		if err != nil {
			f.Fatal(err)
		}
		claims := "{}"
		if parts := strings.Split(token, "."); len(parts) == 3 {
			payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
			claims = string(payload)
		}
		name, value := "", ""
		if len(r.Headers) > 3 {
			name, value = r.Headers[3].Name, r.Headers[3].Value
		}
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Name] = h.Value
		}
		f.Add(r.Method, r.Target, headers["fromasid"], headers["toasid"], "Bearer x", headers["interactionid"], name, value, r.Route, claims, []byte{0})
	}
	f.Fuzz(func(t *testing.T, method, target, from, to, authorization, what, name, value, route, claims string, picks []byte) {
		at := 0
		c := choice(func(n int) int {
			if at == len(picks) {
				return 0
			}
			at++
			return int(picks[at-1]) % n
		})
		q := &question{method: method, target: target, route: route}
		q.certificate = o.peers[c(len(o.peers))]
		for _, h := range []authz.Header{{Name: "fromasid", Value: from}, {Name: "toasid", Value: to}, {Name: "authorization", Value: authorization}, {Name: "interactionid", Value: what}, {Name: strings.ToLower(name), Value: value}} {
			if h.Value != "" || c(2) == 1 {
				q.headers = append(q.headers, h)
			}
		}
		q.mapAge = pick(c, 0, authztest.MaxStaleness, authztest.MaxStaleness+1)
		q.trustAge = pick(c, 0, authztest.MaxTrustAge, authztest.MaxTrustAge+1)
		q.cancelled = c(4) == 1
		if json.Unmarshal([]byte(claims), &q.claims) != nil {
			return
		}
		o.ask(t, q)

		// The same request in the hands of the other generator: near to an allow, with
		// one text that the fuzzer wrote.
		q = o.random(c)
		switch c(4) {
		case 0:
			q.target = target
		case 1:
			q.headers = append(q.headers, authz.Header{Name: strings.ToLower(name), Value: value})
		case 2:
			q.headers[0].Value = from
		case 3:
			q.claims = maps.Clone(q.claims)
			for claim := range q.claims {
				if claim == name {
					q.claims[claim] = value
				}
			}
		}
		o.ask(t, q)
	})
}
