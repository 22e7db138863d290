// Package profile holds the profiles that are built in, and reads profile files.
//
// A profile is all that is particular to one protected API ([authz.Profile]). It is a
// YAML file, also when it is built in: what an operator reads with "asid-authz profile
// show" is what the service decides by, and is where a profile of one's own begins.
package profile

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
)

//go:embed *.yaml
var builtin embed.FS

const extension = ".yaml"

// Names returns the names of the built-in profiles, sorted.
func Names() []string {
	entries, err := builtin.ReadDir(".")
	if err != nil { // the directory is part of the binary
		panic(err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = strings.TrimSuffix(entry.Name(), extension)
	}
	return names
}

// Builtin returns the built-in profile of that name.
func Builtin(name string) (authz.Profile, error) {
	text, err := Source(name)
	if err != nil {
		return authz.Profile{}, err
	}
	return Decode(name+extension, text)
}

// Source returns the commented YAML text of the built-in profile of that name.
func Source(name string) ([]byte, error) {
	names := Names()
	if !slices.Contains(names, name) {
		if near := strictyaml.Nearest(name, names); near != "" {
			return nil, fmt.Errorf("no profile is built in under the name %s; did you mean %s?", authz.Excerpt(name), near)
		}
		return nil, fmt.Errorf("no profile is built in under the name %s; there is %s", authz.Excerpt(name), strings.Join(names, ", "))
	}
	return builtin.ReadFile(name + extension)
}
