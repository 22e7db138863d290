package authz

import "testing"

// TestChangesAreSmall counts what systems take while a map is built of them: as little as in
// the map, and nothing once their part of it is made. A process needs both at a time.
func TestChangesAreSmall(t *testing.T) {
	const systems, most = 20_000, 175 // as TestMapIsSmall
	c := newCrowd()
	all, sets := c.systems(systems)
	var b MapBuilder
	for _, id := range c.ids {
		b.Number(id)
	}
	for n := range all {
		if err := b.AddNumbered(all[n], sets[n]); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (size int) {
		for _, slot := range b.changes.slots {
			if slot != nil {
				size += slot.last.Cap()
				for _, part := range slot.full {
					size += len(part)
				}
			}
		}
		return size
	}
	whole := count()
	if whole > systems*most {
		t.Errorf("%d systems take %d bytes each, not %d at the most", systems, whole/systems, most)
	}
	taken := 0
	for slot := range fanOut {
		taken += len(b.changes.take(slot))
		if left := count(); left > whole*(fanOut-slot)/fanOut {
			t.Errorf("with %d of %d slots made, %d of %d bytes are left", slot+1, fanOut, left, whole)
		}
	}
	if taken != systems || count() != 0 {
		t.Errorf("%d changes were taken and %d bytes are left", taken, count())
	}
}
