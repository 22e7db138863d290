package authz_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// A MapBuilder takes one system after the other. What is wrong with one is said at once.
func ExampleMapBuilder() {
	asid, err := authz.ParseASID("200000000117")
	if err != nil {
		log.Fatal(err)
	}
	read, err := authz.ParseInteractionID("urn:nhs:names:services:nrl:DocumentReference.read")
	if err != nil {
		log.Fatal(err)
	}
	var b authz.MapBuilder
	err = b.Add(authz.AccreditedSystem{ASID: asid, FQDNs: []string{"*.example.nhs.uk"}})
	fmt.Println(err)

	err = b.Add(authz.AccreditedSystem{
		ASID:         asid,
		Name:         "GP One",
		ODSCode:      "A20047",
		FQDNs:        []string{"gp-one.example.nhs.uk"},
		Interactions: []authz.InteractionID{read},
		State:        authz.Active,
	})
	if err != nil {
		log.Fatal(err)
	}
	m, err := b.Build(1)
	if err != nil {
		log.Fatal(err)
	}
	for s := range m.Systems() {
		fmt.Println(m.Version(), s.ASID, s.Name, s.State, s.Interactions)
	}
	// Output:
	// ods is 1 to 255 visible ASCII characters, not ""
	// fqdn "*.example.nhs.uk" can match no certificate: a name is ASCII, without wildcard, blank or trailing dot
	// 1 200000000117 GP One active [urn:nhs:names:services:nrl:DocumentReference.read]
}

// With makes the next version of a map. The one that it is made of stays as it is.
func ExampleInteractionMap_With() {
	asid, err := authz.ParseASID("200000000117")
	if err != nil {
		log.Fatal(err)
	}
	system := authz.AccreditedSystem{ASID: asid, ODSCode: "A20047", State: authz.Active}
	first, err := new(authz.MapBuilder).Build(1)
	if err != nil {
		log.Fatal(err)
	}
	second, err := first.With(2, []authz.AccreditedSystem{system}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first.Version(), first.Len())
	fmt.Println(second.Version(), second.Len())
	_, err = second.With(2, nil, []authz.ASID{asid})
	fmt.Println(err)
	// Output:
	// 1 0
	// 2 1
	// version 2 does not rise above 2
}

// exampleProfile is an API with one endpoint, whose tokens are issued to clients.
func exampleProfile() authz.Profile {
	path, err := authz.ParsePathTemplate("/DocumentReference/{id}")
	if err != nil {
		log.Fatal(err)
	}
	read, err := authz.ParseInteractionID("urn:nhs:names:services:nrl:DocumentReference.read")
	if err != nil {
		log.Fatal(err)
	}
	return authz.Profile{
		Name:      "example",
		Dialect:   "nrl-2.8",
		Sender:    authz.ClaimHeader{Name: "fromASID", Required: true},
		Endpoints: []authz.Endpoint{{Name: "read", Method: "GET", Path: path, Interaction: read}},
		Token:     authz.TokenRules{Kind: authz.TokenSigned},
	}
}

// exampleTokens believes every token and takes it for one of the client gp-one-app.
type exampleTokens struct{}

func (exampleTokens) VerifyToken(context.Context, string, time.Time) (*authz.Claims, error) {
	return &authz.Claims{All: []authz.Claim{{Name: "azp", Kind: authz.ClaimString, Text: "gp-one-app"}}}, nil
}

// An Authorizer answers one question at a time, and always answers.
func ExampleAuthorizer_Check() {
	now := time.Now()
	ca := authztest.NewCA("Example Root")
	certificate, err := ca.Issue(authztest.CertificateSpec{CommonNames: []string{"gp-one.example.nhs.uk"}})
	if err != nil {
		log.Fatal(err)
	}
	asid, err := authz.ParseASID("200000000117")
	if err != nil {
		log.Fatal(err)
	}
	profile := exampleProfile()
	var b authz.MapBuilder
	if err := b.Add(authz.AccreditedSystem{
		ASID: asid, ODSCode: "A20047", State: authz.Active, FQDNs: []string{"gp-one.example.nhs.uk"},
		TokenClients: []string{"gp-one-app"}, Interactions: []authz.InteractionID{profile.Endpoints[0].Interaction},
	}); err != nil {
		log.Fatal(err)
	}
	source := &authztest.Source{Confirmed: now}
	if source.Map, err = b.Build(1); err != nil {
		log.Fatal(err)
	}
	if source.Trust, err = authz.ParseTrust(ca.PEM()); err != nil {
		log.Fatal(err)
	}
	authorizer, err := authz.New(authz.Config{
		Profile:      profile,
		Binding:      authz.Binding{Mode: authz.Registered, Name: authz.PlaceCN},
		Tokens:       exampleTokens{},
		Map:          source.Maps(),
		Trust:        source.Trusts(),
		MaxStaleness: time.Hour,
		MaxTrustAge:  24 * time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}

	request := &authz.Request{
		Now:         now,
		Method:      "GET",
		Target:      "/DocumentReference/1",
		Headers:     []authz.Header{{Name: "fromasid", Value: "200000000117"}, {Name: "authorization", Value: "Bearer abc"}},
		Certificate: authz.ParseCertificate(certificate.DER),
	}
	d := authorizer.Check(context.Background(), request)
	fmt.Println(d.Allowed(), d.Facts().ASID, d.Facts().Endpoint)

	request.Target = "/DocumentReference/1/../2"
	d = authorizer.Check(context.Background(), request)
	fmt.Println(d.Allowed(), d.Reason(), d.Fault().Field)

	request.Headers = request.Headers[:1]
	_, steps := authorizer.Explain(context.Background(), request)
	for _, step := range steps {
		if step.Outcome == authz.Failed {
			fmt.Println(step.Name, "-", step.Fault.Reason)
		}
	}
	// Output:
	// true 200000000117 read
	// false path-not-canonical path
	// path - path-not-canonical
	// credential - token-missing
}
