package token

import (
	"slices"
	"strconv"
	"time"

	"asid-authz/authz"
)

// verified is a token whose signature was good. It is immutable: the cache hands it to
// many requests.
type verified struct {
	claims authz.Claims
	issuer *issuer
	keys   *keySet // that the key was of

	audience  []string
	parties   []party
	expires   time.Time
	notBefore time.Time // zero: the token does not say
	issuedAt  time.Time // zero: the token does not say
}

// A party is a client that the token says it was issued to: azp or client_id.
type party struct{ claim, value string }

func refusal(r authz.Reason) *authz.Fault { return &authz.Fault{Reason: r, Field: authz.FieldToken} }

func missing(claim string) *authz.Fault {
	return &authz.Fault{Reason: authz.ClaimMissing, Field: authz.ClaimField(claim)}
}

func malformed(claim string) *authz.Fault {
	return &authz.Fault{Reason: authz.ClaimMalformed, Field: authz.ClaimField(claim)}
}

// verified reads the claims of u, whose signature is good, and looks at their form. What
// depends on the time or on the issuer's rules for the audience is left to objection.
func (u *unverified) verified(is *issuer, keys *keySet) (*verified, *authz.Fault) {
	if f := u.kindObjection(is.IDTokens); f != nil {
		return nil, f
	}
	t := &verified{issuer: is, keys: keys}
	t.claims.All = make([]authz.Claim, len(u.claims))
	for i, m := range u.claims {
		c := &t.claims.All[i]
		if c.Name = m.name; m.kind == kindString {
			c.Kind, c.Text = authz.ClaimString, m.text
		}
	}
	if aud, found := find(u.claims, "aud"); found {
		var ok bool
		if t.audience, ok = texts(aud); !ok {
			return nil, malformed("aud")
		}
	}
	for _, name := range [...]string{"azp", "client_id"} {
		if v, found := find(u.claims, name); found {
			if v.kind != kindString {
				return nil, malformed(name)
			}
			t.parties = append(t.parties, party{name, v.text})
		}
	}
	for _, at := range [...]struct {
		claim string
		time  *time.Time
	}{{"exp", &t.expires}, {"nbf", &t.notBefore}, {"iat", &t.issuedAt}} {
		if v, found := find(u.claims, at.claim); found {
			var ok bool
			if *at.time, ok = seconds(v); !ok {
				return nil, malformed(at.claim)
			}
		} else if at.claim == "exp" {
			return nil, missing("exp")
		}
	}
	if cnf, found := find(u.claims, "cnf"); found {
		if cnf.kind != kindObject {
			return nil, malformed("cnf")
		}
		t.claims.HasConfirmation, t.claims.Confirmation = true, confirmation(cnf)
	}
	return t, nil
}

// texts returns what aud may be: one text, or an array of them.
func texts(v value) ([]string, bool) {
	if v.kind == kindString {
		return []string{v.text}, true
	}
	if v.kind != kindArray {
		return nil, false
	}
	elements, err := parseArray(v.text, tokenBounds)
	if err != nil {
		return nil, false
	}
	all := make([]string, len(elements))
	for i, e := range elements {
		if e.kind != kindString {
			return nil, false
		}
		all[i] = e.text
	}
	return all, true
}

// maxSeconds is the end of the year 9999. What is beyond it is a time in milliseconds,
// or meant to overflow somewhere.
const maxSeconds = 253402300799

// seconds returns a NumericDate. RFC 7519 allows fractions of a second; no issuer needs
// them, and readers round them in different ways.
func seconds(v value) (time.Time, bool) {
	if v.kind != kindNumber {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(v.text, 10, 63)
	if err != nil || n > maxSeconds {
		return time.Time{}, false
	}
	return time.Unix(int64(n), 0), true
}

// confirmation returns the certificate that cnf names (RFC 8705 §3.1). Zero, which no
// certificate is equal to, stands for every other kind of confirmation: the token is
// bound, and to something that the caller cannot show here.
func confirmation(cnf value) (sum [32]byte) {
	members, err := parseObject(cnf.text, tokenBounds)
	if err != nil || len(members) != 1 || members[0].name != "x5t#S256" || members[0].kind != kindString {
		return sum
	}
	text := members[0].text
	if len(text) != base64url.EncodedLen(len(sum)) {
		return sum
	}
	var decoded [len(sum)]byte
	if n, err := base64url.Decode(decoded[:], []byte(text)); err != nil || n != len(sum) {
		return sum
	}
	return decoded
}

// kindClaims are claims in which products say what a token is. Where nothing else is
// known to stand in one, any other value is that of another kind of token.
var kindClaims = [...]struct {
	claim, access, id string
	closed            bool
}{
	{"tokenName", "access_token", "id_token", true}, // ForgeRock, and with it CIS2
	{"token_use", "access", "id", true},             // Cognito
	{"typ", "Bearer", "ID", false},                  // Keycloak
}

// kindObjection objects to a token that is no access token. The package comment has
// the rule.
func (u *unverified) kindObjection(idTokens bool) *authz.Fault {
	access := u.access
	id := ""
	for _, k := range kindClaims {
		v, found := find(u.claims, k.claim)
		switch {
		case !found:
		case v == value{kindString, k.access}:
			access = true
		case v == value{kindString, k.id}:
			id = k.claim
		case k.closed:
			return malformed(k.claim)
		}
	}
	for _, claim := range [...]string{"at_hash", "c_hash", "s_hash"} {
		if _, found := find(u.claims, claim); found && id == "" {
			id = claim
		}
	}
	if _, found := find(u.claims, "nonce"); found && !access && id == "" {
		id = "nonce"
	}
	if id != "" && !idTokens {
		return malformed(id)
	}
	return nil
}

// objection says why the token may not be used at now, or nil.
func (t *verified) objection(now time.Time) *authz.Fault {
	is := t.issuer
	if len(is.Audiences) > 0 && !slices.ContainsFunc(t.audience, func(a string) bool { return slices.Contains(is.Audiences, a) }) {
		if t.audience == nil {
			return missing("aud")
		}
		f := &authz.Fault{Reason: authz.TokenAudienceWrong, Field: authz.ClaimField("aud")}
		if len(t.audience) == 1 {
			f.Value = t.audience[0]
		}
		return f
	}
	if len(is.AuthorizedParties) > 0 {
		if len(t.parties) == 0 {
			return missing("azp")
		}
		for _, p := range t.parties {
			if !slices.Contains(is.AuthorizedParties, p.value) {
				return &authz.Fault{Reason: authz.TokenAudienceWrong, Field: authz.ClaimField(p.claim), Value: p.value}
			}
		}
	}
	switch {
	case !now.Before(t.expires.Add(is.ClockSkew)):
		return &authz.Fault{Reason: authz.TokenExpired, Field: authz.ClaimField("exp")}
	case now.Add(is.ClockSkew).Before(t.notBefore):
		return &authz.Fault{Reason: authz.TokenNotYetValid, Field: authz.ClaimField("nbf")}
	case now.Add(is.ClockSkew).Before(t.issuedAt):
		return &authz.Fault{Reason: authz.TokenNotYetValid, Field: authz.ClaimField("iat")}
	}
	return nil
}
