package authztest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// An Issuer signs tokens, as they should be and as they should not.
type Issuer struct {
	Name string
	keys []issuerKey
}

type issuerKey struct {
	kid, alg string
	key      crypto.Signer
}

// NewIssuer returns an issuer without keys.
func NewIssuer(name string) *Issuer { return &Issuer{Name: name} }

// AddKey makes a key for the algorithm: RSA with 2048 bits, P-256, P-384 or Ed25519.
func (i *Issuer) AddKey(alg, kid string) error {
	key, err := newKey(alg)
	if err != nil {
		return err
	}
	i.keys = append(i.keys, issuerKey{kid, alg, key})
	return nil
}

func newKey(alg string) (crypto.Signer, error) {
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("no key is made for algorithm %q", alg)
}

// JWKS returns the public keys as a JSON Web Key Set.
func (i *Issuer) JWKS() []byte {
	set := jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{}}
	for _, k := range i.keys {
		set.Keys = append(set.Keys, publicJWK(k))
	}
	return must(json.MarshalIndent(set, "", "  "))
}

func publicJWK(k issuerKey) jwkset.JWKMarshal {
	return must(jwkset.NewJWKFromKey(k.key.Public(), jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.ALG(k.alg), KID: k.kid, USE: jwkset.UseSig},
	})).Marshal()
}

// Sign returns a token with that header, to which alg and kid are added unless it has
// them, and those claims. Two algorithms are attacks: "none" leaves the signature
// empty, "HS256" signs with the PEM of the kid's public key, which everybody has.
func (i *Issuer) Sign(alg, kid string, header, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	return i.SignPayload(alg, kid, header, payload)
}

// SignPayload is Sign for a payload that no map can hold: a name twice, or no JSON.
func (i *Issuer) SignPayload(alg, kid string, header map[string]any, payload []byte) (string, error) {
	k, err := i.key(kid)
	if err != nil {
		return "", err
	}
	return sign(alg, kid, k.key, header, payload)
}

// Forge is SignPayload with a key that the issuer never had, under the kid of one
// that it has. embed puts the public key into the header, for whoever believes it.
func (i *Issuer) Forge(alg, kid string, embed bool, header map[string]any, payload []byte) (string, error) {
	k, err := i.key(kid)
	if err != nil {
		return "", err
	}
	other, err := newKey(k.alg)
	if err != nil {
		return "", err
	}
	if embed {
		header = maps.Clone(header)
		if header == nil {
			header = map[string]any{}
		}
		header["jwk"] = publicJWK(issuerKey{kid, k.alg, other})
	}
	return sign(alg, kid, other, header, payload)
}

func (i *Issuer) key(kid string) (issuerKey, error) {
	for _, k := range i.keys {
		if k.kid == kid {
			return k, nil
		}
	}
	return issuerKey{}, fmt.Errorf("issuer %s has no key %q", i.Name, kid)
}

func sign(alg, kid string, key crypto.Signer, header map[string]any, payload []byte) (string, error) {
	complete := map[string]any{"alg": alg, "kid": kid}
	for name, value := range header {
		complete[name] = value
	}
	head, err := json.Marshal(complete)
	if err != nil {
		return "", err
	}
	text := encode(head) + "." + encode(payload)
	var secret any = key
	switch alg {
	case "none":
		return text + ".", nil
	case "HS256":
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return "", err
		}
		secret = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	}
	method := jwt.GetSigningMethod(alg)
	if method == nil {
		return "", fmt.Errorf("no algorithm is named %q", alg)
	}
	signature, err := method.Sign(text, secret)
	if err != nil {
		return "", fmt.Errorf("%s with key %s: %w", alg, kid, err)
	}
	return text + "." + encode(signature), nil
}

// BreakSignature returns the token with one bit of its signature turned over.
func BreakSignature(token string) string {
	dot := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil || len(signature) == 0 {
		return token
	}
	signature[0] ^= 1
	return token[:dot+1] + encode(signature)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
