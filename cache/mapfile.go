package cache

import (
	"cmp"
	"errors"
	"slices"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
)

// A MapFile is a map file that was accepted. It is immutable.
type MapFile struct {
	line    int // where the systems begin
	sets    []*set
	systems []system
}

// A set is a named list of interactions. The name is the file's own: a map knows only
// which system may do what.
type set struct {
	name  scalar
	items []scalar
	ids   []authz.InteractionID
	used  bool
}

// A system is an entry, and where its parts stand in the file.
type system struct {
	authz.AccreditedSystem
	node *systemNode
}

// DecodeMap reads a map file, format 1, in YAML or JSON. name is the file's, for the
// error, which is always a [strictyaml.Problems]: everything that is wrong, in the order
// of the lines. A file is accepted as a whole or not at all: half a map is a map that
// takes rights away from whoever stands in the other half.
//
// Scalars are taken as they are written: 1E5 and NO are ODS codes, 012345678901 is an
// ASID, with or without quotes. JSON is read as the YAML that it is; of its escapes,
// only the pairs of surrogates ("\ud83d\ude00") are refused: write the character.
//
// Four decisions that the format leaves to its reader:
//
//   - state must be written. Were active assumed, the line that suspends a system could
//     be lost in a merge, and with it the suspension, and nobody would see it; were
//     suspended assumed, a forgotten line would stop a hospital.
//   - interactions must be written, if only as []. What holds a colon is an
//     interactionId, everything else is the name of a set; sets hold no sets.
//   - a certificate is 64 hex digits in either case, or 32 pairs with colons between
//     them, as "openssl x509 -fingerprint -sha256" prints it: that is what people have
//     at hand, and taking the colons out by hand is how digits get lost. Compared are
//     the bytes.
//   - what stands twice in a list, and a set without interactions, is refused: somebody
//     meant something else. Two sets may overlap, and a set may hold what an entry also
//     lists itself.
func DecodeMap(name string, text []byte) (*MapFile, error) {
	d := decoder{file: name}
	var root fileNode
	if err := strictyaml.Decode(name, text, &root); err != nil && !errors.As(err, &d.problems) {
		return nil, strictyaml.Problems{{File: name, Text: err.Error()}}
	}
	if f := root.Format; f.line != 0 && f.text != "1" {
		// Another format may mean other things by the same keys: what else seems to be
		// wrong with it is not known.
		return nil, strictyaml.Problems{{File: name, Line: f.line, Text: "format " + authz.Excerpt(f.text) + " is not known to this release, which reads format: 1"}}
	}
	f := d.mapFile(&root)
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b strictyaml.Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, slices.Compact(d.problems)
	}
	return f, nil
}

// Build returns the map that the file describes, with that version, which must not be 0.
func (f *MapFile) Build(version uint64) (*authz.InteractionMap, error) {
	var b authz.MapBuilder
	for i := range f.systems {
		if err := b.Add(f.systems[i].AccreditedSystem); err != nil {
			return nil, err
		}
	}
	return b.Build(version)
}

// A MapSummary counts what a file holds.
type MapSummary struct {
	Systems      int
	Suspended    int // of the Systems
	Sets         int
	Interactions int // different ones, granted or only named by a set
}

// Summary counts what the file holds.
func (f *MapFile) Summary() MapSummary {
	s := MapSummary{Systems: len(f.systems), Sets: len(f.sets), Interactions: len(f.interactions())}
	for i := range f.systems {
		if f.systems[i].State == authz.Suspended {
			s.Suspended++
		}
	}
	return s
}
