package profile

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const schemaFile = "../../docs/profile.schema.json"

// A schema is the part of JSON Schema 2020-12 that docs/profile.schema.json uses. A
// keyword that is not here fails the test: it would be believed and not checked.
type schema struct {
	Schema      string             `json:"$schema"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Ref         string             `json:"$ref"`
	Defs        map[string]*schema `json:"$defs"`

	Type  string `json:"type"`
	Const any    `json:"const"`
	Enum  []any  `json:"enum"`

	Pattern   string `json:"pattern"`
	MinLength int    `json:"minLength"`
	MaxLength *int   `json:"maxLength"`

	Items       *schema `json:"items"`
	MinItems    int     `json:"minItems"`
	MaxItems    *int    `json:"maxItems"`
	UniqueItems bool    `json:"uniqueItems"`

	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	OneOf                []*schema          `json:"oneOf"`
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

func (root *schema) resolve(s *schema) *schema {
	if s.Ref == "" {
		return s
	}
	return root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
}

// accepts reports whether v, which YAML was read into, is what s describes.
func (root *schema) accepts(s *schema, v any) bool {
	if s.Ref != "" && !root.accepts(root.resolve(s), v) {
		return false
	}
	if s.Const != nil && fmt.Sprint(s.Const) != fmt.Sprint(v) {
		return false
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		return false
	}
	if s.OneOf != nil {
		matching := 0
		for _, one := range s.OneOf {
			if root.accepts(one, v) {
				matching++
			}
		}
		if matching != 1 {
			return false
		}
	}
	switch v := v.(type) {
	case string:
		return (s.Type == "" || s.Type == "string") && len(v) >= s.MinLength && (s.MaxLength == nil || len(v) <= *s.MaxLength) &&
			(s.Pattern == "" || regexp.MustCompile(s.Pattern).MatchString(v))
	case bool:
		return s.Type == "" || s.Type == "boolean"
	case []any:
		if s.Type != "" && s.Type != "array" || len(v) < s.MinItems || s.MaxItems != nil && len(v) > *s.MaxItems {
			return false
		}
		for i, item := range v {
			if s.Items != nil && !root.accepts(s.Items, item) || s.UniqueItems && slices.Contains(v[:i], item) {
				return false
			}
		}
		return true
	case map[string]any:
		if s.Type != "" && s.Type != "object" {
			return false
		}
		for _, key := range s.Required {
			if _, there := v[key]; !there {
				return false
			}
		}
		for key, value := range v {
			if property := s.Properties[key]; property != nil && !root.accepts(property, value) || property == nil && s.AdditionalProperties != nil {
				return false
			}
		}
		return true
	}
	return s.Type == "" // a number, or nothing: only format is one
}

// The schema knows the keys that the decoder knows, and no others.
func TestSchemaKeys(t *testing.T) {
	root := loadSchema(t)
	var compare func(at string, s *schema, v reflect.Type)
	compare = func(at string, s *schema, v reflect.Type) {
		s = root.resolve(s)
		if s == nil {
			t.Errorf("%s: a $ref to nothing", at)
			return
		}
		for v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		switch {
		case v == reflect.TypeFor[text]():
			if s.Type != "string" && s.Enum == nil && s.Const == nil {
				t.Errorf("%s: text in the decoder, %q in the schema", at, s.Type)
			}
		case v == reflect.TypeFor[flag]():
			if s.Type != "boolean" {
				t.Errorf("%s: true or false in the decoder, %q in the schema", at, s.Type)
			}
		case v.Kind() == reflect.Slice:
			if s.Type != "array" || s.Items == nil {
				t.Errorf("%s: a list in the decoder, %q in the schema", at, s.Type)
				return
			}
			compare(at+"[]", s.Items, v.Elem())
		default:
			if s.Type != "object" || s.AdditionalProperties == nil || *s.AdditionalProperties {
				t.Errorf("%s: the schema lets unknown keys pass", at)
			}
			properties := maps.Clone(s.Properties)
			for field := range v.Fields() {
				key := field.Tag.Get("yaml")
				if properties[key] == nil {
					t.Errorf("%s.%s is not in the schema", at, key)
					continue
				}
				compare(at+"."+key, properties[key], field.Type)
				delete(properties, key)
			}
			for key := range properties {
				t.Errorf("%s.%s is not in the decoder", at, key)
			}
		}
	}
	compare("", root, reflect.TypeFor[file]())
}

// The schema accepts what the decoder accepts, and refuses what it can see to be bad.
func TestSchemaAgrees(t *testing.T) {
	// These are bad by what they mean, not by their shape.
	unseen := []string{"alias", "alias-of-another", "alias-of-two", "condition", "endpoint-twice", "merge", "overlap", "public-patients", "scope-unheld"}
	root := loadSchema(t)
	files, err := filepath.Glob("testdata/bad-*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(files, "nrl.yaml") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, refusal := Decode(path, text)
		var v any
		if yaml.Load(text, &v) != nil {
			continue // it is not YAML, so there is nothing to hold against a schema
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "bad-"), ".yaml")
		want := refusal == nil || slices.Contains(unseen, name)
		if got := root.accepts(root, v); got != want {
			t.Errorf("%s: the schema accepts it: %t, want %t", path, got, want)
		}
	}
}

// The methods that the schema lists are those that an endpoint can have.
func TestSchemaMethods(t *testing.T) {
	root := loadSchema(t)
	const template = "format: 1\nname: x\ndialect: nrl-2.8\nheaders: {}\ntoken: {kind: signed}\nendpoints: [{name: x, path: /X, interaction: 'urn:x', method: %s}]\n"
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "MKCOL", "get"} {
		_, err := Decode("x.yaml", fmt.Appendf(nil, template, method))
		if listed := slices.Contains(root.Defs["endpoint"].Properties["method"].Enum, any(method)); listed != (err == nil) {
			t.Errorf("%s: in the schema: %t; the decoder: %v", method, listed, err)
		}
	}
}
