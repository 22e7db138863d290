package authz_test

import (
	"fmt"
	"strings"
	"testing"

	"asid-authz/authz"
)

// TestASIDEveryByte puts every byte into every position of an ASID, and one in front of
// it and behind it.
func TestASIDEveryByte(t *testing.T) {
	const good = "200000000117"
	for b := range 256 {
		digit := b >= '0' && b <= '9'
		for i := range len(good) {
			s := good[:i] + string([]byte{byte(b)}) + good[i+1:]
			a, err := authz.ParseASID(s)
			if (err == nil) != digit || (err == nil) == a.IsZero() || err == nil && a.String() != s {
				t.Errorf("ParseASID(%q) is %v, %v", s, a, err)
			}
		}
		for _, s := range []string{good + string([]byte{byte(b)}), string([]byte{byte(b)}) + good} {
			if a, err := authz.ParseASID(s); err == nil || !a.IsZero() {
				t.Errorf("ParseASID(%q) is %v", s, a)
			}
		}
	}
	for _, s := range []string{"", "0", good[:11], strings.Repeat("0", 1000), "２00000000117", "0x0000000011"} {
		if a, err := authz.ParseASID(s); err == nil || a != (authz.ASID{}) {
			t.Errorf("ParseASID(%.20q) is %v", s, a)
		}
	}
}

func TestZeroASIDIsNobody(t *testing.T) {
	zeros, err := authz.ParseASID("000000000000")
	if err != nil {
		t.Fatal(err)
	}
	if zeros == (authz.ASID{}) || zeros.IsZero() || zeros.String() != "000000000000" {
		t.Error("twelve zeros are the zero ASID: a forgotten assignment would be somebody")
	}
	if (authz.ASID{}).String() != "" {
		t.Error("the zero ASID has digits")
	}
	if largest, err := authz.ParseASID("999999999999"); err != nil || largest.String() != "999999999999" {
		t.Errorf("the largest ASID: %v, %v", largest, err)
	}
}

func FuzzParseASID(f *testing.F) {
	for _, s := range []string{"200000000117", "000000000000", "999999999999", "20000000011", "２00000000117", "+00000000117", " 200000000117"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := authz.ParseASID(s)
		if (err == nil) != isTwelveDigits(s) {
			t.Fatalf("ParseASID(%q): %v", s, err)
		}
		if err == nil && (a.String() != s || a.IsZero()) {
			t.Fatalf("ParseASID(%q) prints as %q", s, a)
		}
		if err != nil && (a != authz.ASID{} || len(err.Error()) > 700) {
			t.Fatalf("a refused ASID is %v, and the error has %d bytes", a, len(err.Error()))
		}
	})
}

func isTwelveDigits(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

func TestInteractionEveryByte(t *testing.T) {
	for b := range 256 {
		s := "urn:nhs:" + string([]byte{byte(b)}) + "x"
		id, err := authz.ParseInteractionID(s)
		want := b > ' ' && b <= '~' && b != ','
		if (err == nil) != want || err == nil && id.String() != s || err != nil && !id.IsZero() {
			t.Errorf("ParseInteractionID(%q) is %v, %v", s, id, err)
		}
	}
	for s, want := range map[string]bool{
		"urn:" + strings.Repeat("x", 251): true,
		"urn:" + strings.Repeat("x", 252): false,
		"urn:x":                           true, "urn:": false, "": false, "URN:x": false, " urn:x": false, "nhs:x": false,
	} {
		if _, err := authz.ParseInteractionID(s); (err == nil) != want {
			t.Errorf("ParseInteractionID(%.20q): %v", s, err)
		}
	}
	if !(authz.InteractionID{}).IsZero() || (authz.InteractionID{}).String() != "" {
		t.Error("the zero InteractionID is one")
	}
}

// TestExcerpt: what a stranger sent leaves the process in one line of ASCII, and short.
func TestExcerpt(t *testing.T) {
	for s, want := range map[string]string{
		"plain":              `"plain"`,
		"":                   `""`,
		"a\nb\x1b[31m\x00":   `"a\nb\x1b[31m\x00"`,
		"quote\" and \\":     `"quote\" and \\"`,
		"\u202egnirts":       `"\u202egnirts"`,
		"\xff":               `"\xff"`,
		"<script>":           `"<script>"`,
		"caf\u00e9 \u2028 x": `"caf\u00e9 \u2028 x"`,
	} {
		if got := authz.Excerpt(s); got != want {
			t.Errorf("Excerpt(%q) is %s, want %s", s, got, want)
		}
		if got := authz.ExcerptBare(s); `"`+got+`"` != want {
			t.Errorf("ExcerptBare(%q) is %s", s, got)
		}
	}
	for n := 110; n < 130; n++ {
		long := strings.Repeat("a", n) + strings.Repeat("é", 40)
		got := authz.Excerpt(long)
		if len(got) > 220 || !strings.HasSuffix(got, `..."`) || strings.Contains(got, `\x`) {
			t.Errorf("an excerpt of %d bytes: %s", len(long), got)
		}
	}
}

func FuzzExcerpt(f *testing.F) {
	f.Add("plain")
	f.Add("a\nb\x1b[31m\x00\u202e\xff" + strings.Repeat("é", 100))
	f.Fuzz(func(t *testing.T, s string) {
		got := authz.Excerpt(s)
		if len(got) > 10*130 {
			t.Fatalf("%d bytes of %d", len(got), len(s))
		}
		for i := range len(got) {
			if got[i] < ' ' || got[i] > '~' {
				t.Fatalf("byte %#x in %q", got[i], got)
			}
		}
	})
}

func TestFaultError(t *testing.T) {
	for _, test := range []struct {
		fault authz.Fault
		want  string
	}{
		{authz.Fault{Reason: authz.TokenExpired}, "token-expired"},
		{authz.Fault{Reason: authz.ClaimMissing, Field: authz.ClaimField("aud"), Value: "secret"}, "claim-missing (claim.aud)"},
		{authz.Fault{Reason: authz.HeaderMissing, Field: authz.HeaderField("fromASID")}, "header-missing (header.fromASID)"},
	} {
		if got := fmt.Sprint(test.fault.Error()); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
