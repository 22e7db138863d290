package strictyaml_test

import (
	"fmt"
	"strings"
	"testing"

	"asid-authz/authz/strictyaml"
)

type file struct {
	Name  string   `yaml:"name"`
	Count int      `yaml:"count"`
	List  []string `yaml:"list"`
	Inner struct {
		Deadline string `yaml:"deadline"`
	} `yaml:"inner"`
}

func Example() {
	var f file
	err := strictyaml.Decode("file.yaml", []byte("name: NO\ncount: many\nnmae: x\ninner: {dedline: 1s}\n"), &f)
	fmt.Println(err)
	// Output:
	// file.yaml:2: this must be a number, not text
	// file.yaml:3: unknown key "nmae"; did you mean name?
	// file.yaml:4: unknown key "dedline"; did you mean deadline?
}

func TestDecode(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"scalars as written", "name: 1E5\nlist: [NO, 0x10, 1_000, 'q']", ""},
		{"JSON", `{"name": "x", "count": 3, "list": ["a"]}`, ""},
		{"empty", "", "f: the file is empty"},
		{"comment only", "# nothing\n", "f: the file is empty"},
		{"duplicate key", "name: a\nname: b", `f:2: key "name" stands twice, first at line 1`},
		{"second document", "name: a\n---\nname: b", "f: a second document"},
		{"no value", "name:\ncount: 1", "f:1: key name has no value"},
		{"null in a list", "list: [a, ~]", "f:1: an empty value"},
		{"alias", "name: &n a\nlist: [*n]", "f:2: an alias"},
		{"merge", "name: a\n<<: {count: 1}", "f:2: a merge"},
		{"a merge of everything", "<<", "f:1: a merge"},
		{"a merge for a list", "name: a\nlist: <<", "f:2: a merge"},
		{"a merge in a list", "list: [a, <<]", "f:1: a merge"},
		{"text that looks like a merge", "name: '<<'", ""},
		{"tag", "name: !!binary YQ==", "f:1: a tag"},
		{"tag of a list", "list: !mine [a]", "f:1: a tag"},
		{"cut off", "{name: a", "f:2: did not find expected ',' or '}'"},
		{"text of several lines", "a\n\n\nb", "f:1: this must be a mapping, not text"},
		{"unknown key with a blank", "\"a b\\e\": c", `f:1: unknown key "a b\x1b"`},
		{"unknown key without a value", "\"\\e\":", `f:1: key \x1b has no value`},
		{"list for text", "name: [a]", "f:1: this must be text, not a list"},
		{"text for list", "list: a", "f:1: this must be a list, not text"},
		{"mapping for list", "list: {a: b}", "f:1: this must be a list, not a mapping"},
		{"list at the top", "- a", "f:1: this must be a mapping, not a list"},
		{"not YAML", "name: [", "f:2: did not find expected node content"},
		{"control byte", "name: \"a\x00\"", "f:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var f file
			err := strictyaml.Decode("f", []byte(test.text), &f)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && err == nil:
				t.Errorf("accepted as %+v, want %q", f, test.want)
			case test.want != "" && !strings.Contains(err.Error(), test.want):
				t.Errorf("got %q, want %q", err, test.want)
			}
		})
	}
	var f file
	if err := strictyaml.Decode("f", []byte("name: 1E5\nlist: [NO, 0x10]"), &f); err != nil || f.Name != "1E5" || f.List[0] != "NO" || f.List[1] != "0x10" {
		t.Errorf("scalars changed: %+v, %v", f, err)
	}
}

// FuzzDecode: whatever the text, there is an answer, and a refusal names the file.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\nlist: [b]"))
	f.Add([]byte("&a [*a, *a]"))
	f.Add([]byte("? {a: b}\n: c"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var v file
		if err := strictyaml.Decode("f", text, &v); err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("an error without the file: %v", err)
		}
	})
}
