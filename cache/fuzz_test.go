package cache_test

import (
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
	"asid-authz/cache"
)

// FuzzDecodeMap: whatever the text, there is an answer; a refusal says where; what is
// accepted can be built and warned about, and written out again it is the same map.
func FuzzDecodeMap(f *testing.F) {
	example, err := os.ReadFile("../docs/map.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(entry("    name: \"\\u0080\\U0001F600\\t\"\n    certificates: [" + colonA + "]\n    token_clients: ['\"']\n")))
	f.Add([]byte(`{"format":1,"sets":{"one":["urn:x:1"]},"systems":[{"asid":"000000000000","ods":"X","state":"active","fqdns":["A.b"],"interactions":["one","urn:x:2"]}]}`))
	f.Add([]byte("format: 1\nsets: {<<: {a: [urn:b]}}\nsystems: [{<<: {ods: X}, asid: 1}]"))
	f.Add([]byte("format: 1\nsystems: [&a {asid: *a}, !!map {? [a] : b}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := cache.DecodeMap("m", text)
		if err != nil {
			var problems strictyaml.Problems
			if file != nil || !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("refused with %#v and %v", err, file)
			}
			for _, p := range problems {
				if p.File != "m" || p.Line < 0 || p.Text == "" {
					t.Errorf("a problem that does not say where: %#v", p)
				}
			}
			return
		}
		m, err := file.Build(1)
		if err != nil {
			t.Fatalf("accepted, but not built: %v", err)
		}
		if s := file.Summary(); s.Systems != m.Len() || s.Suspended > s.Systems {
			t.Errorf("summary %+v of %d systems", s, m.Len())
		}
		last := 0
		for _, w := range file.Warnings(authz.Profile{Name: "p", Endpoints: make([]authz.Endpoint, 1)}) {
			if w.Line < last || w.Line == 0 || w.Text == "" {
				t.Errorf("a warning out of order: %#v after line %d", w, last)
			}
			last = w.Line
		}
		again, err := cache.DecodeMap("again", []byte(encode(m)))
		if err != nil {
			t.Fatalf("not accepted again: %v\n%s", err, encode(m))
		}
		rebuilt, err := again.Build(1)
		if err != nil {
			t.Fatal(err)
		}
		if lines(rebuilt) != lines(m) {
			t.Errorf("got\n%swant\n%s", lines(rebuilt), lines(m))
		}
	})
}

// encode writes a map as a file without sets.
func encode(m *authz.InteractionMap) string {
	list := func(items []string) string {
		for i := range items {
			items[i] = strconv.QuoteToASCII(items[i])
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	var b strings.Builder
	b.WriteString("format: 1\nsystems: [")
	for s := range m.Systems() {
		var certificates, interactions []string
		for _, c := range s.Fingerprints {
			certificates = append(certificates, hex.EncodeToString(c[:]))
		}
		for _, id := range s.Interactions {
			interactions = append(interactions, id.String())
		}
		b.WriteString("{asid: " + s.ASID.String() + ", name: " + strconv.QuoteToASCII(s.Name) + ", ods: " + strconv.QuoteToASCII(s.ODSCode) +
			", party_key: " + strconv.QuoteToASCII(s.PartyKey) + ", fqdns: " + list(s.FQDNs) + ", certificates: " + list(certificates) +
			", token_clients: " + list(s.TokenClients) + ", state: " + s.State.String() + ", interactions: " + list(interactions) + "},\n")
	}
	b.WriteString("]\n")
	return b.String()
}
