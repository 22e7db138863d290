package profile_test

import (
	"regexp"
	"strings"
	"testing"

	"asid-authz/authz"
)

// isDotted reports whether a segment of path is one that servers resolve away. {id} is
// also the form of "." and "..", which no request may contain: the Authorizer refuses
// them before it looks at its table, Envoy resolves them before it looks at its routes.
func isDotted(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

func anchored(t testing.TB, path authz.PathTemplate) *regexp.Regexp {
	t.Helper()
	expression, err := regexp.Compile(`\A(?:` + path.Regexp() + `)\z`)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return expression
}

// Envoy finds a route by the expression, the Authorizer by its own table. Where they
// differ, one of them decides about another request than the other one lets through.
func TestRegexpAgrees(t *testing.T) {
	p := nrl(t)
	a := world{profile: p, granted: allOfNRL, claims: unattended}.authorizer(t)
	paths := []string{
		"", "/", "//", "/DocumentReference", "/DocumentReference/", "/DocumentReference//", "//DocumentReference", "/DocumentReference/1",
		"/DocumentReference/1/", "/DocumentReference/1/2", "/DocumentReference/A.b-9", "/DocumentReference/a_b", "/DocumentReference/.",
		"/DocumentReference/..", "/DocumentReference/...", "/DocumentReference/{id}", "/DocumentReference/%31", "/DocumentReference/%2E%2E",
		"/DocumentReference/1;v=2", "/DocumentReference;v=2/1", "/DocumentReference/1%2F2", "/DocumentReference/1\n", "/DocumentReference\n",
		"/DocumentReference/é", "/DocumentReference/\xff", "/DocumentReference/\x00", "/DocumentReferenceX", "/DocumentReferenc", "/XDocumentReference",
		"/documentreference", "/DocumentReference/" + strings.Repeat("a", authz.MaxID), "/DocumentReference/" + strings.Repeat("a", authz.MaxID+1),
		"/DocumentReference/$validate", "/DocumentReference/*", "/DocumentReference/1#2", "/DocumentReference/ 1", "/./DocumentReference", "/x/../DocumentReference",
	}
	for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
		for _, path := range paths {
			want := ""
			for _, e := range p.Endpoints {
				if e.Method == method && anchored(t, e.Path).MatchString(path) && !isDotted(path) {
					if want != "" {
						t.Errorf("%s %q is both %s and %s", method, path, want, e.Name)
					}
					want = e.Name
				}
			}
			d := check(a, method, p.Base+path)
			if d.Facts().Endpoint != want {
				t.Errorf("%s %q: the Authorizer finds %q (%s), the expression %q", method, path, d.Facts().Endpoint, decided(&d), want)
			}
			if want != "" != d.Allowed() {
				t.Errorf("%s %q: %s", method, path, decided(&d))
			}
		}
	}
}

// FuzzPathTemplate: whatever the template and the path, the expression that Envoy is
// given and the table of the Authorizer say the same.
func FuzzPathTemplate(f *testing.F) {
	for _, template := range []string{"", "/DocumentReference", "/DocumentReference/{id}", "/Patient/$gpc.getstructuredrecord", "/A+(b)*.c/{id}/D", "/{id}"} {
		for _, path := range []string{"", "/", "/DocumentReference", "/DocumentReference/1", "/DocumentReference/..", "/Patient/$gpc.getstructuredrecord", "/Patient/xgpcxgetstructuredrecord", "/A+(b)*.c/1/D", "/AA/1/D", "/a\n"} {
			f.Add(template, path)
		}
	}
	id, err := authz.ParseInteractionID("urn:nhs:names:services:example:Slot.read")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, template, path string) {
		parsed, err := authz.ParsePathTemplate(template)
		if err != nil || strings.Contains(path, "?") || len(path) > authz.MaxTarget/2 {
			return
		}
		p := nrl(t)
		p.Base = "/base"
		p.Endpoints = []authz.Endpoint{{Name: "only", Method: "GET", Path: parsed, Scope: read, Interaction: id}}
		d := check(world{profile: p, granted: []string{id.String()}, claims: unattended}.authorizer(t), "GET", "/base"+path)
		if want := anchored(t, parsed).MatchString(path) && !isDotted(path); want != d.Allowed() {
			t.Errorf("template %q, path %q: the Authorizer says %s, the expression %t", template, path, decided(&d), want)
		}
	})
}
