package authz_test

import (
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"asid-authz/authz"
)

// pathReason is what the rules say about a path without a query: path-not-canonical,
// endpoint-unknown, or Undecided for an endpoint, with its name.
func (s *scenario) pathReason(a *authz.Authorizer, method, target string) (authz.Reason, string) {
	r := *s.request
	r.Method, r.Target = method, target
	d := a.Check(s.ctx, &r)
	if d.Facts().Endpoint != "" {
		return authz.Undecided, d.Facts().Endpoint
	}
	return d.Reason(), ""
}

// TestPathEveryByte puts every byte, and the escape of every byte in both cases, into a
// segment. Exactly what needs no escape may stand plain, exactly what needs one may
// stand escaped, and nothing that separates, ends or hides anything may stand at all.
func TestPathEveryByte(t *testing.T) {
	s := newScenario(t)
	a := s.authorizer()
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,=:@"
	for b := range 256 {
		c := string([]byte{byte(b)})
		if c == "?" || c == "/" {
			continue // they end the path and the segment, and stand in the corpus
		}
		for text, want := range map[string]bool{
			"/x" + c + "x":        strings.Contains(plain, c),
			"/x" + upperEscape(b): !strings.Contains(plain+"/\\%;", c) && b >= 0x20 && b != 0x7f,
			"/x" + strings.ToLower(upperEscape(b)): strings.ToLower(upperEscape(b)) == upperEscape(b) &&
				!strings.Contains(plain+"/\\%;", c) && b >= 0x20 && b != 0x7f,
		} {
			got, _ := s.pathReason(a, "GET", text)
			if (got != authz.PathNotCanonical) != want {
				t.Errorf("path %q: %v", text, got)
			}
		}
	}
}

func upperEscape(b int) string {
	const digits = "0123456789ABCDEF"
	return "%" + string(digits[b>>4]) + string(digits[b&15])
}

// FuzzPath: a path that is let in has one reading. Decoding and cleaning it, in
// whichever order, gives what it already is, and nobody who decodes twice gets
// anything else.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/STU3/DocumentReference/1", "//a", "/a//b", "/a/../b", "/a/./b", "/..;/a", "/a%2fb", "/a%252fb", "/a%00", "/a;x=1/b",
		"/a%c3%a9", "/a%C3%A9", "/%7Euser", "/...", "/a/", "/", "", "a", "/a b", "/a\\b", "/a#b", "/%", "/%4", "/%zz", "/{id}", "/é",
	} {
		f.Add(seed)
	}
	s := newScenario(f)
	a := s.authorizer()
	f.Fuzz(func(t *testing.T, target string) {
		if strings.Contains(target, "?") || len(target) > authz.MaxTarget {
			return
		}
		reason, endpoint := s.pathReason(a, "GET", target)
		if reason == authz.PathNotCanonical {
			return
		}
		decoded, err := url.PathUnescape(target)
		if err != nil {
			t.Fatalf("%q is let in and cannot be decoded: %v", target, err)
		}
		for name, text := range map[string]string{"as it is": target, "decoded": decoded} {
			clean := path.Clean(text)
			if strings.HasSuffix(text, "/") && clean != "/" {
				clean += "/"
			}
			if clean != text {
				t.Errorf("%q is let in and, %s, cleans to %q", target, name, clean)
			}
			if strings.ContainsAny(text, ";\\\x00\r\n\t\x7f") {
				t.Errorf("%q is let in and, %s, holds what nothing may hold", target, name)
			}
		}
		if strings.Count(target, "/") != strings.Count(decoded, "/") {
			t.Errorf("%q is let in and has other segments when decoded: %q", target, decoded)
		}
		if again, err := url.PathUnescape(decoded); err != nil || again != decoded {
			t.Errorf("%q is let in, and decoded twice it is %q", target, again)
		}
		// Encoding what was decoded must give the same bytes: there is no second spelling.
		if encoded := encodePath(decoded); encoded != target {
			t.Errorf("%q is let in, and its normal form is %q", target, encoded)
		}
		if endpoint != "" && decoded != target {
			t.Errorf("%q is endpoint %s, and holds an escape", target, endpoint)
		}
	})
}

// encodePath writes a decoded path in the one normal form.
func encodePath(decoded string) string {
	var b strings.Builder
	for i := range len(decoded) {
		c := decoded[i]
		if strings.IndexByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,=:@/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString(upperEscape(int(c)))
		}
	}
	return b.String()
}

func TestParsePathTemplate(t *testing.T) {
	for text, wantOK := range map[string]bool{
		"": true, "/a": true, "/a/{id}": true, "/{id}": true, "/{id}/a/{id}": true, "/Patient/$gpc.registerpatient": true, "/a.b": true,
		"a": false, "/": false, "/a/": false, "//a": false, "/a//b": false, "/..": false, "/a/./b": false, "/{ID}": false, "/{id}x": false,
		"/{a}": false, "/a{id}": false, "/%7E": false, "/a%C3%A9": false, "/a;b": false, "/a b": false, "/a?b": false, "/é": false, "/a\\b": false,
	} {
		p, err := authz.ParsePathTemplate(text)
		if (err == nil) != wantOK || err == nil && p.String() != text {
			t.Errorf("ParsePathTemplate(%q): %v", text, err)
		}
		if err == nil && p.IsLiteral() == strings.Contains(text, "{") {
			t.Errorf("IsLiteral of %q is %v", text, p.IsLiteral())
		}
	}
}

func TestParseBase(t *testing.T) {
	for text, wantOK := range map[string]bool{
		"": true, "/STU3": true, "/a/b.c/d-1": true,
		"/": false, "STU3": false, "/a/": false, "//a": false, "/a/../b": false, "/a%C3%A9": false, "/a;b": false, "/a?": false,
	} {
		if got, err := authz.ParseBase(text); (err == nil) != wantOK || err == nil && got != text {
			t.Errorf("ParseBase(%q): %q, %v", text, got, err)
		}
	}
}

// FuzzPathTemplate: the expression that Envoy's routes are made of and the table of the
// rules are two matchers. They must agree about every path.
func FuzzPathTemplate(f *testing.F) {
	for _, seed := range [][2]string{
		{"/DocumentReference/{id}", "/DocumentReference/1"}, {"/Patient/$gpc.registerpatient", "/Patient/$gpcxregisterpatient"},
		{"/a.b", "/axb"}, {"", ""}, {"/{id}", "/..."}, {"/{id}", "/" + strings.Repeat("a", 65)}, {"/a*b", "/aab"}, {"/(a)", "/a"},
		{"/{id}/_history/{id}", "/1/_history/2"}, {"/a+", "/aa"}, {"/a", "/a/"}, {"/a", "/a\n"},
	} {
		f.Add(seed[0], seed[1])
	}
	s := newScenario(f)
	f.Fuzz(func(t *testing.T, text, request string) {
		template, err := authz.ParsePathTemplate(text)
		if err != nil || strings.Contains(request, "?") || len(request)+5 > authz.MaxTarget {
			return
		}
		e, err := regexp.Compile("^(?:" + template.Regexp() + ")$")
		if err != nil {
			t.Fatalf("%q is no expression: %v", template.Regexp(), err)
		}
		s.config.Profile.Endpoints = []authz.Endpoint{{
			Name: "it", Method: "GET", Path: template, Scope: "patient/DocumentReference.read", Interaction: interaction(t, "urn:x"),
		}}
		a, err := authz.New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		reason, endpoint := s.pathReason(a, "GET", "/STU3"+request)
		if reason == authz.PathNotCanonical {
			return
		}
		// $ of RE2 is the end of the text, where RE2's matches are whole, as Envoy's are.
		if want := e.MatchString(request); (endpoint == "it") != want {
			t.Errorf("template %q, path %q: the table says %v, the expression %v", text, request, endpoint == "it", want)
		}
	})
}
