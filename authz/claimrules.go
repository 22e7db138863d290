package authz

import (
	"errors"
	"slices"
	"strings"
)

func (c *check) token() bool {
	claims, err := c.a.Tokens.VerifyToken(c.ctx, c.credential, c.r.Now)
	if c.ctx.Err() != nil {
		c.late = FieldToken
	}
	if err != nil {
		if f, is := errors.AsType[*Fault](err); is && f != nil {
			return c.object(*f)
		}
		if c.late != "" { // what else could a verifier say whose time is over
			return c.object(Fault{Reason: Cancelled, Field: c.late})
		}
		return c.object(Fault{Reason: InternalError, Field: FieldToken})
	}
	if claims == nil {
		return c.object(Fault{Reason: InternalError, Field: FieldToken})
	}
	c.claims = claims
	return true
}

// claimRules applies what the profile says about claims whoever sent them.
func (c *check) claimRules() bool {
	passed := c.claims.passed.Load()
	if passed == nil || passed.by != c.a {
		if !c.applyRules() {
			return false
		}
		passed = &passedRules{c.a, c.publicSubject()}
		c.claims.passed.Store(passed)
	}
	c.facts.Subject = passed.subject
	return true
}

func (c *check) applyRules() bool {
	t := &c.a.Profile.Token
	if asid, present, ok := c.formClaim(&t.ASID); !ok {
		return false
	} else if present {
		if _, ok := parseASID(asid); !ok {
			return c.object(claimFault(ClaimMalformed, t.ASID.Claim, c.claims.find(t.ASID.Claim).Text))
		}
	}
	if _, _, ok := c.formClaim(&t.Organisation); !ok {
		return false
	}
	for i := range c.a.rules {
		if !c.claimRule(&c.a.rules[i]) {
			return false
		}
	}
	if t.ScopeClaim != "" {
		claim := c.claims.find(t.ScopeClaim)
		switch {
		case claim == nil:
			return c.object(claimFault(ClaimMissing, t.ScopeClaim, ""))
		case claim.Kind != ClaimString || !allScopesKnown(claim.Text, t.Scopes):
			return c.object(claimFault(ClaimMalformed, t.ScopeClaim, claim.Text))
		}
	}
	return true
}

// publicSubject returns the subject of the token if it is of a kind that can be no
// patient, otherwise "".
func (c *check) publicSubject() string {
	sub := c.claims.find("sub")
	if sub == nil || sub.Kind != ClaimString || !isVisible(sub.Text) {
		return ""
	}
	if _, public := after(sub.Text, c.a.Profile.Token.PublicSubjects); !public {
		return ""
	}
	return strings.Replace(sub.Text, "%7C", "|", 1) // one spelling for one subject, or the API would take it for two
}

// formClaim returns what follows the prefix of a claim that has a form. ok is false
// after an objection.
func (c *check) formClaim(f *ClaimForm) (rest string, present, ok bool) {
	if f.Claim == "" {
		return "", false, true
	}
	claim := c.claims.find(f.Claim)
	if claim == nil {
		if f.Required {
			return "", false, c.object(claimFault(ClaimMissing, f.Claim, ""))
		}
		return "", false, true
	}
	rest, ok = after(claim.Text, f.Prefixes)
	if claim.Kind != ClaimString || !ok || rest == "" {
		return "", true, c.object(claimFault(ClaimMalformed, f.Claim, claim.Text))
	}
	return rest, true, true
}

func (c *check) claimRule(r *ClaimRule) bool {
	if r.IfPresent != "" && c.claims.find(r.IfPresent) == nil || r.Unless != "" && c.claims.find(r.Unless) != nil {
		return true
	}
	claim := c.claims.find(r.Claim)
	if claim == nil {
		if r.Required {
			return c.object(claimFault(ClaimMissing, r.Claim, ""))
		}
		return true
	}
	if r.Absent {
		f := claimFault(ClaimMismatch, r.Claim, claim.Text)
		if r.IfPresent != "" {
			f.Other = ClaimField(r.IfPresent)
		}
		return c.object(f)
	}
	if claim.Kind != ClaimString || claim.Text == "" {
		return c.object(claimFault(ClaimMalformed, r.Claim, claim.Text))
	}
	if len(r.Prefixes) > 0 {
		if rest, ok := after(claim.Text, r.Prefixes); !ok || rest == "" {
			return c.object(claimFault(ClaimMalformed, r.Claim, claim.Text))
		}
	}
	if len(r.OneOf) > 0 && !slices.Contains(r.OneOf, claim.Text) {
		f := claimFault(ClaimMalformed, r.Claim, claim.Text)
		f.OtherValue = r.OneOf[0] // what it should be: the profile's word, no secret
		return c.object(f)
	}
	if len(r.EqualsFirstOf) > 0 {
		return c.equalsFirstOf(claim, r.EqualsFirstOf)
	}
	return true
}

// equalsFirstOf objects also if none of the claims is there: what should be compared
// with something, and has nothing to be compared with, was not found equal.
func (c *check) equalsFirstOf(claim *Claim, names []string) bool {
	for _, name := range names {
		other := c.claims.find(name)
		if other == nil {
			continue
		}
		if other.Kind == ClaimString && sameClaim(claim.Text, other.Text) {
			return true
		}
		f := claimFault(ClaimMismatch, claim.Name, claim.Text)
		f.Other = ClaimField(name)
		f.OtherValue = echo(name, other.Text)
		return c.object(f)
	}
	f := claimFault(ClaimMismatch, claim.Name, claim.Text)
	f.Other = ClaimField(names[0])
	return c.object(f)
}

func allScopesKnown(scopes string, known []string) bool {
	for more := true; more; {
		var scope string
		scope, scopes, more = strings.Cut(scopes, " ")
		if !slices.Contains(known, scope) { // "" is none of them: no blank too many passes
			return false
		}
	}
	return true
}

func hasScope(scopes, want string) bool {
	for scopes != "" {
		var scope string
		if scope, scopes, _ = strings.Cut(scopes, " "); scope == want {
			return true
		}
	}
	return false
}

// tied asks whose token it is. A verified token proves that somebody got it from an
// issuer that we trust; without a tie, whoever finds one could use it. At least one tie
// must hold, and none may be broken.
func (c *check) tied() bool {
	t := &c.a.Profile.Token
	tied := false
	asid, present, ok := c.formClaim(&t.ASID)
	if !ok {
		return false
	}
	if present {
		claimed, ok := parseASID(asid)
		if !ok || claimed != c.system.asid {
			f := claimFault(ClaimMismatch, t.ASID.Claim, c.claims.find(t.ASID.Claim).Text)
			f.Other, f.OtherValue = c.claimant(), c.value[useSender]
			return c.object(f)
		}
		tied = true
	}
	if c.claims.HasConfirmation {
		if c.claims.Confirmation != c.r.Certificate.sha256 {
			return c.object(Fault{Reason: TokenNotBound, Field: ClaimField("cnf"), Other: FieldFingerprint})
		}
		tied = true
	}
	client, ok := c.tokenClient()
	if !ok {
		return false
	}
	if client != "" && c.system.tokenClients().has(client) {
		tied = true
	}
	if !tied {
		return c.object(Fault{Reason: TokenNotBound, Field: FieldToken, Other: FieldSystem})
	}
	return true
}

// tokenClient returns the client that the token was issued to, "" if it does not say.
func (c *check) tokenClient() (client string, ok bool) {
	for _, name := range [...]string{"azp", "client_id"} {
		claim := c.claims.find(name)
		switch {
		case claim == nil:
			continue
		case claim.Kind != ClaimString || claim.Text == "":
			return "", c.object(claimFault(ClaimMalformed, name, ""))
		case client != "" && client != claim.Text:
			return "", c.object(Fault{Reason: ClaimMismatch, Field: ClaimField(name), Other: ClaimField("azp"), Value: echo(name, claim.Text), OtherValue: echo(name, client)})
		}
		client = claim.Text
	}
	return client, true
}

func (c *check) organisation() bool {
	f := &c.a.Profile.Token.Organisation
	code, present, ok := c.formClaim(f)
	if !ok {
		return false
	}
	if present && code != c.system.ods() {
		mismatch := claimFault(ClaimMismatch, f.Claim, c.claims.find(f.Claim).Text)
		mismatch.Other = FieldSystem
		return c.object(mismatch)
	}
	return true
}

// scope compares literally: a wildcard in a token is a scope that nobody knows.
func (c *check) scope() bool {
	t := &c.a.Profile.Token
	if t.ScopeClaim == "" {
		return true
	}
	claim := c.claims.find(t.ScopeClaim)
	if claim == nil || !hasScope(claim.Text, c.endpoint.Scope) {
		f := Fault{Reason: ScopeInsufficient, Field: ClaimField(t.ScopeClaim), Other: FieldEndpoint, OtherValue: c.endpoint.Name}
		if claim != nil {
			f.Value = claim.Text
		}
		return c.object(f)
	}
	return true
}
