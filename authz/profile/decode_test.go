package profile_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/authz/profile"
	"asid-authz/authz/strictyaml"
)

func ExampleBuiltin() {
	p, err := profile.Builtin("nrl")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range p.Endpoints {
		fmt.Printf("%-18s %-6s %s%s\n", e.Name, e.Method, p.Base, e.Path)
	}
	// Output:
	// read               GET    /STU3/DocumentReference/{id}
	// search             GET    /STU3/DocumentReference
	// create             POST   /STU3/DocumentReference
	// update             PATCH  /STU3/DocumentReference/{id}
	// update-conditional PATCH  /STU3/DocumentReference
	// delete             DELETE /STU3/DocumentReference/{id}
	// delete-conditional DELETE /STU3/DocumentReference
}

func ExampleDecode() {
	_, err := profile.Decode("mine.yaml", []byte(`format: 1
name: mine
dialekt: nrl-2.8
headers:
  sender: {name: fromASID, required: true}
endpoints:
  - name: read
    method: GET
    path: /Slot/*
    interaction: Slot.read
`))
	fmt.Println(err)
	// Output:
	// mine.yaml:3: unknown key "dialekt"; did you mean dialect?
	// mine.yaml:10: endpoint "read": interaction: an interactionId is urn:… of at most 255 visible ASCII characters without comma, not "Slot.read"
}

func TestBuiltin(t *testing.T) {
	names := profile.Names()
	if !slices.IsSorted(names) || !slices.Contains(names, "nrl") {
		t.Errorf("names %q: not sorted, or without nrl", names)
	}
	for _, name := range names {
		p, err := profile.Builtin(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if problems := p.Validate(); len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
		if p.Name != name {
			t.Errorf("the profile in %s.yaml is named %s", name, p.Name)
		}
		text, err := profile.Source(name)
		if err != nil || !bytes.HasPrefix(text, []byte("# ")) {
			t.Errorf("%s: the source does not begin with a comment: %v", name, err)
		}
		text[0] = 'x' // the caller's to change
		if again, _ := profile.Source(name); again[0] != '#' {
			t.Errorf("%s: a caller can change what the next one is shown", name)
		}
	}
	for name, want := range map[string]string{
		"nlr":        `no profile is built in under the name "nlr"; did you mean nrl?`,
		"gpconnect":  `no profile is built in under the name "gpconnect"; there is nrl`,
		"nrl.yaml":   `no profile is built in under the name "nrl.yaml"; there is nrl`,
		"../profile": `no profile is built in under the name "../profile"; there is nrl`,
	} {
		if p, err := profile.Builtin(name); err == nil || err.Error() != want || p.Name != "" {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// Every line of a built-in profile that states something is preceded by the reason.
func TestBuiltinIsCommented(t *testing.T) {
	for _, name := range profile.Names() {
		text, err := profile.Source(name)
		if err != nil {
			t.Fatal(err)
		}
		above := ""
		for number, line := range strings.Split(string(text), "\n") {
			statement := strings.TrimSpace(line)
			// The keys that open a part of the file, and the items that begin a thing with a name.
			part := line != "" && line[0] != '#' && line[0] != ' ' || strings.HasPrefix(statement, "- name:")
			if part && !strings.HasPrefix(strings.TrimSpace(above), "#") && statement != "rules:" {
				t.Errorf("%s.yaml:%d: %q has no comment above it", name, number+1, statement)
			}
			above = line
		}
	}
}

// A bad file begins with all that is wrong with it, as Decode must say it.
func TestDecodeRefuses(t *testing.T) {
	files, err := filepath.Glob("testdata/bad-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				problem, is := strings.CutPrefix(line, "# "+name)
				if !is {
					break
				}
				want = append(want, name+strings.TrimSuffix(problem, "\n"))
			}
			p, err := profile.Decode(name, text)
			if err == nil {
				t.Fatal("accepted")
			}
			if p.Name != "" || p.Endpoints != nil || p.Token.Rules != nil {
				t.Error("a part of a refused file is used")
			}
			if got := err.Error(); got != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}

const small = `format: 1
name: slots
dialect: nrl-2.8
headers:
  sender: {name: fromASID, required: true}
  interaction: {name: InteractionID, required: true}
endpoints:
  - name: read
    method: GET
    path: /Slot/{id}
    interaction: urn:nhs:names:services:example:Slot.read
  - name: book
    method: PUT
    path: ""
    choice: [urn:nhs:names:services:example:Slot.book, urn:nhs:names:services:example:Slot.free]
token:
  kind: signed
  asid: {claim: asid, prefixes: [""], required: true}
`

func TestDecode(t *testing.T) {
	p, err := profile.Decode("small.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if p.Base != "" || p.Receiver != (authz.ClaimHeader{}) || !p.Interaction.Required || p.Token.Kind != authz.TokenSigned || p.Token.ScopeClaim != "" {
		t.Errorf("read as %+v", p)
	}
	if book := p.Endpoints[1]; len(book.Choice) != 2 || !book.Interaction.IsZero() || book.Path.String() != "" {
		t.Errorf("book read as %+v", book)
	}
	if !slices.Equal(p.Token.ASID.Prefixes, []string{""}) {
		t.Errorf("a bare claim read as %q", p.Token.ASID.Prefixes)
	}
	a := world{profile: p, granted: []string{"urn:nhs:names:services:example:Slot.read"}, claims: claims{"asid": sender}}.authorizer(t)
	d := check(a, "GET", "/Slot/1", authz.Header{Name: "interactionid", Value: "urn:nhs:names:services:example:Slot.read"})
	if !d.Allowed() {
		t.Errorf("%s", decided(&d))
	}
}

func TestDecodeBounds(t *testing.T) {
	_, err := profile.Decode("f", bytes.Repeat([]byte("#"), 256<<10+1))
	if err == nil || !strings.HasPrefix(err.Error(), "f: larger than 262144 bytes") {
		t.Errorf("too large a file: %v", err)
	}
	var b strings.Builder
	b.WriteString("format: 1\nname: many\ndialect: nrl-2.8\nheaders: {}\ntoken: {kind: signed}\nendpoints:\n")
	for i := range 257 {
		fmt.Fprintf(&b, "  - {name: e%d, method: GET, path: /e%d, interaction: 'urn:e'}\n", i, i)
	}
	_, err = profile.Decode("f", []byte(b.String()))
	if err == nil || err.Error() != "f:7: 257 endpoints, more than 256: divide the API into profiles" {
		t.Errorf("too many endpoints: %v", err)
	}
}

// FuzzDecode: whatever the text, Decode answers; a refusal is of problems that name the
// file and a line of it, and a profile that is accepted is one that can be used.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(small))
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(files, "nrl.yaml") {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("<<: {format: 1}\nendpoints: [{<<: {name: a}}]\ntoken: {<<: {kind: signed}}"))
	f.Add([]byte("endpoints:\n  \"\n\ntext of two lines\""))
	f.Add([]byte("format: 1\nendpoints: [[], {name: {}}, {aliases: {}}, {choice: [[]]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := profile.Decode("f", text)
		if err == nil {
			if problems := p.Validate(); len(problems) > 0 {
				t.Errorf("accepted, but %v", problems)
			}
			return
		}
		var problems strictyaml.Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("%T is no list of problems: %v", err, err)
		}
		for _, problem := range problems {
			if problem.File != "f" || problem.Line < 0 || problem.Line > bytes.Count(text, []byte("\n"))+bytes.Count(text, []byte("\r"))+2 {
				t.Errorf("a problem without a place: %+v", problem)
			}
		}
	})
}

// The example in docs/profiles.md is one that works, and does what the text says.
func TestDocumentedExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "<!-- example -->\n```yaml\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("docs/profiles.md has no example between its markers")
	}
	p, err := profile.Decode("example.yaml", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	const ids = "urn:nhs:names:services:example:"
	granted := []string{ids + "Slot.read:1", ids + "Appointment.cancel:1"}
	a := world{profile: p, granted: granted, claims: unattended.with(claims{"scope": "patient/Appointment.write"})}.authorizer(t)
	for sent, want := range map[string]string{
		ids + "Appointment.cancel:1": "allow",
		ids + "Appointment.change:1": "interaction-not-granted",
		ids + "Slot.read:1":          "interaction-not-of-endpoint",
		"":                           "header-malformed",
	} {
		d := check(a, "PUT", "/FHIR/STU3/Appointment/17", authz.Header{Name: "interactionid", Value: sent})
		if decided(&d) != want {
			t.Errorf("InteractionID %q: %s, want %s", sent, decided(&d), want)
		}
	}
	if d := check(a, "PUT", "/FHIR/STU3/Appointment/17"); decided(&d) != "header-missing" {
		t.Errorf("without InteractionID: %s", decided(&d))
	}
}
