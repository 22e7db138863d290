package authz_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// minted is the world registered-cn, once for all tests that do not change it.
var minted = sync.OnceValues(func() (*authztest.Minted, error) {
	corpus, err := loaded()
	if err != nil {
		return nil, err
	}
	return corpus.Worlds["registered-cn"].Mint(time.Now())
})

// A scenario is a request that is allowed, and everything that it hangs on, for a test
// to change one thing of.
type scenario struct {
	t       testing.TB
	ctx     context.Context
	minted  *authztest.Minted
	config  authz.Config
	maps    *authztest.Source
	trust   *authztest.Source
	request *authz.Request
}

// newScenario returns the case allow-read, as it stands in the corpus.
func newScenario(t testing.TB) *scenario { return newScenarioOf(t, "allow-read") }

func newScenarioOf(t testing.TB, file string) *scenario {
	t.Helper()
	m, err := minted()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s := &scenario{t: t, ctx: context.Background(), minted: m, maps: &authztest.Source{Confirmed: now}, trust: &authztest.Source{Confirmed: now}}
	if s.config, err = m.Config(now); err != nil {
		t.Fatal(err)
	}
	s.maps.Map, _, _ = s.config.Map.Current()
	s.trust.Trust, _ = s.config.Trust.Current()
	s.config.Map, s.config.Trust = s.maps.Maps(), s.trust.Trusts()
	for _, c := range loadCorpus(t).Cases {
		if c.File == file {
			if s.request, err = m.Request(c, &s.config.Profile, now); err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Fatalf("no case is named %s", file)
	return nil
}

func (s *scenario) authorizer() *authz.Authorizer {
	s.t.Helper()
	a, err := authz.New(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *scenario) check() authz.Decision {
	s.t.Helper()
	return s.authorizer().Check(s.ctx, s.request)
}

// verifier is a TokenVerifier that is a function.
type verifier func(ctx context.Context, credential string, now time.Time) (*authz.Claims, error)

func (v verifier) VerifyToken(ctx context.Context, credential string, now time.Time) (*authz.Claims, error) {
	return v(ctx, credential, now)
}

// TestScenarios reaches the Reasons that no single request can cause.
func TestScenarios(t *testing.T) {
	const bound = authztest.MaxStaleness
	for _, test := range []struct {
		name   string
		change func(s *scenario)
		want   authz.Reason
		field  authz.Field
	}{
		{"no map yet", func(s *scenario) { s.maps.Map, s.maps.Absent = nil, authz.MapUnavailable }, authz.MapUnavailable, authz.FieldMap},
		{"a map that does not match its manifest", func(s *scenario) { s.maps.Map, s.maps.Absent = nil, authz.MapIncomplete }, authz.MapIncomplete, authz.FieldMap},
		{"a source that does not say why", func(s *scenario) { s.maps.Map, s.maps.Absent = nil, authz.Undecided }, authz.MapUnavailable, authz.FieldMap},
		{"a source that says something else", func(s *scenario) { s.maps.Map, s.maps.Absent = nil, authz.TokenExpired }, authz.MapUnavailable, authz.FieldMap},
		{"a map of the age that is allowed", func(s *scenario) { s.maps.Confirmed = s.request.Now.Add(-bound) }, authz.Undecided, ""},
		{"a map beyond it", func(s *scenario) { s.maps.Confirmed = s.request.Now.Add(-bound - 1) }, authz.MapStale, authz.FieldMap},
		{"a map that was never confirmed", func(s *scenario) { s.maps.Confirmed = time.Time{} }, authz.MapStale, authz.FieldMap},

		{"no CA bundle", func(s *scenario) { s.trust.Trust = nil }, authz.TrustUnavailable, authz.FieldTrust},
		{"a CA bundle of the age that is allowed", func(s *scenario) { s.trust.Confirmed = s.request.Now.Add(-authztest.MaxTrustAge) }, authz.Undecided, ""},
		{"a CA bundle beyond it", func(s *scenario) { s.trust.Confirmed = s.request.Now.Add(-authztest.MaxTrustAge - 1) }, authz.TrustUnavailable, authz.FieldTrust},
		{"a CA bundle that was never read", func(s *scenario) { s.trust.Confirmed = time.Time{} }, authz.TrustUnavailable, authz.FieldTrust},
		{"a CA bundle that is not believed in", func(s *scenario) { s.trust.Trust, s.trust.Confirmed = authz.TrustEnvoy(), time.Time{} }, authz.TrustUnavailable, authz.FieldTrust},

		{"keys that are too old", func(s *scenario) {
			v, err := s.minted.Verifier(s.request.Now.Add(-authztest.MaxKeyAge - time.Second))
			if err != nil {
				s.t.Fatal(err)
			}
			s.config.Tokens = v
		}, authz.KeysUnavailable, authz.FieldToken},
		{"a verifier that fails", func(s *scenario) {
			s.config.Tokens = verifier(func(context.Context, string, time.Time) (*authz.Claims, error) {
				return &authz.Claims{}, errors.New("disk on fire")
			})
		}, authz.InternalError, authz.FieldToken},
		{"a verifier that says nothing", func(s *scenario) {
			s.config.Tokens = verifier(func(context.Context, string, time.Time) (*authz.Claims, error) { return nil, nil })
		}, authz.InternalError, authz.FieldToken},
		{"a verifier that objects and does not say why", func(s *scenario) {
			s.config.Tokens = verifier(func(context.Context, string, time.Time) (*authz.Claims, error) { return nil, &authz.Fault{} })
		}, authz.Undecided, ""},
		{"a verifier whose objection is nil, but is one", func(s *scenario) {
			s.config.Tokens = verifier(func(context.Context, string, time.Time) (*authz.Claims, error) {
				var f *authz.Fault
				return nil, f
			})
		}, authz.InternalError, authz.FieldToken},

		{"a message that cannot be trusted", func(s *scenario) {
			s.request.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldRequest}
		}, authz.RequestMalformed, authz.FieldRequest},
		{"a message whose fault says nothing", func(s *scenario) { s.request.Fault = &authz.Fault{} }, authz.Undecided, ""},
		{"a certificate that the edge could not read", func(s *scenario) {
			s.request.Certificate = authz.BadCertificate(authz.Fault{Reason: authz.CertificateMalformed, Field: authz.FieldCertificate})
		}, authz.CertificateMalformed, authz.FieldCertificate},
		{"a certificate without a fault that is none", func(s *scenario) { s.request.Certificate = authz.BadCertificate(authz.Fault{}) }, authz.CertificateMalformed, authz.FieldCertificate},
		{"a certificate that was never parsed", func(s *scenario) { s.request.Certificate = &authz.PeerCertificate{} }, authz.CertificateMalformed, authz.FieldCertificate},
		{"a request without a time", func(s *scenario) { s.request.Now = time.Time{} }, authz.CertificateNotYetValid, authz.FieldCertificate},
		{"an empty request", func(s *scenario) { s.request = &authz.Request{} }, authz.MethodNotAllowed, authz.FieldMethod},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScenario(t)
			test.change(s)
			d := s.check()
			if d.Reason() != test.want || d.Fault().Field != test.field {
				t.Errorf("got %v (%s), want %v (%s)", d.Reason(), d.Fault().Field, test.want, test.field)
			}
			// The two that stay within their bounds are allowed; "" of the others is a
			// denial that nobody gave a name.
			if within := test.name == "a map of the age that is allowed" || test.name == "a CA bundle of the age that is allowed"; d.Allowed() != within {
				t.Errorf("allowed: %v", d.Allowed())
			}
		})
	}
}

// canceller cancels its context when it is asked, as a client does that hangs up
// between two steps.
type canceller struct {
	*scenario
	at     string
	cancel context.CancelFunc
}

func (c *canceller) Current() (*authz.InteractionMap, time.Time, authz.Reason) {
	if c.at == "map" {
		c.cancel()
	}
	return c.maps.Map, c.maps.Confirmed, authz.Undecided
}

type trustCanceller struct{ *canceller }

func (c trustCanceller) Current() (*authz.Trust, time.Time) {
	if c.at == "trust" {
		c.cancel()
	}
	return c.trust.Trust, c.trust.Confirmed
}

// TestCancelledNeverAllows: whoever gave up while we looked gets no yes any more. A
// pipeline that is cancelled half way must not be taken for one that found no fault.
func TestCancelledNeverAllows(t *testing.T) {
	for _, at := range []string{"before", "trust", "map", "token"} {
		t.Run(at, func(t *testing.T) {
			s := newScenario(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s.ctx = ctx
			c := &canceller{s, at, cancel}
			real := s.config.Tokens
			s.config.Map, s.config.Trust = c, trustCanceller{c}
			s.config.Tokens = verifier(func(ctx context.Context, credential string, now time.Time) (*authz.Claims, error) {
				if at == "token" {
					cancel()
				}
				return real.VerifyToken(ctx, credential, now)
			})
			if at == "before" {
				cancel()
			}
			if d := s.check(); d.Allowed() || d.Reason() != authz.Cancelled {
				t.Errorf("allowed=%v, %v", d.Allowed(), d.Reason())
			}
		})
	}
}

func TestDeadlineNeverAllows(t *testing.T) {
	s := newScenario(t)
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	s.ctx = ctx
	if d := s.check(); d.Allowed() || d.Reason() != authz.Cancelled {
		t.Errorf("allowed=%v, %v", d.Allowed(), d.Reason())
	}
}

// TestCancelledCorpus: with nobody waiting, no case is let through, and what would have
// been denied anyway is denied for its own reason.
func TestCancelledCorpus(t *testing.T) {
	now := time.Now()
	corpus := loadCorpus(t)
	worlds := mintAll(t, corpus, now)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range corpus.Cases {
		want := c.Want.Reason
		if c.Want.Kind == authztest.WantAllow {
			want = authz.Cancelled
		}
		w := worlds[c.World]
		if d := w.authorizer.Check(ctx, w.request(t, c, now)); d.Allowed() || d.Reason() != want {
			t.Errorf("%s: allowed=%v, %v, want %v", c.File, d.Allowed(), d.Reason(), want)
		}
	}
}

// TestOneMapPerCheck: the map is asked for once, so that no decision is made of two.
func TestOneMapPerCheck(t *testing.T) {
	s := newScenario(t)
	asked := 0
	s.config.Map = mapFunc(func() (*authz.InteractionMap, time.Time, authz.Reason) {
		asked++
		return s.maps.Map, s.maps.Confirmed, authz.Undecided
	})
	if d := s.check(); !d.Allowed() || asked != 1 {
		t.Errorf("allowed=%v, and the map was asked for %d times", d.Allowed(), asked)
	}
}

type mapFunc func() (*authz.InteractionMap, time.Time, authz.Reason)

func (f mapFunc) Current() (*authz.InteractionMap, time.Time, authz.Reason) { return f() }

// TestFacts says what a record of an allow and of an early denial can hold.
func TestFacts(t *testing.T) {
	s := newScenario(t)
	s.maps.Confirmed = s.request.Now.Add(-time.Minute)
	d := s.check()
	f := d.Facts()
	got := []any{f.ASID.String(), f.ClaimedASID.String(), f.ODSCode, f.Receiver.String(), f.Endpoint, f.Interaction.String(),
		f.Subject, f.HasMap, f.MapVersion, f.MapAge, f.CertificateSHA256 == s.request.Certificate.SHA256()}
	want := []any{"200000000117", "", "A20047", "999999999999", "read", "urn:nhs:names:services:nrl:DocumentReference.read",
		"https://fhir.nhs.uk/Id/sds-role-profile-id|4387293874928", true, uint64(1), time.Minute, true}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("fact %d is %v, want %v", i, got[i], want[i])
		}
	}

	s = newScenarioOf(t, "binding-cn-foreign-asid")
	d = s.check()
	f = d.Facts()
	if !f.ASID.IsZero() || f.ClaimedASID.String() != "200000000118" || f.ODSCode != "" || f.Endpoint != "" {
		t.Errorf("before the certificate is bound the facts are %+v", *f)
	}

	s = newScenarioOf(t, "claim-citizen")
	d = s.check()
	if !d.Allowed() || d.Facts().Subject != "" {
		t.Errorf("a citizen's subject is an NHS number, and stands in the facts: %q", d.Facts().Subject)
	}
}

// TestNothingLeaks: two requests that go through one Authorizer have nothing in common.
func TestNothingLeaks(t *testing.T) {
	s := newScenario(t)
	a := s.authorizer()
	for range 100 {
		if d := a.Check(s.ctx, s.request); !d.Allowed() {
			t.Fatalf("%v", d.Reason())
		}
		d := a.Check(s.ctx, &authz.Request{Now: s.request.Now, Method: "GET", Target: s.request.Target})
		if d.Allowed() || d.Reason() != authz.HeaderMissing || *d.Facts() != (authz.Facts{}) {
			t.Fatalf("a request without anything: %v, %+v", d.Reason(), *d.Facts())
		}
	}
}

// TestBounds: what is above what Envoy lets through is refused here all the same, and a
// request at the bound is a request like any other.
func TestBounds(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *scenario, over int) // beyond the bound by that much
		field  authz.Field
	}{
		{"headers", func(s *scenario, over int) {
			for len(s.request.Headers) < authz.MaxHeaders+over {
				s.request.Headers = append(s.request.Headers, authz.Header{Name: "accept", Value: "x"})
			}
		}, authz.FieldHeaders},
		{"bytes of headers", func(s *scenario, over int) {
			size := len("accept")
			for _, h := range s.request.Headers {
				size += len(h.Name) + len(h.Value)
			}
			s.request.Headers = append(s.request.Headers, authz.Header{Name: "accept", Value: strings.Repeat("x", authz.MaxHeaderBytes-size+over)})
		}, authz.FieldHeaders},
		{"bytes of a header's name", func(s *scenario, over int) {
			size := 0
			for _, h := range s.request.Headers {
				size += len(h.Name) + len(h.Value)
			}
			s.request.Headers = append(s.request.Headers, authz.Header{Name: strings.Repeat("x", authz.MaxHeaderBytes-size+over)})
		}, authz.FieldHeaders},
		{"the target", func(s *scenario, over int) {
			s.request.Target += "?" + strings.Repeat("x", authz.MaxTarget-len(s.request.Target)-1+over)
		}, authz.FieldPath},
	} {
		for over := range 2 {
			s := newScenario(t)
			test.change(s, over)
			d := s.check()
			if d.Allowed() != (over == 0) || over == 1 && (d.Reason() != authz.RequestTooLarge || d.Fault().Field != test.field) {
				t.Errorf("%s, beyond by %d: allowed=%v, %v (%s)", test.name, over, d.Allowed(), d.Reason(), d.Fault().Field)
			}
		}
	}
}
