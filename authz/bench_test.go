package authz_test

import (
	"context"
	"testing"
	"time"

	"asid-authz/authz"
)

// The decision for a certificate that is parsed and a token whose claims are at hand:
// what is left is ours alone. Beside a gRPC hop of dozens of microseconds it must not be
// seen: some hundred nanoseconds, and nothing for the collector.
func BenchmarkCheck(b *testing.B) {
	for _, bench := range []struct {
		name string
		file string // of the corpus
	}{
		{"allow", "allow-read"},
		{"deny-form", "form-path-parameter"},
		{"deny-binding", "binding-cn-foreign-asid"},
		{"deny-permission", "permission-delete-of-consumer"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := newScenarioOf(b, bench.file)
			real := s.config.Tokens
			var claims *authz.Claims
			s.config.Tokens = verifier(func(ctx context.Context, credential string, now time.Time) (_ *authz.Claims, err error) {
				if claims == nil {
					claims, err = real.VerifyToken(ctx, credential, now)
				}
				return claims, err
			})
			s.run(b, bench.name == "allow")
		})
	}
}

// BenchmarkLookup is the baseline: what the plainest program would ask that has been told
// who calls and what for. What an allow costs more is the price of not believing it.
func BenchmarkLookup(b *testing.B) {
	const asid, interaction = "200000000117", "urn:nhs:names:services:nrl:DocumentReference.read"
	granted := map[string]map[string]bool{asid: {interaction: true}}
	b.ReportAllocs()
	for b.Loop() {
		if !granted[asid][interaction] {
			b.Fatal("not granted")
		}
	}
}

// BenchmarkCheckVerified is an allow through the real verifier, which has seen the token
// before and has it in its cache.
func BenchmarkCheckVerified(b *testing.B) { newScenario(b).run(b, true) }

func (s *scenario) run(b *testing.B, allowed bool) {
	a := s.authorizer()
	b.ReportAllocs()
	for b.Loop() {
		if d := a.Check(s.ctx, s.request); d.Allowed() != allowed {
			b.Fatal(d.Reason())
		}
	}
}

// BenchmarkCheckParallel is what all processors can do together: the verdict of a
// certificate and the pool of checks are shared.
func BenchmarkCheckParallel(b *testing.B) {
	s := newScenario(b)
	a := s.authorizer()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if d := a.Check(s.ctx, s.request); !d.Allowed() {
				b.Error(d.Reason())
				return
			}
		}
	})
}
