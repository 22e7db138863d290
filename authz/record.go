package authz

import "encoding/binary"

// A record is an AccreditedSystem packed into one string: the state, the lengths of the
// values, and the values, so that one look at its beginning takes it apart. A value that
// is a list of texts holds each behind its own length. Lengths are in base 128. Whoever
// reads a value gets a part of the record, which is not copied.
//
// A record never leaves the process and is made by a packer alone, so whatever reads
// one need not doubt it.

// record packs s, whose ASID is kept elsewhere and whose set is given as bits. What it
// returns is the packer's, until the next one.
func (p *packer) record(s *AccreditedSystem, set []uint64) []byte {
	p.lengths, p.values, p.start = append(p.lengths[:0], byte(s.State)), p.values[:0], 0
	p.values = append(p.values, s.ODSCode...)
	p.end()
	p.values = appendNumberSet(p.values, set)
	p.end()
	for _, fqdn := range s.FQDNs {
		p.values = appendText(p.values, comparableName(fqdn))
	}
	p.end()
	for i := range s.Fingerprints {
		p.values = append(p.values, s.Fingerprints[i][:]...)
	}
	p.end()
	for _, client := range s.TokenClients {
		p.values = appendText(p.values, client)
	}
	p.end()
	p.values = append(appendText(p.values, s.Name), s.PartyKey...) // to the end
	p.lengths = append(p.lengths, p.values...)
	return p.lengths
}

// A packer makes records.
type packer struct {
	lengths, values []byte
	start           int // of the value, in values
}

// end ends a value.
func (p *packer) end() {
	p.lengths = binary.AppendUvarint(p.lengths, uint64(len(p.values)-p.start))
	p.start = len(p.values)
}

func appendText(to []byte, text string) []byte {
	to = binary.AppendUvarint(to, uint64(len(text)))
	return append(to, text...)
}

// nextLength cuts the first length off. The short ones are nearly all.
func nextLength(s string) (n int, rest string) {
	if s[0] < 0x80 {
		return int(s[0]), s[1:]
	}
	return longLength(s)
}

func longLength(s string) (n int, rest string) {
	for i := range len(s) {
		n |= int(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return n, s[i+1:]
		}
	}
	return n, ""
}

// nextText cuts the first text off.
func nextText(s string) (text, rest string) {
	n, rest := nextLength(s)
	return rest[:n], rest[n:]
}

// A system is an AccreditedSystem as the steps need it: a record, taken apart but not
// copied. The zero system is none.
type system struct {
	asid         ASID
	state        State
	ods          string
	interactions numberSet
	fqdns        texts // as comparableName makes them
	fingerprints digests
	tokenClients texts
	forPeople    string // name and party key, which no step reads
}

func (s *system) unpack(a ASID, record string) {
	s.asid, s.state = a, State(record[0])
	ods, rest := nextLength(record[1:])
	interactions, rest := nextLength(rest)
	fqdns, rest := nextLength(rest)
	fingerprints, rest := nextLength(rest)
	tokenClients, rest := nextLength(rest)
	s.ods, rest = rest[:ods], rest[ods:]
	s.interactions, rest = numberSet(rest[:interactions]), rest[interactions:]
	s.fqdns, rest = texts(rest[:fqdns]), rest[fqdns:]
	s.fingerprints, rest = digests(rest[:fingerprints]), rest[fingerprints:]
	s.tokenClients, s.forPeople = texts(rest[:tokenClients]), rest[tokenClients:]
}

func (s *system) copy(ids *dictionary) AccreditedSystem {
	name, partyKey := nextText(s.forPeople)
	return AccreditedSystem{
		ASID:         s.asid,
		Name:         name,
		ODSCode:      s.ods,
		PartyKey:     partyKey,
		FQDNs:        s.fqdns.list(),
		Fingerprints: s.fingerprints.list(),
		TokenClients: s.tokenClients.list(),
		Interactions: ids.list(s.interactions),
		State:        s.state,
	}
}

// texts are texts, one after the other.
type texts string

func (t texts) has(want string) bool {
	for rest := string(t); rest != ""; {
		var text string
		if text, rest = nextText(rest); text == want {
			return true
		}
	}
	return false
}

func (t texts) list() (all []string) {
	for rest := string(t); rest != ""; {
		var text string
		text, rest = nextText(rest)
		all = append(all, text)
	}
	return all
}

// digests are SHA-256 values, one after the other.
type digests string

const digestSize = 32

func (d digests) has(want *[digestSize]byte) bool {
	for ; d != ""; d = d[digestSize:] {
		if string(d[:digestSize]) == string(want[:]) {
			return true
		}
	}
	return false
}

func (d digests) list() (all [][digestSize]byte) {
	for ; d != ""; d = d[digestSize:] {
		all = append(all, [digestSize]byte([]byte(d[:digestSize])))
	}
	return all
}
