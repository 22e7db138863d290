package authz

import (
	"time"
)

// A CRLFile is what a file of CRLs holds, and when it was last confirmed to be the
// newest there is.
type CRLFile struct {
	CRLs      []*CRL
	Confirmed time.Time
}

// A heldCRL is the list of one CA, and how fresh it is. crl is nil if there is none.
type heldCRL struct {
	crl       *CRL
	confirmed time.Time
}

// WithCRLs returns t with those lists in place of its own. From then on every CA in the
// chain of a certificate needs one. A list counts for a CA of the bundle that has the
// name of its issuer and whose key signed it; of two, the one with the higher number. A
// list of nobody in the bundle revokes nothing: whose CA is not trusted is not asked.
func (t *Trust) WithCRLs(files ...CRLFile) *Trust {
	if t.bundle == nil {
		return t
	}
	with := &Trust{bundle: t.bundle, crls: make([]heldCRL, len(t.bundle.cas))}
	for _, file := range files {
		for _, crl := range file.CRLs {
			for _, i := range crl.signedBy(t.bundle).cas {
				if held := &with.crls[i]; held.crl == nil || crl.compare(held.crl) > 0 {
					*held = heldCRL{crl, file.Confirmed}
				}
			}
		}
	}
	return with
}

// CRLAge returns the largest age of the lists that are in use; 0 if revocation is not
// looked at, and an age that is beyond every bound if no CA has a list.
func (t *Trust) CRLAge(now time.Time) time.Duration {
	if t.crls == nil {
		return 0
	}
	oldest, any := time.Duration(0), false
	for _, held := range t.crls {
		if held.crl != nil {
			oldest, any = max(oldest, Age(now, held.confirmed)), true
		}
	}
	if !any {
		return Age(now, time.Time{})
	}
	return oldest
}

// NextCRL returns the earliest time by which a CA has promised a newer list; the zero
// Time if there is no list.
func (t *Trust) NextCRL() (next time.Time) {
	for _, held := range t.crls {
		if held.crl != nil && (next.IsZero() || held.crl.nextUpdate.Before(next)) {
			next = held.crl.nextUpdate
		}
	}
	return next
}

// WithoutCRL returns the names of the CAs that have no list although revocation is
// looked at: what they issued is answered with RevocationUnknown.
func (t *Trust) WithoutCRL() (names []string) {
	for i, held := range t.crls {
		if held.crl == nil {
			names = append(names, t.bundle.cas[i].Subject.String())
		}
	}
	return names
}

// notRevoked asks the lists on every request: they change while connections are open.
// Every chain that can be built counts, so that a CA that was revoked is not let in by
// another way. What a list says counts, too, when it has grown too old to clear anybody.
func (c *check) notRevoked() bool {
	if c.trust.crls == nil {
		return true
	}
	known := true
	for _, l := range c.verdict.links {
		if l.issuer < 0 {
			known = false
			continue
		}
		held := &c.trust.crls[l.issuer]
		switch {
		case held.crl == nil:
			known = false
		case held.crl.revokes(l.serial):
			field := FieldCertificate
			if l.ca {
				field = FieldTrust
			}
			return c.object(Fault{Reason: CertificateRevoked, Field: field})
		case Age(c.r.Now, held.confirmed) > c.a.MaxCRLAge:
			known = false
		}
	}
	if !known {
		return c.object(Fault{Reason: RevocationUnknown, Field: FieldTrust})
	}
	return true
}
