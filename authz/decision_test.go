package authz_test

import (
	"reflect"
	"testing"

	"asid-authz/authz"
)

func TestZeroDecisionDenies(t *testing.T) {
	var d authz.Decision
	if d.Allowed() || d.Reason() != authz.Undecided || d.Fault().Reason != authz.Undecided {
		t.Errorf("the zero Decision is allowed=%v, %v", d.Allowed(), d.Reason())
	}
	if *d.Facts() != (authz.Facts{}) {
		t.Errorf("the zero Decision knows something: %+v", *d.Facts())
	}
	if authz.Undecided.Class().Status() != 503 {
		t.Error("Undecided is not unavailable")
	}
	if d := new(authz.Decision); d.Allowed() {
		t.Error("a new Decision is allowed")
	}
}

func TestDenyAlwaysDenies(t *testing.T) {
	for _, r := range authz.Reasons() {
		d := authz.Deny(authz.Fault{Reason: r, Field: authz.FieldToken, Value: "x"})
		if d.Allowed() || d.Reason() != r || d.Fault().Value != "x" {
			t.Errorf("Deny(%v): allowed=%v, reason %v", r, d.Allowed(), d.Reason())
		}
	}
}

// TestDeniedKeepsFacts is what a record needs that could not be written: whose request
// it was that was refused for that.
func TestDeniedKeepsFacts(t *testing.T) {
	s := newScenario(t)
	allowed := s.check()
	if !allowed.Allowed() {
		t.Fatalf("not allowed: %v", allowed.Reason())
	}
	denied := allowed.Denied(authz.Fault{Reason: authz.AuditUnavailable, Field: authz.FieldRequest})
	if denied.Allowed() || denied.Reason() != authz.AuditUnavailable {
		t.Errorf("Denied: allowed=%v, reason %v", denied.Allowed(), denied.Reason())
	}
	if *denied.Facts() != *allowed.Facts() || denied.Facts().ASID.IsZero() {
		t.Errorf("Denied lost the facts: %+v", *denied.Facts())
	}
	if !allowed.Allowed() {
		t.Error("Denied changed the Decision that it was called on")
	}
}

// TestDecisionIsClosed keeps the outside from writing an allow: no exported field, no
// method that sets one, nothing that decodes into it.
func TestDecisionIsClosed(t *testing.T) {
	typ := reflect.TypeFor[authz.Decision]()
	for field := range typ.Fields() {
		if field.IsExported() {
			t.Errorf("Decision has an exported field %s", field.Name)
		}
	}
	known := map[string]bool{"Allowed": true, "Fault": true, "Reason": true, "Facts": true, "Denied": true}
	pointer := reflect.TypeFor[*authz.Decision]()
	for method := range pointer.Methods() {
		if !known[method.Name] {
			t.Errorf("Decision has a method %s, of which this test does not know that it makes no allow", method.Name)
		}
	}
	// What Fault and Facts point at can be written; the outcome must not hang on it.
	d := authz.Deny(authz.Fault{Reason: authz.TokenExpired})
	*d.Fault() = authz.Fault{}
	if d.Allowed() {
		t.Error("a Decision without a Fault is allowed")
	}
}
