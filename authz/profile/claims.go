package profile

import (
	"fmt"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
)

func (d *decoder) token(t *token) authz.TokenRules {
	line := lineOf(t)
	rules := authz.TokenRules{Kind: authz.TokenSigned}
	if d.need(t.Kind, line, "token has no kind: write kind: signed") && t.Kind.s != "signed" {
		d.object(t.Kind.line, "token kind %s is not known: write kind: signed", authz.Excerpt(t.Kind.s))
	}
	rules.ASID = d.form("asid", t.ASID, line)
	rules.Organisation = d.form("organisation", t.Organisation, line)
	if t.Scope != nil {
		known := d.list("token.scope.known", t.Scope.Known)
		if d.need(t.Scope.Claim, max(lineOf(t.Scope), line), "token.scope names no claim: write the one that holds the scopes, separated by blanks, or remove scope") {
			rules.ScopeClaim, rules.Scopes = t.Scope.Claim.s, known
		}
	}
	for i := range t.Rules {
		rules.Rules = append(rules.Rules, d.rule(&t.Rules[i], i))
	}
	rules.PublicSubjects = d.list("token.public_subjects", t.PublicSubjects)
	d.conditions(t)
	return rules
}

func (d *decoder) form(key string, f *form, line int) authz.ClaimForm {
	if f == nil {
		return authz.ClaimForm{}
	}
	line = max(lineOf(f), line)
	if !d.need(f.Claim, line, "token.%s names no claim: write one, or remove %s", key, key) {
		return authz.ClaimForm{}
	}
	d.need(text(f.Required), line, "token.%s does not say whether its claim is required: write required: true or required: false", key)
	if len(f.Prefixes) == 0 {
		if d.readable {
			d.object(line, `token.%s has no prefixes, so every token would be refused: write them, or prefixes: [""] if the claim is the bare value`, key)
		}
		return authz.ClaimForm{}
	}
	result := authz.ClaimForm{Claim: f.Claim.s, Required: f.Required.yes()}
	if len(f.Prefixes) == 1 && f.Prefixes[0].s == "" {
		result.Prefixes = []string{""} // the claim is the bare value
		return result
	}
	result.Prefixes = d.list("token."+key+".prefixes", f.Prefixes)
	return result
}

func (d *decoder) rule(r *rule, index int) authz.ClaimRule {
	before, name, line, called := len(d.problems), r.Name.s, lineOf(r), label(r.Name, index)
	if !d.need(r.Name, line, "claim rule %s has no name: a deployment switches a rule off by it", called) {
		name = fmt.Sprint(placeholder, index)
	}
	list := func(key string, all []text) []string {
		if all != nil && len(all) == 0 && d.readable {
			d.object(line, "claim rule %s: %s is empty, so it states nothing: remove it, or write what it should hold", called, key)
		}
		return d.list("claim rule "+called+": "+key, all)
	}
	result := authz.ClaimRule{
		Name:          name,
		Claim:         r.Claim.s,
		IfPresent:     r.IfPresent.s,
		Unless:        r.Unless.s,
		Required:      r.Required.yes(),
		Absent:        r.Absent.yes(),
		Prefixes:      list("prefixes", r.Prefixes),
		OneOf:         list("one_of", r.OneOf),
		EqualsFirstOf: list("equals_first_of", r.EqualsFirstOf),
	}
	if len(d.problems) > before {
		d.holes[authz.ProfileProblem{Rule: name}] = true
	}
	return result
}

// conditions objects to rules that hang on a claim of which nothing else is said. A
// misspelt name there is a claim that no token has: the rule would never apply, or
// always, and nobody would notice until it should have refused something.
func (d *decoder) conditions(t *token) {
	if !d.readable {
		return
	}
	var described []string
	for _, form := range []*form{t.ASID, t.Organisation} {
		if form != nil {
			described = append(described, form.Claim.s)
		}
	}
	if t.Scope != nil {
		described = append(described, t.Scope.Claim.s)
	}
	for i := range t.Rules {
		described = append(described, t.Rules[i].Claim.s)
	}
	known := map[string]bool{}
	for _, claim := range described {
		known[claim] = true
	}
	for i := range t.Rules {
		r := &t.Rules[i]
		for _, condition := range append([]text{r.IfPresent, r.Unless}, r.EqualsFirstOf...) {
			if condition.s == "" || known[condition.s] {
				continue
			}
			hint := "add a rule about it"
			if near := strictyaml.Nearest(condition.s, described); near != "" {
				hint = "did you mean " + near + "?"
			}
			d.object(condition.line, "claim rule %s hangs on the claim %s, of which no rule says what it must be: %s",
				label(r.Name, i), authz.Excerpt(condition.s), hint)
		}
	}
}
