package cache

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
)

// A Warning is something in an accepted file that is probably not what was meant.
type Warning struct {
	Line int // from 1
	Text string
}

// Warnings returns what is probably not meant, in the order of the lines:
//
//   - an interaction that no endpoint of p uses, once, where it first stands
//   - a system without binding: in binding mode registered it is nobody's
//   - a system that may do nothing, and a file without systems
//   - an FQDN or a certificate that several party keys share: whoever holds the key of
//     one of them can be the others
//   - a set that no system uses
//
// A suspended system is none: suspending it was meant. The zero Profile has no endpoints
// to compare with, and so nothing is said about interactions.
func (f *MapFile) Warnings(p authz.Profile) []Warning {
	var w warnings
	if len(f.systems) == 0 {
		w.warn(f.line, "no systems: every request will be denied")
	}
	for _, s := range f.sets {
		if !s.used {
			w.warn(s.name.line, "set %s is used by no system", s.name.text)
		}
	}
	for i := range f.systems {
		s := &f.systems[i]
		if len(s.FQDNs) == 0 && len(s.Fingerprints) == 0 {
			w.warn(s.node.At.line, "system %s lists no fqdns and no certificates: in binding mode registered it is bound to no certificate", s.ASID)
		}
		if len(s.Interactions) == 0 {
			w.warn(s.node.At.line, "system %s may do nothing: it has no interactions", s.ASID)
		}
	}
	w.shared(f.systems, "fqdn", func(n *systemNode) []scalar { return n.FQDNs }, strings.ToLower)
	w.shared(f.systems, "certificate", func(n *systemNode) []scalar { return n.Certificates }, hexDigits)
	w.unused(f.interactions(), p)
	slices.SortStableFunc(w, func(a, b Warning) int { return cmp.Compare(a.Line, b.Line) })
	return w
}

type warnings []Warning

func (w *warnings) warn(line int, format string, args ...any) {
	*w = append(*w, Warning{line, fmt.Sprintf(format, args...)})
}

// shared warns of a value that systems of several party keys list, where the second of
// them does. One system without party key says nothing about whose it is.
func (w *warnings) shared(systems []system, what string, list func(*systemNode) []scalar, key func(string) string) {
	type use struct {
		partyKey string
		line     int
		warned   bool
	}
	first := map[string]*use{}
	for i := range systems {
		s := &systems[i]
		if s.PartyKey == "" {
			continue
		}
		for _, item := range list(s.node) {
			k := key(item.text)
			switch u := first[k]; {
			case u == nil:
				first[k] = &use{partyKey: s.PartyKey, line: item.line}
			case u.partyKey != s.PartyKey && !u.warned:
				u.warned = true
				w.warn(item.line, "%s %s belongs to party key %s, and at line %d to %s: one certificate serves systems of both",
					what, authz.Excerpt(item.text), authz.Excerpt(s.PartyKey), u.line, authz.Excerpt(u.partyKey))
			}
		}
	}
}

// unused warns of interactions that no endpoint of p uses.
func (w *warnings) unused(interactions []scalar, p authz.Profile) {
	if len(p.Endpoints) == 0 {
		return
	}
	used := map[string]bool{}
	var all []string
	for _, e := range p.Endpoints {
		for _, ids := range [][]authz.InteractionID{{e.Interaction}, e.Aliases, e.Choice} {
			for _, id := range ids {
				if s := id.String(); s != "" && !used[s] {
					used[s] = true
					all = append(all, s)
				}
			}
		}
	}
	for _, item := range interactions {
		if used[item.text] {
			continue
		}
		text := fmt.Sprintf("interaction %s is used by no endpoint of profile %s", authz.Excerpt(item.text), p.Name)
		if near := strictyaml.Nearest(item.text, all); near != "" {
			text += "; did you mean " + near + "?"
		}
		w.warn(item.line, "%s", text)
	}
}

// interactions returns every interactionId of the file where it first stands.
func (f *MapFile) interactions() []scalar {
	first := map[string]int{} // index in all
	var all []scalar
	add := func(items []scalar) {
		for _, item := range items {
			if !strings.Contains(item.text, ":") {
				continue // the name of a set
			}
			if i, known := first[item.text]; !known {
				first[item.text] = len(all)
				all = append(all, item)
			} else if item.line < all[i].line {
				all[i].line = item.line
			}
		}
	}
	for _, s := range f.sets {
		add(s.items)
	}
	for i := range f.systems {
		add(f.systems[i].node.Interactions)
	}
	return all
}
