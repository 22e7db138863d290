package authz

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// FuzzRecord packs whatever is a valid system, beside a neighbour on either side, and
// expects it back as it was, also by the questions that the steps ask.
func FuzzRecord(f *testing.F) {
	f.Add(true, "Example Trust EPR", "RXA", "RXA-0000806", "epr.rxa.example.nhs.uk", "app\nother", bytes.Repeat([]byte{7}, 32), []byte{0, 1, 0, 9, 1, 0})
	f.Add(false, "", "X", "", "", "", []byte{}, []byte{})
	f.Add(true, strings.Repeat("n", 255), strings.Repeat("o", 255), strings.Repeat("p", 255), strings.Repeat("f", 255)+"\nB.nhs.uk", strings.Repeat("c", 128), make([]byte, 64), []byte{255, 255, 15, 255})
	f.Add(true, strings.Repeat("n", 127), strings.Repeat("o", 128), "", strings.Repeat("a.nhs.uk\n", 3), "a\nb\nc", []byte{1}, bytes.Repeat([]byte{1, 2, 3}, 200))
	f.Fuzz(func(t *testing.T, active bool, name, ods, partyKey, fqdns, clients string, fingerprints, numbers []byte) {
		s := AccreditedSystem{ASID: ASID{7}, Name: name, ODSCode: ods, PartyKey: partyKey, FQDNs: lines(fqdns), TokenClients: lines(clients)}
		if active {
			s.State = Active
		}
		for ; len(fingerprints) >= 32; fingerprints = fingerprints[32:] {
			s.Fingerprints = append(s.Fingerprints, [32]byte(fingerprints))
		}
		if s.Validate() != nil {
			return
		}
		set := map[int]bool{}
		var words []uint64
		for ; len(numbers) >= 2; numbers = numbers[2:] {
			n := int(binary.BigEndian.Uint16(numbers))
			set[n] = true
			for len(words) <= n>>6 {
				words = append(words, 0)
			}
			words[n>>6] |= 1 << (n & 63)
		}
		var p packer
		p.record(&AccreditedSystem{ODSCode: "OTHER", FQDNs: []string{"x"}}, []uint64{1}) // what it was used for before must not matter
		record := string(p.record(&s, words))
		root := node{}.with([]placed{{1 << 62, "\x00left"}, {1 << 63, record}, {3 << 62, "\x01right"}}, 0)

		var got system
		got.unpack(s.ASID, root.find(hash(1<<63).asid()))
		if got.asid != s.ASID || got.state != s.State || got.ods() != ods {
			t.Fatalf("%+v came back as %+v", s, got)
		}
		if n, p := nextText(got.forPeople()); n != name || p != partyKey {
			t.Fatalf("name %q and party key %q came back as %q and %q", name, partyKey, n, p)
		}
		want := slices.Clone(s.FQDNs)
		for i := range want {
			want[i] = comparableName(want[i])
			if !got.fqdns().has(want[i]) {
				t.Fatalf("without its fqdn %q", want[i])
			}
		}
		for i := range s.Fingerprints {
			if !got.fingerprints().has(&s.Fingerprints[i]) {
				t.Fatalf("without its fingerprint %x", s.Fingerprints[i])
			}
		}
		for _, client := range s.TokenClients {
			if !got.tokenClients().has(client) {
				t.Fatalf("without its token client %q", client)
			}
		}
		if !slices.Equal(got.fqdns().list(), want) || !slices.Equal(got.tokenClients().list(), s.TokenClients) || !slices.Equal(got.fingerprints().list(), s.Fingerprints) {
			t.Fatalf("bindings %q, %q and %x came back as %q, %q and %x", want, s.TokenClients, s.Fingerprints,
				got.fqdns().list(), got.tokenClients().list(), got.fingerprints().list())
		}
		if got.fqdns().has("") || got.tokenClients().has("") || got.fqdns().has("no.such.name") || got.fingerprints().has(&[32]byte{31: 1}) && !slices.Contains(s.Fingerprints, [32]byte{31: 1}) {
			t.Fatal("something that nobody listed")
		}
		listed := slices.Collect(got.interactions().all())
		if len(listed) != len(set) || !slices.IsSorted(listed) {
			t.Fatalf("the set lists %v, want %v", listed, set)
		}
		for n := range 1<<16 + 200 {
			if got.interactions().has(n) != set[n] {
				t.Fatalf("the set holds %d: %v", n, !set[n])
			}
		}
	})
}

// TestNumberSet: dense and thin sets, of more numbers than are counted at once.
func TestNumberSet(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, words := range []int{1, 2, 7, 8, 9, 16, 17, 40} {
		for _, thin := range []int{1, 2, 9, 200} {
			set := make([]uint64, words)
			for range words * 64 / thin {
				n := r.IntN(words * 64)
				set[n>>6] |= 1 << (n & 63)
			}
			s := numberSet(appendNumberSet(nil, set))
			for n := range words*64 + 600 {
				want := n < words*64 && set[n>>6]>>(n&63)&1 != 0
				if s.has(n) != want {
					t.Fatalf("a set of %d words holds %d: %v, want %v", words, n, !want, want)
				}
			}
		}
	}
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// TestBuilderKeepsNothing: an id is a part of the file that it was read from, and a
// hundred megabytes would stay for a hundred bytes.
func TestBuilderKeepsNothing(t *testing.T) {
	file := []byte("urn:a RXA")
	s := AccreditedSystem{ASID: ASID{1}, ODSCode: unsafe.String(&file[6], 3), Interactions: []InteractionID{{unsafe.String(&file[0], 5)}}}
	var b MapBuilder
	if err := b.Add(s); err != nil {
		t.Fatal(err)
	}
	m, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	clear(file)
	if got, _ := m.System(s.ASID); got.ODSCode != "RXA" || got.Interactions[0].s != "urn:a" {
		t.Errorf("the map holds %q and %q of a file that is gone", got.ODSCode, got.Interactions[0].s)
	}
}

// TestLongRecord: lengths of more than one byte, the longest that a system can have.
func TestLongRecord(t *testing.T) {
	s := AccreditedSystem{ASID: ASID{1}, ODSCode: "X", Name: strings.Repeat("n", maxText), PartyKey: "p"}
	for i := range maxBindings {
		text := strings.Repeat("a", 251) + string([]byte{'a' + byte(i>>8), 'a' + byte(i>>4&15), 'a' + byte(i&15), 'z'})
		s.FQDNs = append(s.FQDNs, text)
		s.TokenClients = append(s.TokenClients, text)
		s.Fingerprints = append(s.Fingerprints, [32]byte{byte(i), byte(i >> 8)})
	}
	var b MapBuilder
	if err := b.Add(s); err != nil {
		t.Fatal(err)
	}
	m, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := m.System(s.ASID)
	if !slices.Equal(got.FQDNs, s.FQDNs) || !slices.Equal(got.TokenClients, s.TokenClients) || !slices.Equal(got.Fingerprints, s.Fingerprints) ||
		got.Name != s.Name || got.PartyKey != s.PartyKey {
		t.Error("the longest system came back as another one")
	}
}
