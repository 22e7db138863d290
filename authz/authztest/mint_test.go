package authztest_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

func load(t *testing.T, world, check string) (*authztest.Minted, *authztest.Case) {
	t.Helper()
	c, err := corpus(t, world, check)
	if err != nil {
		t.Fatal(err)
	}
	minted, err := c.Worlds["w"].Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return minted, c.Cases[0]
}

func TestWire(t *testing.T) {
	text := strings.Replace(goodCase, "GET / HTTP/1.1\nauthorization: Bearer {token}\n", `POST /a{0x00}b{c*3}?{x} HTTP/1.1
fromASID:  200000000117
Accept: a
Authorization: Bearer {token}
accept: b
X-Own: {certificate one}
Folded: a
  b

{"body": 1}
`, 1)
	m, c := load(t, goodWorld, strings.Replace(text, "world: w\n", "world: w\nonly: h1\n", 1))
	now := time.Now()
	token, err := m.Token(c, now)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := m.Certificate(c)
	if err != nil {
		t.Fatal(err)
	}
	sum := certificate.SHA256()

	raw, err := m.HTTP1(c, now)
	if err != nil {
		t.Fatal(err)
	}
	// The signature is another one each time; everything else is the same.
	want := "POST /a\x00bccc?{x} HTTP/1.1\r\nHost: nrl.example.nhs.uk\r\nfromASID:  200000000117\r\nAccept: a\r\nAuthorization: Bearer TOKEN\r\naccept: b\r\n" +
		"X-Own: " + hex.EncodeToString(sum[:]) + "\r\nFolded: a\r\n  b\r\nContent-Length: 11\r\n\r\n{\"body\": 1}"
	if got := withoutToken(string(raw)); got != want {
		t.Errorf("HTTP/1.1:\n got %q\nwant %q", got, want)
	}

	fields, body, err := m.HTTP2(c, now)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, h := range fields {
		all = append(all, h.Name+"="+h.Value)
	}
	want = ":method=POST|:scheme=https|:path=/a\x00bccc?{x}|:authority=nrl.example.nhs.uk|fromasid=200000000117|accept=a|authorization=Bearer TOKEN|accept=b|x-own=" +
		hex.EncodeToString(sum[:]) + "|folded=a b"
	if got := withoutToken(strings.Join(all, "|")); got != want || string(body) != `{"body": 1}` {
		t.Errorf("HTTP/2:\n got %q\nwant %q\n%q", got, want, body)
	}

	p, err := m.Decoded()
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Request(c, &p, now)
	if err != nil {
		t.Fatal(err)
	}
	all = nil
	for _, h := range r.Headers {
		all = append(all, h.Name+"="+h.Value)
	}
	want = "fromasid=200000000117|accept=a,b|authorization=Bearer TOKEN"
	if got := withoutToken(strings.Join(all, "|")); got != want || r.Method != "POST" || r.Target != "/a\x00bccc?{x}" || r.Certificate.SHA256() != sum {
		t.Errorf("the question:\n got %q\nwant %q\n%+v", got, want, r)
	}
	if !strings.HasPrefix(token, "eyJ") {
		t.Errorf("token %q", token)
	}
}

// withoutToken writes TOKEN for what stands behind Bearer.
func withoutToken(text string) string {
	before, after, found := strings.Cut(text, "Bearer ")
	if !found {
		return text
	}
	return before + "Bearer TOKEN" + after[strings.IndexAny(after+"|", "\r|"):]
}

func TestToken(t *testing.T) {
	text := strings.Replace(goodCase, "token: one", "token: one scope=write iat=-1h without=iss", 1)
	text = strings.Replace(text, "-- request --", "-- claims --\n{\"x\": 1, \"x\": 2, \"exp\": \"soon\", \"cnf\": \"{x5t one}\"}\n-- jose --\n{\"typ\": \"at+jwt\", \"kid\": 7}\n-- request --", 1)
	m, c := load(t, goodWorld, text)
	now := time.Unix(1_800_000_000, 0)
	token, err := m.Token(c, now)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	certificate, _ := m.Certificate(c)
	sum := certificate.SHA256()
	if got, want := string(header), `{"alg":"ES256","kid":7,"typ":"at+jwt"}`; got != want {
		t.Errorf("header %s, want %s", got, want)
	}
	want := fmt.Sprintf(`{"scope":"write","iat":1799996400,"x":1,"x":2,"exp":"soon","cnf":"%s"}`, base64.RawURLEncoding.EncodeToString(sum[:]))
	if got := string(payload); got != want {
		t.Errorf("payload %s, want %s", got, want)
	}
}

// TestCertificate: a case gets one certificate, other options another one, and what the
// options say is in it.
func TestCertificate(t *testing.T) {
	issue := func(options string) *x509.Certificate {
		m, c := load(t, goodWorld, strings.Replace(goodCase, "certificate: one", "certificate: one "+options, 1))
		first, err := m.Certificate(c)
		if err != nil {
			t.Fatalf("%s: %v", options, err)
		}
		again, _ := m.Certificate(c)
		if !bytes.Equal(first.DER, again.DER) {
			t.Errorf("%s: another certificate each time", options)
		}
		leaf, err := x509.ParseCertificate(first.DER)
		if err != nil {
			t.Fatal(err)
		}
		text, err := m.MapText()
		if err != nil || strings.Contains(text, "{") {
			t.Errorf("the map's text: %v, %q", err, text)
		}
		if _, err := authz.ParseTrust(m.CAs()); err != nil {
			t.Errorf("the bundle: %v", err)
		}
		return leaf
	}
	now := time.Now()
	for options, holds := range map[string]func(c *x509.Certificate) bool{
		"": func(c *x509.Certificate) bool {
			return c.Subject.CommonName == "one.example.nhs.uk" && len(c.DNSNames) == 0 && c.NotAfter.After(now) && c.NotBefore.Before(now) &&
				c.Issuer.CommonName == "Corpus Issuing Authority w" && len(c.ExtKeyUsage) == 1 && c.ExtKeyUsage[0] == x509.ExtKeyUsageClientAuth
		},
		"expired=1h": func(c *x509.Certificate) bool { return c.NotAfter.Before(now.Add(-59 * time.Minute)) },
		"early=1h":   func(c *x509.Certificate) bool { return c.NotBefore.After(now.Add(59 * time.Minute)) },
		"ca=foreign": func(c *x509.Certificate) bool { return c.Issuer.CommonName == "Foreign Root Authority" },
		"ca=root":    func(c *x509.Certificate) bool { return c.Issuer.CommonName == "Corpus Root Authority w" },
		"ca=self":    func(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) },
		"eku=none":   func(c *x509.Certificate) bool { return len(c.Extensions) == 1 }, // of the issuer's key
		"eku=server": func(c *x509.Certificate) bool { return c.ExtKeyUsage[0] == x509.ExtKeyUsageServerAuth },
		"key=rsa":    func(c *x509.Certificate) bool { return c.PublicKeyAlgorithm == x509.RSA },
		"cn=a cn=b": func(c *x509.Certificate) bool {
			return len(c.Subject.Names) == 2 && c.Subject.Names[0].Value == "a" && c.Subject.Names[1].Value == "b"
		},
		"without=cn dns=a.b": func(c *x509.Certificate) bool { return c.Subject.String() == "" && c.DNSNames[0] == "a.b" },
		`cn="a\x00b"`:        func(c *x509.Certificate) bool { return c.Subject.CommonName == "a\x00b" },
		"serial=1 uid=2": func(c *x509.Certificate) bool {
			return len(c.Subject.Names) == 3 && c.Subject.SerialNumber == "1" && c.Subject.Names[2].Value == "2"
		},
		"uri=urn:nhs:asid:1": func(c *x509.Certificate) bool { return c.URIs[0].String() == "urn:nhs:asid:1" },
	} {
		if c := issue(options); !holds(c) {
			t.Errorf("%q: %v, issued by %v", options, c.Subject, c.Issuer)
		}
	}
	m, c := load(t, goodWorld, strings.Replace(goodCase, "certificate: one", "certificate: one reissued=yes", 1))
	reissued, err := m.Certificate(c)
	if err != nil {
		t.Fatal(err)
	}
	m2, c2 := m, *c
	c2.Certificate = ""
	if none, err := m2.Certificate(&c2); none != nil || err != nil {
		t.Errorf("none: %v, %v", none, err)
	}
	if block, rest := pem.Decode(reissued.KeyPEM()); block == nil || len(rest) != 0 || len(reissued.TLS().Certificate) != 1 {
		t.Error("the key or the TLS certificate is not one")
	}
}

func TestIssuer(t *testing.T) {
	i := authztest.NewIssuer("cas")
	for alg, kid := range map[string]string{"RS256": "r", "ES256": "e", "ES384": "f", "EdDSA": "d", "PS256": "p"} {
		if err := i.AddKey(alg, kid); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Sign(alg, kid, nil, map[string]any{"a": 1}); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(i.JWKS(), &set); err != nil || len(set.Keys) != 5 {
		t.Fatalf("%v, %d keys", err, len(set.Keys))
	}
	for _, k := range set.Keys {
		if k["d"] != nil || k["p"] != nil || k["use"] != "sig" || k["alg"] == nil {
			t.Errorf("key %v", k)
		}
	}
	none, err := i.Sign("none", "r", nil, nil)
	if err != nil || !strings.HasSuffix(none, ".") || authztest.BreakSignature(none) != none {
		t.Errorf("none: %q, %v", none, err)
	}
	if hmac, err := i.Sign("HS256", "r", nil, nil); err != nil || strings.HasSuffix(hmac, ".") {
		t.Errorf("HS256: %q, %v", hmac, err)
	}
	signed, _ := i.Sign("RS256", "r", nil, nil)
	if broken := authztest.BreakSignature(signed); broken == signed || len(broken) != len(signed) {
		t.Error("nothing is broken")
	}
	forged, err := i.Forge("RS256", "r", true, nil, []byte("{}"))
	header, _, _ := strings.Cut(forged, ".")
	text, _ := base64.RawURLEncoding.DecodeString(header)
	if err != nil || !bytes.Contains(text, []byte(`"jwk":{`)) {
		t.Errorf("forged: %s, %v", text, err)
	}
	for _, err := range []error{
		i.AddKey("HS256", "h"),
		second(i.Sign("RS256", "unknown", nil, nil)),
		second(i.Sign("ES256", "r", nil, nil)),
		second(i.Sign("XX", "r", nil, nil)),
		second(i.Sign("RS256", "r", nil, map[string]any{"a": func() {}})),
	} {
		if err == nil {
			t.Error("no error")
		}
	}
}

func second(_ string, err error) error { return err }
