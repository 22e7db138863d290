package cache

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
)

// A decoder turns what the YAML library found into what it means, and collects what is
// wrong on the way. It goes on after every problem, with what is left.
type decoder struct {
	file     string
	problems strictyaml.Problems

	sets     map[string]*set
	setNames []string
	ids      map[string]authz.InteractionID // every id once, however many systems hold it
}

func (d *decoder) object(line int, format string, args ...any) {
	d.problems = append(d.problems, strictyaml.Problem{File: d.file, Line: line, Text: fmt.Sprintf(format, args...)})
}

func (d *decoder) mapFile(root *fileNode) *MapFile {
	d.sets, d.ids = map[string]*set{}, map[string]authz.InteractionID{}
	f := &MapFile{line: root.At.systems, systems: make([]system, len(root.Systems))}
	for i := range root.Sets {
		s := d.set(&root.Sets[i])
		if d.sets[s.name.text] == nil { // a name that stands twice is already a problem
			d.sets[s.name.text] = s
			d.setNames = append(d.setNames, s.name.text)
			f.sets = append(f.sets, s)
		}
	}
	lines := make(map[authz.ASID]int, len(root.Systems))
	for i := range root.Systems {
		s := d.system(&root.Systems[i])
		f.systems[i] = s
		if s.ASID.IsZero() {
			continue
		}
		if first, twice := lines[s.ASID]; twice {
			d.object(s.node.ASID.line, "asid %s stands twice, first at line %d", s.ASID, first)
			continue
		}
		lines[s.ASID] = s.node.ASID.line
	}
	return f
}

func (d *decoder) set(n *setNode) *set {
	s := &set{name: n.name, items: n.items}
	if !isSetName(n.name.text) {
		d.object(n.name.line, "a set's name is up to 64 lower-case letters, digits and dashes, not %s", authz.Excerpt(n.name.text))
	}
	if n.empty {
		d.object(n.name.line, "set %s is empty: list what it grants, or remove it", authz.Excerpt(n.name.text))
	}
	for item := range d.distinct(n.items, asWritten) {
		if !strings.Contains(item.text, ":") {
			d.object(item.line, "a set holds interactionIds, not other sets: %s", authz.Excerpt(item.text))
		} else if id, ok := d.interaction(item); ok {
			s.ids = append(s.ids, id)
		}
	}
	return s
}

// isSetName reports whether s is a name as everything is named that people refer to. It
// holds no colon, so a set and an interactionId cannot be mistaken for each other.
func isSetName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-' && i > 0:
		default:
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// distinct yields the items that did not stand in the list before, compared by key, and
// objects to the others.
func (d *decoder) distinct(items []scalar, key func(string) string) iter.Seq[scalar] {
	return func(yield func(scalar) bool) {
		lines := make(map[string]int, len(items))
		for _, item := range items {
			k := key(item.text)
			if first, twice := lines[k]; twice {
				d.object(item.line, "%s stands twice in this list, first at line %d", authz.Excerpt(item.text), first)
				continue
			}
			lines[k] = item.line
			if !yield(item) {
				return
			}
		}
	}
}

func asWritten(s string) string { return s }

func (d *decoder) interaction(item scalar) (authz.InteractionID, bool) {
	if id, known := d.ids[item.text]; known {
		return id, true
	}
	id, err := authz.ParseInteractionID(item.text)
	if err != nil {
		d.object(item.line, "%v", err)
		return id, false
	}
	d.ids[item.text] = id
	return id, true
}

func (d *decoder) system(n *systemNode) system {
	s := system{node: n, AccreditedSystem: authz.AccreditedSystem{
		Name:     n.Name.text,
		ODSCode:  n.ODS.text,
		PartyKey: n.PartyKey.text,
	}}
	var err error
	if n.ASID.line != 0 {
		if s.ASID, err = authz.ParseASID(n.ASID.text); err != nil {
			d.object(n.ASID.line, "%v", err)
		}
	}
	if n.State.line != 0 {
		if s.State, err = authz.ParseState(n.State.text); err != nil {
			d.object(n.State.line, "%v", err)
		}
	}
	for item := range d.distinct(n.FQDNs, strings.ToLower) {
		s.FQDNs = append(s.FQDNs, item.text)
	}
	for item := range d.distinct(n.Certificates, hexDigits) {
		fingerprint, err := authz.ParseFingerprint(item.text)
		if err != nil {
			d.object(item.line, "%v", err)
			continue
		}
		s.Fingerprints = append(s.Fingerprints, fingerprint)
	}
	for item := range d.distinct(n.TokenClients, asWritten) {
		s.TokenClients = append(s.TokenClients, item.text)
	}
	for item := range d.distinct(n.Interactions, asWritten) {
		s.Interactions = d.granted(s.Interactions, item)
	}
	d.validate(&s)
	return s
}

// granted appends what an item of a system grants: the interactions of a set, or one.
func (d *decoder) granted(ids []authz.InteractionID, item scalar) []authz.InteractionID {
	if strings.Contains(item.text, ":") {
		if id, ok := d.interaction(item); ok {
			ids = append(ids, id)
		}
		return ids
	}
	s := d.sets[item.text]
	if s == nil {
		text := "set " + authz.Excerpt(item.text) + " is not defined"
		if near := strictyaml.Nearest(item.text, d.setNames); near != "" {
			text += "; did you mean " + near + "?"
		}
		d.object(item.line, "%s", text)
		return ids
	}
	s.used = true
	return append(ids, s.ids...)
}

// validate asks package authz what else is wrong with the entry. The rules are known
// there, the lines only here: each value is put alone into an entry that is otherwise
// good, and what cannot be found so is said at the line of the entry.
func (d *decoder) validate(s *system) {
	n, whole := s.node, s.AccreditedSystem
	if whole.ASID.IsZero() {
		whole.ASID = anASID // a bad ASID, or a missing one, is a problem already
	}
	if n.ODS.line == 0 {
		whole.ODSCode = anODSCode
	}
	problems := each(whole.Validate())
	if len(problems) == 0 {
		return
	}
	alone := func(at scalar, put func(s *authz.AccreditedSystem)) {
		if at.line == 0 {
			return
		}
		s := authz.AccreditedSystem{ASID: anASID, ODSCode: anODSCode}
		put(&s)
		for _, text := range each(s.Validate()) {
			d.object(at.line, "%s", text)
			problems = slices.DeleteFunc(problems, func(p string) bool { return p == text })
		}
	}
	alone(n.Name, func(s *authz.AccreditedSystem) { s.Name = n.Name.text })
	alone(n.ODS, func(s *authz.AccreditedSystem) { s.ODSCode = n.ODS.text })
	alone(n.PartyKey, func(s *authz.AccreditedSystem) { s.PartyKey = n.PartyKey.text })
	for _, item := range n.FQDNs {
		alone(item, func(s *authz.AccreditedSystem) { s.FQDNs = []string{item.text} })
	}
	for _, item := range n.TokenClients {
		alone(item, func(s *authz.AccreditedSystem) { s.TokenClients = []string{item.text} })
	}
	for _, text := range problems {
		d.object(n.At.line, "%s", text)
	}
}

// What stands for the values of an entry that is tried with one of its own alone.
var anASID, _ = authz.ParseASID("000000000000")

const anODSCode = "X"

// each returns what was joined into err.
func each(err error) (texts []string) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			texts = append(texts, e.Error())
		}
	}
	return texts
}

// hexDigits returns the digits of a fingerprint, in one spelling.
func hexDigits(s string) string { return strings.ToLower(strings.ReplaceAll(s, ":", "")) }
