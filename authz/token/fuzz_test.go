package token

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"asid-authz/authz"
)

// FuzzVerifyToken: nothing makes it panic, every error is a Fault, and it accepts what
// the issuer signed and no other byte. What was signed is header and payload; in an
// ECDSA signature (r, s) anybody can replace s by its negative, so those are held to
// that, and the others to every byte.
//
// The keys are fixed: what one process has found another one must understand.
func FuzzVerifyToken(f *testing.F) {
	edwards := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	p256 := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32)))
	keys := jwks(jwk("edwards", edwards.Public()), jwk("p256", &p256.PublicKey))

	good := []object{
		claims(),
		claims("cnf", `{"x5t#S256":"AA"}`, "aud", `["x",`+quote(api)+`]`, "a\u00e9", `[{"b":null}]`),
	}
	whole, texts := map[string]bool{}, map[string]bool{}
	for _, payload := range good {
		credential := compact(jwt.SigningMethodEdDSA, edwards, header("alg", `"EdDSA"`, "kid", `"edwards"`), payload)
		whole[credential] = true
		f.Add(credential)
		credential = compact(jwt.SigningMethodES256, p256, header("alg", `"ES256"`, "kid", `"p256"`, "typ", `"at+jwt"`), payload)
		texts[credential[:strings.LastIndexByte(credential, '.')]] = true
		f.Add(credential)
	}
	for _, credential := range []string{"", "..", "a.b.c", "e30.e30.AA"} {
		f.Add(credential)
	}
	for _, h := range []fmt.Stringer{header("alg", `"none"`), header("crit", `["x"]`), header("kid", `"x"`), raw(`{"alg":"EdDSA","alg":"EdDSA"}`)} {
		f.Add(compact(jwt.SigningMethodEdDSA, edwards, h, claims()))
	}
	for _, payload := range []fmt.Stringer{raw(`{"iss":1,"iss":2}`), claims("exp", "1e99"), claims("aud", "{}"), claims("iss", "")} {
		f.Add(compact(jwt.SigningMethodEdDSA, edwards, header("alg", `"EdDSA"`, "kid", `"edwards"`), payload))
	}
	v := verifierOf(f, issuerOf(fileKeys(f, keys, now)))
	for credential := range whole {
		wantOutcome(f, v, credential, now, "")
	}
	f.Fuzz(func(t *testing.T, credential string) {
		c, err := v.VerifyToken(context.Background(), credential, now)
		if err != nil {
			fault, is := errors.AsType[*authz.Fault](err)
			if !is || c != nil || fault.Reason == authz.Undecided || fault.Field == "" {
				t.Fatalf("%v beside %v", err, c)
			}
			return
		}
		if !whole[credential] && !texts[credential[:strings.LastIndexByte(credential, '.')]] {
			t.Fatal("accepted, and nobody signed it")
		}
	})
}

// FuzzSigned: whatever an issuer signs, what is accepted says to encoding/json, too, that
// it is from that issuer, for us, and valid now.
func FuzzSigned(f *testing.F) {
	edwards := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	good := header("alg", `"EdDSA"`, "kid", `"edwards"`).String()
	for _, payload := range []object{
		claims(), claims("aud", `["x",`+quote(api)+`]`), claims("cnf", `{"x5t#S256":"AA"}`), claims("exp", "253402300799"),
		claims("exp", "1e99"), claims("nbf", "-1"), claims("aud", "[1]"), claims("nonce", `""`, "tokenName", `"access_token"`), claims("azp", "{}"),
	} {
		f.Add(good, payload.String())
	}
	f.Add(`{"alg":"EdDSA","kid":"edwards","crit":[]}`, claims().String())
	v := verifierOf(f, issuerOf(fileKeys(f, jwks(jwk("edwards", edwards.Public())), now)))
	f.Fuzz(func(t *testing.T, header, payload string) {
		c, err := v.VerifyToken(context.Background(), compact(jwt.SigningMethodEdDSA, edwards, raw(header), raw(payload)), now)
		if err != nil {
			return
		}
		var h, p map[string]any
		if json.Unmarshal([]byte(header), &h) != nil || json.Unmarshal([]byte(payload), &p) != nil {
			t.Fatal("accepted, and encoding/json does not")
		}
		audience, several := p["aud"].([]any)
		switch exp, _ := p["exp"].(float64); {
		case h["crit"] != nil || h["alg"] != "EdDSA":
			t.Errorf("accepted with header %v", h)
		case p["iss"] != cas || p["aud"] != api && !(several && slices.Contains(audience, any(api))):
			t.Errorf("accepted for issuer %v and audience %v", p["iss"], p["aud"])
		case exp <= float64(now.Unix()) || exp != math.Trunc(exp):
			t.Errorf("accepted until %v", p["exp"])
		case len(c.All) != len(p):
			t.Errorf("%d claims, encoding/json has %d", len(c.All), len(p))
		case c.HasConfirmation != (p["cnf"] != nil):
			t.Errorf("HasConfirmation %v beside %v", c.HasConfirmation, p["cnf"])
		}
	})
}
