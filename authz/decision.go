package authz

import "time"

// A Decision is the answer to a [Request]. The zero Decision denies as Undecided.
type Decision struct {
	allow bool
	fault Fault
	facts Facts
}

// Deny returns a Decision that denies. Anyone may deny; there is no Allow.
func Deny(f Fault) Decision { return Decision{fault: f} }

// Denied returns d turned into a denial with f. What was found out so far stays, so
// that the record of an allow that could not be audited still says whose it was.
func (d Decision) Denied(f Fault) Decision {
	d.allow, d.fault = false, f
	return d
}

// Allowed reports whether the request may pass.
func (d *Decision) Allowed() bool { return d.allow }

// Fault returns the objection; the zero Fault if the request is allowed.
func (d *Decision) Fault() *Fault { return &d.fault }

// Reason returns why the request is denied. Of an allow it says Undecided: ask Allowed first.
func (d *Decision) Reason() Reason { return d.fault.Reason }

// Facts returns what was found out on the way, also on the way to a denial.
func (d *Decision) Facts() *Facts { return &d.facts }

// Facts is what the steps established before the decision fell. What they did not
// reach is zero. Strings alias the Request, the Profile or the InteractionMap.
type Facts struct {
	ASID        ASID // bound to the certificate
	ClaimedASID ASID // what the client claims, until it is bound; zero once ASID is set
	ODSCode     string
	Receiver    ASID
	Endpoint    string // its name in the profile
	Interaction InteractionID
	Subject     string // the token's sub, where the profile says that it can be no patient

	HasMap     bool // MapVersion and MapAge mean something
	MapVersion uint64
	MapAge     time.Duration

	CertificateSHA256 [32]byte // all zero: no certificate that parses

	BreakGlass string // what of the emergency orders was in force, as [Authorizer.InForce] says it
}
