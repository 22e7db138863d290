package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
)

// Bounds of a profile file: several times what the largest Spine API would need, and
// little enough that comparing every endpoint with every other one costs nothing.
const (
	maxSize      = 256 << 10 // bytes
	maxEndpoints = 256
)

// Decode reads a profile file. name is the file's, for the errors, which are
// [strictyaml.Problems]: all that is wrong, each with its line and what to do.
//
// A key that is not there never loosens a rule: whether a header or a claim is required
// must be written out, and an empty list or text where one states something is refused.
func Decode(name string, text []byte) (authz.Profile, error) {
	d := decoder{name: name}
	if len(text) > maxSize {
		d.object(0, "larger than %d bytes: a profile is a page or two, so this is probably another file", maxSize)
		return authz.Profile{}, d.problems
	}
	var f file
	if err := strictyaml.Decode(name, text, &f); err != nil {
		problems, is := err.(strictyaml.Problems)
		if !is {
			return authz.Profile{}, err
		}
		d.problems = problems
	}
	if f.Format.line > 0 && f.Format.s != "1" {
		// Everything else would be measured by the wrong rule.
		return authz.Profile{}, strictyaml.Problems{{File: name, Line: f.Format.line,
			Text: fmt.Sprintf("format %s is not known to this release, which reads format: 1", authz.Excerpt(f.Format.s))}}
	}
	d.readable = len(d.problems) == 0
	p := d.profile(&f)
	if d.readable {
		d.validate(&p, &f)
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b strictyaml.Problem) int { return cmp.Compare(a.Line, b.Line) })
		return authz.Profile{}, slices.Compact(d.problems)
	}
	return p, nil
}

// A decoder turns a file into a Profile and collects what is wrong with it.
type decoder struct {
	name     string
	problems strictyaml.Problems

	// readable: every key was understood. If not, what seems to be missing may be there
	// under a misspelt key, and is not complained about a second time.
	readable bool

	// holes are the endpoints and rules with problems of their own: what the Profile
	// would object to in them may be about what could not be read.
	holes map[authz.ProfileProblem]bool
}

func (d *decoder) object(line int, format string, args ...any) {
	d.problems = append(d.problems, strictyaml.Problem{File: d.name, Line: line, Text: fmt.Sprintf(format, args...)})
}

// need objects if a key is missing from what begins at line, or says nothing.
func (d *decoder) need(t text, line int, format string, args ...any) bool {
	if t.s != "" {
		return true
	}
	if d.readable {
		d.object(max(t.line, line), format, args...)
	}
	return false
}

// placeholder stands for a text that is missing, and was objected to: what else is wrong
// is found out with it.
const placeholder = "missing"

// label is how a problem calls an endpoint or a rule, which may have no name.
func label(name text, index int) string {
	if name.s == "" {
		return fmt.Sprintf("number %d", index+1)
	}
	return authz.Excerpt(name.s)
}

func (d *decoder) profile(f *file) authz.Profile {
	d.holes = map[authz.ProfileProblem]bool{}
	first := lineOf(f)
	d.need(f.Format, first, "format is missing: write format: 1")
	p := authz.Profile{Name: f.Name.s, Dialect: f.Dialect.s, Base: f.Base.s}
	p.Token.Kind = authz.TokenSigned // the only one: another is objected to where it stands
	if !d.need(f.Name, first, "name is missing: records and metrics call the profile by one") {
		p.Name = placeholder
	}
	if !d.need(f.Dialect, first, "dialect is missing: say how denials are worded, for example dialect: nrl-2.8") {
		p.Dialect = placeholder
	}
	if f.Headers != nil {
		p.Sender = d.header("sender", f.Headers.Sender, f)
		p.Receiver = d.header("receiver", f.Headers.Receiver, f)
		p.Interaction = d.header("interaction", f.Headers.Interaction, f)
	} else if d.readable {
		d.object(first, "headers is missing: say in which headers a client claims who it is, or write headers: {} if it claims nothing")
	}
	p.UnusedHeaders = d.list("remove", lowerCase(f.Remove))
	if len(f.Endpoints) > maxEndpoints {
		d.object(lineOf(f.Endpoints), "%d endpoints, more than %d: divide the API into profiles", len(f.Endpoints), maxEndpoints)
		f.Endpoints = f.Endpoints[:maxEndpoints]
	}
	for i := range f.Endpoints {
		p.Endpoints = append(p.Endpoints, d.endpoint(&f.Endpoints[i], i))
	}
	if f.Token != nil {
		p.Token = d.token(f.Token)
	} else if d.readable {
		d.object(first, "token is missing: say of which kind bearer tokens are and what their claims must be")
	}
	return p
}

func (d *decoder) header(key string, h *header, f *file) authz.ClaimHeader {
	if h == nil {
		return authz.ClaimHeader{}
	}
	line := cmp.Or(lineOf(h), lineOf(f.Headers), lineOf(f))
	d.need(text(h.Required), line, "headers.%s does not say whether it is required: write required: true or required: false", key)
	if !d.need(h.Name, line, "headers.%s has no name: write how the API's documents spell the header, or remove %s", key, key) {
		return authz.ClaimHeader{}
	}
	return authz.ClaimHeader{Name: h.Name.s, Required: h.Required.yes()}
}

func (d *decoder) endpoint(e *endpoint, index int) authz.Endpoint {
	before, line, called := len(d.problems), lineOf(e), label(e.Name, index)
	result := authz.Endpoint{Name: e.Name.s, Method: e.Method.s, Scope: e.Scope.s}
	if !d.need(e.Name, line, "endpoint %s has no name: routes, records and metrics call it by one", called) {
		result.Name = fmt.Sprint(placeholder, index)
	}
	d.need(e.Method, line, "endpoint %s has no method: write one like GET", called)
	if e.Path.line == 0 {
		d.need(e.Path, line, `endpoint %s has no path: write one like /Patient/{id}, or path: "" for the base itself`, called)
	} else if path, err := authz.ParsePathTemplate(e.Path.s); err != nil {
		d.object(e.Path.line, "endpoint %s: %v", called, err)
	} else {
		result.Path = path
	}
	if e.Interaction.line > 0 {
		result.Interaction = d.interactions(called, "interaction", []text{e.Interaction})[0]
	}
	result.Aliases = d.interactions(called, "aliases", e.Aliases)
	result.Choice = d.interactions(called, "choice", e.Choice)
	if len(d.problems) > before {
		d.holes[authz.ProfileProblem{Endpoint: result.Name}] = true
	}
	return result
}

// interactions returns an id for each text; one that is none is the zero id, and objected to.
func (d *decoder) interactions(called, key string, all []text) []authz.InteractionID {
	var ids []authz.InteractionID
	seen := map[authz.InteractionID]bool{}
	for _, t := range all {
		id, err := authz.ParseInteractionID(t.s)
		if err != nil {
			d.object(t.line, "endpoint %s: %s: %v", called, key, err)
		} else if seen[id] {
			d.object(t.line, "endpoint %s: %s: %s stands twice: remove one", called, key, authz.Excerpt(t.s))
		}
		ids, seen[id] = append(ids, id), true
	}
	return ids
}

func lowerCase(all []text) []text {
	all = slices.Clone(all)
	for i := range all {
		all[i].s = strings.ToLower(all[i].s)
	}
	return all
}

// list returns the texts of a list in which each stands once and none is empty.
func (d *decoder) list(key string, all []text) []string {
	var result []string
	seen := map[string]bool{}
	for _, t := range all {
		switch {
		case t.s == "":
			d.object(t.line, "%s: an empty text: everything begins with it, and nothing is called by it; remove it", key)
		case seen[t.s]:
			d.object(t.line, "%s: %s stands twice: remove one", key, authz.Excerpt(t.s))
		default:
			result = append(result, t.s)
		}
		seen[t.s] = true
	}
	return result
}

// validate adds what the Profile itself objects to, at the line of what it names.
func (d *decoder) validate(p *authz.Profile, f *file) {
	for _, problem := range p.Validate() {
		if d.holes[authz.ProfileProblem{Endpoint: problem.Endpoint, Rule: problem.Rule}] {
			continue
		}
		d.object(place(&problem, f), "%v", problem)
	}
}

// place returns the line of what a problem is about: of the text that it quotes, else of
// the endpoint or rule that it names. Of two of that name it is the second, which is
// the one that should not be there.
func place(problem *authz.ProfileProblem, f *file) int {
	line := 0
	within := []any{f.Name, f.Dialect, f.Base, f.Headers, f.Remove}
	if f.Token != nil {
		within = append(within, f.Token.ASID, f.Token.Organisation, f.Token.Scope, f.Token.PublicSubjects)
	}
	for i := range f.Endpoints {
		if e := &f.Endpoints[i]; problem.Endpoint != "" && e.Name.s == problem.Endpoint {
			within, line = []any{e}, e.Name.line
		}
	}
	for i := 0; problem.Rule != "" && i < len(f.Token.Rules); i++ {
		if r := &f.Token.Rules[i]; r.Name.s == problem.Rule {
			within, line = []any{r}, r.Name.line
		}
	}
	for _, t := range textsOf(within) {
		quoted := strings.Contains(problem.Problem, authz.Excerpt(t.s)) ||
			strings.Contains(problem.Problem, authz.Excerpt(strings.ToLower(t.s))) // headers are compared without case
		if quoted && t.s != "" && t.line > line {
			line = t.line
		}
	}
	return line
}
