package profile

import (
	"errors"
	"reflect"

	"go.yaml.in/yaml/v4"
)

// file is a profile file, format 1. docs/profile.schema.json says the same for editors.
type file struct {
	Format    text       `yaml:"format"`
	Name      text       `yaml:"name"`
	Dialect   text       `yaml:"dialect"`
	Base      text       `yaml:"base"`
	Headers   *headers   `yaml:"headers"`
	Remove    []text     `yaml:"remove"`
	Endpoints []endpoint `yaml:"endpoints"`
	Token     *token     `yaml:"token"`
}

type headers struct {
	Sender      *header `yaml:"sender"`
	Receiver    *header `yaml:"receiver"`
	Interaction *header `yaml:"interaction"`
}

type header struct {
	Name     text `yaml:"name"`
	Required flag `yaml:"required"`
}

type endpoint struct {
	Name        text   `yaml:"name"`
	Method      text   `yaml:"method"`
	Path        text   `yaml:"path"`
	Scope       text   `yaml:"scope"`
	Interaction text   `yaml:"interaction"`
	Aliases     []text `yaml:"aliases"`
	Choice      []text `yaml:"choice"`
}

type token struct {
	Kind           text   `yaml:"kind"`
	ASID           *form  `yaml:"asid"`
	Organisation   *form  `yaml:"organisation"`
	Scope          *scope `yaml:"scope"`
	Rules          []rule `yaml:"rules"`
	PublicSubjects []text `yaml:"public_subjects"`
}

type form struct {
	Claim    text   `yaml:"claim"`
	Prefixes []text `yaml:"prefixes"`
	Required flag   `yaml:"required"`
}

type scope struct {
	Claim text   `yaml:"claim"`
	Known []text `yaml:"known"`
}

type rule struct {
	Name          text   `yaml:"name"`
	Claim         text   `yaml:"claim"`
	IfPresent     text   `yaml:"if_present"`
	Unless        text   `yaml:"unless"`
	Required      flag   `yaml:"required"`
	Absent        flag   `yaml:"absent"`
	Prefixes      []text `yaml:"prefixes"`
	OneOf         []text `yaml:"one_of"`
	EqualsFirstOf []text `yaml:"equals_first_of"`
}

// text is a scalar as it is written, and its line: what it means is judged after the
// whole file is read, and a problem must still say where.
type text struct {
	s    string
	line int // 0: the key is not there
}

func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return errors.New("this must be text, not " + kindOf(n))
	}
	t.s, t.line = n.Value, n.Line
	return nil
}

// flag is a text that is true or false. YAML's other spellings (yes, on) are refused:
// half the tools that an operator may check his file with read them as text.
type flag text

func (f *flag) UnmarshalYAML(n *yaml.Node) error {
	switch {
	case n.Kind != yaml.ScalarNode:
		return errors.New("this must be true or false, not " + kindOf(n))
	case n.Style != 0 || n.Value != "true" && n.Value != "false":
		return errors.New("this must be true or false, without quotes")
	}
	return (*text)(f).UnmarshalYAML(n)
}

func (f flag) yes() bool { return f.s == "true" }

func kindOf(n *yaml.Node) string {
	if n.Kind == yaml.SequenceNode {
		return "a list"
	}
	return "a mapping"
}

var textType = reflect.TypeFor[text]()

// textsOf returns every text in v, which is a part of a file, in the order of its fields.
func textsOf(v any) []text {
	var all []text
	var visit func(v reflect.Value)
	visit = func(v reflect.Value) {
		switch {
		case v.Type().ConvertibleTo(textType): // a text or a flag
			all = append(all, v.Convert(textType).Interface().(text))
		case v.Kind() == reflect.Pointer, v.Kind() == reflect.Interface:
			if !v.IsNil() {
				visit(v.Elem())
			}
		case v.Kind() == reflect.Slice:
			for i := range v.Len() {
				visit(v.Index(i))
			}
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				visit(v.Field(i))
			}
		}
	}
	visit(reflect.ValueOf(v))
	return all
}

// lineOf returns the first line that something of v stands on, or 0.
func lineOf(v any) int {
	first := 0
	for _, t := range textsOf(v) {
		if t.line > 0 && (first == 0 || t.line < first) {
			first = t.line
		}
	}
	return first
}
