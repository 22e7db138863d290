package token

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"asid-authz/authz"
)

var _ authz.TokenVerifier = (*Verifier)(nil)

// TestReasons breaks a good token in one way at a time.
func TestReasons(t *testing.T) {
	good := token(header(), claims())
	k := keyPairs()
	spki := must(x509.MarshalPKIXPublicKey(&k.rsa.PublicKey))
	at := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	many := func(n int) object {
		o := claims()
		for i := len(o); i < n; i++ {
			o[fmt.Sprint("c", i)] = "1"
		}
		return o
	}
	part := func(i int, change func(string) string) string {
		parts := strings.Split(good, ".")
		parts[i] = change(parts[i])
		return strings.Join(parts, ".")
	}
	appended := func(s string) func(string) string { return func(p string) string { return p + s } }
	// stray sets a bit of the last character that no byte needs.
	stray := func(p string) string {
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		return p[:len(p)-1] + string(alphabet[strings.IndexByte(alphabet, p[len(p)-1])|1])
	}
	const tokenMalformed = "token-malformed (token)"
	claimText := strings.TrimSuffix(claims().String(), "}")

	for _, test := range []struct{ name, credential, want string }{
		{"good", good, ""},

		{"empty", "", tokenMalformed},
		{"no dots", "abc", tokenMalformed},
		{"two parts", good[:strings.LastIndexByte(good, '.')], tokenMalformed},
		{"four parts", good + ".", tokenMalformed},
		{"five parts, as of a JWE", good + ".AA.AA", tokenMalformed},
		{"empty signature", good[:strings.LastIndexByte(good, '.')+1], tokenMalformed},
		{"empty header", part(0, func(string) string { return "" }), tokenMalformed},
		{"empty payload", part(1, func(string) string { return "" }), tokenMalformed},
		{"only dots", "..", tokenMalformed},
		{"at the largest size", padded(authz.MaxCredential), ""},
		{"larger", padded(authz.MaxCredential + 1), tokenMalformed},
		{"16 kB of dots", strings.Repeat(".", authz.MaxCredential), tokenMalformed},
		{"padding", part(2, appended("==")), tokenMalformed},
		{"line end", part(2, appended("\n")), tokenMalformed},
		{"line end within", good[:50] + "\r\n" + good[50:], tokenMalformed},
		{"blank", good + " ", tokenMalformed},
		{"base64 of the other alphabet", part(2, appended("+")), tokenMalformed},
		{"length that no encoding has", part(2, func(p string) string { return p + strings.Repeat("A", (5-len(p)%4)%4) }), tokenMalformed},
		{"stray bits", part(2, stray), tokenMalformed},
		{"padding in the payload", part(1, appended("=")), tokenMalformed},
		{"payload of a length that no encoding has", part(1, func(string) string { return "A" }), tokenMalformed},
		{"header of a length that no encoding has", part(0, func(string) string { return "A" }), tokenMalformed},

		{"header not JSON", token(raw("alg"), claims()), tokenMalformed},
		{"header an array", token(raw("[]"), claims()), tokenMalformed},
		{"header with more behind it", token(raw(header().String()+"{}"), claims()), tokenMalformed},
		{"name twice in the header", token(raw(`{"alg":"RS256","kid":"rsa","alg":"RS256"}`), claims()), tokenMalformed},
		{"name twice in the header, once escaped", token(raw(`{"alg":"RS256","kid":"rsa","\u0061lg":"none"}`), claims()), tokenMalformed},
		{"no alg", token(header("alg", ""), claims()), tokenMalformed},
		{"alg no text", token(header("alg", "256"), claims()), tokenMalformed},
		{"alg of another case has no effect", token(raw(`{"ALG":"none","alg":"RS256","kid":"rsa"}`), claims()), ""},
		{"no kid", token(header("kid", ""), claims()), tokenMalformed},
		{"kid empty", token(header("kid", `""`), claims()), tokenMalformed},
		{"kid no text", token(header("kid", "1"), claims()), tokenMalformed},
		{"crit", token(header("crit", `["exp"]`), claims()), tokenMalformed},
		{"crit empty", token(header("crit", `[]`), claims()), tokenMalformed},
		{"b64", token(header("b64", `false`), claims()), tokenMalformed},
		{"b64 true", token(header("b64", `true`), claims()), tokenMalformed},
		{"no typ", token(header("typ", ""), claims()), ""},
		{"typ at+jwt", token(header("typ", `"at+jwt"`), claims()), ""},
		{"typ in full", token(header("typ", `"Application/AT+JWT"`), claims()), ""},
		{"typ logout", token(header("typ", `"logout+jwt"`), claims()), tokenMalformed},
		{"typ dpop", token(header("typ", `"dpop+jwt"`), claims()), tokenMalformed},
		{"typ no text", token(header("typ", `null`), claims()), tokenMalformed},

		{"payload not JSON", token(header(), raw("x")), tokenMalformed},
		{"payload text", token(header(), raw(`"x"`)), tokenMalformed},
		{"payload null", token(header(), raw(`null`)), tokenMalformed},
		{"payload cut", token(header(), raw(claimText)), tokenMalformed},
		{"name twice in the payload", token(header(), raw(claimText+`,"exp":1}`)), tokenMalformed},
		{"name twice below", token(header(), claims("cnf", `{"a":1,"a":2}`)), tokenMalformed},
		{"name twice far below", token(header(), claims("x", `[0,{"b":[{"a":1,"a":2}]}]`)), tokenMalformed},
		{"name not UTF-8", token(header(), raw(claimText+",\"a\xff\":1}")), tokenMalformed},
		{"value not UTF-8", token(header(), raw(claimText+",\"a\":\"\xc3\"}")), tokenMalformed},
		{"name half a surrogate pair", token(header(), raw(claimText+`,"\ud800":1}`)), tokenMalformed},
		{"deep", token(header(), claims("x", nested(7))), ""},
		{"too deep", token(header(), claims("x", nested(8))), tokenMalformed},
		{"64 claims", token(header(), many(64)), ""},
		{"65 claims", token(header(), many(65)), tokenMalformed},
		{"long name", token(header(), claims(strings.Repeat("n", 256), "1")), ""},
		{"longer name", token(header(), claims(strings.Repeat("n", 257), "1")), tokenMalformed},
		{"many values", token(header(), claims("x", "["+strings.Repeat("1,", 1100)+"1]")), tokenMalformed},

		{"no iss", token(header(), claims("iss", "")), "claim-missing (claim.iss)"},
		{"iss no text", token(header(), claims("iss", "1")), "claim-malformed (claim.iss)"},
		{"iss unknown", token(header(), claims("iss", `"https://evil.example"`)), "token-issuer-unknown (claim.iss)"},
		{"iss without its port", token(header(), claims("iss", quote(strings.Replace(cas, ":443", "", 1)))), "token-issuer-unknown (claim.iss)"},
		{"iss in another case", token(header(), claims("iss", quote(strings.ToUpper(cas)))), "token-issuer-unknown (claim.iss)"},
		{"iss with a slash", token(header(), claims("iss", quote(cas+"/"))), "token-issuer-unknown (claim.iss)"},
		{"iss escaped is the same text", token(header(), claims("iss", strings.ReplaceAll(quote(cas), "/", `\/`))), ""},

		{"none", token(header("alg", `"none"`), claims()), "token-algorithm-refused (token)"},
		{"None", token(header("alg", `"None"`), claims()), "token-algorithm-refused (token)"},
		{"HS256 with the public key as secret", compact(jwt.SigningMethodHS256, spki, header("alg", `"HS256"`), claims()), "token-algorithm-refused (token)"},
		{"ES512", token(header("alg", `"ES512"`), claims()), "token-algorithm-refused (token)"},
		{"alg in lower case", token(header("alg", `"rs256"`), claims()), "token-algorithm-refused (token)"},
		{"alg of another type of key", token(header("alg", `"ES256"`), claims()), "token-algorithm-refused (token)"},
		{"alg of another curve", compact(jwt.SigningMethodES256, k.p256, header("alg", `"ES384"`, "kid", `"p256"`), claims()), "token-algorithm-refused (token)"},

		{"kid unknown", token(header("kid", `"other"`), claims()), "token-key-unknown (token)"},
		{"kid a path", token(header("kid", `"../../rsa"`), claims()), "token-key-unknown (token)"},
		{"kid in another case", token(header("kid", `"RSA"`), claims()), "token-key-unknown (token)"},
		{"embedded jwk", compact(jwt.SigningMethodRS256, k.otherRSA, header("jwk", jwk("rsa", &k.otherRSA.PublicKey).String()), claims()), "token-signature-invalid (token)"},
		{"embedded jwk of another kid", compact(jwt.SigningMethodRS256, k.otherRSA, header("kid", `"mine"`, "jwk", jwk("mine", &k.otherRSA.PublicKey).String()), claims()), "token-key-unknown (token)"},
		{"jku and x5u have no effect", token(header("jku", `"http://evil.example"`, "x5u", `"http://evil.example"`, "x5c", `["AA"]`), claims()), ""},

		{"signature of another key", compact(jwt.SigningMethodRS256, k.otherRSA, header(), claims()), "token-signature-invalid (token)"},
		{"signature cut", part(2, func(p string) string { return b64(must(base64.RawURLEncoding.DecodeString(p))[:255]) }), "token-signature-invalid (token)"},
		{"signature of one byte", part(2, func(string) string { return "AA" }), "token-signature-invalid (token)"},
		{"payload exchanged", part(1, func(string) string { return b64([]byte(claims("sub", `"x"`).String())) }), "token-signature-invalid (token)"},
		{"header exchanged", part(0, func(string) string { return b64([]byte(header("typ", "").String())) }), "token-signature-invalid (token)"},
		{"signed with another hash", compact(jwt.SigningMethodRS512, k.rsa, header(), claims()), "token-signature-invalid (token)"},
		{"PSS for PKCS1", compact(jwt.SigningMethodPS256, k.rsa, header(), claims()), "token-signature-invalid (token)"},
		{"PSS with a long salt", compact(longSalt, k.rsa, header("alg", `"PS256"`), claims()), "token-signature-invalid (token)"},

		{"no aud", token(header(), claims("aud", "")), "claim-missing (claim.aud)"},
		{"aud of others", token(header(), claims("aud", `"https://other.example"`)), "token-audience-wrong (claim.aud)"},
		{"aud empty", token(header(), claims("aud", `""`)), "token-audience-wrong (claim.aud)"},
		{"aud no one", token(header(), claims("aud", `[]`)), "token-audience-wrong (claim.aud)"},
		{"aud with more behind it", token(header(), claims("aud", quote(api+"/"))), "token-audience-wrong (claim.aud)"},
		{"aud among several", token(header(), claims("aud", `["https://other.example",`+quote(api)+`]`)), ""},
		{"aud of a number", token(header(), claims("aud", `1`)), "claim-malformed (claim.aud)"},
		{"aud with a number", token(header(), claims("aud", `[`+quote(api)+`,1]`)), "claim-malformed (claim.aud)"},
		{"azp no text", token(header(), claims("azp", `["client-1"]`)), "claim-malformed (claim.azp)"},
		{"client_id no text", token(header(), claims("client_id", `null`)), "claim-malformed (claim.client_id)"},

		{"no exp", token(header(), claims("exp", "")), "claim-missing (claim.exp)"},
		{"exp now", token(header(), claims("exp", at(0))), "token-expired (claim.exp)"},
		{"exp in a second", token(header(), claims("exp", at(time.Second))), ""},
		{"exp 0", token(header(), claims("exp", "0")), "token-expired (claim.exp)"},
		{"exp text", token(header(), claims("exp", quote(at(time.Minute)))), "claim-malformed (claim.exp)"},
		{"exp with a fraction", token(header(), claims("exp", at(time.Minute)+".0")), "claim-malformed (claim.exp)"},
		{"exp with an exponent", token(header(), claims("exp", "1e99")), "claim-malformed (claim.exp)"},
		{"exp negative", token(header(), claims("exp", "-1")), "claim-malformed (claim.exp)"},
		{"exp minus zero", token(header(), claims("exp", "-0")), "claim-malformed (claim.exp)"},
		{"exp null", token(header(), claims("exp", "null")), "claim-malformed (claim.exp)"},
		{"exp in milliseconds", token(header(), claims("exp", at(time.Minute)+"000")), "claim-malformed (claim.exp)"},
		{"exp at the end of time", token(header(), claims("exp", "253402300799")), ""},
		{"exp beyond", token(header(), claims("exp", "253402300800")), "claim-malformed (claim.exp)"},
		{"exp overflowing", token(header(), claims("exp", "18446744073709551616")), "claim-malformed (claim.exp)"},
		{"no nbf, no iat", token(header(), claims("nbf", "", "iat", "")), ""},
		{"nbf in a second", token(header(), claims("nbf", at(time.Second))), "token-not-yet-valid (claim.nbf)"},
		{"nbf true", token(header(), claims("nbf", "true")), "claim-malformed (claim.nbf)"},
		{"iat in a second", token(header(), claims("iat", at(time.Second))), "token-not-yet-valid (claim.iat)"},
		{"iat with a fraction", token(header(), claims("iat", at(0)+".5")), "claim-malformed (claim.iat)"},

		{"cnf text", token(header(), claims("cnf", `"x"`)), "claim-malformed (claim.cnf)"},
		{"cnf null", token(header(), claims("cnf", `null`)), "claim-malformed (claim.cnf)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := verifierOf(t, issuerOf(fileKeys(t, allKeys(), now)))
			wantOutcome(t, v, test.credential, now, test.want)
			wantOutcome(t, v, test.credential, now, test.want) // what the cache says is no other answer
		})
	}
}

// longSalt signs PS256 with a salt that is longer than the hash.
var longSalt = &jwt.SigningMethodRSAPSS{
	SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA,
	Options:          &rsa.PSSOptions{SaltLength: 64},
}

// padded returns a good token of that size.
func padded(size int) string {
	// A claim grows by three bytes where the token grows by four; the header takes what is left.
	for fill := range 3 {
		h := header("x", quote(strings.Repeat("h", fill)))
		base := len(token(h, claims("pad", `""`)))
		for n := (size - base) / 4 * 3; n <= (size-base)/4*3+3; n++ {
			if s := token(h, claims("pad", quote(strings.Repeat("p", n)))); len(s) == size {
				return s
			}
		}
	}
	panic("no token of that size")
}

func TestAlgorithms(t *testing.T) {
	k := keyPairs()
	signers := map[string]struct {
		kid string
		key any
	}{"RS": {"rsa", k.rsa}, "PS": {"rsa", k.rsa}, "ES256": {"p256", k.p256}, "ES384": {"p384", k.p384}, "EdDSA": {"ed25519", k.ed25519}}
	for _, name := range Algorithms() {
		t.Run(name, func(t *testing.T) {
			signer, found := signers[name]
			if !found {
				signer = signers[name[:2]]
			}
			is := issuerOf(fileKeys(t, allKeys(), now))
			is.Algorithms = []string{name}
			credential := compact(jwt.GetSigningMethod(name), signer.key, header("alg", quote(name), "kid", quote(signer.kid)), claims())
			wantOutcome(t, verifierOf(t, is), credential, now, "")

			flipped := []byte(credential)
			i := strings.LastIndexByte(credential, '.') + 5
			flipped[i] ^= 'A' ^ 'B'
			if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZ", rune(flipped[i])) {
				flipped[i] = 'A'
			}
			if string(flipped) != credential {
				wantOutcome(t, verifierOf(t, is), string(flipped), now, "token-signature-invalid (token)")
			}

			is.Algorithms = slices.DeleteFunc(Algorithms(), func(s string) bool { return s == name })
			wantOutcome(t, verifierOf(t, is), credential, now, "token-algorithm-refused (token)")
		})
	}
}

func TestClaims(t *testing.T) {
	thumbprint := sha256.Sum256([]byte("a certificate"))
	for _, test := range []struct {
		name, cnf string
		want      [32]byte
	}{
		{"certificate", `{"x5t#S256":` + quote(b64(thumbprint[:])) + `}`, thumbprint},
		{"escaped", `{"x5t\u0023S256":` + quote(b64(thumbprint[:])) + `}`, thumbprint},
		{"padded", `{"x5t#S256":` + quote(base64.URLEncoding.EncodeToString(thumbprint[:])) + `}`, [32]byte{}},
		{"in hexadecimal", `{"x5t#S256":"` + fmt.Sprintf("%x", thumbprint) + `"}`, [32]byte{}},
		{"short", `{"x5t#S256":` + quote(b64(thumbprint[:31])) + `}`, [32]byte{}},
		{"long", `{"x5t#S256":` + quote(b64(append(thumbprint[:], 0))) + `}`, [32]byte{}},
		{"line end in it", `{"x5t#S256":` + quote(b64(thumbprint[:])[:42]+"\n") + `}`, [32]byte{}},
		{"no text", `{"x5t#S256":1}`, [32]byte{}},
		{"another key beside it", `{"x5t#S256":` + quote(b64(thumbprint[:])) + `,"jkt":"x"}`, [32]byte{}},
		{"another kind", `{"jkt":"x"}`, [32]byte{}},
		{"nothing", `{}`, [32]byte{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := verifierOf(t, issuerOf(fileKeys(t, allKeys(), now)))
			c, err := v.VerifyToken(context.Background(), token(header(), claims("cnf", test.cnf)), now)
			if err != nil {
				t.Fatal(err)
			}
			if !c.HasConfirmation || c.Confirmation != test.want {
				t.Errorf("HasConfirmation %v, Confirmation %x, want %x", c.HasConfirmation, c.Confirmation, test.want)
			}
		})
	}

	v := verifierOf(t, issuerOf(fileKeys(t, allKeys(), now)))
	payload := raw(`{"iss":` + quote(cas) + `,"aud":[` + quote(api) + `],"exp":` + fmt.Sprint(now.Unix()+1) +
		`,"a\/b":"\u00e9\ud83d\ude00\n","yes":true,"no":null,"o":{"x":"y"},"":"empty"}`)
	c, err := v.VerifyToken(context.Background(), token(header(), payload), now)
	if err != nil {
		t.Fatal(err)
	}
	want := &authz.Claims{All: []authz.Claim{
		{Name: "iss", Kind: authz.ClaimString, Text: cas},
		{Name: "aud"},
		{Name: "exp"},
		{Name: "a/b", Kind: authz.ClaimString, Text: "é😀\n"},
		{Name: "yes"},
		{Name: "no"},
		{Name: "o"},
		{Name: "", Kind: authz.ClaimString, Text: "empty"},
	}}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(authz.Claims{})); diff != "" {
		t.Error(diff)
	}
}

func TestIDTokens(t *testing.T) {
	atJWT := header("typ", `"at+jwt"`)
	for _, test := range []struct {
		name                       string
		header, claims             object
		want, whenIDTokensAreMeant string
	}{
		{"CIS2 ID token", header(), claims("tokenName", `"id_token"`), "claim-malformed (claim.tokenName)", ""},
		{"CIS2 ID token with hashes", header(), claims("tokenName", `"id_token"`, "at_hash", `"x"`), "claim-malformed (claim.tokenName)", ""},
		{"CIS2 access token", header(), claims("tokenName", `"access_token"`, "nonce", `"x"`), "", ""},
		{"CIS2 refresh token", header(), claims("tokenName", `"refresh_token"`), "claim-malformed (claim.tokenName)", "claim-malformed (claim.tokenName)"},
		{"tokenName no text", header(), claims("tokenName", `["access_token"]`), "claim-malformed (claim.tokenName)", "claim-malformed (claim.tokenName)"},
		{"tokenName the text of an array", header(), claims("tokenName", `["id_token"]`), "claim-malformed (claim.tokenName)", "claim-malformed (claim.tokenName)"},
		{"Cognito ID token", header(), claims("token_use", `"id"`), "claim-malformed (claim.token_use)", ""},
		{"Cognito access token", header(), claims("token_use", `"access"`), "", ""},
		{"Keycloak ID token", header(), claims("typ", `"ID"`), "claim-malformed (claim.typ)", ""},
		{"Keycloak access token", header(), claims("typ", `"Bearer"`, "nonce", `"x"`), "", ""},
		{"typ that says nothing", header(), claims("typ", `"JWT"`), "", ""},
		{"at_hash", header(), claims("at_hash", `"x"`), "claim-malformed (claim.at_hash)", ""},
		{"c_hash", header(), claims("c_hash", `null`), "claim-malformed (claim.c_hash)", ""},
		{"s_hash", header(), claims("s_hash", `"x"`), "claim-malformed (claim.s_hash)", ""},
		{"at_hash in what calls itself an access token", atJWT, claims("at_hash", `"x"`), "claim-malformed (claim.at_hash)", ""},
		{"nonce", header(), claims("nonce", `"x"`), "claim-malformed (claim.nonce)", ""},
		{"nonce in an access token", atJWT, claims("nonce", `"x"`), "", ""},
		{"contradicting", atJWT, claims("tokenName", `"id_token"`), "claim-malformed (claim.tokenName)", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			is := issuerOf(fileKeys(t, allKeys(), now))
			credential := token(test.header, test.claims)
			wantOutcome(t, verifierOf(t, is), credential, now, test.want)
			is.IDTokens = true
			wantOutcome(t, verifierOf(t, is), credential, now, test.whenIDTokensAreMeant)
		})
	}
}

func TestAuthorizedParties(t *testing.T) {
	for _, test := range []struct {
		name      string
		claims    object
		audiences []string
		want      string
	}{
		{"azp", claims("aud", ""), nil, ""},
		{"client_id", claims("aud", "", "azp", "", "client_id", `"client-2"`), nil, ""},
		{"both", claims("client_id", `"client-2"`), nil, ""},
		{"neither", claims("azp", ""), nil, "claim-missing (claim.azp)"},
		{"another", claims("azp", `"client-3"`), nil, "token-audience-wrong (claim.azp)"},
		{"empty", claims("azp", `""`), nil, "token-audience-wrong (claim.azp)"},
		{"azp good, client_id another", claims("client_id", `"client-3"`), nil, "token-audience-wrong (claim.client_id)"},
		{"aud of others is not asked", claims("aud", `"https://other.example"`), nil, ""},
		{"aud malformed all the same", claims("aud", `1`), nil, "claim-malformed (claim.aud)"},
		{"both lists, both good", claims(), []string{api}, ""},
		{"both lists, aud of others", claims("aud", `"https://other.example"`), []string{api}, "token-audience-wrong (claim.aud)"},
		{"both lists, no aud", claims("aud", ""), []string{api}, "claim-missing (claim.aud)"},
		{"both lists, azp another", claims("azp", `"client-3"`), []string{api}, "token-audience-wrong (claim.azp)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			is := issuerOf(fileKeys(t, allKeys(), now))
			is.Audiences, is.AuthorizedParties = test.audiences, []string{"client-1", "client-2"}
			wantOutcome(t, verifierOf(t, is), token(header(), test.claims), now, test.want)
		})
	}
}

func TestClockSkew(t *testing.T) {
	is := issuerOf(fileKeys(t, allKeys(), now))
	is.ClockSkew = 10 * time.Second
	v := verifierOf(t, is)
	credential := token(header(), claims("exp", fmt.Sprint(now.Unix()+60), "nbf", fmt.Sprint(now.Unix()), "iat", ""))
	issued := token(header(), claims("nbf", ""))
	for _, test := range []struct {
		credential string
		at         time.Duration
		want       string
	}{
		{credential, -11 * time.Second, "token-not-yet-valid (claim.nbf)"},
		{credential, -10 * time.Second, ""},
		{credential, 70*time.Second - 1, ""},
		{credential, 70 * time.Second, "token-expired (claim.exp)"}, // remembered, and judged again
		{credential, -11 * time.Second, "token-not-yet-valid (claim.nbf)"},
		{issued, -11 * time.Second, "token-not-yet-valid (claim.iat)"},
		{issued, -10 * time.Second, ""},
	} {
		t.Run(test.at.String(), func(t *testing.T) { wantOutcome(t, v, test.credential, now.Add(test.at), test.want) })
	}
}

// TestIssuersAreApart: a key is good for its issuer only, and each issuer has its own rules.
func TestIssuersAreApart(t *testing.T) {
	k := keyPairs()
	one := issuerOf(fileKeys(t, jwks(jwk("k", &k.rsa.PublicKey)), now))
	one.Algorithms = []string{"RS256"}
	two := issuerOf(fileKeys(t, jwks(jwk("k", &k.otherRSA.PublicKey)), now))
	two.Name, two.Audiences, two.Algorithms = "https://two.example", []string{"https://api.two.example"}, []string{"PS256"}
	v := verifierOf(t, one, two)

	ofOne, ofTwo := claims(), claims("iss", quote(two.Name), "aud", `"https://api.two.example"`)
	ps := header("alg", `"PS256"`, "kid", `"k"`)
	rs := header("kid", `"k"`)
	for _, test := range []struct{ name, credential, want string }{
		{"one", compact(jwt.SigningMethodRS256, k.rsa, rs, ofOne), ""},
		{"two", compact(jwt.SigningMethodPS256, k.otherRSA, ps, ofTwo), ""},
		{"one, signed by two", compact(jwt.SigningMethodRS256, k.otherRSA, rs, ofOne), "token-signature-invalid (token)"},
		{"two, signed by one", compact(jwt.SigningMethodPS256, k.rsa, ps, ofTwo), "token-signature-invalid (token)"},
		{"one, with the algorithm of two", compact(jwt.SigningMethodPS256, k.rsa, ps, ofOne), "token-algorithm-refused (token)"},
		{"two, for the audience of one", compact(jwt.SigningMethodPS256, k.otherRSA, ps, ofTwo.with("aud", quote(api))), "token-audience-wrong (claim.aud)"},
	} {
		t.Run(test.name, func(t *testing.T) { wantOutcome(t, v, test.credential, now, test.want) })
	}
}

func TestNewRefuses(t *testing.T) {
	keys := NewFileKeys("keys.json", nil)
	discovered := must(NewRemoteKeys(Remote{Issuer: "https://other.example", Log: nop}))
	for _, test := range []struct {
		name   string
		change func(*Issuer)
		want   string
	}{
		{"no name", func(i *Issuer) { i.Name = "" }, "the name is missing"},
		{"no keys", func(i *Issuer) { i.Keys = nil }, "keys are missing"},
		{"no audience", func(i *Issuer) { i.Audiences = nil }, "neither audiences nor authorized parties"},
		{"empty audience", func(i *Issuer) { i.Audiences = []string{""} }, "is empty"},
		{"empty party", func(i *Issuer) { i.AuthorizedParties = []string{"a", ""} }, "is empty"},
		{"no algorithms", func(i *Issuer) { i.Algorithms = nil }, "algorithms are missing: RS256, "},
		{"none", func(i *Issuer) { i.Algorithms = []string{"RS256", "none"} }, `algorithm "none" is none of RS256`},
		{"HS256", func(i *Issuer) { i.Algorithms = []string{"HS256"} }, `algorithm "HS256" is none of`},
		{"skew", func(i *Issuer) { i.ClockSkew = MaxClockSkew + 1 }, "the clock skew is 1m0.000000001s, not 0 to 1m0s"},
		{"negative skew", func(i *Issuer) { i.ClockSkew = -1 }, "the clock skew is -1ns"},
		{"no key age", func(i *Issuer) { i.MaxKeyAge = 0 }, "the keys need a largest age"},
		{"keys of another issuer", func(i *Issuer) { i.Keys = discovered }, `its keys are discovered as those of issuer "https://other.example"`},
		{"key age without room", func(i *Issuer) { i.Keys, i.MaxKeyAge = discovered, 9*time.Minute }, "leaves no room for one failed refresh"},
	} {
		t.Run(test.name, func(t *testing.T) {
			is := issuerOf(keys)
			test.change(&is)
			if _, err := New(Config{Issuers: []Issuer{is}}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	for _, test := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"no issuers", Config{}, []string{"no issuers"}},
		{"twice", Config{Issuers: []Issuer{issuerOf(keys), issuerOf(keys)}}, []string{"stands twice"}},
		{"cache", Config{Issuers: []Issuer{issuerOf(keys)}, CacheEntries: -1}, []string{"fewer than no entries"}},
		{"all at once", Config{Issuers: []Issuer{{}, issuerOf(nil)}}, []string{`issuer "": the name is missing`, `issuer "": keys are missing`, `issuer "": neither`, `issuer "": algorithms`, `issuer "": the keys need`, `oidc": keys are missing`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.config)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}

// TestConfigIsCopied: what a Verifier goes by cannot be changed behind its back.
func TestConfigIsCopied(t *testing.T) {
	is := issuerOf(fileKeys(t, allKeys(), now))
	v := verifierOf(t, is)
	is.Audiences[0], is.Algorithms[0] = "https://other.example", "none"
	wantOutcome(t, v, token(header(), claims()), now, "")
}
