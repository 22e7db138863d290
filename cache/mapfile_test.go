package cache_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
	"asid-authz/cache"
)

func ExampleDecodeMap() {
	text, err := os.ReadFile("../docs/map.example.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := cache.DecodeMap("map.example.yaml", text)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := f.Build(1)
	if err != nil {
		fmt.Println(err)
		return
	}
	for s := range m.Systems() {
		fmt.Println(s.ASID, s.ODSCode, s.State, s.FQDNs, len(s.Interactions))
	}
	fmt.Printf("%+v\n", f.Summary())
	for _, w := range f.Warnings(authz.Profile{}) {
		fmt.Println(w)
	}
	// Output:
	// 200000000205 RXA active [epr.rxa.example.nhs.uk] 2
	// 200000000213 RXA active [epr.rxa.example.nhs.uk] 5
	// 200000000221 X26 active [] 1
	// 200000000230 1E5 suspended [records.1e5.example.nhs.uk records-2.1e5.example.nhs.uk] 2
	// {Systems:4 Suspended:1 Sets:2 Interactions:5}
}

func ExampleDecodeMap_refused() {
	_, err := cache.DecodeMap("map.yaml", []byte(`format: 1
sets:
  reader: [urn:nhs:names:services:nrl:DocumentReference.read]
systems:
  - asid: "20000000020"
    ods: RXA
    state: activ
    interactions: [readers]
`))
	fmt.Println(err)
	// Output:
	// map.yaml:5: an ASID is exactly twelve digits, not "20000000020"
	// map.yaml:7: state is active or suspended, not "activ"
	// map.yaml:8: set "readers" is not defined; did you mean reader?
}

// build decodes and builds a file that must be accepted.
func build(t *testing.T, text string) *authz.InteractionMap {
	t.Helper()
	f, err := cache.DecodeMap("m", []byte(text))
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	m, err := f.Build(7)
	if err != nil {
		t.Fatalf("accepted, but not built: %v", err)
	}
	if m.Version() != 7 {
		t.Fatalf("version %d, want 7", m.Version())
	}
	return m
}

// lines returns everything that a map says about its systems, one a line.
func lines(m *authz.InteractionMap) string {
	var b strings.Builder
	for s := range m.Systems() {
		var certificates []string
		for _, c := range s.Fingerprints {
			certificates = append(certificates, hex.EncodeToString(c[:]))
		}
		fmt.Fprintf(&b, "%s %q %q %q %v %v %q %s %v\n", s.ASID, s.Name, s.ODSCode, s.PartyKey, s.FQDNs, certificates, s.TokenClients, s.State, s.Interactions)
	}
	return b.String()
}

const (
	hexA   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	colonA = "01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF"
)

func TestDecodeMapAccepts(t *testing.T) {
	const all = `200000000205 "Example Trust EPR" "RXA" "RXA-0000806" [epr.rxa.example.nhs.uk other] [` + hexA + `] ["a" "b"] active [urn:x:1 urn:x:2 urn:x:3]` + "\n"
	for _, test := range []struct{ name, text, want string }{
		{"all of it", `format: 1
sets:
  one: [urn:x:2, urn:x:1]
systems:
  - asid: "200000000205"
    name: Example Trust EPR
    ods: RXA
    party_key: RXA-0000806
    fqdns: [EPR.rxa.example.nhs.uk, other]
    certificates: [` + colonA + `]
    token_clients: [a, b]
    state: active
    interactions: [one, urn:x:3]
`, all},
		{"JSON, and sets after systems", `{
	"systems": [
		{"interactions": ["urn:x:3", "one"], "state": "active", "token_clients": ["a", "b"], "certificates": ["` + hexA + `"],
		 "fqdns": ["epr.rxa.example.nhs.uk", "other"], "party_key": "RXA-0000806", "ods": "RXA", "name": "Example Trust EPR", "asid": "200000000205"}
	],
	"sets": {"one": ["urn:x:2", "urn:x:1"]},
	"format": 1
}`, all},
		{"as little as possible", "format: 1\nsystems: [{asid: 200000000205, ods: X, state: suspended, interactions: []}]",
			`200000000205 "" "X" "" [] [] [] suspended []` + "\n"},
		{"no systems", "format: 1\nsystems: []", ""},
		{"empty sets and lists", "format: 1\nsets: {}\nsystems: [{asid: 200000000205, ods: X, state: active, fqdns: [], certificates: [], token_clients: [], interactions: []}]",
			`200000000205 "" "X" "" [] [] [] active []` + "\n"},
		{"scalars as written", "format: 1\nsystems:\n" +
			"  - {asid: 012345678901, ods: 1E5, name: 007, party_key: 0x10, token_clients: [1_000, yes, 1.10], state: active, fqdns: [1e3], interactions: []}\n" +
			"  - {asid: '000000000000', ods: NO, name: 2026-01-01, party_key: \"~\", token_clients: [\"null\"], state: active, interactions: []}\n",
			`000000000000 "2026-01-01" "NO" "~" [] [] ["null"] active []` + "\n" +
				`012345678901 "007" "1E5" "0x10" [1e3] [] ["1_000" "yes" "1.10"] active []` + "\n"},
		{"sets that overlap, and an id of a set", "format: 1\nsets: {one: [urn:x:1, urn:x:2], two: [urn:x:2, urn:x:3]}\nsystems: [{asid: 200000000205, ods: X, state: active, interactions: [one, two, urn:x:1]}]",
			`200000000205 "" "X" "" [] [] [] active [urn:x:1 urn:x:2 urn:x:3]` + "\n"},
		{"sets with the names of scalars", "format: 1\nsets: {1: [urn:x:1], true: [urn:x:2]}\nsystems: [{asid: 200000000205, ods: X, state: active, interactions: [1, true]}]",
			`200000000205 "" "X" "" [] [] [] active [urn:x:1 urn:x:2]` + "\n"},
		{"certificates in every spelling", "format: 1\nsystems: [{asid: 200000000205, ods: X, state: active, interactions: [], certificates: [" +
			hexA + ", " + strings.ToUpper(strings.Replace(hexA, "0", "1", 1)) + ", " + strings.ToLower(strings.Replace(colonA, "0", "2", 1)) + "]}]",
			`200000000205 "" "X" "" [] [` + hexA + " " + strings.Replace(hexA, "0", "1", 1) + " " + strings.Replace(hexA, "0", "2", 1) + `] [] active []` + "\n"},
		{"comments, a byte order mark, CRLF", "\ufeff# a map\r\nformat: 1 # one\r\nsystems: []\r\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := lines(build(t, test.text)); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}

// entry is a map file of one system, which stands in line 5 and ends with more lines.
func entry(more string) string {
	return "format: 1\nsets:\n  one: [urn:x:1]\nsystems:\n  - asid: 200000000205\n    ods: X\n    state: active\n    interactions: []\n" + more
}

func TestDecodeMapRefuses(t *testing.T) {
	long := strings.Repeat("x", 256)
	many := strings.Repeat("n%d, ", 1025)
	numbers := make([]any, 1025)
	for i := range numbers {
		numbers[i] = i
	}
	many = fmt.Sprintf(many, numbers...)
	for _, test := range []struct {
		name, text string
		want       []string // with the file's name before the line
	}{
		{"nothing", "", []string{": the file is empty"}},
		{"no format", "systems: []", []string{":1: format is missing"}},
		{"no systems", "# a map\nformat: 1", []string{":2: systems is missing"}},
		{"systems without a value", "format: 1\nsystems:", []string{":2: key systems has no value: remove it or give it one (text is put in quotes)"}},
		{"another format", "format: 2\nsystem: {}", []string{`:1: format "2" is not known to this release, which reads format: 1`}},
		{"another spelling of the format", "format: 1.0\nsystems: []", []string{`:1: format "1.0" is not known to this release, which reads format: 1`}},
		{"a list for the format", "format: [1]\nsystems: []", []string{":1: this must be text, not a list"}},
		{"an unknown key", "format: 1\nsystem: []", []string{":1: systems is missing", `:2: unknown key "system"; did you mean systems?`}},
		{"a list at the top", "- format: 1", []string{":1: this must be a mapping, not a list"}},
		{"two documents", "format: 1\nsystems: []\n---\nformat: 1\nsystems: []", []string{": a second document (---): a file holds one, or half of it would be ignored"}},

		{"sets in a list", "format: 1\nsets: [one]\nsystems: []", []string{":2: this must be a mapping, not a list"}},
		{"a set that is text", "format: 1\nsets:\n  one: urn:x:1\nsystems: []", []string{":3: this must be a list, not text"}},
		{"a set without a value", "format: 1\nsets:\n  one:\nsystems: []", []string{":3: key one has no value: remove it or give it one (text is put in quotes)"}},
		{"an empty set", "format: 1\nsets:\n  one: []\nsystems: []", []string{`:3: set "one" is empty: list what it grants, or remove it`}},
		{"a set twice", "format: 1\nsets:\n  one: [urn:x:1]\n  one: [urn:x:2]\nsystems: []", []string{`:4: key "one" stands twice, first at line 3`}},
		{"names that no set can have", "format: 1\nsets:\n  NRL: [urn:x:1]\n  -a: [urn:x:1]\n  urn:a: [urn:x:1]\n  '': [urn:x:1]\nsystems: []", []string{
			`:3: a set's name is up to 64 lower-case letters, digits and dashes, not "NRL"`,
			`:4: a set's name is up to 64 lower-case letters, digits and dashes, not "-a"`,
			`:5: a set's name is up to 64 lower-case letters, digits and dashes, not "urn:a"`,
			`:6: a set's name is up to 64 lower-case letters, digits and dashes, not ""`}},
		{"a set in a set", "format: 1\nsets:\n  one: [urn:x:1]\n  two: [one]\nsystems: []", []string{`:4: a set holds interactionIds, not other sets: "one"`}},
		{"twice in a set", "format: 1\nsets:\n  one:\n    - urn:x:1\n    - urn:x:2\n    - urn:x:1\nsystems: []", []string{`:6: "urn:x:1" stands twice in this list, first at line 4`}},
		{"a bad id in a set", "format: 1\nsets:\n  one:\n    - URN:x:1\n    - \"urn:x:1,urn:x:2\"\n    - \"urn:\"\nsystems: []", []string{
			`:4: an interactionId is urn:… of at most 255 visible ASCII characters without comma, not "URN:x:1"`,
			`:5: an interactionId is urn:… of at most 255 visible ASCII characters without comma, not "urn:x:1,urn:x:2"`,
			`:6: an interactionId is urn:… of at most 255 visible ASCII characters without comma, not "urn:"`}},

		{"systems in a mapping", "format: 1\nsystems: {a: b}", []string{":2: this must be a list, not a mapping"}},
		{"a system that is text", "format: 1\nsystems: [a]", []string{":2: this must be a mapping, not text"}},
		{"a system of nothing", "format: 1\nsystems:\n  - {}", []string{":3: asid is missing", ":3: ods is missing", ":3: state is missing",
			":3: interactions is missing: write [] for a system that may do nothing"}},
		{"bad ASIDs", "format: 1\nsystems:\n" +
			"  - {asid: 20000000020, ods: X, state: active, interactions: []}\n" +
			"  - {asid: ' 200000000205', ods: X, state: active, interactions: []}\n" +
			"  - {asid: 0x2000000020, ods: X, state: active, interactions: []}\n" +
			"  - {asid: '20000000020５', ods: X, state: active, interactions: []}\n", []string{
			`:3: an ASID is exactly twelve digits, not "20000000020"`,
			`:4: an ASID is exactly twelve digits, not " 200000000205"`,
			`:5: an ASID is exactly twelve digits, not "0x2000000020"`,
			`:6: an ASID is exactly twelve digits, not "20000000020\uff15"`}},
		{"an ASID twice", entry("  - {asid: 200000000213, ods: X, state: active, interactions: []}\n  - ods: X\n    state: active\n    asid: '200000000205'\n    interactions: []\n"),
			[]string{":12: asid 200000000205 stands twice, first at line 5"}},
		{"no ODS code, and bad ones", "format: 1\nsystems:\n" +
			"  - {asid: 200000000205, state: active, interactions: []}\n" +
			"  - {asid: 200000000206, ods: '', state: active, interactions: []}\n" +
			"  - {asid: 200000000207, ods: R XA, state: active, interactions: []}\n", []string{
			":3: ods is missing",
			`:4: ods is 1 to 255 visible ASCII characters, not ""`,
			`:5: ods is 1 to 255 visible ASCII characters, not "R XA"`}},
		{"no state, and bad ones", "format: 1\nsystems:\n" +
			"  - {asid: 200000000205, ods: X, interactions: []}\n" +
			"  - {asid: 200000000206, ods: X, state: Active, interactions: []}\n" +
			"  - {asid: 200000000207, ods: X, state: true, interactions: []}\n", []string{
			":3: state is missing",
			`:4: state is active or suspended, not "Active"`,
			`:5: state is active or suspended, not "true"`}},
		{"texts that are none", entry("    name: \"a\\eb\"\n    party_key: \"a\\nb\"\n"), []string{
			`:9: name is at most 255 characters without control characters, not "a\x1bb"`,
			`:10: party_key is at most 255 characters without control characters, not "a\nb"`}},
		{"texts that are too long", entry("    name: " + long + "\n"), []string{
			":9: name is at most 255 characters without control characters, not " + authz.Excerpt(long)}},
		{"names that match no certificate", entry("    fqdns:\n      - good\n      - '*.x'\n      - x.\n      - ''\n      - a b\n      - é\n"), []string{
			`:11: fqdn "*.x" can match no certificate: a name is ASCII, without wildcard, blank or trailing dot`,
			`:12: fqdn "x." can match no certificate: a name is ASCII, without wildcard, blank or trailing dot`,
			`:13: fqdn "" can match no certificate: a name is ASCII, without wildcard, blank or trailing dot`,
			`:14: fqdn "a b" can match no certificate: a name is ASCII, without wildcard, blank or trailing dot`,
			`:15: fqdn "\u00e9" can match no certificate: a name is ASCII, without wildcard, blank or trailing dot`}},
		{"a name twice", entry("    fqdns:\n      - a.example\n      - A.example\n"), []string{`:11: "A.example" stands twice in this list, first at line 10`}},
		{"text for names", entry("    fqdns: a.example\n"), []string{":9: this must be a list, not text"}},
		{"a list among names", entry("    fqdns: [[a.example]]\n"), []string{":9: this must be text, not a list"}},
		{"a mapping among names", entry("    fqdns: [{a: b}]\n"), []string{":9: this must be text, not a mapping"}},
		{"nothing among names", entry("    fqdns: [a, ]\n    token_clients: [a, ~]\n"), []string{":10: an empty value: remove it, or put text in quotes"}},
		{"too many names", entry("    fqdns: [" + many + "]\n"), []string{":5: more than 1024 fqdns, certificates or token clients"}},
		{"fingerprints that are none", entry("    certificates:\n      - ''\n      - " + hexA[:40] + "\n      - g" + hexA[1:] + "\n      - " + colonA[1:] + "\n      - '" + colonA[:5] + hexA[4:] + "'\n      - " +
			strings.Replace(colonA, "1:2", "32:", 1) + "\n      - SHA256 Fingerprint=" + colonA + "\n"), []string{
			`:10: a certificate is the SHA-256 of its DER: 64 hex digits, or 32 pairs with colons between them, not ""`,
			`:11: a certificate is the SHA-256 of its DER: 64 hex digits, or 32 pairs with colons between them, not "` + hexA[:40] + `"`,
			`:12: a certificate is the SHA-256 of its DER: 64 hex digits, or 32 pairs with colons between them, not "g` + hexA[1:] + `"`,
			`:13: a certificate is the SHA-256 of its DER: 64 hex digits, or 32 pairs with colons between them, not "` + colonA[1:] + `"`,
			`:14: a certificate is the SHA-256 of its DER: 64 hex digits, or 32 pairs with colons between them, not "` + colonA[:5] + hexA[4:] + `"`,
			`:15: a certificate is the SHA-256 of its DER: 64 hex digits, or 32 pairs with colons between them, not "` + strings.Replace(colonA, "1:2", "32:", 1) + `"`,
			`:16: a certificate is the SHA-256 of its DER: 64 hex digits, or 32 pairs with colons between them, not "SHA256 Fingerprint=` + colonA + `"`}},
		{"a certificate twice", entry("    certificates:\n      - " + hexA + "\n      - " + colonA + "\n"), []string{`:11: "` + colonA + `" stands twice in this list, first at line 10`}},
		{"token clients", entry("    token_clients:\n      - a\n      - a b\n      - a\n"), []string{
			`:11: token client is 1 to 255 visible ASCII characters, not "a b"`,
			`:12: "a" stands twice in this list, first at line 10`}},
		{"unknown sets", "format: 1\nsets:\n  nrl-consumer: [urn:x:1]\nsystems:\n  - asid: 200000000205\n    ods: X\n    state: active\n    interactions:\n      - nrl-consumr\n      - gp-connect-appointments\n      - urn-x-1\n", []string{
			`:9: set "nrl-consumr" is not defined; did you mean nrl-consumer?`,
			`:10: set "gp-connect-appointments" is not defined`,
			`:11: set "urn-x-1" is not defined`}},
		{"bad and repeated interactions", "format: 1\nsets:\n  one: [urn:x:1]\nsystems:\n  - asid: 200000000205\n    ods: X\n    state: active\n    interactions:\n      - one\n      - urn:x:2\n      - nhs:names:services\n      - one\n      - urn:x:2\n", []string{
			`:11: an interactionId is urn:… of at most 255 visible ASCII characters without comma, not "nhs:names:services"`,
			`:12: "one" stands twice in this list, first at line 9`,
			`:13: "urn:x:2" stands twice in this list, first at line 10`}},
		{"an alias", "format: 1\nsystems:\n  - asid: 200000000205\n    ods: &x X\n    name: *x\n    state: active\n    interactions: []\n", []string{
			":4: an anchor: write the value out where it is meant, so that a line says what it means",
			":5: an alias: write the value out, so that a line says what it means"}},
		{"a key twice", "format: 1\nsystems:\n  - asid: 200000000205\n    ods: X\n    state: suspended\n    state: active\n    interactions: []\n", []string{`:6: key "state" stands twice, first at line 5`}},
		{"everything at once", "format: 1\nsets:\n  one: []\nsystems:\n  - asid: 1\n    odds: X\n    state: on\n    interactions: [two]\n  - asid: 200000000205\n    ods: [X]\n    state: active\n", []string{
			`:3: set "one" is empty: list what it grants, or remove it`,
			":5: ods is missing",
			`:5: an ASID is exactly twelve digits, not "1"`,
			`:6: unknown key "odds"; did you mean ods?`,
			`:7: state is active or suspended, not "on"`,
			`:8: set "two" is not defined`,
			":9: interactions is missing: write [] for a system that may do nothing",
			":10: this must be text, not a list"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := cache.DecodeMap("map.yaml", []byte(test.text))
			if f != nil || err == nil {
				t.Fatal("accepted")
			}
			if _, ok := err.(strictyaml.Problems); !ok {
				t.Errorf("the error is a %T", err)
			}
			if want := "map.yaml" + strings.Join(test.want, "\nmap.yaml"); err.Error() != want {
				t.Errorf("got\n%v\nwant\n%s", err, want)
			}
		})
	}
}

// TestDecodeMapHalf: a file that is read while it is being written is refused where it
// ends, whatever the library calls it, unless it ends between two entries.
func TestDecodeMapHalf(t *testing.T) {
	whole := `{"format": 1, "systems": [{"asid": "200000000205", "ods": "X", "state": "active", "interactions": ["urn:x:1"]}]}`
	build(t, whole)
	for i := range len(whole) {
		f, err := cache.DecodeMap("m", []byte(whole[:i]))
		if f != nil || err == nil {
			t.Errorf("accepted: %s", whole[:i])
		} else if !strings.HasPrefix(err.Error(), "m:") {
			t.Errorf("the error does not say where: %v", err)
		}
	}
}

// TestDecodeMapSurrogates: the one thing that JSON can say and YAML cannot is refused,
// not misread.
func TestDecodeMapSurrogates(t *testing.T) {
	const file = `{"format": 1, "systems": [{"asid": "200000000205", "name": "%s", "ods": "X", "state": "active", "interactions": []}]}`
	if _, err := cache.DecodeMap("m", fmt.Appendf(nil, file, `\ud83d\ude00`)); err == nil || !strings.HasPrefix(err.Error(), "m:1: ") {
		t.Errorf("got %v", err)
	}
	if got := lines(build(t, fmt.Sprintf(file, "😀"))); !strings.Contains(got, `"😀"`) {
		t.Errorf("got %s", got)
	}
}

func TestBuildVersion(t *testing.T) {
	f, err := cache.DecodeMap("m", []byte("format: 1\nsystems: []"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := f.Build(0); err == nil {
		t.Errorf("version 0 was built: %v", m)
	}
	for _, version := range []uint64{1, 2, 1<<64 - 1} { // a file can be built more than once
		if m, err := f.Build(version); err != nil || m.Version() != version {
			t.Errorf("version %d: %v, %v", version, m, err)
		}
	}
}
