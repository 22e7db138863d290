package cache

import (
	"fmt"
	"testing"

	"asid-authz/authz"
)

// BenchmarkDifference compares two large maps that differ in one system. The baseline is
// going through one of them.
func BenchmarkDifference(b *testing.B) {
	var builder authz.MapBuilder
	for i := range 250 {
		id, err := authz.ParseInteractionID(fmt.Sprintf("urn:nhs:names:services:large:Resource%d.operation%d", i/25, i%25))
		if err != nil {
			b.Fatal(err)
		}
		builder.Number(id)
	}
	system := func(n int) (authz.AccreditedSystem, []int) {
		asid, err := authz.ParseASID(fmt.Sprintf("%012d", n))
		if err != nil {
			b.Fatal(err)
		}
		var numbers []int
		for i := range 50 {
			numbers = append(numbers, (n*25+i)%250)
		}
		return authz.AccreditedSystem{ASID: asid, Name: fmt.Sprint("System ", n), ODSCode: "RXA", State: authz.Active}, numbers
	}
	for n := range 100_000 {
		if err := builder.AddNumbered(system(n)); err != nil {
			b.Fatal(err)
		}
	}
	old, err := builder.Build(1)
	if err != nil {
		b.Fatal(err)
	}
	changed, _ := system(7)
	current, err := old.With(2, []authz.AccreditedSystem{changed}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("difference", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if added, removed, changed := difference(old, current); added != 0 || removed != 0 || changed != 1 {
				b.Fatal(added, removed, changed)
			}
		}
	})
	b.Run("baseline", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			systems := 0
			for range current.Systems() {
				systems++
			}
			if systems != current.Len() {
				b.Fatal(systems)
			}
		}
	})
}
