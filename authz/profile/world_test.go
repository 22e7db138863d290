package profile_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"maps"
	"math/big"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/profile"
)

const (
	sender   = "200000000117"
	receiver = "999999999999"
	fqdn     = "epr.rxa.example.nhs.uk"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A world is one system that calls an API, and all that the API's Authorizer asks.
type world struct {
	profile  authz.Profile
	granted  []string
	claims   claims
	rulesOff []string
}

// claims are the string claims of a token; one that is notText has another JSON type.
type claims map[string]string

const notText = "\x00"

func (c claims) with(changes claims) claims {
	c = maps.Clone(c)
	maps.Copy(c, changes)
	return c
}

func (c claims) without(names ...string) claims {
	c = maps.Clone(c)
	for _, name := range names {
		delete(c, name)
	}
	return c
}

func (c claims) VerifyToken(context.Context, string, time.Time) (*authz.Claims, error) {
	var verified authz.Claims
	for name, value := range c {
		claim := authz.Claim{Name: name, Kind: authz.ClaimString, Text: value}
		if value == notText {
			claim = authz.Claim{Name: name}
		}
		verified.All = append(verified.All, claim)
	}
	return &verified, nil
}

type fixedMap struct{ m *authz.InteractionMap }

func (f fixedMap) Current() (*authz.InteractionMap, time.Time, authz.Reason) { return f.m, now, 0 }

type trustEnvoy struct{}

func (trustEnvoy) Current() (*authz.Trust, time.Time) { return authz.TrustEnvoy(), now }

var certificate = sync.OnceValue(func() *authz.PeerCertificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: fqdn},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return authz.ParseCertificate(der)
})

func (w world) authorizer(t testing.TB) *authz.Authorizer {
	t.Helper()
	system := authz.AccreditedSystem{ASID: mustASID(t, sender), ODSCode: "RXA", FQDNs: []string{fqdn}, State: authz.Active}
	for _, s := range w.granted {
		id, err := authz.ParseInteractionID(s)
		if err != nil {
			t.Fatal(err)
		}
		system.Interactions = append(system.Interactions, id)
	}
	var b authz.MapBuilder
	if err := b.Add(system); err != nil {
		t.Fatal(err)
	}
	m, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	a, err := authz.New(authz.Config{
		Profile:      w.profile,
		Binding:      authz.Binding{Mode: authz.Registered, Name: authz.PlaceCN},
		Receivers:    []authz.ASID{mustASID(t, receiver)},
		RulesOff:     w.rulesOff,
		Tokens:       w.claims,
		Map:          fixedMap{m},
		Trust:        trustEnvoy{},
		MaxStaleness: time.Hour,
		MaxTrustAge:  time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var (
	fromASID = authz.Header{Name: "fromasid", Value: sender}
	toASID   = authz.Header{Name: "toasid", Value: receiver}
	bearer   = authz.Header{Name: "authorization", Value: "Bearer x.y.z"}
)

// check asks about one request, with these headers beside those that every request has.
func check(a *authz.Authorizer, method, target string, headers ...authz.Header) authz.Decision {
	return checkOnly(a, method, target, append([]authz.Header{fromASID, toASID, bearer}, headers...)...)
}

// checkOnly asks about one request with these headers and no others.
func checkOnly(a *authz.Authorizer, method, target string, headers ...authz.Header) authz.Decision {
	return a.Check(context.Background(), &authz.Request{Now: now, Method: method, Target: target, Headers: headers, Certificate: certificate()})
}

func mustASID(t testing.TB, s string) authz.ASID {
	t.Helper()
	a, err := authz.ParseASID(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func nrl(t testing.TB) authz.Profile {
	t.Helper()
	p, err := profile.Builtin("nrl")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// decided says what a decision was, in one word.
func decided(d *authz.Decision) string {
	if d.Allowed() {
		return "allow"
	}
	return d.Reason().String()
}
