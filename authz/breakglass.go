package authz

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The bounds of an emergency: what an operator asks for in a hurry must end by itself.
const (
	// MaxBreakGlassStaleness is the oldest map that can be asked for. A right that was
	// taken away since is still given, and three days are a long weekend without Redis.
	MaxBreakGlassStaleness = 72 * time.Hour
	// MaxBreakGlassPeriod is how far ahead the end may be. Whoever needs longer looks again.
	MaxBreakGlassPeriod = 7 * 24 * time.Hour
	// MaxBreakGlassDenied bounds how many ASIDs, and how many certificates, are denied:
	// beyond it the map or a CRL is the place.
	MaxBreakGlassDenied = 10_000
)

// Orders are what an operator asks for in an emergency, past the map and its source.
type Orders struct {
	ASIDs        []ASID     // denied as SystemSuspended
	Certificates [][32]byte // denied as CertificateRevoked, by the SHA-256 of the DER

	// MaxStaleness replaces Config.MaxStaleness before Until, if it is longer. It is the
	// one order that gives something, so it ends by itself. Zero: no such order.
	MaxStaleness time.Duration
	Until        time.Time

	Reason string // for the log of whoever asks later
}

// BreakGlass are Orders in force. It is immutable.
type BreakGlass struct {
	orders       Orders
	asids        map[ASID]struct{}
	certificates map[[32]byte]struct{}
	given        time.Time
}

// A BreakGlassSource holds the orders of an emergency; b is nil when there are none.
// confirmed is when it was last known that b is the newest there is. It must be safe
// for concurrent use and never block.
type BreakGlassSource interface {
	Current() (b *BreakGlass, confirmed time.Time)
}

// NewBreakGlass returns the orders that were read at now, or everything that is wrong
// with them. An end that has passed is not wrong: a restart after it must not fail.
func NewBreakGlass(o Orders, now time.Time) (*BreakGlass, error) {
	var all []error
	if len(o.ASIDs) > MaxBreakGlassDenied || len(o.Certificates) > MaxBreakGlassDenied {
		all = append(all, fmt.Errorf("deny: more than %d ASIDs or certificates: suspend them in the map, or revoke them in a CRL", MaxBreakGlassDenied))
	}
	if slices.ContainsFunc(o.ASIDs, ASID.IsZero) {
		all = append(all, errors.New("deny.asids: an ASID is missing"))
	}
	switch {
	case o.MaxStaleness < 0 || o.MaxStaleness > MaxBreakGlassStaleness:
		all = append(all, fmt.Errorf("max_staleness.value must be above 0s and at most %v, not %v", MaxBreakGlassStaleness, o.MaxStaleness))
	case o.MaxStaleness == 0 && !o.Until.IsZero():
		all = append(all, errors.New("max_staleness.value is missing: how old the map may be until then"))
	case o.MaxStaleness > 0 && o.Until.IsZero():
		all = append(all, errors.New("max_staleness.until is missing: an older map is used up to a stated time, or not at all"))
	case o.Until.Sub(now) > MaxBreakGlassPeriod:
		all = append(all, fmt.Errorf("max_staleness.until is more than %d days ahead: say a nearer end, and look again then", MaxBreakGlassPeriod/(24*time.Hour)))
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	b := &BreakGlass{orders: o, asids: map[ASID]struct{}{}, certificates: map[[32]byte]struct{}{}, given: now}
	b.orders.ASIDs, b.orders.Certificates = slices.Clone(o.ASIDs), slices.Clone(o.Certificates)
	for _, asid := range o.ASIDs {
		b.asids[asid] = struct{}{}
	}
	for _, sum := range o.Certificates {
		b.certificates[sum] = struct{}{}
	}
	return b, nil
}

// Orders returns what b was made of.
func (b *BreakGlass) Orders() Orders {
	o := b.orders
	o.ASIDs, o.Certificates = slices.Clone(o.ASIDs), slices.Clone(o.Certificates)
	return o
}

func (b *BreakGlass) deniesASID(asid ASID) bool {
	if b == nil {
		return false
	}
	_, denied := b.asids[asid]
	return denied
}

func (b *BreakGlass) deniesCertificate(sum [32]byte) bool {
	if b == nil {
		return false
	}
	_, denied := b.certificates[sum]
	return denied
}

// lengthens reports whether the longer bound holds at now. Its end is counted from when
// it was ordered, by both clocks: a wall clock that is set back makes no emergency longer.
// And it holds only as long as the order itself is not older than a map may be:
// a newer one that cannot be read may have ended it. A denial holds without end.
func (b *BreakGlass) lengthens(now, confirmed time.Time, configured time.Duration) bool {
	return b.orders.MaxStaleness > configured &&
		Age(now, b.given) < b.orders.Until.Sub(b.given) && Age(now, confirmed) <= configured
}

// What is in force, as records and metrics say it.
const (
	BreakGlassDeny         = "deny"
	BreakGlassMaxStaleness = "max_staleness"
	breakGlassBoth         = BreakGlassDeny + "," + BreakGlassMaxStaleness
)

// InForce returns what of the emergency orders is in force at now: nothing (""),
// BreakGlassDeny, BreakGlassMaxStaleness, or both with a comma between them; and with
// it how old the map may be. Whoever reports on the map's age asks here, so that health
// and decisions have one bound.
func (a *Authorizer) InForce(now time.Time) (inForce string, maxStaleness time.Duration) {
	_, inForce, maxStaleness = a.emergency(now)
	return inForce, maxStaleness
}

func (a *Authorizer) emergency(now time.Time) (b *BreakGlass, inForce string, maxStaleness time.Duration) {
	maxStaleness = a.MaxStaleness
	if a.BreakGlass == nil {
		return nil, "", maxStaleness
	}
	b, confirmed := a.BreakGlass.Current()
	if b == nil {
		return nil, "", maxStaleness
	}
	if len(b.asids) > 0 || len(b.certificates) > 0 {
		inForce = BreakGlassDeny
	}
	if b.lengthens(now, confirmed, a.MaxStaleness) {
		maxStaleness = b.orders.MaxStaleness
		if inForce == "" {
			inForce = BreakGlassMaxStaleness
		} else {
			inForce = breakGlassBoth
		}
	}
	return b, inForce, maxStaleness
}

// notDenied asks the orders about the certificate, before anything is looked up in the
// map: the ASID behind a stolen key may be anybody's.
func (c *check) notDenied() bool {
	if c.breakGlass.deniesCertificate(c.facts.CertificateSHA256) {
		return c.object(Fault{Reason: CertificateRevoked, Field: FieldBreakGlass})
	}
	return true
}
