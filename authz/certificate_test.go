package authz_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

func issue(tb testing.TB, spec authztest.CertificateSpec) *authztest.Certificate {
	tb.Helper()
	c, err := authztest.SelfSigned(spec)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// presented is what the rules say about a certificate, under a trust in Envoy: only
// what is written in it counts.
func (s *scenario) presented(c *authz.PeerCertificate) (authz.Decision, authz.Reason) {
	s.t.Helper()
	s.trust.Trust = authz.TrustEnvoy()
	s.request.Certificate = c
	d := s.check()
	return d, d.Reason()
}

func TestParsePEM(t *testing.T) {
	c := issue(t, authztest.CertificateSpec{CommonNames: []string{"gp-one.example.nhs.uk"}})
	text := c.PEM()
	other := issue(t, authztest.CertificateSpec{CommonNames: []string{"gp-two.example.nhs.uk"}}).PEM()
	withHeaders := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}, Bytes: c.DER})
	trailing := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(bytes.Clone(c.DER), 0)})
	s := newScenario(t)
	for _, test := range []struct {
		name string
		text []byte
		want authz.Reason
	}{
		{"as it is", text, authz.Undecided},
		{"with blanks around it", []byte("\n \t" + string(text) + "\r\n\n"), authz.Undecided},
		{"with CRLF", bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), authz.Undecided},
		{"nothing", nil, authz.CertificateMalformed},
		{"blanks", []byte("  \n"), authz.CertificateMalformed},
		{"a second one behind it", append(bytes.Clone(text), other...), authz.CertificateMalformed},
		{"the same one twice", append(bytes.Clone(text), text...), authz.CertificateMalformed},
		{"a key behind it", append(bytes.Clone(text), c.KeyPEM()...), authz.CertificateMalformed},
		{"text in front", append([]byte("subject=gp-one\n"), text...), authz.CertificateMalformed},
		{"text behind", append(bytes.Clone(text), "x"...), authz.CertificateMalformed},
		{"a block of another type", bytes.ReplaceAll(text, []byte("CERTIFICATE"), []byte("X509 CRL")), authz.CertificateMalformed},
		{"a trusted certificate of OpenSSL", bytes.ReplaceAll(text, []byte("CERTIFICATE"), []byte("TRUSTED CERTIFICATE")), authz.CertificateMalformed},
		{"PEM headers", withHeaders, authz.CertificateMalformed},
		{"a byte behind the DER", trailing, authz.CertificateMalformed},
		{"half of it", text[:len(text)/2], authz.CertificateMalformed},
		{"no line ends", bytes.ReplaceAll(text, []byte("\n"), nil), authz.CertificateMalformed},
		{"still escaped, as Envoy sends it", bytes.ReplaceAll(text, []byte("\n"), []byte("%0A")), authz.CertificateMalformed},
		{"a plus that became a blank", []byte(strings.Replace(string(text), "M", " ", 1)), authz.CertificateMalformed},
		{"a megabyte", bytes.Repeat([]byte("A"), 1<<20), authz.CertificateMalformed},
		{"a megabyte of blanks around it", append(bytes.Repeat([]byte(" "), 1<<20), text...), authz.CertificateMalformed},
	} {
		if _, got := s.presented(authz.ParsePEM(test.text)); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	parsed := authz.ParsePEM(text)
	if parsed.SHA256() != sha256.Sum256(c.DER) || parsed.SHA256() != c.SHA256() {
		t.Error("the fingerprint is not that of the DER")
	}
	if parsed.NotAfter().Before(time.Now()) || !authz.ParsePEM(nil).NotAfter().IsZero() {
		t.Error("NotAfter is not the end of the validity, or that of none")
	}
}

func TestOversizedCertificate(t *testing.T) {
	padded := func(n int) *authz.PeerCertificate {
		return authz.ParseCertificate(issue(t, authztest.CertificateSpec{
			CommonNames: []string{"gp-one.example.nhs.uk"},
			Extensions:  []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: bytes.Repeat([]byte{0}, n)}},
		}).DER)
	}
	s := newScenario(t)
	if _, got := s.presented(padded(authz.MaxCertificate / 2)); got != authz.Undecided {
		t.Errorf("half the bound: %v", got)
	}
	if _, got := s.presented(padded(authz.MaxCertificate)); got != authz.CertificateMalformed {
		t.Errorf("beyond the bound: %v", got)
	}
}

// TestNamesInOddTypes: a subject may be written in seven types of text. What is read is
// the text; what is not text, or holds a control byte in any of them, is refused whole.
func TestNamesInOddTypes(t *testing.T) {
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	utf16 := func(s string) []byte {
		var b []byte
		for _, r := range s {
			b = append(b, byte(r>>8), byte(r))
		}
		return b
	}
	const name = "gp-one.example.nhs.uk"
	for _, test := range []struct {
		name  string
		value asn1.RawValue
		want  authz.Reason
	}{
		{"UTF8String", asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(name)}, authz.Undecided},
		{"PrintableString", asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(name)}, authz.Undecided},
		{"IA5String", asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(name)}, authz.Undecided},
		{"T61String", asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte(name)}, authz.Undecided},
		{"BMPString", asn1.RawValue{Tag: asn1.TagBMPString, Bytes: utf16(name)}, authz.Undecided},
		{"BMPString with a NUL", asn1.RawValue{Tag: asn1.TagBMPString, Bytes: utf16(name + "\x00.attacker.example")}, authz.CertificateMalformed},
		{"T61String with a NUL", asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte(name + "\x00")}, authz.CertificateMalformed},
		{"UTF8String that is none", asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("gp-one\xff")}, authz.CertificateMalformed},
		{"UniversalString", asn1.RawValue{Tag: 28, Bytes: []byte(name)}, authz.CertificateMalformed},
		{"OctetString", asn1.RawValue{Tag: asn1.TagOctetString, Bytes: []byte(name)}, authz.CertificateMalformed},
		{"Integer", asn1.RawValue{Tag: asn1.TagInteger, Bytes: []byte{7}}, authz.CertificateMalformed},
		{"empty", asn1.RawValue{Tag: asn1.TagUTF8String}, authz.CertificateNotOfASID},
	} {
		c := issue(t, authztest.CertificateSpec{Subject: []pkix.AttributeTypeAndValue{{Type: cn, Value: test.value}}})
		s := newScenario(t)
		if _, got := s.presented(authz.ParseCertificate(c.DER)); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestControlBytes puts every byte that is not printable into every kind of name.
func TestControlBytes(t *testing.T) {
	s := newScenario(t)
	s.trust.Trust = authz.TrustEnvoy()
	for b := range 256 {
		if b >= 0x20 && b != 0x7f {
			continue
		}
		bad := fmt.Sprintf("a%cb", rune(b))
		for place, spec := range map[string]authztest.CertificateSpec{
			"cn":     {CommonNames: []string{bad}},
			"serial": {SerialNumbers: []string{bad}},
			"uid":    {UIDs: []string{bad}},
			"o":      {Subject: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: bad}}},
			"dns":    {DNSNames: []string{bad}},
			"email":  {EmailAddresses: []string{bad}},
		} {
			spec.CommonNames = append(spec.CommonNames, "gp-one.example.nhs.uk")
			c, err := authztest.SelfSigned(spec)
			if err != nil {
				continue // one that nobody can issue
			}
			if _, got := s.presented(authz.ParseCertificate(c.DER)); got != authz.CertificateMalformed {
				t.Errorf("byte %#x in %s: %v", b, place, got)
			}
		}
	}
}

// TestPlaces reads an ASID from each place that it can stand in, and from no other.
func TestPlaces(t *testing.T) {
	const number = "200000000117"
	specs := map[authz.Place]authztest.CertificateSpec{
		authz.PlaceCN:           {CommonNames: []string{number}},
		authz.PlaceSerialNumber: {SerialNumbers: []string{number}},
		authz.PlaceUID:          {UIDs: []string{number}},
		authz.PlaceURISAN:       {URIs: []string{"urn:nhs:asid:" + number}},
		authz.PlaceDNSSAN:       {DNSNames: []string{number}}, // a place for names alone
	}
	for configured := range specs {
		if configured == authz.PlaceDNSSAN {
			continue
		}
		for written, spec := range specs {
			s := newScenario(t)
			s.config.Binding = authz.Binding{Mode: authz.InCertificate, ASID: configured}
			entry, _ := s.maps.Map.System(asid(t, number))
			entry.FQDNs = nil
			var err error
			if s.maps.Map, err = s.maps.Map.With(2, []authz.AccreditedSystem{entry}, nil); err != nil {
				t.Fatal(err)
			}
			d, got := s.presented(authz.ParseCertificate(issue(t, spec).DER))
			if want := configured == written; d.Allowed() != want || !want && got != authz.CertificateNotOfASID {
				t.Errorf("configured %d, written at %d: allowed=%v, %v", configured, written, d.Allowed(), got)
			}
		}
	}
}

// FuzzParseCertificate: no bytes make a certificate that passes, but for those of one.
func FuzzParseCertificate(f *testing.F) {
	s := newScenario(f)
	s.trust.Trust = authz.TrustEnvoy()
	a := s.authorizer()
	for _, spec := range []authztest.CertificateSpec{
		{CommonNames: []string{"gp-one.example.nhs.uk"}, DNSNames: []string{"a.example"}, URIs: []string{"urn:nhs:asid:200000000117"}},
		{CommonNames: []string{"*.example.nhs.uk"}, SerialNumbers: []string{"200000000117"}},
	} {
		c := issue(f, spec)
		f.Add(c.DER)
		f.Add(c.PEM())
		f.Add(append(c.PEM(), c.PEM()...))
	}
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range []*authz.PeerCertificate{authz.ParseCertificate(data), authz.ParsePEM(data)} {
			if c == nil {
				t.Fatal("nil stands for a client that sent none")
			}
			r := *s.request
			r.Certificate = c
			d := a.Check(s.ctx, &r)
			der := data
			if block, _ := pem.Decode(data); block != nil {
				der = block.Bytes
			}
			leaf, err := x509.ParseCertificate(der)
			parsed := c.SHA256() != [32]byte{}
			if parsed && (err != nil || c.SHA256() != sha256.Sum256(leaf.Raw)) {
				t.Fatal("a certificate that package x509 does not see")
			}
			if !parsed && d.Reason() != authz.CertificateMalformed {
				t.Fatalf("what does not parse is %v", d.Reason())
			}
			if d.Allowed() && !strings.EqualFold(leaf.Subject.CommonName, "gp-one.example.nhs.uk") {
				t.Fatalf("allowed as %q", leaf.Subject.CommonName)
			}
		}
	})
}
