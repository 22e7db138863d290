package authz

import (
	"fmt"
	"slices"
	"strings"
)

// A Profile is all that is particular to one protected API: its endpoints, the headers
// in which clients claim who they are, the kind and the rules of its tokens, and the
// name of the dialect in which it says no. A deployment adds the base path.
//
// It is plain data; [Profile.Validate] says whether it makes sense.
type Profile struct {
	Name    string
	Dialect string // of error answers; the edge knows what it means
	Base    string // path that all endpoints stand below, as [ParseBase] accepts it

	Sender      ClaimHeader // who calls: fromASID, Ssp-From
	Receiver    ClaimHeader // who is called: toASID, Ssp-To
	Interaction ClaimHeader // what the client says that it does: InteractionID, Ssp-InteractionID

	// UnusedHeaders are claim headers of other APIs, which this profile does not judge,
	// in lower case: they are removed, so that the API cannot read what we did not look at.
	UnusedHeaders []string

	Endpoints []Endpoint
	Token     TokenRules
}

// A ClaimHeader is a header that the client asserts something in. The zero ClaimHeader
// is one that the profile does not have.
type ClaimHeader struct {
	Name     string // in the spelling of the API's documents; compared without case
	Required bool
}

// An Endpoint is one thing that can be called.
type Endpoint struct {
	Name   string // what routes, records and metrics call it
	Method string
	Path   PathTemplate
	Scope  string // that the token must hold

	// Either one Interaction, with Aliases: other registered spellings of the same
	// permission, any one of which suffices. Or a Choice of several, of which the
	// interaction header picks one. An alias is never another endpoint's id.
	Interaction InteractionID
	Aliases     []InteractionID
	Choice      []InteractionID
}

// accepts reports whether i is the endpoint's id, an alias, or of its choice.
func (e *Endpoint) accepts(i string) (InteractionID, bool) {
	if e.Interaction.s == i {
		return e.Interaction, true
	}
	for _, ids := range [...][]InteractionID{e.Aliases, e.Choice} {
		for _, id := range ids {
			if id.s == i {
				return id, true
			}
		}
	}
	return InteractionID{}, false
}

// TokenRules say what the claims of a verified token must be.
type TokenRules struct {
	Kind TokenKind

	ASID         ClaimForm // the claim that names the system; Claim "" if there is none
	Organisation ClaimForm // the claim that names its organisation; Claim "" if there is none

	ScopeClaim string   // the claim with the scopes, separated by blanks
	Scopes     []string // every scope that the API knows; an unknown one is refused

	Rules []ClaimRule

	// PublicSubjects are prefixes of subjects that can be no patient and may be handed
	// to the API and written down.
	PublicSubjects []string
}

// TokenKind says what a bearer credential is. It is never guessed from the credential.
type TokenKind uint8

const (
	// TokenSigned is a JWT of a configured issuer.
	TokenSigned TokenKind = iota + 1
)

// A ClaimForm is a claim whose value is one of some prefixes and then a name.
type ClaimForm struct {
	Claim    string
	Prefixes []string // "https://fhir.nhs.uk/Id/accredited-system|"
	Required bool
}

// A ClaimRule is one rule about one claim, named so that a deployment can switch it
// off by name. It applies when IfPresent, if set, is in the token and Unless, if set,
// is not. Everything that it states must hold.
type ClaimRule struct {
	Name              string
	Claim             string
	IfPresent, Unless string

	Required bool
	// Absent means that the claim must not be there.
	Absent bool
	// Prefixes: the value begins with one of them and goes on.
	Prefixes []string
	// OneOf: the value is one of them.
	OneOf []string
	// EqualsFirstOf: the value equals that of the first of these claims that is there.
	EqualsFirstOf []string
}

// A ProfileProblem is one thing that is wrong with a Profile, and where.
type ProfileProblem struct {
	Endpoint string // name of the endpoint, or ""
	Rule     string // name of the claim rule, or ""
	Problem  string
}

func (p ProfileProblem) Error() string {
	switch {
	case p.Endpoint != "":
		return fmt.Sprintf("endpoint %s: %s", Excerpt(p.Endpoint), p.Problem)
	case p.Rule != "":
		return fmt.Sprintf("claim rule %s: %s", Excerpt(p.Rule), p.Problem)
	}
	return p.Problem
}

// methods that an endpoint can have: RFC 9110 without TRACE and CONNECT, and PATCH.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// Validate returns everything that is wrong with p.
func (p *Profile) Validate() (problems []ProfileProblem) {
	object := func(at ProfileProblem, format string, args ...any) {
		at.Problem = fmt.Sprintf(format, args...)
		problems = append(problems, at)
	}
	if !isName(p.Name) {
		object(ProfileProblem{}, "name is lower-case letters, digits and dashes, not %s", Excerpt(p.Name))
	}
	if p.Dialect == "" {
		object(ProfileProblem{}, "dialect is missing")
	}
	if _, err := ParseBase(p.Base); err != nil {
		object(ProfileProblem{}, "%v", err)
	}
	headers := map[string]bool{"authorization": true}
	for _, h := range p.claimHeaders() {
		lower := strings.ToLower(h.Name)
		switch {
		case !isToken(h.Name):
			object(ProfileProblem{}, "header %s is no header name", Excerpt(h.Name))
		case headers[lower], slices.Contains(forbiddenHeaders, lower):
			object(ProfileProblem{}, "header %s has another meaning already", Excerpt(h.Name))
		}
		headers[lower] = true
	}
	for _, h := range []ClaimHeader{p.Sender, p.Receiver, p.Interaction} {
		if h.Name == "" && h.Required {
			object(ProfileProblem{}, "a header is required that has no name")
		}
	}
	for _, h := range p.UnusedHeaders {
		if !isToken(h) || h != strings.ToLower(h) || headers[h] {
			object(ProfileProblem{}, "unused header %s is no lower-case header name, or is used", Excerpt(h))
		}
	}
	problems = append(problems, p.validateEndpoints()...)
	return append(problems, p.validateToken()...)
}

func (p *Profile) claimHeaders() []ClaimHeader {
	var all []ClaimHeader
	for _, h := range []ClaimHeader{p.Sender, p.Receiver, p.Interaction} {
		if h.Name != "" {
			all = append(all, h)
		}
	}
	return all
}

func (p *Profile) validateEndpoints() (problems []ProfileProblem) {
	if len(p.Endpoints) == 0 {
		problems = append(problems, ProfileProblem{Problem: "no endpoints: nothing could be allowed"})
	}
	owner := map[InteractionID]string{}
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		object := func(format string, args ...any) {
			problems = append(problems, ProfileProblem{Endpoint: e.Name, Problem: fmt.Sprintf(format, args...)})
		}
		if !isName(e.Name) {
			object("name is lower-case letters, digits and dashes")
		}
		if !slices.Contains(methods, e.Method) {
			object("method %s is none of %s", Excerpt(e.Method), strings.Join(methods, ", "))
		}
		for j := range p.Endpoints[:i] {
			o := &p.Endpoints[j]
			if o.Name == e.Name {
				object("the name stands twice")
			}
			if o.Method == e.Method && o.Path.overlaps(e.Path) {
				object("%s %s is also endpoint %s: which one a request means would depend on their order", e.Method, e.Path, o.Name)
			}
		}
		switch {
		case e.Interaction.IsZero() && len(e.Choice) == 0:
			object("neither an interaction nor a choice of several")
		case !e.Interaction.IsZero() && len(e.Choice) > 0:
			object("both an interaction and a choice")
		case len(e.Choice) > 0 && p.Interaction.Name == "":
			object("a choice needs an interaction header to choose with")
		case len(e.Choice) > 0 && len(e.Aliases) > 0:
			object("aliases belong to one interaction, not to a choice")
		}
		switch {
		case p.Token.ScopeClaim == "" && e.Scope != "":
			object("scope %s is never looked for: no claim of the token holds scopes", Excerpt(e.Scope))
		case p.Token.ScopeClaim != "" && !slices.Contains(p.Token.Scopes, e.Scope):
			object("scope %s is none of the token's scopes", Excerpt(e.Scope))
		}
		// An id may serve several endpoints as their own id (update by id and by
		// query), but an alias says "the same permission under an old name": pointing
		// at another endpoint's permission it would widen a grant in silence.
		for _, id := range append([]InteractionID{e.Interaction}, e.Choice...) {
			if !id.IsZero() {
				owner[id] = e.Name
			}
		}
	}
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		for _, alias := range e.Aliases {
			if other, taken := owner[alias]; taken {
				problems = append(problems, ProfileProblem{Endpoint: e.Name, Problem: fmt.Sprintf("alias %s is an interaction of endpoint %s", alias, other)})
			}
			for j := range p.Endpoints {
				if o := &p.Endpoints[j]; o.Interaction != e.Interaction && slices.Contains(o.Aliases, alias) {
					problems = append(problems, ProfileProblem{Endpoint: e.Name, Problem: fmt.Sprintf("alias %s is also one of endpoint %s, whose interaction is another", alias, o.Name)})
				}
			}
		}
	}
	return problems
}

func (p *Profile) validateToken() (problems []ProfileProblem) {
	t := &p.Token
	object := func(rule, format string, args ...any) {
		problems = append(problems, ProfileProblem{Rule: rule, Problem: fmt.Sprintf(format, args...)})
	}
	if t.Kind != TokenSigned {
		object("", "token kind is missing")
	}
	for _, f := range []ClaimForm{t.ASID, t.Organisation} {
		if f.Claim == "" && (f.Required || len(f.Prefixes) > 0) {
			object("", "a claim form without a claim")
		}
		if f.Claim != "" && len(f.Prefixes) == 0 {
			object("", "claim %s has a form without prefixes, which no value has; a bare value has the prefix \"\"", Excerpt(f.Claim))
		}
	}
	for _, public := range t.PublicSubjects {
		if !isVisible(public) {
			object("", "public subject %s is not visible ASCII: every subject begins with an empty one", Excerpt(public))
			continue
		}
		for _, r := range t.Rules {
			for _, prefix := range r.Prefixes {
				if r.Claim != "sub" && neverEchoed(r.Claim) && (strings.HasPrefix(prefix, public) || strings.HasPrefix(public, prefix)) {
					object("", "public subject %s fits a patient as rule %s has it", Excerpt(public), r.Name)
				}
			}
		}
	}
	if t.ScopeClaim == "" && len(t.Scopes) > 0 {
		object("", "scopes without a scope claim")
	}
	for _, s := range t.Scopes {
		if !isVisible(s) {
			object("", "scope %s is not visible ASCII", Excerpt(s))
		}
	}
	seen := map[string]bool{}
	for _, r := range t.Rules {
		if !isName(r.Name) || seen[r.Name] {
			object(r.Name, "a rule needs a name of its own, of lower-case letters, digits and dashes")
		}
		seen[r.Name] = true
		switch {
		case r.Claim == "":
			object(r.Name, "claim is missing")
		case r.Absent && (r.Required || len(r.Prefixes)+len(r.OneOf)+len(r.EqualsFirstOf) > 0):
			object(r.Name, "a claim that must be absent can have no other rule")
		case !r.Absent && !r.Required && len(r.Prefixes)+len(r.OneOf)+len(r.EqualsFirstOf) == 0:
			object(r.Name, "the rule states nothing")
		case r.IfPresent == r.Claim, r.Unless == r.Claim:
			object(r.Name, "the rule hangs on its own claim: write required, or leave the condition out")
		case r.Unless != "" && r.Unless == r.IfPresent:
			object(r.Name, "the rule never applies: %s cannot be there and not be there", Excerpt(r.Unless))
		case slices.Contains(r.EqualsFirstOf, r.Claim):
			object(r.Name, "a claim always equals itself")
		case slices.Contains(r.Prefixes, ""):
			object(r.Name, "every value begins with an empty prefix")
		}
	}
	return problems
}

// isName reports whether s is a name as endpoints, rules and profiles have: it becomes
// a metric label, a key in Envoy's configuration and a word in commands.
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-' && i > 0:
		default:
			return false
		}
	}
	return true
}

// isToken reports whether s is an RFC 9110 token, as methods and header names are.
func isToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return true
}
