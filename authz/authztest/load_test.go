package authztest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"asid-authz/authz/authztest"
)

const goodWorld = `A world.
-- world --
profile: nrl
binding: registered
name: cn
receivers: 999999999999
authority: nrl.example.nhs.uk
-- issuers --
cas issuer=https://cas audience=https://nrl algorithm=ES256 key=ES256/cas-1
-- certificates --
one cn=one.example.nhs.uk
-- map --
format: 1
systems: []
-- token one --
issuer=cas sign=ES256/cas-1 exp=5m
{"iss": "https://cas", "scope": "read"}
`

const goodCase = `A case.
-- case --
world: w
certificate: one
token: one
-- request --
GET / HTTP/1.1
authorization: Bearer {token}
-- want --
deny endpoint-unknown
`

// corpus writes a corpus of one world and one case and loads it.
func corpus(t *testing.T, world, check string) (*authztest.Corpus, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"worlds/w.txtar": world, "check/c.txtar": check} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return authztest.Load(dir)
}

// TestLoad: what a corpus does not know is an error, or a misspelt option would be a
// case that tests nothing.
func TestLoad(t *testing.T) {
	if c, err := corpus(t, goodWorld, goodCase); err != nil || len(c.Cases) != 1 || len(c.In("w")) != 1 || len(c.In("x")) != 0 {
		t.Fatalf("%v, %v", c, err)
	}
	for _, test := range []struct{ old, new, want string }{
		{"A case.\n", "", "begins with a sentence"},
		{"-- case --\n", "-- cause --\n", `section "cause": no such section`},
		{"-- want --\n", "-- wants --\n", `section "wants": no such section`},
		{"-- want --\n", "-- want envoy h3 --\n", `section "want envoy h3": no such section`},
		{"-- want --\n", "-- want --\ndeny endpoint-unknown\n-- want --\n", "stands twice"},
		{"-- want --\ndeny endpoint-unknown\n", "", `section "want" is missing`},
		{"-- request --\nGET / HTTP/1.1\nauthorization: Bearer {token}\n", "", `section "request" is missing`},
		{"world: w\n", "", "world is missing"},
		{"world: w\n", "world: w\nworld: w\n", "given once"},
		{"world: w\n", "world: x\n", `no world is named "x"`},
		{"world: w\n", "world: w\nlistener: 1\n", "listener: no such key"},
		{"world: w\n", "world: w\nenvoy: verified\n", "is not unverified"},
		{"world: w\n", "world: w\nonly: h3\n", "neither h1 nor h2"},
		{"certificate: one\n", "", "certificate is missing"},
		{"certificate: one", "certificate: two", `no certificate "two"`},
		{"certificate: one", "certificate: one expires=1h", `unknown option "expires"`},
		{"certificate: one", "certificate: one expired", "is not key=value"},
		{"certificate: one", `certificate: one cn="a`, "value of cn"},
		{"certificate: one", `certificate: one cn="a"b`, "no blank behind"},
		{"token: one", "token: two", `no token "two"`},
		{"token: one", "token: one scopes=x", `unknown option "scopes"`},
		{"token: one\n", "", "go together"},
		{"{token}", "x", "go together"},
		{"-- request --", "-- claims --\n[]\n-- request --", "not a JSON object"},
		{"-- request --", "-- claims --\n{} {}\n-- request --", "text behind"},
		{"-- request --", "-- claims --\n{\"a\":\n-- request --", `section "claims"`},
		{"GET / HTTP/1.1", "GET /", "is not METHOD TARGET HTTP/1.1"},
		{"GET / HTTP/1.1", "GET / HTTP/1.1\nfromASID", "is no header line"},
		{"GET / HTTP/1.1", "GET / HTTP/1.1\na: b\n c", "say only: h1"},
		{"deny endpoint-unknown", "deny", "is none of"},
		{"deny endpoint-unknown", "deny no-such-reason", "no Reason is named"},
		{"deny endpoint-unknown", "allow read", "is none of"},
		{"deny endpoint-unknown", "allow read nrl", "an interactionId is"},
		{"deny endpoint-unknown", "refused", "want is allow or deny"},
		{"deny endpoint-unknown", "envoy 400", "want is allow or deny"},
		{"deny endpoint-unknown", "deny endpoint-unknown\n-- want envoy --\nenvoy 200", "no status of a refusal"},
		{"deny endpoint-unknown", "deny endpoint-unknown\n-- want envoy --\ndeny endpoint-unknown", "want envoy is equal to want"},
		{"deny endpoint-unknown", "deny endpoint-unknown\n-- want envoy h1 --\ndeny endpoint-unknown", "want envoy h1 is equal to want"},
		{"deny endpoint-unknown", "deny endpoint-unknown\n-- want envoy --\nrefused\n-- want envoy h2 --\nrefused", "want envoy h2 is equal to want envoy"},
		{"deny endpoint-unknown", "deny endpoint-unknown\n-- want envoy --\n", "empty"},
		{"certificate: one\n", "certificate: one\nonly: h2\n", ""},
	} {
		text := strings.Replace(goodCase, test.old, test.new, 1)
		if text == goodCase {
			t.Fatalf("%q is not in the case", test.old)
		}
		_, err := corpus(t, goodWorld, text)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%q for %q: got %v, want %s", test.new, test.old, err, test.want)
		}
	}
	for _, test := range []struct{ old, new, want string }{
		{"A world.\n", "", "begins with a sentence"},
		{"-- world --", "-- wold --", `section "wold": no such section`},
		{"profile: nrl\n", "", "key profile is missing"},
		{"profile: nrl\n", "profile: nrl\nprofil: x\n", "no such key or value"},
		{"binding: registered", "binding: none", "no such key or value"},
		{"name: cn", "name: san", "no such key or value"},
		{"receivers: 999999999999", "receivers: 99", "exactly twelve digits"},
		{"audience=https://nrl", "audiences=x", `unknown option "audiences"`},
		{"one cn=", "one commonname=", `unknown option "commonname"`},
		{"one cn=", "one cn=x\none cn=", "one stands twice"},
		{"one cn=", "none cn=", "none is no certificate"},
		{"exp=5m", "expiry=5m", `unknown option "expiry"`},
		{`{"iss"`, `{"iss`, `section "token one"`},
		{"-- map --\nformat: 1\nsystems: []\n", "", `section "map" is missing`},
	} {
		text := strings.Replace(goodWorld, test.old, test.new, 1)
		if text == goodWorld {
			t.Fatalf("%q is not in the world", test.old)
		}
		if _, err := corpus(t, text, goodCase); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q for %q: got %v, want %s", test.new, test.old, err, test.want)
		}
	}
	if _, err := authztest.Load(t.TempDir()); err == nil {
		t.Error("an empty directory is a corpus")
	}
}

func TestBehind(t *testing.T) {
	text := goodCase + "-- want envoy --\nenvoy 400\n-- want envoy h2 --\nrefused\n"
	c, err := corpus(t, goodWorld, text)
	if err != nil {
		t.Fatal(err)
	}
	only := c.Cases[0]
	if got := []string{only.Want.String(), only.Behind("h1").String(), only.Behind("h2").String()}; strings.Join(got, ", ") != "deny endpoint-unknown, envoy 400, refused" {
		t.Errorf("%q", got)
	}
}
