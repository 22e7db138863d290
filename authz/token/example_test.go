package token_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"

	"asid-authz/authz/token"
)

func Example() {
	public, private, _ := ed25519.GenerateKey(nil)
	now := time.Now()

	keys := token.NewFileKeys("cas.json", zap.NewNop())
	err := keys.Load(fmt.Appendf(nil, `{"keys":[{"kid":"cas-1","use":"sig","kty":"OKP","crv":"Ed25519","x":"%s"}]}`,
		base64.RawURLEncoding.EncodeToString(public)), now)
	if err != nil {
		fmt.Println(err)
	}
	verifier, err := token.New(token.Config{Issuers: []token.Issuer{{
		Name:       "https://cas.example.nhs.uk",
		Keys:       keys,
		MaxKeyAge:  24 * time.Hour,
		Algorithms: []string{"EdDSA"},
		Audiences:  []string{"https://api.example.nhs.uk"},
	}}})
	if err != nil {
		fmt.Println(err)
	}

	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "https://cas.example.nhs.uk",
		"aud": "https://api.example.nhs.uk",
		"exp": now.Add(time.Minute).Unix(),
		"azp": "client-1",
	})
	t.Header["kid"] = "cas-1"
	credential, _ := t.SignedString(private)

	claims, err := verifier.VerifyToken(context.Background(), credential, now)
	fmt.Println(claims.All[1], err) // in the order of the token
	_, err = verifier.VerifyToken(context.Background(), credential, now.Add(time.Minute))
	fmt.Println(err)
	// Output:
	// {azp 1 client-1} <nil>
	// token-expired (claim.exp)
}
