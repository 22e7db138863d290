package token

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"

	"asid-authz/authz"
)

// The moment at which the tests of this package judge.
var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const (
	cas = "https://cas.example.nhs.uk:443/oidc"
	api = "https://api.example.nhs.uk"
)

// keyPairs are made once: RSA keys are slow to make.
var keyPairs = sync.OnceValue(func() (k struct {
	rsa, otherRSA, weakRSA *rsa.PrivateKey
	p256, p384, p521       *ecdsa.PrivateKey
	ed25519                ed25519.PrivateKey
}) {
	k.rsa, k.otherRSA, k.weakRSA = must(rsa.GenerateKey(rand.Reader, 2048)), must(rsa.GenerateKey(rand.Reader, 2048)), must(rsa.GenerateKey(rand.Reader, 2040))
	k.p256 = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	k.p384 = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	k.p521 = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	_, k.ed25519, _ = ed25519.GenerateKey(rand.Reader)
	return k
})

var nop = zap.NewNop()

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// object is a JSON object written member by member, so that a test can leave one out,
// or give it a value that no encoder would.
type object map[string]string

// with returns o with members replaced, name and raw JSON in turn; "" leaves one out.
func (o object) with(pairs ...string) object {
	n := object{}
	for name, raw := range o {
		n[name] = raw
	}
	for i := 0; i < len(pairs); i += 2 {
		if n[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
			delete(n, pairs[i])
		}
	}
	return n
}

func (o object) String() string {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s:%s", quote(name), o[name])
	}
	b.WriteByte('}')
	return b.String()
}

func quote(s string) string { return string(must(json.Marshal(s))) }

// claims are those of a good token.
func claims(pairs ...string) object {
	return object{
		"iss":   quote(cas),
		"aud":   quote(api),
		"azp":   `"client-1"`,
		"sub":   `"https://fhir.nhs.uk/Id/nhs-number|9876543210"`,
		"exp":   fmt.Sprint(now.Add(5 * time.Minute).Unix()),
		"nbf":   fmt.Sprint(now.Unix()),
		"iat":   fmt.Sprint(now.Unix()),
		"scope": `"patient/DocumentReference.read"`,
		"act":   `{"sub":"somebody"}`,
	}.with(pairs...)
}

// header is that of a good token.
func header(pairs ...string) object {
	return object{"alg": `"RS256"`, "typ": `"JWT"`, "kid": `"rsa"`}.with(pairs...)
}

// compact signs header and payload as they are, whatever they are.
func compact(method jwt.SigningMethod, key any, header, payload fmt.Stringer) string {
	signed := b64([]byte(header.String())) + "." + b64([]byte(payload.String()))
	return signed + "." + b64(must(method.Sign(signed, key)))
}

// token is a token of the key "rsa" whose signature is good.
func token(header, payload fmt.Stringer) string {
	return compact(jwt.SigningMethodRS256, keyPairs().rsa, header, payload)
}

// raw is a text that a test wrote by hand.
type raw string

func (r raw) String() string { return string(r) }

// jwk is a public key as issuers publish it.
func jwk(kid string, public any, pairs ...string) object {
	var o object
	switch k := public.(type) {
	case *rsa.PublicKey:
		o = object{"kty": `"RSA"`, "n": quote(b64(k.N.Bytes())), "e": quote(b64(big.NewInt(int64(k.E)).Bytes()))}
	case *ecdsa.PublicKey:
		point := must(k.Bytes())[1:]
		o = object{"kty": `"EC"`, "crv": quote(k.Curve.Params().Name), "x": quote(b64(point[:len(point)/2])), "y": quote(b64(point[len(point)/2:]))}
	case ed25519.PublicKey:
		o = object{"kty": `"OKP"`, "crv": `"Ed25519"`, "x": quote(b64(k))}
	}
	return o.with("kid", quote(kid), "use", `"sig"`).with(pairs...)
}

func jwks(keys ...object) []byte {
	texts := make([]string, len(keys))
	for i, k := range keys {
		texts[i] = k.String()
	}
	return []byte(`{"keys":[` + strings.Join(texts, ",") + `]}`)
}

// allKeys is a set with a key of each type.
func allKeys() []byte {
	k := keyPairs()
	return jwks(jwk("rsa", &k.rsa.PublicKey), jwk("p256", &k.p256.PublicKey), jwk("p384", &k.p384.PublicKey), jwk("ed25519", k.ed25519.Public()))
}

func fileKeys(t testing.TB, text []byte, at time.Time) *FileKeys {
	t.Helper()
	k := NewFileKeys("keys.json", nop)
	if err := k.Load(text, at); err != nil {
		t.Fatal(err)
	}
	return k
}

// issuerOf is an issuer with those keys, and every algorithm but what a test changes.
func issuerOf(keys Keys) Issuer {
	return Issuer{Name: cas, Keys: keys, MaxKeyAge: time.Hour, Algorithms: Algorithms(), Audiences: []string{api}}
}

func verifierOf(t testing.TB, issuers ...Issuer) *Verifier {
	t.Helper()
	v, err := New(Config{Issuers: issuers})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// outcome is what a test compares: "" for a token that was accepted, otherwise the
// Reason and the Field.
func outcome(t testing.TB, v *Verifier, credential string, at time.Time) string {
	t.Helper()
	c, err := v.VerifyToken(context.Background(), credential, at)
	if err == nil {
		if c == nil {
			t.Fatal("neither claims nor an error")
		}
		return ""
	}
	if c != nil {
		t.Fatalf("claims beside the error %v", err)
	}
	f, is := errors.AsType[*authz.Fault](err)
	if !is {
		t.Fatalf("%v is no Fault", err)
	}
	for _, text := range []string{f.Value, f.OtherValue} {
		if text != "" && (strings.Contains(text, "9876543210") || strings.Contains(credential, text)) {
			t.Errorf("the Fault says %q, which is the credential's or a patient's", text)
		}
	}
	return f.Error()
}

func wantOutcome(t testing.TB, v *Verifier, credential string, at time.Time, want string) {
	t.Helper()
	if got := outcome(t, v, credential, at); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
