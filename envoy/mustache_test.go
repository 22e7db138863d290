package envoy

import (
	"strings"
	"testing"
)

func TestMustache(t *testing.T) {
	seen := fields{
		"name": `a "b"`, "raw": verbatim("{ x: 1 }"), "empty": "", "none": verbatim(""), "on": true, "off": false, "tag": "{{name}}",
		"absent": fields(nil), "inner": fields{"name": "in", "more": "m"}, "list": []fields{{"id": "1"}, {"id": "2"}}, "nobody": []fields{},
		"number": 1,
	}
	for text, want := range map[string]string{
		"no tag":           "no tag",
		"{{name}} {{raw}}": `"a \"b\"" { x: 1 }`,
		"{{tag}}":          `"{{name}}"`, // what is filled in is not looked at again
		"{{#on}}1{{/on}}{{^on}}2{{/on}}{{#off}}3{{/off}}{{^off}}4{{/off}}":         "14",
		"{{#name}}1{{/name}}{{#raw}}2{{/raw}}{{#empty}}3{{/empty}}{{^none}}4":      "section none has no end",
		"{{#empty}}1{{/empty}}{{^empty}}2{{/empty}}{{#none}}3{{/none}}":            "2",
		"{{#inner}}{{name}}{{more}}{{raw}}{{/inner}}{{name}}":                      `"in""m"{ x: 1 }"a \"b\""`,
		"{{#absent}}1{{/absent}}{{^absent}}2{{/absent}}":                           "2",
		"{{#list}}{{id}}{{name}},{{/list}}{{^list}}0{{/list}}":                     `"1""a \"b\"","2""a \"b\"",`,
		"{{#nobody}}1{{/nobody}}{{^nobody}}2{{/nobody}}":                           "2",
		"{{#on}}{{#list}}{{#inner}}{{id}}{{more}}{{/inner}}{{/list}}{{/on}}{{id}}": `nothing is named "id"`,
		"{{nmae}}":                         `nothing is named "nmae"`,
		"{{#nmae}}{{/nmae}}":               `nothing is named "nmae"`,
		"{{#on}}{{nmae}}{{/on}}":           `nothing is named "nmae"`,
		"{{/on}}":                          `nothing is named "/on"`,
		"{{#on}}{{#list}}{{/on}}{{/list}}": "section list has no end",
		"{{ name }}":                       `nothing is named " name "`,
		"{{> tls}}":                        `nothing is named "> tls"`, // beside something else on its line
		"{{name":                           `a tag without an end, or without a name: "name"`,
		"{{}}":                             `a tag without an end, or without a name: ""`,
		"{{on}}":                           "on is a bool, which cannot be written",
		"{{list}}":                         "list is a []envoy.fields, which cannot be written",
		"{{#number}}{{/number}}":           "section number: a int cannot open it",
	} {
		var out strings.Builder
		got := ""
		if err := (scope{seen}).write(&out, text); err != nil {
			got = err.Error()
		} else {
			got = out.String()
		}
		if got != want {
			t.Errorf("%s\ngave %s\nwant %s", text, got, want)
		}
	}
	if _, err := seen.rendered("nothing"); err == nil {
		t.Error("a template that does not exist was rendered")
	}
}

// TestTemplates: every partial is there, and no template is left over.
func TestTemplates(t *testing.T) {
	used := map[string]bool{"bootstrap": true, "secret": true}
	entries, err := bootstrapFiles.ReadDir("bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := bootstrapFiles.ReadFile("bootstrap/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range partialLine.FindAllStringSubmatch(string(text), -1) {
			used[m[2]] = true
		}
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".yaml.mustache")
		if !used[name] {
			t.Errorf("no template includes %s", e.Name())
		}
		delete(used, name)
		if text, err := wholeTemplate(name); err != nil || strings.Contains(text, "{{>") {
			t.Errorf("%s: a partial is missing, or does not stand alone on its line: %v", e.Name(), err)
		}
	}
	for name := range used {
		t.Errorf("there is no template %s", name)
	}
}
