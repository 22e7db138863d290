package layout

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"asid-authz/authz"
)

func system(t *testing.T) authz.AccreditedSystem {
	t.Helper()
	a, err := authz.ParseASID("200000000205")
	if err != nil {
		t.Fatal(err)
	}
	return authz.AccreditedSystem{ASID: a, Name: "Example Trust EPR", ODSCode: "RXA", PartyKey: "RXA-0000806",
		FQDNs: []string{"epr.rxa.example.nhs.uk"}, Fingerprints: [][32]byte{{1, 2, 3}}, TokenClients: []string{"client"}, State: authz.Active}
}

var compareSystems = cmp.Comparer(func(a, b authz.ASID) bool { return a == b })

func TestEntry(t *testing.T) {
	s := system(t)
	for _, numbers := range [][]int{{}, {0}, {0, 1, 2, 700, MaxIDs - 1}, {5, 6}} {
		value := string(AppendEntry(nil, &s, numbers))
		got, read, err := DecodeEntry(s.ASID.String(), value, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got, compareSystems); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(numbers, append([]int{}, read...)); diff != "" {
			t.Error(diff)
		}
		for n := range len(value) {
			if _, _, err := DecodeEntry(s.ASID.String(), value[:n], nil); err == nil {
				t.Errorf("the first %d of %d bytes were accepted", n, len(value))
			}
		}
		if _, _, err := DecodeEntry(s.ASID.String(), value+"\x00", nil); err == nil {
			t.Error("a byte too many was accepted")
		}
	}
	if _, _, err := DecodeEntry("20000000020", string(AppendEntry(nil, &s, nil)), nil); err == nil {
		t.Error("an ASID of eleven digits was accepted")
	}
}

func TestEntryRefuses(t *testing.T) {
	text := "\x01\x00\x00\x00\x00\x00\x00" // active, all texts and lists empty but for the interactions
	for name, value := range map[string]string{
		"state":                text[:0] + "\x02" + text[1:] + "\x00",
		"a repetition":         text + "\x02\x05\x00",
		"a number too large":   text + "\x01\x80\x80\x04",
		"a sum too large":      text + "\x02\xff\xff\x03\x01",
		"a longer form":        text + "\x81\x00\x05",
		"a list without end":   text + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"an overflowed number": text + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
		"a text without end":   "\x01\xff\x01",
	} {
		if s, numbers, err := DecodeEntry("200000000205", value, nil); err == nil {
			t.Errorf("%s was accepted: %v %v", name, s, numbers)
		}
	}
	if _, _, err := DecodeEntry("200000000205", text+"\x01\x05", nil); err != nil {
		t.Errorf("the base of these cases is refused too: %v", err)
	}
}

func TestTally(t *testing.T) {
	var a, b Tally
	a.Add("1", "x")
	a.Add("2", "y")
	b.Add("2", "y")
	b.Add("3", "z")
	b.Add("1", "x")
	b.Remove("3", "z")
	if a != b || a.String() != b.String() {
		t.Errorf("%v and %v differ, and hold the same", a, b)
	}
	b.Remove("2", "y")
	b.Add("2", "Y")
	if a == b {
		t.Error("a changed value left no trace")
	}
	back, err := ParseTally(a.String())
	if err != nil || back != a {
		t.Errorf("%v came back as %v, %v", a, back, err)
	}
	for _, bad := range []string{"", "1", "1 ", " " + strings.Repeat("0", 64), "01 " + strings.Repeat("0", 64), "1 " + strings.Repeat("A", 64),
		"1 " + strings.Repeat("0", 63), "1  " + strings.Repeat("0", 64), "5000000 " + strings.Repeat("0", 64), "-1 " + strings.Repeat("0", 64)} {
		if got, err := ParseTally(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestManifest(t *testing.T) {
	m := &Manifest{Head: Head{Generation: 4, Version: 17, Tip: Digest{9}}}
	m.IDs.Add("0", "urn:a")
	m.Buckets[0xab].Add("200000000205", "x")
	m.Buckets[0].Add("200000000206", "y")
	got, err := ParseManifest(m.Fields())
	if err != nil {
		t.Fatal(err)
	}
	if *got != *m || got.Systems() != 2 {
		t.Errorf("%+v came back as %+v", m, got)
	}
	for field, bad := range map[string][]string{
		"layout": {"", "0", "01", "1 "}, "generation": {"", "0", "x", "04"}, "version": {"", "0", "-1"}, "tip": {"", "ab"},
		"ids": {"", "1"}, "suspended": {"", "x"}, "ab": {"", "1 1"},
	} {
		for _, text := range bad {
			fields := m.Fields()
			fields[field] = text
			if _, err := ParseManifest(fields); err == nil {
				t.Errorf("%s: %q was accepted", field, text)
			}
		}
	}
	if _, err := ParseManifest(map[string]string{}); !errors.Is(err, ErrNothingPublished) {
		t.Errorf("no manifest: %v", err)
	}
	fields := m.Fields()
	fields["layout"] = "2"
	var newer NewerLayoutError
	if _, err := ParseManifest(fields); !errors.As(err, &newer) || newer.Layout != "2" {
		t.Errorf("layout 2: %v", err)
	}
}

func TestChange(t *testing.T) {
	c := &Change{Kind: Edit, Generation: 4, First: 2, IDs: []string{"urn:c"}, Put: []Pair{{"200000000205", "a"}, {"200000000206", ""}},
		Drop: []string{"200000000207"}, Suspend: []Pair{{"200000000208", "{}"}}, Resume: []string{"200000000205"}}
	text := c.Encode()
	got, err := DecodeChange(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Error(diff)
	}
	for n := range len(text) {
		if _, err := DecodeChange(text[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were accepted", n, len(text))
		}
	}
	for name, bad := range map[string]*Change{
		"kind":           {Kind: 3, Generation: 1},
		"no generation":  {Kind: Edit},
		"descending put": {Kind: Edit, Generation: 1, Put: []Pair{{"2", ""}, {"1", ""}}},
		"twice dropped":  {Kind: Edit, Generation: 1, Drop: []string{"1", "1"}},
		"put and drop":   {Kind: Edit, Generation: 1, Put: []Pair{{"1", ""}}, Drop: []string{"1"}},
		"edits":          {Kind: Generation, Generation: 1, Drop: []string{"1"}},
	} {
		if _, err := DecodeChange(bad.Encode()); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestKeys(t *testing.T) {
	n := DefaultNamespace
	got := strings.Join([]string{n.Manifest(), n.Log(), n.IDs(7), n.Bucket(7, 0xab), n.Undo(9), n.Pattern(), LogID(9)}, " ")
	want := "{asid-authz}:1:manifest {asid-authz}:1:log {asid-authz}:1:7:ids {asid-authz}:1:7:b:ab {asid-authz}:1:undo:9 {asid-authz}:1:* 9-0"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if keys := n.Generation(7); len(keys) != 257 {
		t.Errorf("%d keys", len(keys))
	}
	for _, bad := range []string{"", "A", "a}b", "a*", "a:b", "a b", strings.Repeat("a", 65)} {
		if _, err := ParseNamespace(bad); err == nil {
			t.Errorf("namespace %q was accepted", bad)
		}
	}
	for _, bad := range []string{"", "-0", "0-0", "9", "9-1", "09-0", "9-0-0"} {
		if _, err := ParseLogID(bad); err == nil {
			t.Errorf("log ID %q was accepted", bad)
		}
	}
	if v, err := ParseLogID("9-0"); v != 9 || err != nil {
		t.Error(v, err)
	}
}

// What one digest says is what the documentation says: its example is this one.
func TestDigestNext(t *testing.T) {
	first := Digest{}.Next(1, "x")
	if got, want := first.String(), "01dd2c7811112320cd1c6f939902bcf16eb7ab90d8a4500f9516fc0abc42927a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if first.Next(2, "x") == first.Next(3, "x") || first.Next(2, "x") == (Digest{}).Next(2, "x") {
		t.Error("version or predecessor left no trace")
	}
}

func FuzzEntry(f *testing.F) {
	a, _ := authz.ParseASID("200000000205")
	s := authz.AccreditedSystem{ASID: a, Name: "n", ODSCode: "RXA", FQDNs: []string{"a.b", "c"}, Fingerprints: [][32]byte{{1}}, State: authz.Active}
	f.Add(string(AppendEntry(nil, &s, []int{0, 1, 300})))
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		s, numbers, err := DecodeEntry("200000000205", value, nil)
		if err == nil && string(AppendEntry(nil, &s, numbers)) != value {
			t.Error("two texts for one entry")
		}
	})
}

func FuzzChange(f *testing.F) {
	f.Add((&Change{Kind: Edit, Generation: 4, First: 2, IDs: []string{"urn:c"}, Put: []Pair{{"1", "a"}}, Drop: []string{"2"}}).Encode())
	f.Add((&Change{Kind: Generation, Generation: 4}).Encode())
	f.Fuzz(func(t *testing.T, text string) {
		c, err := DecodeChange(text)
		if err == nil && c.Encode() != text {
			t.Error("two texts for one change")
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add("1", "2", "3", Digest{}.String(), Tally{}.String(), Tally{}.String())
	f.Fuzz(func(t *testing.T, layout, generation, version, tip, ids, bucket string) {
		fields := map[string]string{"layout": layout, "generation": generation, "version": version, "tip": tip, "ids": ids, "suspended": Tally{}.String(), "00": bucket}
		m, err := ParseManifest(fields)
		if err != nil {
			return
		}
		again, err := ParseManifest(m.Fields())
		if err != nil || *again != *m {
			t.Errorf("%v came back as %v, %v", m, again, err)
		}
	})
}
