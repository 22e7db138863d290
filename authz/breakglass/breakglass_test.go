package breakglass_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/breakglass"
	"asid-authz/authz/strictyaml"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const sum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func colons(digits string) string {
	var pairs []string
	for ; digits != ""; digits = digits[2:] {
		pairs = append(pairs, strings.ToUpper(digits[:2]))
	}
	return strings.Join(pairs, ":")
}

// describe writes orders down as a file of one line.
func describe(o authz.Orders) string {
	var asids, sums, rest []string
	for _, a := range o.ASIDs {
		asids = append(asids, `"`+a.String()+`"`)
	}
	for _, c := range o.Certificates {
		sums = append(sums, `"`+hex.EncodeToString(c[:])+`"`)
	}
	rest = append(rest, fmt.Sprintf("deny: {asids: [%s], certificates: [%s]}", strings.Join(asids, ", "), strings.Join(sums, ", ")))
	if o.MaxStaleness > 0 {
		rest = append(rest, fmt.Sprintf("max_staleness: {value: %v, until: %s}", o.MaxStaleness, o.Until.Format(time.RFC3339Nano)))
	}
	if o.Reason != "" {
		rest = append(rest, fmt.Sprintf("reason: %q", o.Reason))
	}
	return "{" + strings.Join(rest, ", ") + "}"
}

func TestDecode(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"{}", "{deny: {asids: [], certificates: []}}"},
		{"deny: {}", "{deny: {asids: [], certificates: []}}"},
		{"deny: {asids: [], certificates: []}", "{deny: {asids: [], certificates: []}}"},
		{"deny:\n  asids: [200000000117, \"012345678901\"]\n  certificates: [" + sum + ", \"" + colons(sum) + "\"]\nreason: INC-4711\n",
			`{deny: {asids: ["200000000117", "012345678901"], certificates: ["` + sum + `", "` + sum + `"]}, reason: "INC-4711"}`},
		{"max_staleness: {value: 6h, until: 2026-11-24T18:00:00Z}", "{deny: {asids: [], certificates: []}, max_staleness: {value: 6h0m0s, until: 2026-11-24T18:00:00Z}}"},
		{"max_staleness: {value: 72h, until: 2026-12-01T12:00:00+00:00}", "{deny: {asids: [], certificates: []}, max_staleness: {value: 72h0m0s, until: 2026-12-01T12:00:00Z}}"},
		{"max_staleness: {value: 6h, until: 2025-11-24T18:00:00Z}", "{deny: {asids: [], certificates: []}, max_staleness: {value: 6h0m0s, until: 2025-11-24T18:00:00Z}}"},
	} {
		b, err := breakglass.Decode("f", []byte(test.text), now)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if got := describe(b.Orders()); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.text, got, test.want)
		}
	}
	for _, test := range []struct{ text, want string }{
		{"", "f: the file is empty"},
		{"# nothing any more\n", "f: the file is empty"},
		{"deny:\n", "f:1: key deny has no value"},
		{"deny: {asids: [200000000117", "f:"},
		{"deny: {asid: [200000000117]}", `f:1: unknown key "asid"; did you mean asids?`},
		{"allow: {}", `f:1: unknown key "allow"`},
		{"deny:\n  asids:\n    - 20000000117\n", "f:3: an ASID is exactly twelve digits"},
		{"deny:\n  certificates:\n    - " + sum[:62] + "\n", "f:3: a certificate is the SHA-256 of its DER"},
		{"deny:\n  certificates: [\"" + strings.Repeat("ab:", 21) + "a\"]\n", "f:2: a certificate is the SHA-256 of its DER"},
		{"deny: {asids: [200000000117], asids: []}", `"asids" stands twice`},
		{"max_staleness: {}", "max_staleness.value is missing"},
		{"max_staleness: {value: 6h}", "f: max_staleness.until is missing"},
		{"max_staleness: {until: 2026-11-24T18:00:00Z}", "f: max_staleness.value is missing"},
		{"max_staleness: {value: 73h, until: 2026-11-24T18:00:00Z}", "f:1: this is a duration like 90m or 6h, of at most 72h0m0s"},
		{"max_staleness: {value: 0s, until: 2026-11-24T18:00:00Z}", "f:1: this is a duration"},
		{"max_staleness: {value: -1h, until: 2026-11-24T18:00:00Z}", "f:1: this is a duration"},
		{"max_staleness: {value: 6h, until: 2026-12-01T12:00:01Z}", "f: max_staleness.until is more than 7 days ahead"},
		{"max_staleness: {value: 6h, until: 2026-11-24T18:00:00}", "f:1: this is a time like"},
		{"max_staleness: {value: 6h, until: 6h}", "f:1: this is a time like"},
		{"max_staleness: {value: 6h, until: 0001-01-01T00:00:00Z}", "f:1: this is a time like"},
		{"max_staleness: 6h", "f:1: this must be a mapping, not text"},
		{"reason: [a]", "f:1: reason is a text of at most 500 bytes"},
		{"reason: " + strings.Repeat("a", 501), "f:1: reason is a text"},
		{"{}\n---\n{}", "a second document"},
		{"[]", "this must be a mapping"},
		{"# " + strings.Repeat("a", breakglass.MaxFile), "larger than"},
		{"deny: {asids: [" + strings.Repeat("200000000117, ", 10_001) + "]}", "f: deny: more than 10000"},
	} {
		b, err := breakglass.Decode("f", []byte(test.text), now)
		if err == nil || b != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80s: got %v, want %s", test.text, err, test.want)
		}
	}
}

// FuzzDecode: whatever the text, there is an answer; a refusal says where; what is
// accepted ends, and written out again it is the same.
func FuzzDecode(f *testing.F) {
	f.Add("{}")
	f.Add("deny: {asids: [200000000117], certificates: [" + sum + "]}\nmax_staleness: {value: 6h, until: 2026-11-24T18:00:00Z}\nreason: x")
	f.Add(`{"deny":{"asids":["200000000117"],"certificates":["` + colons(sum) + `"]},"reason":"\u0000"}`)
	f.Add("deny: &a {asids: [*a]}")
	f.Add("max_staleness: {<<: {value: 1h}, until: !!timestamp 2026-11-24}")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := breakglass.Decode("f", []byte(text), now)
		if err != nil {
			var problems strictyaml.Problems
			if b != nil || !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("refused with %#v and %v", err, b)
			}
			for _, p := range problems {
				if p.File != "f" || p.Line < 0 || p.Text == "" {
					t.Errorf("a problem that does not say where: %#v", p)
				}
			}
			return
		}
		o := b.Orders()
		if o.MaxStaleness > authz.MaxBreakGlassStaleness || (o.MaxStaleness > 0) == o.Until.IsZero() || o.Until.Sub(now) > authz.MaxBreakGlassPeriod {
			t.Fatalf("accepted without an end: %+v", o)
		}
		if o.Reason != "" { // Go's quotes are not YAML's for every text
			o.Reason = "x"
		}
		again, err := breakglass.Decode("again", []byte(describe(o)), now)
		if err != nil {
			t.Fatalf("not accepted again: %v\n%s", err, describe(o))
		}
		if got := describe(again.Orders()); got != describe(o) {
			t.Errorf("\n got %s\nwant %s", got, describe(o))
		}
	})
}
