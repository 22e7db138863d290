package authz_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// outline is a report in a line: the names of the steps that failed, with their Reasons,
// and how many could not be reached.
func outline(steps []authz.Step) string {
	var failed, unreachable []string
	for _, s := range steps {
		switch s.Outcome {
		case authz.Failed:
			failed = append(failed, s.Name+": "+s.Fault.Reason.String())
		case authz.NotReachable:
			unreachable = append(unreachable, s.Name)
		}
	}
	return strings.Join(failed, ", ") + " | " + strings.Join(unreachable, ", ")
}

// TestExplainAgrees: the decision is Check's, the first failure is its objection, and
// of an allow every step has passed.
func TestExplainAgrees(t *testing.T) {
	now := time.Now()
	corpus := loadCorpus(t)
	worlds := mintAll(t, corpus, now)
	for _, c := range corpus.Cases {
		w := worlds[c.World]
		r := w.request(t, c, now)
		want := w.authorizer.Check(context.Background(), r)
		d, steps := w.authorizer.Explain(context.Background(), r)
		if d.Allowed() != want.Allowed() || *d.Fault() != *want.Fault() || *d.Facts() != *want.Facts() {
			t.Errorf("%s: Explain decides %v, Check %v", c.File, authztest.Got(d), authztest.Got(want))
		}
		first := -1
		for i, s := range steps {
			if s.Name == "" || (s.Fault != authz.Fault{}) != (s.Outcome == authz.Failed) {
				t.Errorf("%s: step %q is %v with fault %v", c.File, s.Name, s.Outcome, s.Fault.Reason)
			}
			if s.Outcome != authz.Passed && first < 0 {
				first = i
			}
		}
		switch {
		case d.Allowed() && first >= 0:
			t.Errorf("%s: allowed, and step %q is %v", c.File, steps[first].Name, steps[first].Outcome)
		case !d.Allowed() && (first < 0 || steps[first].Fault != *want.Fault()):
			t.Errorf("%s: denied as %v, and the first failure is %v", c.File, want.Reason(), steps[max(first, 0)].Fault.Reason)
		case !d.Allowed() && steps[len(steps)-1].Outcome != authz.NotReachable:
			t.Errorf("%s: denied, and the last look is %v", c.File, steps[len(steps)-1].Outcome)
		}
	}
}

// TestExplainSaysAll: one refused request shows everything that is wrong with it.
func TestExplainSaysAll(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *scenario)
		want   string
	}{
		{"nothing", func(*scenario) {}, " | "},
		{"a foreign ASID", func(s *scenario) { s.header("fromasid", "200000000118") },
			"binding: certificate-not-of-asid | tie, organisation, state, permission, last look"},
		{"an unknown ASID, another receiver, a contradiction and no token", func(s *scenario) {
			s.header("fromasid", "200000000999")
			s.header("toasid", "200000000306")
			s.header("interactionid", "urn:nhs:names:services:nrl:DocumentReference.search")
			s.header("authorization", "")
		}, "credential: token-missing, asid: asid-unknown, receiver: receiver-unknown, interaction: interaction-not-of-endpoint" +
			" | binding, token, claims, tie, organisation, scope, state, permission, last look"},
		{"a certificate of nobody and a path of nothing", func(s *scenario) {
			s.request.Certificate = nil
			s.request.Target = "/STU3//DocumentReference?access_token=1"
			s.header("x-original-url", "/")
		}, "path: path-not-canonical, query: query-forbidden, forbidden headers: header-forbidden, certificate: certificate-missing" +
			" | trust, break-glass, revocation, binding, endpoint, interaction, tie, organisation, scope, state, permission, last look"},
		{"a message that cannot be trusted", func(s *scenario) {
			s.request.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldRequest}
		}, "message: request-malformed | path, query, forbidden headers, sender header, receiver header, interaction header, credential," +
			" asid, binding, receiver, endpoint, interaction, token, claims, tie, organisation, scope, state, permission, last look"},
		{"no map", func(s *scenario) { s.maps.Map = nil }, "map: map-unavailable | asid, binding, tie, organisation, state, permission, last look"},
		{"a DELETE", func(s *scenario) { s.request.Method = "DELETE" },
			"scope: scope-insufficient, permission: interaction-not-granted | last look"},
	} {
		s := newScenario(t)
		test.change(s)
		_, steps := s.authorizer().Explain(s.ctx, s.request)
		if got := outline(steps); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// header gives the request that value of a header, or, if it is "", takes it out.
func (s *scenario) header(name, value string) {
	for i, h := range s.request.Headers {
		if h.Name == name {
			s.request.Headers = append(s.request.Headers[:i:i], s.request.Headers[i+1:]...)
			break
		}
	}
	if value != "" {
		s.request.Headers = append(s.request.Headers, authz.Header{Name: name, Value: value})
	}
}

// TestExplainFacts replays the record of a request against what is known today.
func TestExplainFacts(t *testing.T) {
	const keep = "state: passed, permission: passed"
	for _, test := range []struct {
		name   string
		change func(s *scenario, f *authz.Facts)
		want   string
	}{
		{"as it was", func(*scenario, *authz.Facts) {}, "asid: passed, receiver: passed, " + keep},
		{"the system has been suspended", func(s *scenario, f *authz.Facts) {
			s.put(func(e *authz.AccreditedSystem) { e.State = authz.Suspended })
		},
			"asid: passed, receiver: passed, state: failed system-suspended, permission: passed"},
		{"the interaction was taken away", func(s *scenario, f *authz.Facts) { s.put(func(e *authz.AccreditedSystem) { e.Interactions = nil }) },
			"asid: passed, receiver: passed, state: passed, permission: failed interaction-not-granted"},
		{"the system has left", func(s *scenario, f *authz.Facts) { s.put(nil) },
			"asid: failed asid-unknown, receiver: passed, state: not reachable, permission: not reachable"},
		{"it was never bound", func(s *scenario, f *authz.Facts) { f.ClaimedASID, f.ASID = f.ASID, authz.ASID{} },
			"asid: passed, receiver: passed, state: not reachable, permission: not reachable"},
		{"the endpoint is gone", func(s *scenario, f *authz.Facts) { f.Endpoint = "gone" },
			"asid: passed, receiver: passed, state: passed, permission: not reachable"},
		{"another receiver", func(s *scenario, f *authz.Facts) { f.Receiver = f.ASID },
			"asid: passed, receiver: failed receiver-unknown, " + keep},
		{"nobody, and nothing", func(s *scenario, f *authz.Facts) { *f = authz.Facts{} },
			"asid: not reachable, receiver: not reachable, state: not reachable, permission: not reachable"},
	} {
		s := newScenario(t)
		d := s.check()
		facts := *d.Facts()
		test.change(s, &facts)
		var got []string
		for _, step := range s.authorizer().ExplainFacts(s.request.Now, facts) {
			switch step.Name {
			case "asid", "receiver", "state", "permission":
				text := step.Name + ": " + step.Outcome.String()
				if step.Outcome == authz.Failed {
					text += " " + step.Fault.Reason.String()
				}
				got = append(got, text)
			case "token", "claims", "tie", "last look":
				if step.Outcome != authz.NotReachable {
					t.Errorf("%s: step %s, of which no record tells, is %v", test.name, step.Name, step.Outcome)
				}
			}
		}
		if text := strings.Join(got, ", "); text != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, text, test.want)
		}
	}
}

// put replaces the entry of the scenario's system, or, with nil, takes it out.
func (s *scenario) put(change func(e *authz.AccreditedSystem)) {
	s.t.Helper()
	a := asid(s.t, "200000000117")
	e, _ := s.maps.Map.System(a)
	var put []authz.AccreditedSystem
	drop := []authz.ASID{a}
	if change != nil {
		change(&e)
		put, drop = []authz.AccreditedSystem{e}, nil
	}
	m, err := s.maps.Map.With(s.maps.Map.Version()+1, put, drop)
	if err != nil {
		s.t.Fatal(err)
	}
	s.maps.Map = m
}
