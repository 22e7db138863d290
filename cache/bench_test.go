package cache_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"asid-authz/cache"
)

// BenchmarkDecodeMap reads and builds maps of the size that the whole of Spine has:
// systems that refer to two sets of 25 interactions each, and systems that list the
// fifty themselves.
func BenchmarkDecodeMap(b *testing.B) {
	for _, systems := range []int{1_000, 10_000, 100_000} {
		for _, literal := range []bool{false, true} {
			name := "sets"
			if literal {
				name = "literal"
			}
			b.Run(fmt.Sprintf("%s-%d", name, systems), func(b *testing.B) {
				text := largeMap(systems, literal)
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					f, err := cache.DecodeMap("map.yaml", text)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := f.Build(1); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkLoadUnchanged is what every poll costs while nothing changes.
func BenchmarkLoadUnchanged(b *testing.B) {
	text := largeMap(10_000, false)
	m := cache.NewMemory(zap.NewNop())
	now := time.Now()
	if _, err := m.Load("map.yaml", text, now); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if changed, err := m.Load("map.yaml", text, now); changed || err != nil {
			b.Fatal(changed, err)
		}
	}
}

// largeMap returns a map file of that many systems with fifty interactions each.
func largeMap(systems int, literal bool) []byte {
	var b bytes.Buffer
	b.WriteString("format: 1\nsets:\n")
	for s := range 10 {
		fmt.Fprintf(&b, "  set-%d:\n", s)
		for i := range 25 {
			fmt.Fprintf(&b, "    - urn:nhs:names:services:large:Resource%d.operation%d\n", s, i)
		}
	}
	b.WriteString("systems:\n")
	for s := range systems {
		fmt.Fprintf(&b, "  - asid: \"%012d\"\n    name: System %d\n    ods: RXA\n    party_key: RXA-%07d\n    fqdns: [epr-%d.rxa.example.nhs.uk]\n    state: active\n    interactions:\n", s, s, s, s)
		if !literal {
			fmt.Fprintf(&b, "      - set-%d\n      - set-%d\n", s%10, (s+1)%10)
			continue
		}
		for i := range 50 {
			fmt.Fprintf(&b, "      - urn:nhs:names:services:large:Resource%d.operation%d\n", (s+i/25)%10, i%25)
		}
	}
	return b.Bytes()
}
