package publish

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"

	"asid-authz/authz"
)

// A Plan is what leads from the map that was read to another one.
type Plan struct {
	From   *State
	Target *authz.InteractionMap // its version means nothing
	Diff

	// Repair allows to write the map anew over a damaged one. What was lost of the
	// suspension layer comes back out of the history, as far as that knows it.
	Repair bool
}

// NewPlan compares what was read with what shall be. Suspensions are left out of it.
func NewPlan(from *State, target *authz.InteractionMap) *Plan {
	return &Plan{From: from, Target: target, Diff: Compare(from.Map, target)}
}

// A Diff is how two maps differ, each list in the order of the ASIDs. The order of names,
// certificates and token clients makes no difference, because it means nothing.
type Diff struct {
	Added   []authz.AccreditedSystem
	Removed []authz.AccreditedSystem
	Changed []Change
}

// A Change is a system that is in both maps.
type Change struct{ Before, After authz.AccreditedSystem }

// Empty reports whether the maps are the same.
func (d *Diff) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// Compare returns what leads from one map to another.
func Compare(from, to *authz.InteractionMap) Diff {
	var d Diff
	for s := range to.Systems() {
		before, known := from.System(s.ASID)
		canonical(&s)
		if !known {
			d.Added = append(d.Added, s)
			continue
		}
		canonical(&before)
		if c := (Change{before, s}); len(c.Fields()) > 0 {
			d.Changed = append(d.Changed, c)
		}
	}
	if from.Len()+len(d.Added) == to.Len() {
		return d
	}
	for s := range from.Systems() {
		if _, stays := to.System(s.ASID); !stays {
			canonical(&s)
			d.Removed = append(d.Removed, s)
		}
	}
	return d
}

// canonical puts into order what has none. s is a copy that the map gave away.
func canonical(s *authz.AccreditedSystem) {
	slices.Sort(s.FQDNs)
	slices.SortFunc(s.Fingerprints, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	slices.Sort(s.TokenClients)
}

// A Field is something in which a system changed, by its name in a map file.
type Field struct {
	Name           string
	Before, After  string   // of a field that is one text
	Removed, Added []string // of one that is a list
}

// Fields returns what changed, in the order of a map file.
func (c *Change) Fields() (all []Field) {
	a, b := &c.Before, &c.After
	text := func(name, before, after string) {
		if before != after {
			all = append(all, Field{Name: name, Before: before, After: after})
		}
	}
	list := func(name string, before, after []string) {
		if !slices.Equal(before, after) {
			all = append(all, Field{Name: name, Removed: without(before, after), Added: without(after, before)})
		}
	}
	text("name", a.Name, b.Name)
	text("ods", a.ODSCode, b.ODSCode)
	text("party_key", a.PartyKey, b.PartyKey)
	list("fqdns", a.FQDNs, b.FQDNs)
	if !slices.Equal(a.Fingerprints, b.Fingerprints) {
		list("certificates", Certificates(a), Certificates(b))
	}
	list("token_clients", a.TokenClients, b.TokenClients)
	text("state", a.State.String(), b.State.String())
	if !slices.Equal(a.Interactions, b.Interactions) {
		list("interactions", Interactions(a), Interactions(b))
	}
	return all
}

// without returns what is in a and not in b.
func without(a, b []string) (rest []string) {
	in := make(map[string]bool, len(b))
	for _, s := range b {
		in[s] = true
	}
	for _, s := range a {
		if !in[s] {
			rest = append(rest, s)
		}
	}
	return rest
}

// Certificates returns the fingerprints of s as a map file has them.
func Certificates(s *authz.AccreditedSystem) []string {
	all := make([]string, len(s.Fingerprints))
	for i := range s.Fingerprints {
		all[i] = hex.EncodeToString(s.Fingerprints[i][:])
	}
	return all
}

// Interactions returns the interactions of s as texts.
func Interactions(s *authz.AccreditedSystem) []string {
	all := make([]string, len(s.Interactions))
	for i, id := range s.Interactions {
		all[i] = id.String()
	}
	return all
}

// A Grant is an interaction that a system may do.
type Grant struct {
	ASID        authz.ASID
	Interaction authz.InteractionID
}

// Grants returns what the difference gives to active systems that they could not do
// before, and what it takes away from them.
func (d *Diff) Grants() (given, taken []Grant) {
	add := func(before, after *authz.AccreditedSystem) {
		old, now := effective(before), effective(after)
		given = append(given, only(after.ASID, now, old)...)
		taken = append(taken, only(after.ASID, old, now)...)
	}
	for i := range d.Added {
		add(&authz.AccreditedSystem{}, &d.Added[i])
	}
	for i := range d.Changed {
		add(&d.Changed[i].Before, &d.Changed[i].After)
	}
	for i := range d.Removed {
		add(&d.Removed[i], &authz.AccreditedSystem{ASID: d.Removed[i].ASID})
	}
	byASID := func(a, b Grant) int { return strings.Compare(a.ASID.String(), b.ASID.String()) }
	slices.SortStableFunc(given, byASID)
	slices.SortStableFunc(taken, byASID)
	return given, taken
}

func effective(s *authz.AccreditedSystem) []authz.InteractionID {
	if s.State != authz.Active {
		return nil
	}
	return s.Interactions
}

func only(asid authz.ASID, a, b []authz.InteractionID) (grants []Grant) {
	in := make(map[authz.InteractionID]bool, len(b))
	for _, id := range b {
		in[id] = true
	}
	for _, id := range a {
		if !in[id] {
			grants = append(grants, Grant{asid, id})
		}
	}
	return grants
}

func systemsOf(m *authz.InteractionMap) map[authz.ASID]authz.AccreditedSystem {
	all := make(map[authz.ASID]authz.AccreditedSystem, m.Len())
	for s := range m.Systems() {
		all[s.ASID] = s
	}
	return all
}

func build(systems map[authz.ASID]authz.AccreditedSystem, version uint64) (*authz.InteractionMap, error) {
	var b authz.MapBuilder
	for _, s := range systems {
		if err := b.Add(s); err != nil {
			return nil, err
		}
	}
	return b.Build(version)
}
