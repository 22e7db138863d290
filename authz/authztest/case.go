package authztest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/txtar"

	"asid-authz/authz"
)

// A Case is one request and the answer that it must get.
type Case struct {
	File string // its name in the directory of cases, without .txtar
	Why  string // who sends this, and why the answer is what it is

	World string // its name

	Certificate string // the symbol of the world, or "" for none
	Token       string // the symbol of the world, or "" for none

	Request HTTPRequest

	// Route is the endpoint that Envoy's route names, right or wrong. "" leaves it to
	// the routes that a deployment has.
	Route string

	// Unverified means the listener of Envoy that asks for a client certificate but
	// does not verify it.
	Unverified bool

	// Only is "h1" or "h2" if the other protocol cannot say the request, otherwise "".
	Only string

	// Want is the answer of authz and of the gRPC edge. WantEnvoy has what differs
	// behind a real Envoy, under "envoy", "envoy h1" or "envoy h2".
	Want      Want
	WantEnvoy map[string]Want

	certificateOptions, tokenOptions []option
	claims, jose                     object // laid over the template's
}

// An HTTPRequest is a request as it is written in a case, with LF and placeholders.
type HTTPRequest struct {
	Method, Target string
	Lines          []string // header lines, as they are
	Body           string
}

// A Want is an answer: exactly one of its four kinds.
type Want struct {
	Kind WantKind

	Endpoint, Interaction string       // of WantAllow
	Reason                authz.Reason // of WantDeny
	Status                int          // of WantEnvoyAnswer
}

// WantKind is the kind of an answer.
type WantKind uint8

// The kinds of answers.
const (
	WantAllow       WantKind = iota + 1
	WantDeny                 // by us, with a Reason
	WantEnvoyAnswer          // Envoy answered without asking us
	WantRefused              // no HTTP answer: the handshake failed or the connection was closed
)

// String returns the want as a case spells it.
func (w Want) String() string {
	switch w.Kind {
	case WantAllow:
		return "allow " + w.Endpoint + " " + w.Interaction
	case WantDeny:
		return "deny " + w.Reason.String()
	case WantEnvoyAnswer:
		return "envoy " + strconv.Itoa(w.Status)
	case WantRefused:
		return "refused"
	}
	return "nothing"
}

func parseWant(text string) (Want, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Want{}, errors.New("empty")
	}
	switch kind := words[0]; {
	case kind == "allow" && len(words) == 3:
		if _, err := authz.ParseInteractionID(words[2]); err != nil {
			return Want{}, err
		}
		return Want{Kind: WantAllow, Endpoint: words[1], Interaction: words[2]}, nil
	case kind == "deny" && len(words) == 2:
		reason, err := authz.ParseReason(words[1])
		return Want{Kind: WantDeny, Reason: reason}, err
	case kind == "envoy" && len(words) == 2:
		status, err := strconv.Atoi(words[1])
		if err != nil || status < 400 || status > 599 {
			return Want{}, fmt.Errorf("%q is no status of a refusal", words[1])
		}
		return Want{Kind: WantEnvoyAnswer, Status: status}, nil
	case kind == "refused" && len(words) == 1:
		return Want{Kind: WantRefused}, nil
	}
	return Want{}, fmt.Errorf("%q is none of: allow ENDPOINT INTERACTION, deny REASON, envoy STATUS, refused", strings.TrimSpace(text))
}

// Got returns the Want that d meets.
func Got(d authz.Decision) Want {
	if d.Allowed() {
		return Want{Kind: WantAllow, Endpoint: d.Facts().Endpoint, Interaction: d.Facts().Interaction.String()}
	}
	return Want{Kind: WantDeny, Reason: d.Reason()}
}

// Protocols returns the protocols that can say the request: "h1", "h2" or both.
func (c *Case) Protocols() []string {
	if c.Only != "" {
		return []string{c.Only}
	}
	return []string{"h1", "h2"}
}

// Behind returns the answer that is wanted behind a real Envoy, over "h1" or "h2".
func (c *Case) Behind(protocol string) Want {
	for _, section := range []string{"envoy " + protocol, "envoy"} {
		if want, differs := c.WantEnvoy[section]; differs {
			return want
		}
	}
	return c.Want
}

// loadCases reads every *.txtar of a directory.
func loadCases(dir string) ([]*Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no cases in %s", dir)
	}
	var cases []*Case
	var all []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		c, err := parseCase(strings.TrimSuffix(filepath.Base(file), ".txtar"), text)
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", file, err))
			continue
		}
		cases = append(cases, c)
	}
	return cases, errors.Join(all...)
}

func parseCase(file string, text []byte) (*Case, error) {
	archive := txtar.Parse(text)
	c := &Case{File: file, Why: strings.TrimSpace(string(archive.Comment)), WantEnvoy: map[string]Want{}}
	if c.Why == "" {
		return nil, errors.New("a case begins with a sentence of why")
	}
	sections := map[string]bool{}
	for _, section := range archive.Files {
		if sections[section.Name] {
			return nil, fmt.Errorf("section %q stands twice", section.Name)
		}
		sections[section.Name] = true
		data := string(section.Data)
		var err error
		switch section.Name {
		case "case":
			err = c.parseSettings(data)
		case "claims":
			c.claims, err = parseObject(data)
		case "jose":
			c.jose, err = parseObject(data)
		case "request":
			err = c.parseRequest(data)
		case "want":
			c.Want, err = parseWant(data)
		case "want envoy", "want envoy h1", "want envoy h2":
			c.WantEnvoy[strings.TrimPrefix(section.Name, "want ")], err = parseWant(data)
		default:
			err = errors.New("no such section")
		}
		if err != nil {
			return nil, fmt.Errorf("section %q: %w", section.Name, err)
		}
	}
	for _, name := range []string{"case", "request", "want"} {
		if !sections[name] {
			return nil, fmt.Errorf("section %q is missing", name)
		}
	}
	return c, c.validate()
}

// validate refuses what would say nothing, or would not say what it seems to.
func (c *Case) validate() error {
	switch {
	case c.World == "":
		return errors.New("world is missing")
	case c.Want.Kind != WantAllow && c.Want.Kind != WantDeny:
		return errors.New("want is allow or deny: only behind Envoy can there be another answer")
	case c.Token == "" && (c.claims != nil || c.jose != nil):
		return errors.New("claims or jose without a token")
	case (c.Token == "") == strings.Contains(strings.Join(c.Request.Lines, "\n")+c.Request.Target, "{token}"):
		return errors.New("a token and {token} in the request go together")
	}
	if len(c.WantEnvoy) > 0 {
		for _, name := range []string{"envoy h1", "envoy h2"} {
			if _, differs := c.WantEnvoy[name]; differs && !slices.Contains(c.Protocols(), strings.TrimPrefix(name, "envoy ")) {
				return fmt.Errorf("want %s, but only %s can say it", name, c.Only)
			}
		}
		_, general := c.WantEnvoy["envoy"]
		for name, want := range c.WantEnvoy {
			if want == c.Want && (name == "envoy" || !general) {
				return fmt.Errorf("want %s is equal to want", name)
			}
			if name != "envoy" && general && want == c.WantEnvoy["envoy"] {
				return fmt.Errorf("want %s is equal to want envoy", name)
			}
		}
	}
	return nil
}

func (c *Case) parseSettings(text string) error {
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, found := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !found || value == "" || seen[key] {
			return fmt.Errorf("%q is not a key, given once, with a value", strings.TrimSpace(line))
		}
		seen[key] = true
		var err error
		switch key {
		case "world":
			c.World = value
		case "certificate":
			if value != "none" {
				c.Certificate, c.certificateOptions, err = parseSymbol(value)
			}
		case "token":
			c.Token, c.tokenOptions, err = parseSymbol(value)
		case "route":
			c.Route = value
		case "envoy":
			if c.Unverified = value == "unverified"; !c.Unverified {
				err = fmt.Errorf("%q is not unverified", value)
			}
		case "only":
			if c.Only = value; value != "h1" && value != "h2" {
				err = fmt.Errorf("%q is neither h1 nor h2", value)
			}
		default:
			err = errors.New("no such key")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if !seen["certificate"] {
		return errors.New("certificate is missing; it may be none")
	}
	return nil
}

// parseRequest takes apart what a case sends. The target is all between the first and
// the last blank of the first line: it may hold what no target should.
func (c *Case) parseRequest(text string) error {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	method, rest, found := strings.Cut(lines[0], " ")
	target, is := strings.CutSuffix(rest, " HTTP/1.1")
	if !found || !is || method == "" {
		return fmt.Errorf("%q is not METHOD TARGET HTTP/1.1", lines[0])
	}
	c.Request = HTTPRequest{Method: method, Target: target, Lines: lines[1:], Body: strings.TrimRight(body, "\n")}
	for i, line := range c.Request.Lines {
		folded := i > 0 && (line[0] == ' ' || line[0] == '\t')
		if name, _, found := strings.Cut(line, ":"); !folded && (!found || name == "") {
			return fmt.Errorf("%q is no header line", line)
		}
		if folded && c.Only != "h1" {
			return errors.New("only HTTP/1.1 can fold a line; say only: h1")
		}
	}
	return nil
}
