package cache_test

import (
	"fmt"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/cache"
)

func id(t *testing.T, s string) authz.InteractionID {
	t.Helper()
	i, err := authz.ParseInteractionID(s)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// profile has one endpoint of every kind; the zero Interaction of the last must not count.
func profile(t *testing.T) authz.Profile {
	return authz.Profile{Name: "things", Endpoints: []authz.Endpoint{
		{Name: "read", Interaction: id(t, "urn:nhs:names:services:things:Thing.read")},
		{Name: "update", Interaction: id(t, "urn:nhs:names:services:things:Thing.update"), Aliases: []authz.InteractionID{id(t, "urn:nhs:names:services:things:Thing.patch")}},
		{Name: "either", Choice: []authz.InteractionID{id(t, "urn:x:1"), id(t, "urn:x:2")}},
	}}
}

func TestWarnings(t *testing.T) {
	const text = `format: 1
sets:
  reader:
    - urn:nhs:names:services:things:Thing.read
    - urn:nhs:names:services:things:Thing.raed
  writer: [urn:nhs:names:services:things:Thing.patch]
  forgotten: [urn:other]
systems:
  - asid: 200000000205
    ods: A
    party_key: A-1
    fqdns: [one.example, two.example]
    certificates: [` + hexA + `]
    state: active
    interactions: [reader, writer, urn:x:1, urn:x:2]
  - asid: 200000000213
    ods: A
    party_key: A-1
    fqdns: [ONE.example]
    state: suspended
    interactions: [urn:nhs:names:services:things:Thing.update]
  - asid: 200000000221
    ods: B
    party_key: B-1
    fqdns:
      - three.example
      - One.example
    certificates: [` + colonA + `]
    state: active
    interactions: [reader, urn:nhs:names:services:things:Thing.raed]
  - asid: 200000000239
    ods: C
    party_key: C-1
    fqdns: [one.example]
    state: active
    interactions: []
  - {asid: 200000000247, ods: D, state: active, fqdns: [one.example, three.example], interactions: [reader]}
  - {asid: 200000000255, ods: D, state: active, interactions: [reader]}
  - {asid: 200000000263, ods: D, state: suspended, interactions: []}
`
	f, err := cache.DecodeMap("m", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	always := []string{
		`7: set forgotten is used by no system`,
		`27: fqdn "One.example" belongs to party key "B-1", and at line 12 to "A-1": one certificate serves systems of both`,
		`28: certificate "` + colonA + `" belongs to party key "B-1", and at line 13 to "A-1": one certificate serves systems of both`,
		`31: system 200000000239 may do nothing: it has no interactions`,
		`38: system 200000000255 lists no fqdns and no certificates: in binding mode registered it is bound to no certificate`,
		`39: system 200000000263 lists no fqdns and no certificates: in binding mode registered it is bound to no certificate`,
		`39: system 200000000263 may do nothing: it has no interactions`,
	}
	withProfile := append([]string{
		`5: interaction "urn:nhs:names:services:things:Thing.raed" is used by no endpoint of profile things; did you mean urn:nhs:names:services:things:Thing.read?`,
		always[0],
		`7: interaction "urn:other" is used by no endpoint of profile things`,
	}, always[1:]...)
	for _, test := range []struct {
		name    string
		profile authz.Profile
		want    []string
	}{
		{"no profile", authz.Profile{}, always},
		{"a profile", profile(t), withProfile},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, w := range f.Warnings(test.profile) {
				got = append(got, fmt.Sprintf("%d: %s", w.Line, w.Text))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
	if got, want := f.Summary(), (cache.MapSummary{Systems: 7, Suspended: 2, Sets: 3, Interactions: 7}); got != want {
		t.Errorf("summary %+v, want %+v", got, want)
	}
}

// TestWarningsWithSetsLast: where an interaction first stands is a matter of lines, not
// of what is read first.
func TestWarningsWithSetsLast(t *testing.T) {
	f, err := cache.DecodeMap("m", []byte(`format: 1
systems:
  - {asid: 200000000205, ods: A, state: active, fqdns: [one.example], interactions: [other, urn:other]}
sets:
  other: [urn:other]
`))
	if err != nil {
		t.Fatal(err)
	}
	got := f.Warnings(profile(t))
	if want := `[{3 interaction "urn:other" is used by no endpoint of profile things}]`; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestWarningsOfNothing(t *testing.T) {
	f, err := cache.DecodeMap("m", []byte("format: 1\n\nsystems: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := f.Warnings(profile(t))
	if want := "[{3 no systems: every request will be denied}]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
