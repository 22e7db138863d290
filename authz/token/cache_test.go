package token

import (
	"context"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// remembered reports whether the verifier holds the credential, by the identity of what
// it answers twice.
func remembered(t *testing.T, v *Verifier, credential string, at time.Time) bool {
	t.Helper()
	first, err := v.VerifyToken(context.Background(), credential, at)
	if err != nil {
		t.Fatal(err)
	}
	second, err := v.VerifyToken(context.Background(), credential, at)
	if err != nil {
		t.Fatal(err)
	}
	return first == second
}

func TestCache(t *testing.T) {
	k := keyPairs()
	text := allKeys()
	keys := fileKeys(t, text, now)
	v := verifierOf(t, issuerOf(keys))
	good := token(header(), claims())
	if !remembered(t, v, good, now) {
		t.Fatal("a good token is not remembered")
	}

	t.Run("times are judged again", func(t *testing.T) {
		wantOutcome(t, v, good, now.Add(5*time.Minute), "token-expired (claim.exp)")
		wantOutcome(t, v, good, now.Add(-time.Second), "token-not-yet-valid (claim.nbf)")
		wantOutcome(t, v, good, now, "")
	})
	t.Run("the same content keeps what is remembered", func(t *testing.T) {
		before, _ := v.VerifyToken(context.Background(), good, now)
		if err := keys.Load(text, now); err != nil {
			t.Fatal(err)
		}
		if after, _ := v.VerifyToken(context.Background(), good, now); after != before {
			t.Error("the token was verified again")
		}
	})
	t.Run("keys too old", func(t *testing.T) {
		long := token(header(), claims("exp", "253402300799"))
		if !remembered(t, v, long, now) {
			t.Fatal("not remembered")
		}
		wantOutcome(t, v, long, now.Add(time.Hour), "")
		wantOutcome(t, v, long, now.Add(time.Hour+1), "keys-unavailable (token)")
	})
	t.Run("the key replaced under its kid", func(t *testing.T) {
		if err := keys.Load(jwks(jwk("rsa", &k.otherRSA.PublicKey)), now); err != nil {
			t.Fatal(err)
		}
		wantOutcome(t, v, good, now, "token-signature-invalid (token)")
	})
	t.Run("the key back", func(t *testing.T) {
		if err := keys.Load(jwks(jwk("rsa", &k.rsa.PublicKey)), now); err != nil {
			t.Fatal(err)
		}
		if !remembered(t, v, good, now) {
			t.Error("not remembered")
		}
	})
	t.Run("the key bound to another algorithm", func(t *testing.T) {
		if err := keys.Load(jwks(jwk("rsa", &k.rsa.PublicKey, "alg", `"PS256"`)), now); err != nil {
			t.Fatal(err)
		}
		wantOutcome(t, v, good, now, "token-algorithm-refused (token)")
	})
	t.Run("the key gone", func(t *testing.T) {
		if err := keys.Load(jwks(jwk("p256", &k.p256.PublicKey)), now); err != nil {
			t.Fatal(err)
		}
		wantOutcome(t, v, good, now, "token-key-unknown (token)")
	})
}

// TestFailuresAreNotRemembered: a token that was refused is judged anew, with what is
// known then.
func TestFailuresAreNotRemembered(t *testing.T) {
	k := keyPairs()
	keys := fileKeys(t, jwks(jwk("other", &k.rsa.PublicKey)), now)
	v := verifierOf(t, issuerOf(keys))
	good := compact(jwt.SigningMethodRS256, k.rsa, header(), claims())
	wantOutcome(t, v, good, now, "token-key-unknown (token)")
	wantOutcome(t, v, good, now.Add(time.Hour+1), "keys-unavailable (token)")
	if err := keys.Load(allKeys(), now); err != nil {
		t.Fatal(err)
	}
	wantOutcome(t, v, good, now.Add(time.Hour), "token-expired (claim.exp)")
	wantOutcome(t, v, good, now, "")

	for range 3 {
		wantOutcome(t, v, compact(jwt.SigningMethodRS256, k.otherRSA, header(), claims()), now, "token-signature-invalid (token)")
		wantOutcome(t, v, token(header(), claims("aud", `"https://other.example"`)), now, "token-audience-wrong (claim.aud)")
	}
	v.cache.CleanUp()
	if n := v.cache.EstimatedSize(); n != 1 {
		t.Errorf("%d tokens are remembered, want the good one alone", n)
	}
}

// TestCacheIsBounded: an issuer's tokens, however many, take no more memory than was given.
func TestCacheIsBounded(t *testing.T) {
	const entries = 8
	is := issuerOf(fileKeys(t, allKeys(), now))
	v, err := New(Config{Issuers: []Issuer{is}, CacheEntries: entries})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 * entries {
		credential := compact(jwt.SigningMethodEdDSA, keyPairs().ed25519, header("alg", `"EdDSA"`, "kid", `"ed25519"`), claims("jti", quote(string(rune('A'+i)))))
		wantOutcome(t, v, credential, now, "")
	}
	v.cache.CleanUp()
	if n := v.cache.EstimatedSize(); n > entries {
		t.Errorf("%d entries, more than %d", n, entries)
	}
}
