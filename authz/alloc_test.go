//go:build !race

package authz_test

import "testing"

// TestCheckAllocates counts what a decision leaves for the collector: nothing. The race
// detector makes sync.Pool forget, so `make test` runs this once more without it.
func TestCheckAllocates(t *testing.T) {
	s := newScenario(t)
	a := s.authorizer()
	if n := testing.AllocsPerRun(1000, func() { a.Check(s.ctx, s.request) }); n != 0 {
		t.Errorf("an allow allocates %v times", n)
	}
}
