package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"asid-authz/cache/publish"
)

// exportJSON is a map file, which is what export prints for programs.
type exportJSON struct {
	Format  int                 `json:"format"`
	Sets    map[string][]string `json:"sets,omitempty"`
	Systems []systemJSON        `json:"systems"`
}

func newMapExportCommand() *mapCommand {
	return newRedisCommand("export --redis FILE", "Print the map in Redis as a map file",
		`The file is one that "map check" accepts, and "map apply" finds no difference to it.
Interactions that several systems have alike are written as sets. Suspensions are a layer
of their own and no part of the file.`,
		noArguments, func(c *mapCommand, _ []string) error {
			p, s, err := c.state("")
			if err != nil {
				return fail(err)
			}
			defer p.Close()
			if s.Version == 0 {
				return fmt.Errorf("nothing is published in namespace %s", p.Namespace())
			}
			file := exportOf(s)
			if c.json {
				return c.printJSON(file)
			}
			w := bufio.NewWriter(c.OutOrStdout())
			fmt.Fprintf(w, "# Namespace %s, version %d. Suspensions are not in it: there are %d.\n", p.Namespace(), s.Version, len(s.Suspended))
			file.write(w)
			return w.Flush()
		})
}

func exportOf(s *publish.State) *exportJSON {
	out := &exportJSON{Format: 1, Systems: []systemJSON{}}
	alike := map[string]int{} // how many systems have a list of interactions
	for system := range s.Map.Systems() {
		out.Systems = append(out.Systems, jsonSystem(&system))
		alike[strings.Join(publish.Interactions(&system), ",")]++
	}
	var lists []string
	for list, n := range alike {
		if n > 1 && strings.Contains(list, ",") {
			lists = append(lists, list)
		}
	}
	slices.SortFunc(lists, func(a, b string) int { return cmp.Or(alike[b]-alike[a], cmp.Compare(a, b)) })
	names := make(map[string]string, len(lists))
	if len(lists) > 0 {
		out.Sets = make(map[string][]string, len(lists))
	}
	for i, list := range lists {
		names[list] = fmt.Sprintf("set-%0*d", len(fmt.Sprint(len(lists))), i+1)
		out.Sets[names[list]] = strings.Split(list, ",")
	}
	for i := range out.Systems {
		if name, is := names[strings.Join(out.Systems[i].Interactions, ",")]; is {
			out.Systems[i].Interactions = []string{name}
		}
	}
	return out
}

// write writes the file as YAML. An error of w is that of its Flush.
func (f *exportJSON) write(w io.Writer) {
	fmt.Fprintf(w, "format: %d\n", f.Format)
	if len(f.Sets) > 0 {
		fmt.Fprintln(w, "sets:")
	}
	for _, name := range sortedKeys(f.Sets) {
		fmt.Fprintf(w, "  %s:\n", name)
		for _, id := range f.Sets[name] {
			fmt.Fprintf(w, "    - %s\n", yamlText(id))
		}
	}
	if len(f.Systems) == 0 {
		fmt.Fprintln(w, "systems: []")
		return
	}
	fmt.Fprintln(w, "systems:")
	for i := range f.Systems {
		s := &f.Systems[i]
		fmt.Fprintf(w, "  - asid: %q\n", s.ASID)
		text := func(name, value string) {
			if value != "" {
				fmt.Fprintf(w, "    %s: %s\n", name, yamlText(value))
			}
		}
		list := func(name string, values []string) {
			switch {
			case len(values) == 0 && name != "interactions":
			case len(values) <= 1:
				fmt.Fprintf(w, "    %s: [%s]\n", name, yamlText(values...))
			default:
				fmt.Fprintf(w, "    %s:\n", name)
				for _, v := range values {
					fmt.Fprintf(w, "      - %s\n", yamlText(v))
				}
			}
		}
		text("name", s.Name)
		fmt.Fprintf(w, "    ods: %s\n", quoted(s.ODS))
		text("party_key", s.PartyKey)
		list("fqdns", s.FQDNs)
		list("certificates", s.Certificates)
		list("token_clients", s.TokenClients)
		text("state", s.State)
		list("interactions", s.Interactions)
	}
}

// plainYAML is what means itself in YAML wherever a text may stand, to every reader: words
// that begin with a letter, and end so that no colon is taken for a key's.
var plainYAML = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9:._/-]*[A-Za-z0-9]$`)

// keywords are words that a YAML reader may take for something else than text.
var keywords = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

// yamlText returns texts as YAML, with commas between them.
func yamlText(texts ...string) string {
	all := make([]string, len(texts))
	for i, s := range texts {
		if all[i] = s; !plainYAML.MatchString(s) || slices.Contains(keywords, strings.ToLower(s)) {
			all[i] = quoted(s)
		}
	}
	return strings.Join(all, ", ")
}

// quoted returns s in double quotes. JSON's are YAML's too.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string
	}
	return strings.TrimSuffix(b.String(), "\n")
}
