package authz

import "encoding/binary"

// A record is an AccreditedSystem packed into one string: the state, the lengths of the
// values, and the values, of which those that every check reads come first, so that they
// share a line of memory or two. A value that is a list of texts holds each behind its own
// length, in base 128. Whoever reads a value gets a part of the record, which is not copied.
//
// The lengths are a byte each if all of them fit, as nearly always. Otherwise the bit wide
// is set in the state and they are four bytes each, little-endian.
//
// A record never leaves the process and is made by a packer alone, so whatever reads
// one need not doubt it.
const (
	wide     = 0x80
	head     = 1 + parts
	wideHead = 1 + 4*parts
	parts    = 5 // values with a length; the last value goes to the end
)

// record packs s, whose ASID is kept elsewhere and whose set is given as bits. What it
// returns is the packer's, until the next one.
func (p *packer) record(s *AccreditedSystem, set []uint64) []byte {
	// The head is written when the lengths are known, in front of the values, against
	// which it ends.
	p.buf = append(p.buf[:0], make([]byte, wideHead)...)
	p.buf = appendNumberSet(p.buf, set)
	p.end(0)
	for _, fqdn := range s.FQDNs {
		p.buf = appendText(p.buf, comparableName(fqdn))
	}
	p.end(1)
	p.buf = append(p.buf, s.ODSCode...)
	p.end(2)
	for i := range s.Fingerprints {
		p.buf = append(p.buf, s.Fingerprints[i][:]...)
	}
	p.end(3)
	for _, client := range s.TokenClients {
		p.buf = appendText(p.buf, client)
	}
	p.end(4)
	p.buf = append(appendText(p.buf, s.Name), s.PartyKey...)
	return p.head(byte(s.State))
}

// A packer makes records.
type packer struct {
	buf  []byte
	ends [parts]int // of the values, in buf
}

// end ends a value.
func (p *packer) end(i int) { p.ends[i] = len(p.buf) }

// head writes the head, and returns the record.
func (p *packer) head(state byte) []byte {
	start, long := wideHead, false
	var lengths [parts]int
	for i, end := range p.ends {
		lengths[i], start = end-start, end
		long = long || lengths[i] > 0xff
	}
	if long {
		p.buf[0] = state | wide
		for i, n := range lengths {
			binary.LittleEndian.PutUint32(p.buf[1+4*i:], uint32(n))
		}
		return p.buf
	}
	record := p.buf[wideHead-head:]
	record[0] = state
	for i, n := range lengths {
		record[1+i] = byte(n)
	}
	return record
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

// A system is an AccreditedSystem as the steps need it: a record, and where in it the values
// are. A value is cut out when it is asked for: most checks need few of them, and cutting
// out all of them takes longer than finding the record. The zero system is none.
type system struct {
	asid   ASID
	state  State
	record string
	bounds [parts + 1]int // in record, of the values one after the other
}

func (s *system) unpack(a ASID, record string) {
	h := record[:head]
	s.asid, s.state, s.record = a, State(h[0]&^wide), record
	if h[0] >= wide {
		s.unpackWide()
		return
	}
	s.bounds[0] = head
	s.bounds[1] = s.bounds[0] + int(h[1])
	s.bounds[2] = s.bounds[1] + int(h[2])
	s.bounds[3] = s.bounds[2] + int(h[3])
	s.bounds[4] = s.bounds[3] + int(h[4])
	s.bounds[5] = s.bounds[4] + int(h[5])
}

func (s *system) unpackWide() {
	s.bounds[0] = wideHead
	for i := range parts {
		n := s.record[1+4*i:][:4]
		s.bounds[i+1] = s.bounds[i] + (int(n[0]) | int(n[1])<<8 | int(n[2])<<16 | int(n[3])<<24)
	}
}

func (s *system) interactions() numberSet { return numberSet(s.record[s.bounds[0]:s.bounds[1]]) }
func (s *system) fqdns() texts            { return texts(s.record[s.bounds[1]:s.bounds[2]]) } // as comparableName makes them
func (s *system) ods() string             { return s.record[s.bounds[2]:s.bounds[3]] }
func (s *system) fingerprints() digests   { return digests(s.record[s.bounds[3]:s.bounds[4]]) }
func (s *system) tokenClients() texts     { return texts(s.record[s.bounds[4]:s.bounds[5]]) }
func (s *system) forPeople() string       { return s.record[s.bounds[5]:] } // name and party key, which no step reads

func (s *system) copy(ids *dictionary) AccreditedSystem {
	name, partyKey := nextText(s.forPeople())
	return AccreditedSystem{
		ASID:         s.asid,
		Name:         name,
		ODSCode:      s.ods(),
		PartyKey:     partyKey,
		FQDNs:        s.fqdns().list(),
		Fingerprints: s.fingerprints().list(),
		TokenClients: s.tokenClients().list(),
		Interactions: ids.list(s.interactions()),
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
