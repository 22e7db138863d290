package token

import (
	"crypto/rsa"

	"github.com/golang-jwt/jwt/v5"
)

// An algorithm is one that a token may be signed with.
type algorithm struct {
	name   string
	method jwt.SigningMethod
}

// algorithms are all there are. Neither none nor a HMAC is among them: with the latter
// whoever may verify may sign, and a public key could be taken for its secret.
var algorithms = []algorithm{
	{"RS256", jwt.SigningMethodRS256},
	{"RS384", jwt.SigningMethodRS384},
	{"RS512", jwt.SigningMethodRS512},
	{"PS256", pss(jwt.SigningMethodPS256)},
	{"PS384", pss(jwt.SigningMethodPS384)},
	{"PS512", pss(jwt.SigningMethodPS512)},
	{"ES256", jwt.SigningMethodES256},
	{"ES384", jwt.SigningMethodES384},
	{"EdDSA", jwt.SigningMethodEdDSA},
}

// What a key may be used with. The curve decides: ES256 is P-256 and no other.
var (
	rsaAlgorithms     = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	p256Algorithms    = []string{"ES256"}
	p384Algorithms    = []string{"ES384"}
	ed25519Algorithms = []string{"EdDSA"}
)

// pss returns the method with the salt that RFC 7518 §3.5 wants, as long as the hash;
// the library's own verifies a salt of any length.
func pss(m *jwt.SigningMethodRSAPSS) *jwt.SigningMethodRSAPSS {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: m.SigningMethodRSA,
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

// algorithmNamed returns the algorithm of that name, or nil.
func algorithmNamed(name string) *algorithm {
	for i := range algorithms {
		if algorithms[i].name == name {
			return &algorithms[i]
		}
	}
	return nil
}

// Algorithms returns the names that an issuer's Algorithms may hold.
func Algorithms() []string {
	names := make([]string, len(algorithms))
	for i := range algorithms {
		names[i] = algorithms[i].name
	}
	return names
}
