package authz_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

func crl(tb testing.TB, ca *authztest.CA, spec authztest.CRLSpec) []byte {
	tb.Helper()
	der, err := ca.CRL(spec)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func parseCRLs(tb testing.TB, text ...[]byte) []*authz.CRL {
	tb.Helper()
	crls, err := authz.ParseCRLs(slices.Concat(text...))
	if err != nil {
		tb.Fatal(err)
	}
	return crls
}

func extension(critical bool, id ...int) []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier(id), Critical: critical, Value: []byte{0x05, 0x00}}}
}

func entries(extensions []pkix.Extension, reason int) authztest.CRLSpec {
	return authztest.CRLSpec{Entries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: time.Now(), ReasonCode: reason, ExtraExtensions: extensions}}}
}

func TestParseCRLs(t *testing.T) {
	one, other := authztest.NewCA("One"), authztest.NewCA("Other")
	der := crl(t, one, authztest.CRLSpec{Number: 7, Revoked: []*big.Int{big.NewInt(1), big.NewInt(300), big.NewInt(1)}})
	second := crl(t, other, authztest.CRLSpec{})
	for _, test := range []struct {
		name string
		file []byte
		n    int
	}{
		{"DER", der, 1},
		{"PEM", authztest.CRLPEM(der), 1},
		{"two in DER", slices.Concat(der, second), 2},
		{"two in PEM, with blank lines", slices.Concat([]byte("\n"), authztest.CRLPEM(der), []byte("\n\n"), authztest.CRLPEM(second), []byte(" \n")), 2},
		{"an extension that may be ignored", crl(t, one, authztest.CRLSpec{Extensions: extension(false, 2, 5, 29, 46)}), 1},
		{"nobody revoked", second, 1},
		{"on hold", crl(t, one, entries(nil, 6)), 1},
		{"an entry with a note", crl(t, one, entries(extension(false, 2, 5, 29, 24), 0)), 1},
	} {
		if crls := parseCRLs(t, test.file); len(crls) != test.n {
			t.Errorf("%s: %d lists", test.name, len(crls))
		}
	}
	list := parseCRLs(t, der)[0]
	if list.Len() != 2 || list.Number() != "7" || list.Name() != `"CN=One"` || list.NextUpdate().Before(time.Now()) {
		t.Errorf("%d entries, number %s of %s until %v", list.Len(), list.Number(), list.Name(), list.NextUpdate())
	}

	noNumber := withoutExtension(t, der, asn1.ObjectIdentifier{2, 5, 29, 20})
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"nothing", nil, "no CRL"},
		{"blanks", []byte(" \n"), "malformed crl"},
		{"a certificate", one.PEM(), "CRL 1 of the file: not a PEM block of type X509 CRL"},
		{"text in front", append([]byte("CRL:\n"), authztest.CRLPEM(der)...), "malformed crl"},
		{"text behind", append(authztest.CRLPEM(der), "EOF"...), "CRL 2 of the file: text outside"},
		{"a key behind", slices.Concat(authztest.CRLPEM(der), one.PEM()), "CRL 2 of the file: not a PEM block of type X509 CRL"},
		{"half a block", authztest.CRLPEM(der)[:90], "not a PEM block"},
		{"half of a DER", der[:len(der)/2], "CRL 1 of the file"},
		{"a byte behind the DER", append(slices.Clone(der), 0), "CRL 2 of the file"},
		{"a byte behind the DER in a block", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: append(slices.Clone(der), 0)}), "more than a CRL in the PEM block"},
		{"two of one CA", slices.Concat(der, crl(t, one, authztest.CRLSpec{Number: 8})), `CRL 2 of the file: a second one of "CN=One"`},
		{"too many", manyCRLs(t), "more than 64 CRLs"},
		{"too large", make([]byte, authz.MaxCRLFile+1), "larger than 16777216 bytes"},
		{"a delta", crl(t, one, authztest.CRLSpec{Extensions: extension(true, 2, 5, 29, 27)}), "a delta CRL"},
		{"a delta that does not say so loudly", crl(t, one, authztest.CRLSpec{Extensions: extension(false, 2, 5, 29, 27)}), "a delta CRL"},
		{"an indirect one, or a part", crl(t, one, authztest.CRLSpec{Extensions: extension(true, 2, 5, 29, 28)}), "an indirect CRL, or one of a part"},
		{"a part that does not say so loudly", crl(t, one, authztest.CRLSpec{Extensions: extension(false, 2, 5, 29, 28)}), "an indirect CRL, or one of a part"},
		{"a critical extension that nobody knows", crl(t, one, authztest.CRLSpec{Extensions: extension(true, 1, 2, 3)}), "extension 1.2.3 is critical"},
		{"an extension twice", crl(t, one, authztest.CRLSpec{Extensions: slices.Concat(extension(false, 1, 2, 3), extension(false, 1, 2, 3))}), "extension 1.2.3 stands twice"},
		{"an entry of another CA", crl(t, one, entries(extension(true, 2, 5, 29, 29), 0)), "an indirect CRL"},
		{"an entry with a critical extension", crl(t, one, entries(extension(true, 1, 2, 3), 0)), "extension 1.2.3 of an entry is critical"},
		{"an entry that takes back", crl(t, one, entries(nil, 8)), "removeFromCRL"},
		{"signed with SHA-1", crl(t, one, authztest.CRLSpec{SignatureAlgorithm: x509.ECDSAWithSHA1}), "signed with ECDSA-SHA1, which anybody may be able to forge"},
		{"no number", noNumber, "it has no CRL number"},
		{"no end", endless(t, one), "it does not say until when"},
	} {
		crls, err := authz.ParseCRLs(test.file)
		if err == nil || crls != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}

func manyCRLs(t *testing.T) (file []byte) {
	for range 65 {
		file = append(file, crl(t, authztest.NewCA("CA "+time.Now().String()), authztest.CRLSpec{})...)
	}
	return file
}

// rawCRL is a CertificateList as far as it is taken apart here.
type rawCRL struct {
	TBS       asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// rewrite returns a list whose parts have been changed; its signature is broken by it.
func rewrite(t *testing.T, der []byte, change func(parts []asn1.RawValue) []asn1.RawValue) []byte {
	t.Helper()
	var raw rawCRL
	if _, err := asn1.Unmarshal(der, &raw); err != nil {
		t.Fatal(err)
	}
	var parts []asn1.RawValue
	for rest := raw.TBS.Bytes; len(rest) > 0; {
		var part asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &part); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	var body []byte
	for _, part := range change(parts) {
		body = append(body, part.FullBytes...)
	}
	raw.TBS = asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: body}
	out, err := asn1.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// withoutExtension returns the list without that extension.
func withoutExtension(t *testing.T, der []byte, id asn1.ObjectIdentifier) []byte {
	t.Helper()
	return rewrite(t, der, func(parts []asn1.RawValue) []asn1.RawValue {
		last := &parts[len(parts)-1]
		var all, kept []pkix.Extension
		if _, err := asn1.Unmarshal(last.Bytes, &all); err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if !e.Id.Equal(id) {
				kept = append(kept, e)
			}
		}
		inner, err := asn1.Marshal(kept)
		if err != nil {
			t.Fatal(err)
		}
		outer, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner})
		if err != nil {
			t.Fatal(err)
		}
		*last = asn1.RawValue{FullBytes: outer}
		return parts
	})
}

// endless returns a list without nextUpdate.
func endless(t *testing.T, ca *authztest.CA) []byte {
	t.Helper()
	return rewrite(t, crl(t, ca, authztest.CRLSpec{}), func(parts []asn1.RawValue) []asn1.RawValue {
		return slices.Delete(parts, 4, 5) // version, algorithm, issuer, thisUpdate, nextUpdate
	})
}

// TestCRLTimes: a list counts from thisUpdate to nextUpdate, both of them with it.
func TestCRLTimes(t *testing.T) {
	from := time.Now().Truncate(time.Second)
	until := from.Add(time.Hour)
	list := parseCRLs(t, crl(t, authztest.NewCA("CA"), authztest.CRLSpec{ThisUpdate: from, NextUpdate: until}))[0]
	for _, test := range []struct {
		at   time.Time
		want string
	}{
		{from.Add(-time.Second), "is of the future"}, {from, ""}, {until, ""}, {until.Add(time.Nanosecond), "has expired"},
	} {
		if err := list.Current(test.at); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("at %v: %v, want %q", test.at.Sub(from), err, test.want)
		}
	}
}

// TestCRLReplaces: an older list would give back what a newer one has taken away.
func TestCRLReplaces(t *testing.T) {
	ca, now := authztest.NewCA("CA"), time.Now()
	list := func(number int64, age time.Duration) *authz.CRL {
		return parseCRLs(t, crl(t, ca, authztest.CRLSpec{Number: number, ThisUpdate: now.Add(-age)}))[0]
	}
	for _, test := range []struct {
		next, held *authz.CRL
		good       bool
	}{
		{list(8, time.Hour), list(7, time.Hour), true},
		{list(256, 2*time.Hour), list(255, time.Hour), true}, // numbers count, and 256 has another byte
		{list(7, time.Hour), list(7, time.Hour), true},
		{list(7, time.Hour), list(7, 2*time.Hour), true},
		{list(7, 2*time.Hour), list(7, time.Hour), false},
		{list(255, time.Minute), list(256, time.Hour), false},
		{list(6, time.Minute), list(7, time.Hour), false},
	} {
		if err := test.next.Replaces(test.held); (err == nil) != test.good {
			t.Errorf("number %s after %s: %v", test.next.Number(), test.held.Number(), err)
		}
	}
}

// TestCRLSignature: a list is that of a CA if its key signed it, whoever it names.
func TestCRLSignature(t *testing.T) {
	ca := authztest.NewCA("CA")
	impostor := authztest.NewCA("CA") // the same name, another key
	der := crl(t, ca, authztest.CRLSpec{})
	forged := slices.Clone(der)
	forged[len(forged)-1] ^= 1
	silent, err := ca.CAWithout(x509.KeyUsageCRLSign)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		list   []byte
		bundle []byte
		known  bool
		good   bool
	}{
		{"its own", der, ca.PEM(), true, true},
		{"broken", forged, ca.PEM(), true, false},
		{"of a CA that may not sign lists", der, silent, true, false},
		{"of another key, which it names", crl(t, impostor, authztest.CRLSpec{}), ca.PEM(), false, true},
		{"of another key, which it does not name", withoutExtension(t, crl(t, impostor, authztest.CRLSpec{}), asn1.ObjectIdentifier{2, 5, 29, 35}), ca.PEM(), true, false},
		{"of nobody", crl(t, authztest.NewCA("Nobody"), authztest.CRLSpec{}), ca.PEM(), false, true},
		{"of one of two", der, slices.Concat(impostor.PEM(), ca.PEM()), true, true},
	} {
		known, err := parseCRLs(t, test.list)[0].SignedIn(parseTrust(t, test.bundle))
		if known != test.known || (err == nil) != test.good {
			t.Errorf("%s: known=%v, %v", test.name, known, err)
		}
	}
	if known, err := parseCRLs(t, der)[0].SignedIn(authz.TrustEnvoy()); known || err != nil {
		t.Errorf("trust in Envoy knows a CA: %v, %v", known, err)
	}
}

// FuzzParseCRLs: whatever the file, there is an answer, and what is accepted has an end
// and a number, and can be asked about.
func FuzzParseCRLs(f *testing.F) {
	ca := authztest.NewCA("CA")
	der := crl(f, ca, authztest.CRLSpec{Revoked: []*big.Int{big.NewInt(1), big.NewInt(1 << 40)}})
	f.Add(der)
	f.Add(slices.Concat(der, crl(f, authztest.NewCA("Other"), authztest.CRLSpec{})))
	f.Add(authztest.CRLPEM(der))
	f.Add(crl(f, ca, entries(extension(false, 2, 5, 29, 24), 6)))
	f.Add(crl(f, ca, authztest.CRLSpec{Extensions: extension(true, 2, 5, 29, 28)}))
	trust := parseTrust(f, ca.PEM())
	f.Fuzz(func(t *testing.T, text []byte) {
		crls, err := authz.ParseCRLs(text)
		if (err == nil) == (len(crls) == 0) {
			t.Fatalf("%d lists and %v", len(crls), err)
		}
		for _, l := range crls {
			if l.NextUpdate().IsZero() || l.Number() == "" || strings.HasPrefix(l.Number(), "-") {
				t.Errorf("accepted with number %q until %v", l.Number(), l.NextUpdate())
			}
			if l.Replaces(l) != nil || l.Current(l.NextUpdate().Add(time.Second)) == nil {
				t.Error("a list that is older than itself, or good after its end")
			}
			l.SignedIn(trust)
		}
		trust.WithCRLs(authz.CRLFile{CRLs: crls})
	})
}
