package cache

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const schemaFile = "../docs/map.schema.json"

// A schema is the part of JSON Schema 2020-12 that docs/map.schema.json uses. A keyword
// that is not here fails the test: it would be believed and not checked.
type schema struct {
	Schema      string             `json:"$schema"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Ref         string             `json:"$ref"`
	Defs        map[string]*schema `json:"$defs"`

	Type  string    `json:"type"`
	Const any       `json:"const"`
	Enum  []any     `json:"enum"`
	AnyOf []*schema `json:"anyOf"`

	Pattern   string `json:"pattern"`
	MaxLength int    `json:"maxLength"`

	Items       *schema `json:"items"`
	MinItems    int     `json:"minItems"`
	MaxItems    int     `json:"maxItems"`
	UniqueItems bool    `json:"uniqueItems"`

	Properties           map[string]*schema `json:"properties"`
	PropertyNames        *schema            `json:"propertyNames"`
	Required             []string           `json:"required"`
	AdditionalProperties *additional        `json:"additionalProperties"`
}

// additional is what further keys may hold: nothing (false), or what a schema says.
type additional struct{ schema *schema }

func (a *additional) UnmarshalJSON(text []byte) error {
	if string(text) == "false" {
		return nil
	}
	return json.Unmarshal(text, &a.schema)
}

func loadSchema(t *testing.T) *schema {
	t.Helper()
	f, err := os.Open(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	decoder := json.NewDecoder(f)
	decoder.DisallowUnknownFields()
	var s schema
	if err := decoder.Decode(&s); err != nil {
		t.Fatalf("%s: %v", schemaFile, err)
	}
	return &s
}

// follow returns the schema that s refers to, or s.
func (root *schema) follow(s *schema) *schema {
	if s.Ref == "" {
		return s
	}
	return root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
}

// accepts reports whether v, which YAML was read into, is what s describes.
func (root *schema) accepts(s *schema, v any) bool {
	s = root.follow(s)
	if s.Const != nil && fmt.Sprint(s.Const) != fmt.Sprint(v) || s.Enum != nil && !slices.Contains(s.Enum, v) {
		return false
	}
	if s.AnyOf != nil && !slices.ContainsFunc(s.AnyOf, func(one *schema) bool { return root.accepts(one, v) }) {
		return false
	}
	switch v := v.(type) {
	case string:
		return (s.Type == "" || s.Type == "string") && (s.MaxLength == 0 || utf8.RuneCountInString(v) <= s.MaxLength) &&
			regexp.MustCompile(s.Pattern).MatchString(v)
	case []any:
		if s.Type != "array" || len(v) < s.MinItems || s.MaxItems != 0 && len(v) > s.MaxItems {
			return false
		}
		for i, item := range v {
			if !root.accepts(s.Items, item) || s.UniqueItems && slices.Contains(v[:i], item) {
				return false
			}
		}
		return true
	case map[string]any:
		if s.Type != "object" {
			return false
		}
		for _, key := range s.Required {
			if _, there := v[key]; !there {
				return false
			}
		}
		for key, value := range v {
			if s.PropertyNames != nil && !root.accepts(s.PropertyNames, key) {
				return false
			}
			property := s.Properties[key]
			if property == nil {
				property = s.AdditionalProperties.schema
			}
			if property == nil || !root.accepts(property, value) {
				return false
			}
		}
		return true
	}
	return s.Const != nil // a number, of which there is only the format, or nothing
}

// TestSchemaKeys: the schema and the decoder know the same keys, and require the same.
func TestSchemaKeys(t *testing.T) {
	root := loadSchema(t)
	for _, test := range []struct {
		name   string
		schema *schema
		node   reflect.Type
		least  string // a mapping of it with as little as possible
		around string
	}{
		{"the file", root, reflect.TypeFor[fileNode](), "format: 1, systems: []", "{%s}"},
		{"a system", root.Defs["system"], reflect.TypeFor[systemNode](), "asid: 200000000205, ods: X, state: active, interactions: []", "{format: 1, systems: [{%s}]}"},
	} {
		keys := map[string]reflect.Type{}
		for field := range test.node.Fields() {
			if key, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); key != "" {
				keys[key] = field.Type
			}
		}
		if got, want := slices.Sorted(maps.Keys(test.schema.Properties)), slices.Sorted(maps.Keys(keys)); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the decoder %v", test.name, got, want)
		}
		if a := test.schema.AdditionalProperties; a == nil || a.schema != nil {
			t.Errorf("%s: the schema lets unknown keys pass", test.name)
		}
		for key, s := range test.schema.Properties {
			s = root.follow(s)
			want := "string"
			if s.Const != nil || s.Enum != nil {
				want = ""
			}
			switch keys[key] {
			case reflect.TypeFor[setNodes]():
				want = "object"
			case reflect.TypeFor[[]scalar](), reflect.TypeFor[[]systemNode]():
				want = "array"
			}
			if s.Type != want {
				t.Errorf("%s: %s is %q in the schema, want %q", test.name, key, s.Type, want)
			}
		}
		parts := strings.Split(test.least, ", ")
		for i, part := range parts {
			without := fmt.Sprintf(test.around, strings.Join(slices.Concat(parts[:i], parts[i+1:]), ", "))
			key, _, _ := strings.Cut(part, ":")
			if _, err := DecodeMap("m", []byte(without)); err == nil || !strings.Contains(err.Error(), key+" is missing") {
				t.Errorf("%s: %s is required by the schema; without it the decoder says %v", test.name, key, err)
			}
			if !slices.Contains(test.schema.Required, key) {
				t.Errorf("%s: %s is not required by the schema", test.name, key)
			}
		}
		if _, err := DecodeMap("m", fmt.Appendf(nil, test.around, test.least)); err != nil || len(parts) != len(test.schema.Required) {
			t.Errorf("%s: %d keys are required by the schema, and %d suffice for the decoder: %v", test.name, len(test.schema.Required), len(parts), err)
		}
	}
}

// TestSchemaAgrees: what the schema accepts and refuses, the decoder does too, but for
// what only it can see.
func TestSchemaAgrees(t *testing.T) {
	root := loadSchema(t)
	example, err := os.ReadFile("../docs/map.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const (
		neither    = iota
		both       // accept it
		schemaOnly // accepts it
	)
	system := func(more string) string {
		return "{format: 1, sets: {one: ['urn:x:1']}, systems: [{asid: '200000000205', ods: X, state: active, interactions: [], " + more + "}]}"
	}
	sha256 := strings.Repeat("0123456789abcdeF", 4)
	pairs := strings.TrimSuffix(strings.Repeat("aB:", 32), ":")
	for _, test := range []struct {
		text string
		want int
	}{
		{string(example), both},
		{"{format: 1, systems: []}", both},
		{"{format: 2, systems: []}", neither},
		{"{format: 1, systems: {}}", neither},
		{"{format: 1, systems: [], more: 1}", neither},
		{"{format: 1, systems: [], sets: {}}", both},
		{"{format: 1, systems: [], sets: []}", neither},
		{"{format: 1, systems: [], sets: {one: []}}", neither},
		{"{format: 1, systems: [], sets: {one: 'urn:x:1'}}", neither},
		{"{format: 1, systems: [], sets: {one: ['urn:x:1', 'urn:x:1']}}", neither},
		{"{format: 1, systems: [], sets: {one: ['urn:x:1'], two: [one]}}", neither},
		{"{format: 1, systems: [], sets: {One: ['urn:x:1']}}", neither},
		{"{format: 1, systems: [], sets: {-one: ['urn:x:1']}}", neither},
		{"{format: 1, systems: [], sets: {" + strings.Repeat("x", 64) + ": ['urn:x:1']}}", both},
		{"{format: 1, systems: [], sets: {" + strings.Repeat("x", 65) + ": ['urn:x:1']}}", neither},
		{"{format: 1, systems: [text]}", neither},
		{"{format: 1, systems: [{asid: '20000000020', ods: X, state: active, interactions: []}]}", neither},
		{"{format: 1, systems: [{asid: '20000000020x', ods: X, state: active, interactions: []}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: '', state: active, interactions: []}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: 'R XA', state: active, interactions: []}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: " + strings.Repeat("x", 256) + ", state: active, interactions: []}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: Active, interactions: []}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: active, interactions: ['urn:x:1', 'urn:y']}]}", both},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: active, interactions: ['urn:x:1', 'urn:x:1']}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: active, interactions: ['urn:']}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: active, interactions: ['urn:a,urn:b']}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: active, interactions: ['urn:" + strings.Repeat("x", 251) + "']}]}", both},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: active, interactions: ['urn:" + strings.Repeat("x", 252) + "']}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: active, interactions: [urn x]}]}", neither},
		{"{format: 1, systems: [{asid: '200000000205', ods: X, state: active, interactions: [two]}]}", schemaOnly},
		{system("name: " + strings.Repeat("x", 255)), both},
		{system("name: " + strings.Repeat("x", 256)), neither},
		{system(`name: "a\tb"`), neither},
		{system(`party_key: "\x7f"`), neither},
		{system("fqdns: [a.example, A-1.example]"), both},
		{system("fqdns: [a.example, A.example]"), schemaOnly},
		{system("fqdns: ['']"), neither},
		{system("fqdns: ['*.example']"), neither},
		{system("fqdns: ['a.example.']"), neither},
		{system("fqdns: ['a b']"), neither},
		{system("fqdns: ['é']"), neither},
		{system("fqdns: a.example"), neither},
		{system("certificates: ['" + sha256 + "', '" + pairs + "']"), both},
		{system("certificates: ['" + strings.Repeat("ab", 32) + "', '" + pairs + "']"), schemaOnly},
		{system("certificates: ['" + sha256[:40] + "']"), neither},
		{system("certificates: ['" + pairs[1:] + "']"), neither},
		{system("certificates: ['" + strings.Replace(pairs, ":", "", 1) + "']"), neither},
		{system("token_clients: [a, A]"), both},
		{system("token_clients: ['']"), neither},
		{system("token_clients: [a b]"), neither},
		{system("token_clients: [a, a]"), neither},
		{system("more: 1"), neither},
	} {
		var v any
		if err := yaml.Load([]byte(test.text), &v); err != nil {
			t.Fatalf("%s: %v", test.text, err)
		}
		bySchema := root.accepts(root, v)
		_, err := DecodeMap("m", []byte(test.text))
		if bySchema != (test.want != neither) || (err == nil) != (test.want == both) {
			t.Errorf("%s\nthe schema accepts it: %t; the decoder: %v", test.text, bySchema, err)
		}
	}
}
