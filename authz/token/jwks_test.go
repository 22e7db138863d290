package token

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestJWK looks at one key beside a good one: what is wrong with it never harms the other.
func TestJWK(t *testing.T) {
	k := keyPairs()
	rsaKey := jwk("k", &k.rsa.PublicKey)
	modulus := func(bits uint, low int64) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return quote(b64(n.Add(n, big.NewInt(low)).Bytes()))
	}
	var offCurve = jwk("k", &k.p256.PublicKey, "y", jwk("k", &k.p256.PublicKey)["x"])
	for _, test := range []struct {
		name string
		key  object
		want string // "" if it is usable, else a part of why not
		algs []string
	}{
		{"RSA", rsaKey, "", rsaAlgorithms},
		{"without use", rsaKey.with("use", ""), "", rsaAlgorithms},
		{"with alg", rsaKey.with("alg", `"PS384"`), "", []string{"PS384"}},
		{"for verifying", rsaKey.with("key_ops", `["sign","verify"]`), "", rsaAlgorithms},
		{"with what is not known", rsaKey.with("x5t", `"AA"`, "x5c", `["AA"]`, "x5u", `"http://evil.example"`, "KID", `"other"`, "exp", `1`), "", rsaAlgorithms},
		{"P-256", jwk("k", &k.p256.PublicKey), "", p256Algorithms},
		{"P-384", jwk("k", &k.p384.PublicKey), "", p384Algorithms},
		{"Ed25519", jwk("k", k.ed25519.Public()), "", ed25519Algorithms},

		{"no kid", rsaKey.with("kid", ""), "it has no kid", nil},
		{"empty kid", rsaKey.with("kid", `""`), "it has no kid", nil},
		{"kid no text", rsaKey.with("kid", `1`), "its kid is not text", nil},
		{"kid too long", rsaKey.with("kid", quote(strings.Repeat("k", 257))), "its kid is longer than 256 bytes", nil},
		{"for encryption", rsaKey.with("use", `"enc"`), `its use is "enc", not sig`, nil},
		{"empty use", rsaKey.with("use", `""`), `its use is "", not sig`, nil},
		{"use in another case", rsaKey.with("use", `"SIG"`), `its use is "SIG", not sig`, nil},
		{"use no text", rsaKey.with("use", `["sig"]`), "its use is not text", nil},
		{"for signing only", rsaKey.with("key_ops", `["sign"]`), "its key_ops do not hold verify", nil},
		{"for nothing", rsaKey.with("key_ops", `[]`), "its key_ops do not hold verify", nil},
		{"key_ops no array", rsaKey.with("key_ops", `"verify"`), "its key_ops do not hold verify", nil},
		{"symmetric", object{"kty": `"oct"`, "k": `"c2VjcmV0"`, "kid": `"k"`}, "it is not a public key: it holds k", nil},
		{"symmetric without its secret", object{"kty": `"oct"`, "kid": `"k"`}, `its type (kty "oct", crv "") is none`, nil},
		{"private RSA", rsaKey.with("d", `"AQAB"`), "it is not a public key: it holds d", nil},
		{"private RSA without d", rsaKey.with("p", `"AQAB"`), "it is not a public key: it holds p", nil},
		{"private EC", jwk("k", &k.p256.PublicKey, "d", `"AQAB"`), "it is not a public key: it holds d", nil},
		{"RSA of 2040 bits", jwk("k", &k.weakRSA.PublicKey), "it has 2040 bits, not 2048 to 8192", nil},
		{"RSA of 2048 bits by a leading zero", jwk("k", &k.weakRSA.PublicKey, "n", quote(b64(append([]byte{0}, k.weakRSA.N.Bytes()...)))), "it has 2040 bits", nil},
		{"RSA of 8192 bits", rsaKey.with("n", modulus(8192, 1)), "", rsaAlgorithms},
		{"RSA of 8193 bits", rsaKey.with("n", modulus(8193, 1)), "it has 8193 bits", nil},
		{"even modulus", rsaKey.with("n", modulus(2048, 0)), "an RSA modulus is odd", nil},
		{"exponent 1", rsaKey.with("e", quote(b64([]byte{1}))), "out of range", nil},
		{"exponent 2", rsaKey.with("e", quote(b64([]byte{2}))), "its exponent is odd", nil},
		{"exponent 65538", rsaKey.with("e", quote(b64([]byte{1, 0, 2}))), "its exponent is odd", nil},
		{"exponent 3", rsaKey.with("e", quote(b64([]byte{3}))), "", rsaAlgorithms},
		{"exponent of 65 bits", rsaKey.with("e", quote(b64([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1}))), "do not match", nil},
		{"no exponent", rsaKey.with("e", ""), `requires parameters`, nil},
		{"modulus no base64", rsaKey.with("n", `"!"`), "illegal base64", nil},
		{"alg for encryption", rsaKey.with("alg", `"RSA-OAEP"`), `its alg is "RSA-OAEP", not one of RS256`, nil},
		{"alg of a secret", rsaKey.with("alg", `"HS256"`), `its alg is "HS256"`, nil},
		{"alg none", rsaKey.with("alg", `"none"`), `its alg is "none"`, nil},
		{"alg empty", rsaKey.with("alg", `""`), `its alg is ""`, nil},
		{"alg of another curve", jwk("k", &k.p256.PublicKey, "alg", `"ES384"`), `its alg is "ES384", not one of ES256`, nil},
		{"P-521", jwk("k", &k.p521.PublicKey), `its type (kty "EC", crv "P-521") is none`, nil},
		{"secp256k1", jwk("k", &k.p256.PublicKey, "crv", `"secp256k1"`), `crv "secp256k1") is none`, nil},
		{"no curve", jwk("k", &k.p256.PublicKey, "crv", ""), `crv "") is none`, nil},
		{"point of another curve", jwk("k", &k.p256.PublicKey, "crv", `"P-384"`), "not on the specified curve", nil},
		{"point beside the curve", offCurve, "not on the specified curve", nil},
		{"X25519", jwk("k", k.ed25519.Public(), "crv", `"X25519"`), `crv "X25519") is none`, nil},
		{"short Ed25519", jwk("k", k.ed25519.Public(), "x", quote(b64(k.ed25519.Public().(ed25519.PublicKey)[:31]))), "should be 32 bytes", nil},
		{"Ed25519 as EC", jwk("k", k.ed25519.Public(), "kty", `"EC"`), `its type`, nil},
		{"no type", rsaKey.with("kty", ""), `its type (kty "", crv "") is none`, nil},
		{"escapes for a terminal", rsaKey.with("use", `"\u001b[2J"`), `its use is "\x1b[2J"`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := parseJWKS(jwks(jwk("good", &k.otherRSA.PublicKey), test.key))
			if err != nil {
				t.Fatal(err)
			}
			if set.keys["good"] == nil {
				t.Error("the good key is gone")
			}
			if test.want == "" {
				if got := set.keys["k"]; got == nil || len(set.dropped) != 0 {
					t.Fatalf("dropped: %v", set.dropped)
				} else if !slices.Equal(got.algorithms, test.algs) {
					t.Errorf("usable with %v, want %v", got.algorithms, test.algs)
				}
				return
			}
			if len(set.keys) != 1 || len(set.dropped) != 1 || !strings.Contains(set.dropped[0], test.want) || !strings.HasPrefix(set.dropped[0], "key 2") {
				t.Errorf("%d keys, dropped %q, want %q", len(set.keys), set.dropped, test.want)
			}
		})
	}
}

func TestJWKS(t *testing.T) {
	k := keyPairs()
	a, b := jwk("a", &k.rsa.PublicKey), jwk("b", &k.otherRSA.PublicKey)
	for _, test := range []struct {
		name, text string
		want       []string // kids
		err        string
	}{
		{"two", string(jwks(a, b)), []string{"a", "b"}, ""},
		{"kid twice", string(jwks(a, b, a)), []string{"b"}, ""},
		{"kid twice, escaped", string(jwks(a, b, a.with("kid", `"\u0061"`))), []string{"b"}, ""},
		{"kid thrice", string(jwks(a, a, a, b)), []string{"b"}, ""},
		{"kid twice, once not usable", string(jwks(a, a.with("use", `"enc"`), b)), []string{"b"}, ""},
		{"kid twice, first not usable", string(jwks(a.with("use", `"enc"`), a, b)), []string{"b"}, ""},
		{"no object among the keys", `{"keys":[1,` + a.String() + `,null]}`, []string{"a"}, ""},
		{"more beside the keys", `{"keys":[` + a.String() + `],"x":{"y":1}}`, []string{"a"}, ""},

		{"nothing", "", nil, "byte 0: this is not a JSON object"},
		{"HTML", "<html>", nil, "byte 0: this is not a JSON object"},
		{"keys missing", `{}`, nil, "no array named keys"},
		{"keys in another case", `{"Keys":[` + a.String() + `]}`, nil, "no array named keys"},
		{"keys no array", `{"keys":{}}`, nil, "no array named keys"},
		{"a key by itself", a.String(), nil, "no array named keys"},
		{"no key", `{"keys":[]}`, nil, "the key set holds no usable key"},
		{"no usable key", string(jwks(a.with("use", `"enc"`))), nil, `no usable key; key 1 (kid "a"): its use is "enc"`},
		{"one kid only, twice", string(jwks(a, a)), nil, "no usable key; key 2 (kid \"a\"): the kid stands twice in the set"},
		{"name twice", `{"keys":[{"kid":"a","kid":"b"}]}`, nil, "a name stands twice"},
		{"keys twice", `{"keys":[],"keys":[]}`, nil, "a name stands twice"},
		{"too many", `{"keys":[` + strings.Repeat("1,", maxKeys) + `1]}`, nil, "holds 257 keys, more than 256"},
		{"cut", strings.TrimSuffix(string(jwks(a)), "}"), nil, "a comma or the end of the object is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := parseJWKS([]byte(test.text))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(maps.Keys(set.keys)); !slices.Equal(got, test.want) {
				t.Errorf("keys %v, want %v; dropped %q", got, test.want, set.dropped)
			}
		})
	}
}

func TestFileKeys(t *testing.T) {
	k := keyPairs()
	keys := NewFileKeys("keys.json", nop)
	v := verifierOf(t, issuerOf(keys))
	rs, other := token(header(), claims("exp", "253402300799")), header("kid", `"other"`)
	wantOutcome(t, v, rs, now, "keys-unavailable (token)")
	if s := keys.Status(); s.Source != "keys.json" || s.Keys != 0 || !s.Confirmed.IsZero() || s.Age(now) < 1<<62 {
		t.Errorf("%+v", s)
	}

	text := jwks(jwk("rsa", &k.rsa.PublicKey), jwk("x", &k.rsa.PublicKey, "use", `"enc"`))
	load := func(text []byte, at time.Duration, want string) {
		t.Helper()
		if err := keys.Load(text, now.Add(at)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want %q", err, want)
		}
	}
	load(text, 0, "")
	wantOutcome(t, v, rs, now.Add(time.Hour), "")
	wantOutcome(t, v, rs, now.Add(time.Hour+1), "keys-unavailable (token)")
	wantOutcome(t, v, token(other, claims()), now, "token-key-unknown (token)")
	if s := keys.Status(); s.Keys != 1 || len(s.Dropped) != 1 || s.Age(now.Add(time.Minute)) != time.Minute || s.Err != nil {
		t.Errorf("%+v", s)
	}

	// Read again and found equal: as good as new.
	load(bytes.Clone(text), time.Hour, "")
	wantOutcome(t, v, rs, now.Add(2*time.Hour), "")

	// Broken and newer: what is held stays, and ages.
	load([]byte("{"), 2*time.Hour, "not a key set")
	load(jwks(), 2*time.Hour, "no usable key")
	wantOutcome(t, v, rs, now.Add(2*time.Hour), "")
	wantOutcome(t, v, rs, now.Add(2*time.Hour+1), "keys-unavailable (token)")
	if s := keys.Status(); s.Keys != 1 || s.Age(now.Add(2*time.Hour)) != time.Hour || s.Err == nil || !strings.Contains(s.Err.Error(), "no usable key") {
		t.Errorf("%+v", s)
	}

	// The one that is held, again.
	load(text, 3*time.Hour, "")
	wantOutcome(t, v, rs, now.Add(3*time.Hour), "")
	if s := keys.Status(); s.Err != nil {
		t.Errorf("%+v", s)
	}

	// Rotated.
	load(jwks(jwk("other", &k.rsa.PublicKey)), 3*time.Hour, "")
	wantOutcome(t, v, rs, now.Add(3*time.Hour), "token-key-unknown (token)")
	wantOutcome(t, v, token(other, claims("exp", "253402300799")), now.Add(3*time.Hour), "")
}

// FuzzJWKS: no document makes the parser panic, and no key gets in that the rules forbid.
func FuzzJWKS(f *testing.F) {
	k := keyPairs()
	f.Add(allKeys())
	f.Add(jwks(jwk("a", &k.weakRSA.PublicKey), jwk("b", &k.p521.PublicKey)))
	f.Add(jwks(jwk("a", &k.rsa.PublicKey, "alg", `"RS256"`, "key_ops", `["verify"]`)))
	f.Add(jwks(jwk("a", &k.rsa.PublicKey, "d", `"AQAB"`), object{"kty": `"oct"`, "k": `"AA"`, "kid": `"o"`}))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":"","kid":"e"},{"kty":"RSA","n":"AA","e":"AQAB","kid":"r"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseJWKS(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatal("accepted, and it is not JSON")
		}
		for kid, k := range set.keys {
			if kid == "" || len(k.algorithms) == 0 {
				t.Fatalf("key %q with algorithms %v", kid, k.algorithms)
			}
			for _, name := range k.algorithms {
				// Neither a panic nor a yes for a signature of nothing.
				if err := algorithmNamed(name).method.Verify("x", []byte(fmt.Sprintf("%0512d", 0)), k.public); err == nil {
					t.Fatalf("%s of key %q verifies anything", name, kid)
				}
			}
		}
	})
}
