package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// BenchmarkVerifyToken: what a token costs that is remembered (warm), one that is seen
// for the first time (cold), and the check of its signature alone, which no verifier
// can be quicker than (baseline).
func BenchmarkVerifyToken(b *testing.B) {
	k := keyPairs()
	v := verifierOf(b, issuerOf(fileKeys(b, allKeys(), now)))
	ctx := context.Background()
	for _, bench := range []struct {
		name     string
		signer   any
		baseline func(signed string, signature []byte) bool
	}{
		{"RS256", k.rsa, func(signed string, signature []byte) bool {
			sum := sha256.Sum256([]byte(signed))
			return rsa.VerifyPKCS1v15(&k.rsa.PublicKey, crypto.SHA256, sum[:], signature) == nil
		}},
		{"PS256", k.rsa, func(signed string, signature []byte) bool {
			sum := sha256.Sum256([]byte(signed))
			return rsa.VerifyPSS(&k.rsa.PublicKey, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}},
		{"ES256", k.p256, func(signed string, signature []byte) bool {
			sum := sha256.Sum256([]byte(signed))
			return ecdsa.Verify(&k.p256.PublicKey, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		}},
		{"EdDSA", k.ed25519, func(signed string, signature []byte) bool {
			return ed25519.Verify(k.ed25519.Public().(ed25519.PublicKey), []byte(signed), signature)
		}},
	} {
		kid := map[string]string{"ES256": "p256", "EdDSA": "ed25519"}[bench.name]
		if kid == "" {
			kid = "rsa"
		}
		method := jwt.GetSigningMethod(bench.name)
		h := header("alg", quote(bench.name), "kid", quote(kid))
		credential := compact(method, bench.signer, h, claims("jti", `"0"`))
		b.Run(bench.name+"/warm", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.VerifyToken(ctx, credential, now); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bench.name+"/cold", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.cache.InvalidateAll()
				if _, err := v.VerifyToken(ctx, credential, now); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bench.name+"/baseline", func(b *testing.B) {
			u, _ := parse(credential)
			b.ReportAllocs()
			for b.Loop() {
				if !bench.baseline(u.signed, u.signature) {
					b.Fatal("the signature is not good")
				}
			}
		})
	}
	b.Run("refused/unsigned", func(b *testing.B) {
		credential := token(header("kid", `"x"`), claims())
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.VerifyToken(ctx, credential, now); err == nil {
				b.Fatal("accepted")
			}
		}
	})
	b.Run("refused/16kB", func(b *testing.B) {
		credential := token(header("kid", `"x"`), claims("x", "["+strings.Repeat(`{"a":1},`, 300)+fmt.Sprintf("%q]", strings.Repeat("p", 8000))))
		b.ReportAllocs()
		b.SetBytes(int64(len(credential)))
		for b.Loop() {
			if _, err := v.VerifyToken(ctx, credential, now); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}

// TestWarmPathAllocates nothing: it runs once for every request.
func TestWarmPathAllocates(t *testing.T) {
	v := verifierOf(t, issuerOf(fileKeys(t, allKeys(), now)))
	ctx, credential := context.Background(), token(header(), claims())
	wantOutcome(t, v, credential, now, "")
	if n := testing.AllocsPerRun(1000, func() { _, _ = v.VerifyToken(ctx, credential, now) }); n != 0 {
		t.Errorf("%v allocations for a token that is remembered, want none", n)
	}
}
