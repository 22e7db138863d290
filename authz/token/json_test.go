package token

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseObject(t *testing.T) {
	small := bounds{depth: 3, members: 3, values: 6}
	for _, test := range []struct {
		name, text, want string // "" if it is accepted
	}{
		{"empty", `{}`, ""},
		{"blanks", " { \"a\" :\t1 ,\r\n\"b\":[ 1 , 2 ] } ", ""},
		{"literals", `{"a":true,"b":false,"c":null}`, ""},
		{"numbers", `{"a":[-0,1.5e+3,-12E-1]}`, ""},
		{"escapes", `{"\"\\\/\b\f\n\r\t":"\u00E9\ud83d\ude00"}`, ""},
		{"DEL and NUL escaped", "{\"\x7f\":\"\\u0000\"}", ""},

		{"nothing", ``, "byte 0: this is not a JSON object"},
		{"array", `[]`, "byte 0: this is not a JSON object"},
		{"byte order mark", "\ufeff{}", "byte 0: this is not a JSON object"},
		{"two", `{}{}`, "byte 2: something follows the JSON value"},
		{"NUL behind", "{}\x00", "byte 2: something follows the JSON value"},
		{"no end", `{"a":1`, "byte 6: a comma or the end of the object is missing"},
		{"no value", `{"a":}`, "byte 5: a JSON value is missing"},
		{"no colon", `{"a" 1}`, "byte 5: a colon is missing"},
		{"no comma", `{"a":1 "b":2}`, "byte 7: a comma or the end of the object is missing"},
		{"comma before", `{,"a":1}`, "byte 1: a name is missing"},
		{"comma behind", `{"a":1,}`, "byte 7: a name is missing"},
		{"comma behind an element", `{"a":[1,]}`, "byte 8: a JSON value is missing"},
		{"array without end", `{"a":[1`, "byte 7: a comma or the end of the array is missing"},
		{"name without quotes", `{a:1}`, "byte 1: a name is missing"},
		{"single quotes", `{'a':1}`, "byte 1: a name is missing"},
		{"comment", `{/**/}`, "byte 1: a name is missing"},
		{"NaN", `{"a":NaN}`, "byte 5: a JSON value is missing"},
		{"word goes on", `{"a":trueish}`, "byte 9: a comma or the end of the object is missing"},
		{"leading zero", `{"a":01}`, "byte 6: a comma or the end of the object is missing"},
		{"plus", `{"a":+1}`, "byte 5: a JSON value is missing"},
		{"minus alone", `{"a":-}`, "byte 6: a digit is missing"},
		{"point alone", `{"a":1.}`, "byte 7: a digit is missing"},
		{"exponent alone", `{"a":1e}`, "byte 7: a digit is missing"},
		{"string without end", `{"a`, "byte 3: a string has no end"},
		{"escape without end", `{"a\`, "byte 4: an escape that JSON does not have"},
		{"escape without end, below", `{"":{"\`, "byte 7: an escape that JSON does not have"},
		{"string without end behind an escape", `{"a\n`, "byte 5: a string has no end"},
		{"bad escape", `{"\x41":1}`, "byte 3: an escape that JSON does not have"},
		{"short escape", `{"\u12`, "a \\u escape that is no character"},
		{"bad digit", `{"\u00g0":1}`, "a \\u escape that is no character"},
		{"low half first", `{"\ude00\ud83d":1}`, "a \\u escape that is no character"},
		{"high half alone", `{"\ud83d":1}`, "a \\u escape that is no character"},
		{"high half twice", `{"\ud83d\ud83d":1}`, "a \\u escape that is no character"},
		{"control byte", "{\"a\n\":1}", "byte 3: a control byte in a string"},
		{"control byte behind an escape", "{\"\\na\n\":1}", "a control byte in a string"},
		{"not UTF-8", "{\"\xff\":1}", "byte 3: a string is not UTF-8"},
		{"surrogate as UTF-8", "{\"\xed\xa0\x80\":1}", "a string is not UTF-8"},
		{"not UTF-8 behind an escape", "{\"\\n\xff\":1}", "a string is not UTF-8"},
		{"name twice", `{"a":1,"a":1}`, "byte 10: a name stands twice in one object"},
		{"name twice, written differently", `{"a":1,"\u0061":1}`, "a name stands twice in one object"},
		{"name twice in two objects", `{"a":{"a":{"a":1}}}`, ""},
		{"too deep", `{"a":{"a":{"a":{}}}}`, "byte 15: nested too deeply"},
		{"too deep in arrays", `{"a":[[[]]]}`, "byte 7: nested too deeply"},
		{"many names", `{"a":1,"b":1,"c":1,"d":1}`, "byte 19: too many names in one object"},
		{"many values", `{"a":[1,1,1,1,1,1]}`, "byte 16: too many values"},
		{"long name", `{"` + strings.Repeat("a", maxName+1) + `":1}`, "a name is too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseObject(test.text, small)
			switch {
			case err == nil && test.want != "":
				t.Errorf("accepted, want %q", test.want)
			case err != nil && (test.want == "" || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %q, want %q", err, test.want)
			}
			if err == nil && !json.Valid([]byte(test.text)) {
				t.Error("accepted, and encoding/json refuses it")
			}
		})
	}
}

// FuzzParseObject: what is accepted is JSON for encoding/json too, and says the same.
func FuzzParseObject(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1}`, `{"a":{"b":[1,"x",null,true]},"c":"\u00e9\ud83d\ude00"}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`,
		`{"\ud800":1}`, `{"":{"\`, "{\"\xff\":1}", `{"a":1e99,"b":-0,"c":01}`, `{"a":"\"}`, ` {"a" : [ ] } `, `{"a":1}x`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		members, err := parseObject(text, tokenBounds)
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("accepted, and encoding/json says: %v", err)
		}
		if len(want) != len(members) {
			t.Fatalf("%d members, encoding/json has %d", len(members), len(want))
		}
		for _, m := range members {
			raw, found := want[m.name]
			if !found {
				t.Fatalf("encoding/json has no %q", m.name)
			}
			got := m.text
			if m.kind == kindString {
				var s string
				if err := json.Unmarshal(raw, &s); err != nil || s != got {
					t.Fatalf("%q is %q, encoding/json has %q", m.name, got, s)
				}
				continue
			}
			if got != string(raw) {
				t.Fatalf("%q is %s, encoding/json has %s", m.name, got, raw)
			}
			switch m.kind {
			case kindObject:
				_, err = parseObject(got, tokenBounds)
			case kindArray:
				_, err = parseArray(got, tokenBounds)
			}
			if err != nil {
				t.Fatalf("%q was accepted as a part and is not by itself: %v", m.name, err)
			}
		}
	})
}
