package authz_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

func parseTrust(tb testing.TB, bundle ...[]byte) *authz.Trust {
	tb.Helper()
	trust, err := authz.ParseTrust(slices.Concat(bundle...))
	if err != nil {
		tb.Fatal(err)
	}
	return trust
}

func TestParseTrust(t *testing.T) {
	root := authztest.NewCA("Root")
	intermediate := root.Intermediate("Intermediate")
	leaf, err := root.Issue(authztest.CertificateSpec{CommonNames: []string{"leaf.example.nhs.uk"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, want string
		bundle     []byte
	}{
		{"root and intermediate", "", slices.Concat(root.PEM(), intermediate.PEM())},
		{"in the other order, with blank lines", "", slices.Concat([]byte("\n\n"), intermediate.PEM(), []byte("\n"), root.PEM(), []byte("\n"))},
		{"two roots", "", slices.Concat(root.PEM(), authztest.NewCA("Other").PEM())},
		{"nothing", "no root", nil},
		{"blanks", "no root", []byte(" \n")},
		{"no root", "no root", intermediate.PEM()},
		{"a leaf", "certificate 2 of the bundle, \"CN=leaf.example.nhs.uk\", is not a CA", slices.Concat(root.PEM(), leaf.PEM())},
		{"a key", "certificate 2 of the bundle: not a PEM block of type CERTIFICATE", slices.Concat(root.PEM(), leaf.KeyPEM())},
		{"text in front", "certificate 1 of the bundle: text outside", append([]byte("Root:\n"), root.PEM()...)},
		{"text between", "certificate 2 of the bundle: text outside", slices.Concat(root.PEM(), []byte("# and\n"), intermediate.PEM())},
		{"text behind", "certificate 2 of the bundle: text outside", append(root.PEM(), "EOF"...)},
		{"half a block", "not a PEM block", root.PEM()[:200]},
		{"no certificate in it", "certificate 1 of the bundle:", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")},
	} {
		_, err := authz.ParseTrust(test.bundle)
		switch {
		case test.want == "" && (err != nil):
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}

// trusted is what the rules say about a certificate that is valid at now, under trust.
func (s *scenario) trusted(trust *authz.Trust, now time.Time) authz.Reason {
	s.t.Helper()
	s.trust.Trust, s.trust.Confirmed, s.maps.Confirmed, s.request.Now = trust, now, now, now
	d := s.check()
	switch d.Reason() {
	case authz.CertificateUntrusted, authz.CertificateExpired, authz.CertificateNotYetValid:
		return d.Reason()
	}
	// Every step before the token has passed; the token has times of its own.
	return authz.Undecided
}

// TestVerdictOfChangedBundle: a verdict is one of a bundle. When an authority is taken
// out, what it issued is refused at once, however often it was let through before.
func TestVerdictOfChangedBundle(t *testing.T) {
	s := newScenario(t)
	now := s.request.Now
	ours, other := s.trust.Trust, parseTrust(t, authztest.NewCA("Other").PEM())
	for range 3 { // to and fro: the certificate remembers the verdict of one bundle
		if got := s.trusted(ours, now); got != authz.Undecided {
			t.Fatalf("under its own bundle: %v", got)
		}
		if got := s.trusted(other, now); got != authz.CertificateUntrusted {
			t.Fatalf("under another bundle: %v", got)
		}
	}
	same := parseTrust(t, s.minted.CAs())
	if got := s.trusted(same, now); got != authz.Undecided {
		t.Errorf("under the same bundle, read again: %v", got)
	}
	if got := s.trusted(authz.TrustEnvoy(), now); got != authz.Undecided {
		t.Errorf("under trust in Envoy: %v", got)
	}
	if got := s.trusted(other, now); got != authz.CertificateUntrusted {
		t.Errorf("trust in Envoy was remembered for a bundle: %v", got)
	}
}

// TestVerdictEndsWithTheChain: the leaf and the root are valid for long, the
// intermediate for a moment. A remembered verdict must not outlive it, nor be used
// before it begins, when the clock is set back.
func TestVerdictEndsWithTheChain(t *testing.T) {
	s := newScenario(t)
	now := s.request.Now.Truncate(time.Second)
	root := authztest.NewCA("Root")
	from, until := now.Add(-10*time.Minute), now.Add(10*time.Minute)
	brief := root.IntermediateWithin("Brief", from, until)
	leaf, err := brief.Issue(authztest.CertificateSpec{CommonNames: []string{"gp-one.example.nhs.uk"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	trust := parseTrust(t, root.PEM(), brief.PEM())
	for _, warm := range []bool{false, true} {
		for _, test := range []struct {
			at   time.Time
			want authz.Reason
		}{
			{now, authz.Undecided},
			{until, authz.Undecided},
			{until.Add(time.Second), authz.CertificateUntrusted},
			{from, authz.Undecided},
			{from.Add(-time.Second), authz.CertificateUntrusted},
			{now.Add(time.Hour + time.Second), authz.CertificateExpired},
			{now.Add(-time.Hour - time.Second), authz.CertificateNotYetValid},
		} {
			s.request.Certificate = authz.ParseCertificate(leaf.DER)
			if warm {
				if got := s.trusted(trust, now); got != authz.Undecided {
					t.Fatalf("at the start: %v", got)
				}
			}
			if got := s.trusted(trust, test.at); got != test.want {
				t.Errorf("%v from now (verdict remembered: %v): %v, want %v", test.at.Sub(now), warm, got, test.want)
			}
		}
	}
}

// TestIntermediate: the client sends its leaf alone, so what stands between it and the
// root must be in the bundle; and a root is its key, not its name.
func TestIntermediate(t *testing.T) {
	s := newScenario(t)
	root := authztest.NewCA("Root")
	issuing := root.Intermediate("Issuing")
	leaf, err := issuing.Issue(authztest.CertificateSpec{CommonNames: []string{"gp-one.example.nhs.uk"}})
	if err != nil {
		t.Fatal(err)
	}
	s.request.Certificate = authz.ParseCertificate(leaf.DER)
	now := time.Now()
	if got := s.trusted(parseTrust(t, root.PEM()), now); got != authz.CertificateUntrusted {
		t.Errorf("without the intermediate, which the client does not send: %v", got)
	}
	if got := s.trusted(parseTrust(t, root.PEM(), issuing.PEM()), now); got != authz.Undecided {
		t.Errorf("with it: %v", got)
	}
	if got := s.trusted(parseTrust(t, authztest.NewCA("Root").PEM(), issuing.PEM()), now); got != authz.CertificateUntrusted {
		t.Errorf("under another root of the same name: %v", got)
	}
}

// TestBoundsAreMeant: a bound of nothing is a configuration that was forgotten.
func TestBoundsAreMeant(t *testing.T) {
	for _, change := range []func(c *authz.Config){
		func(c *authz.Config) { c.MaxStaleness = 0 },
		func(c *authz.Config) { c.MaxTrustAge = 0 },
		func(c *authz.Config) { c.MaxStaleness = -time.Hour },
	} {
		s := newScenario(t)
		change(&s.config)
		if _, err := authz.New(s.config); err == nil || !strings.Contains(err.Error(), "largest age") {
			t.Errorf("New: %v", err)
		}
	}
}
