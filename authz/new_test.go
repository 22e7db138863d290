package authz_test

import (
	"strings"
	"testing"

	"asid-authz/authz"
)

// TestNew: a configuration that does not say what it must is no configuration.
func TestNew(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func(c *authz.Config)
	}{
		{"", func(c *authz.Config) {}},
		{"", func(c *authz.Config) { c.Binding.Name = authz.PlaceDNSSAN }},
		{"", func(c *authz.Config) { c.RulesOff = []string{"subject", "user-form"} }},
		{"binding mode is missing", func(c *authz.Config) { c.Binding = authz.Binding{} }},
		{"binding mode is missing", func(c *authz.Config) { c.Binding.Mode = 7 }},
		{"reads the certificate's name from cn or from dns-san", func(c *authz.Config) { c.Binding.Name = 0 }},
		{"reads the certificate's name from cn or from dns-san", func(c *authz.Config) { c.Binding.Name = authz.PlaceURISAN }},
		{"reads no ASID from the certificate", func(c *authz.Config) { c.Binding.ASID = authz.PlaceUID }},
		{"needs a profile whose sender header is required", func(c *authz.Config) { c.Profile.Sender.Required = false }},
		{"needs a profile whose sender header is required", func(c *authz.Config) { c.Profile.Sender = authz.ClaimHeader{} }},
		{"reads the ASID from cn, serial-number, uid or uri-san", func(c *authz.Config) { c.Binding = authz.Binding{Mode: authz.InCertificate} }},
		{"reads the ASID from cn, serial-number, uid or uri-san", func(c *authz.Config) {
			c.Binding = authz.Binding{Mode: authz.InCertificate, ASID: authz.PlaceDNSSAN}
		}},
		{"reads the name from cn, from dns-san or not at all", func(c *authz.Config) {
			c.Binding = authz.Binding{Mode: authz.InCertificate, ASID: authz.PlaceUID, Name: authz.PlaceURISAN}
		}},
		{"cannot read the name and the ASID from one place", func(c *authz.Config) {
			c.Binding = authz.Binding{Mode: authz.InCertificate, ASID: authz.PlaceCN, Name: authz.PlaceCN}
		}},
		{"receivers: at least one", func(c *authz.Config) { c.Receivers = nil }},
		{"receivers: an ASID is missing", func(c *authz.Config) { c.Receivers = append(c.Receivers, authz.ASID{}) }},
		{"a token verifier, a map and a trust", func(c *authz.Config) { c.Tokens = nil }},
		{"a token verifier, a map and a trust", func(c *authz.Config) { c.Map = nil }},
		{"a token verifier, a map and a trust", func(c *authz.Config) { c.Trust = nil }},
		{`no claim rule is named "subjekt"`, func(c *authz.Config) { c.RulesOff = []string{"subjekt"} }},
		{"dialect is missing", func(c *authz.Config) { c.Profile.Dialect = "" }},
	} {
		s := newScenario(t)
		test.change(&s.config)
		_, err := authz.New(s.config)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("New: %v", err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("New: got %v, want %s", err, test.want)
		}
	}
	if _, err := authz.New(authz.Config{}); err == nil || strings.Count(err.Error(), "\n") < 4 {
		t.Errorf("not everything that is wrong is said at once: %v", err)
	}
}

// TestConfigIsTaken: what the caller does to his Config later changes no decision.
func TestConfigIsTaken(t *testing.T) {
	s := newScenario(t)
	a := s.authorizer()
	s.config.Receivers[0] = authz.ASID{}
	s.config.Profile.Endpoints[0] = authz.Endpoint{}
	if d := a.Check(s.ctx, s.request); !d.Allowed() {
		t.Errorf("denied as %v", d.Reason())
	}
}

// TestValidateProfile breaks the built-in profile in one place at a time.
func TestValidateProfile(t *testing.T) {
	endpoint := func(change func(e *authz.Endpoint)) func(p *authz.Profile) {
		return func(p *authz.Profile) { change(&p.Endpoints[0]) }
	}
	rule := func(r authz.ClaimRule) func(p *authz.Profile) {
		return func(p *authz.Profile) { p.Token.Rules = append(p.Token.Rules, r) }
	}
	id := func(s string) authz.InteractionID { return interaction(t, s) }
	for _, test := range []struct {
		want   string // "" for a profile that is as good as before
		change func(p *authz.Profile)
	}{
		{"", func(p *authz.Profile) {}},
		{"name is lower-case", func(p *authz.Profile) { p.Name = "NRL" }},
		{"name is lower-case", func(p *authz.Profile) { p.Name = "-nrl" }},
		{"name is lower-case", func(p *authz.Profile) { p.Name = strings.Repeat("n", 65) }},
		{"dialect is missing", func(p *authz.Profile) { p.Dialect = "" }},
		{"a base path is empty or like", func(p *authz.Profile) { p.Base = "STU3" }},
		{"is no header name", func(p *authz.Profile) { p.Sender.Name = "from asid" }},
		{"another meaning already", func(p *authz.Profile) { p.Receiver.Name = "FROMASID" }},
		{"another meaning already", func(p *authz.Profile) { p.Interaction.Name = "Authorization" }},
		{"another meaning already", func(p *authz.Profile) { p.Interaction.Name = "X-Original-URL" }},
		{"required that has no name", func(p *authz.Profile) { p.Receiver = authz.ClaimHeader{Required: true} }},
		{"unused header", func(p *authz.Profile) { p.UnusedHeaders = []string{"Ssp-From"} }},
		{"unused header", func(p *authz.Profile) { p.UnusedHeaders = []string{"fromasid"} }},
		{"no endpoints", func(p *authz.Profile) { p.Endpoints = nil }},
		{"name is lower-case", endpoint(func(e *authz.Endpoint) { e.Name = "Read" })},
		{"method \"TRACE\" is none of", endpoint(func(e *authz.Endpoint) { e.Method = "TRACE" })},
		{"method \"get\" is none of", endpoint(func(e *authz.Endpoint) { e.Method = "get" })},
		{"the name stands twice", endpoint(func(e *authz.Endpoint) { e.Name = "search" })},
		{"is also endpoint", endpoint(func(e *authz.Endpoint) { e.Path, _ = authz.ParsePathTemplate("/DocumentReference") })},
		{"is also endpoint", func(p *authz.Profile) { // a literal that the {id} of another endpoint matches
			e := p.Endpoints[0]
			e.Name, e.Path = "special", must(authz.ParsePathTemplate("/DocumentReference/special"))
			p.Endpoints = append(p.Endpoints, e)
		}},
		{"", func(p *authz.Profile) { // and one that it does not
			e := p.Endpoints[0]
			e.Name, e.Path = "special", must(authz.ParsePathTemplate("/DocumentReference/$special"))
			p.Endpoints = append(p.Endpoints, e)
		}},
		{"neither an interaction nor a choice", endpoint(func(e *authz.Endpoint) { e.Interaction = authz.InteractionID{} })},
		{"both an interaction and a choice", endpoint(func(e *authz.Endpoint) { e.Choice = []authz.InteractionID{id("urn:x")} })},
		{"a choice needs an interaction header", func(p *authz.Profile) {
			p.Interaction = authz.ClaimHeader{}
			p.Endpoints[0].Choice, p.Endpoints[0].Interaction = []authz.InteractionID{id("urn:x")}, authz.InteractionID{}
		}},
		{"aliases belong to one interaction", endpoint(func(e *authz.Endpoint) {
			e.Choice, e.Interaction, e.Aliases = []authz.InteractionID{id("urn:x")}, authz.InteractionID{}, []authz.InteractionID{id("urn:y")}
		})},
		{"is none of the token's scopes", endpoint(func(e *authz.Endpoint) { e.Scope = "patient/*.read" })},
		{"is never looked for", func(p *authz.Profile) { p.Token.ScopeClaim, p.Token.Scopes = "", nil }},
		{"is an interaction of endpoint search", endpoint(func(e *authz.Endpoint) { e.Aliases = []authz.InteractionID{id(nrlPrefix + "search")} })},
		{"is also one of endpoint", endpoint(func(e *authz.Endpoint) { e.Aliases = []authz.InteractionID{id(nrlPrefix + "patch")} })},
		{"", endpoint(func(e *authz.Endpoint) { e.Aliases = []authz.InteractionID{id("urn:an-older-spelling")} })},
		{"token kind is missing", func(p *authz.Profile) { p.Token.Kind = 0 }},
		{"a claim form without a claim", func(p *authz.Profile) { p.Token.ASID.Claim = "" }},
		{"a form without prefixes", func(p *authz.Profile) { p.Token.Organisation.Prefixes = nil }},
		{"scopes without a scope claim", func(p *authz.Profile) { p.Token.ScopeClaim = "" }},
		{"is not visible ASCII", func(p *authz.Profile) { p.Token.Scopes = append(p.Token.Scopes, "a b") }},
		{"every subject begins with an empty one", func(p *authz.Profile) { p.Token.PublicSubjects = []string{""} }},
		{"fits a patient", func(p *authz.Profile) { p.Token.PublicSubjects = []string{"http://fhir.nhs.net/"} }},
		{"a name of its own", rule(authz.ClaimRule{Name: "subject", Claim: "x", Required: true})},
		{"claim is missing", rule(authz.ClaimRule{Name: "x", Required: true})},
		{"can have no other rule", rule(authz.ClaimRule{Name: "x", Claim: "x", Absent: true, Required: true})},
		{"states nothing", rule(authz.ClaimRule{Name: "x", Claim: "x"})},
		{"hangs on its own claim", rule(authz.ClaimRule{Name: "x", Claim: "x", Required: true, IfPresent: "x"})},
		{"never applies", rule(authz.ClaimRule{Name: "x", Claim: "x", Required: true, IfPresent: "y", Unless: "y"})},
		{"always equals itself", rule(authz.ClaimRule{Name: "x", Claim: "x", EqualsFirstOf: []string{"x"}})},
		{"begins with an empty prefix", rule(authz.ClaimRule{Name: "x", Claim: "x", Prefixes: []string{""}})},
	} {
		s := newScenario(t)
		p := s.config.Profile
		test.change(&p)
		var texts []string
		for _, problem := range p.Validate() {
			texts = append(texts, problem.Error())
		}
		text := strings.Join(texts, "\n")
		if test.want == "" && text != "" || !strings.Contains(text, test.want) {
			t.Errorf("got %q, want %q", text, test.want)
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
