package authz

import (
	"context"
	"time"
)

// Outcome of one step, for [Authorizer.Explain].
type Outcome uint8

const (
	NotReachable Outcome = iota // what it needs was not found
	Failed
	Passed
	Recorded // passed, says the record; not looked at again
)

var outcomeNames = [...]string{"not reachable", "failed", "passed", "recorded"}

// String returns the outcome in words.
func (o Outcome) String() string { return outcomeNames[o] }

// A Step is what [Authorizer.Explain] says about one step.
type Step struct {
	Name    string
	Outcome Outcome
	Fault   Fault // if Failed
}

// Explain runs the steps of Check, but goes on after an objection with every step that
// can still run: one refused request shows all that is wrong with it, not only the
// first. The decision is Check's.
func (a *Authorizer) Explain(ctx context.Context, r *Request) (Decision, []Step) {
	c := a.begin(ctx, r)
	defer a.end(c)
	report := make([]Step, len(a.steps))
	for i := range a.steps {
		s := &a.steps[i]
		report[i].Name = s.name
		if c.passed&s.needs != s.needs {
			continue
		}
		c.fault = Fault{}
		if s.run(c) {
			c.passed |= 1 << i
			report[i].Outcome = Passed
		} else {
			report[i].Outcome, report[i].Fault = Failed, c.fault
		}
	}
	return a.Check(ctx, r), report
}

// ExplainFacts says what this Authorizer's steps would say today about a request of
// which only the facts of its record are left: who called and what for, but neither the
// certificate nor the token. Steps whose input no record holds are NotReachable. Where
// the record says that the certificate was bound, the binding counts as passed.
func (a *Authorizer) ExplainFacts(now time.Time, facts Facts) []Step {
	c := a.begin(context.Background(), &Request{Now: now})
	defer a.end(c)
	asid := facts.ASID
	if asid.IsZero() {
		asid = facts.ClaimedASID
	}
	c.sender, c.facts.Receiver = asid, facts.Receiver
	c.value[useSender] = asid.String()
	c.value[useReceiver] = facts.Receiver.String()
	c.endpoint = a.byName[facts.Endpoint]
	c.chosen, c.facts.Interaction = facts.Interaction, facts.Interaction

	var given uint64 // what the record vouches for
	run := needing(stepMap)
	if facts.CertificateSHA256 != [32]byte{} {
		given |= needing(stepCertificate)
		run |= needing(stepBreakGlass)
		c.facts.CertificateSHA256 = facts.CertificateSHA256
	}
	if !asid.IsZero() {
		given |= needing(stepSenderHeader)
		if a.Binding.Mode == Registered {
			run |= needing(stepASID)
		} else if c.m, _, _ = a.Map.Current(); c.m != nil && c.m.find(asid, &c.system) {
			given |= needing(stepASID)
		}
	}
	if !facts.ASID.IsZero() {
		given |= needing(stepBinding)
		run |= needing(stepState)
	}
	if !facts.Receiver.IsZero() {
		given |= needing(stepReceiverHeader)
		run |= needing(stepReceiver)
	}
	if c.endpoint != nil {
		given |= needing(stepEndpoint, stepInteraction)
		if !facts.ASID.IsZero() {
			run |= needing(stepPermission)
		}
	}
	report := make([]Step, len(a.steps))
	for i := range a.steps {
		s := &a.steps[i]
		report[i].Name = s.name
		switch met := (c.passed|given)&s.needs == s.needs; {
		case run&(1<<i) == 0 && given&(1<<i) != 0:
			report[i].Outcome = Recorded
		case run&(1<<i) == 0 || !met:
		case (i == stepState || i == stepPermission) && c.system.asid.IsZero(): // bound then, gone today
		case s.run(c):
			c.passed |= 1 << i
			report[i].Outcome = Passed
		default:
			report[i].Outcome, report[i].Fault = Failed, c.fault
		}
	}
	return report
}
