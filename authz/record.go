package authz

import (
	"encoding/binary"
	"slices"
)

// A record is an AccreditedSystem packed into one string: the state, and a field for
// everything else. A field is its length, in base 128, and that many bytes; what has
// several values is a field of fields. Whoever reads a value gets a part of the record.
//
// A record never leaves the process and is made by appendRecord alone, so whatever reads
// one need not doubt it.

// appendRecord packs s, whose ASID is kept elsewhere and whose set is given as bits.
func appendRecord(to []byte, s *AccreditedSystem, set []uint64) []byte {
	to = append(to, byte(s.State))
	to = appendField(to, s.ODSCode)
	to = nest(to, func(to []byte) []byte { return appendNumberSet(to, set) })
	to = nest(to, func(to []byte) []byte {
		for _, fqdn := range s.FQDNs {
			to = appendField(to, comparableName(fqdn))
		}
		return to
	})
	to = nest(to, func(to []byte) []byte {
		for i := range s.Fingerprints {
			to = append(to, s.Fingerprints[i][:]...)
		}
		return to
	})
	to = nest(to, func(to []byte) []byte {
		for _, client := range s.TokenClients {
			to = appendField(to, client)
		}
		return to
	})
	to = appendField(to, s.Name)
	return appendField(to, s.PartyKey)
}

func appendField(to []byte, value string) []byte {
	to = binary.AppendUvarint(to, uint64(len(value)))
	return append(to, value...)
}

// nest appends a field of what inner appends, whose length is known only then.
func nest(to []byte, inner func([]byte) []byte) []byte {
	start := len(to)
	to = inner(to)
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(len(to)-start))
	return slices.Insert(to, start, length[:n]...)
}

// nextField cuts the first field off.
func nextField(s string) (field, rest string) {
	n, start := int(s[0]), 1
	if n >= 0x80 {
		n &= 0x7f
		for shift := 7; ; shift += 7 {
			b := s[start]
			start++
			n |= int(b&0x7f) << shift
			if b < 0x80 {
				break
			}
		}
	}
	return s[start : start+n], s[start+n:]
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
	forPeople    string // name and party key: no step reads them
}

func (s *system) unpack(a ASID, record string) {
	s.asid, s.state = a, State(record[0])
	var interactions, fqdns, fingerprints, clients string
	s.ods, record = nextField(record[1:])
	interactions, record = nextField(record)
	fqdns, record = nextField(record)
	fingerprints, record = nextField(record)
	clients, s.forPeople = nextField(record)
	s.interactions, s.fqdns, s.fingerprints, s.tokenClients = numberSet(interactions), texts(fqdns), digests(fingerprints), texts(clients)
}

func (s *system) copy(ids *dictionary) AccreditedSystem {
	name, rest := nextField(s.forPeople)
	partyKey, _ := nextField(rest)
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

// texts are fields, one after the other.
type texts string

func (t texts) has(want string) bool {
	for rest := string(t); rest != ""; {
		var text string
		if text, rest = nextField(rest); text == want {
			return true
		}
	}
	return false
}

func (t texts) list() (all []string) {
	for rest := string(t); rest != ""; {
		var text string
		text, rest = nextField(rest)
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
