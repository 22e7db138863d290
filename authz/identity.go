package authz

import (
	"strings"
	"time"
)

// certificate looks at the validity on every request: Envoy looks at it only in the
// handshake, and a connection or a resumed session outlives its certificate.
func (c *check) certificate() bool {
	if f, bad := c.r.Certificate.objection(c.r.Now); bad {
		return c.object(f)
	}
	c.facts.CertificateSHA256 = c.r.Certificate.sha256
	return true
}

func (c *check) trusted() bool {
	trust, confirmed := c.a.Trust.Current()
	if trust == nil || Age(c.r.Now, confirmed) > c.a.MaxTrustAge {
		return c.object(Fault{Reason: TrustUnavailable, Field: FieldTrust})
	}
	c.trust, c.verdict = trust, trust.verify(c.r.Certificate, c.r.Now)
	if c.verdict == nil {
		return c.object(Fault{Reason: CertificateUntrusted, Field: FieldCertificate})
	}
	return true
}

// currentMap takes the map, once: every later step uses the entry that is found in it.
func (c *check) currentMap() bool {
	m, confirmed, absent := c.a.Map.Current()
	if m == nil {
		if absent != MapIncomplete {
			absent = MapUnavailable
		}
		return c.object(Fault{Reason: absent, Field: FieldMap})
	}
	c.m = m
	c.facts.HasMap, c.facts.MapVersion, c.facts.MapAge = true, m.version, Age(c.r.Now, confirmed)
	if c.facts.MapAge > c.maxStaleness {
		return c.object(Fault{Reason: MapStale, Field: FieldMap})
	}
	return true
}

// Age returns how long before now t was: the larger of what the monotonic and the wall
// clock say, so that neither a clock that was set nor one that stood still while the
// machine slept makes anything young. What was never confirmed is infinitely old.
func Age(now, t time.Time) time.Duration {
	if t.IsZero() {
		return 1<<63 - 1
	}
	return max(0, now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// known finds the entry of the ASID that the client claims, or that its certificate carries.
func (c *check) known() bool {
	asid := c.sender
	if c.a.Binding.Mode == InCertificate {
		carried, ok := c.r.Certificate.asid(c.a.Binding.ASID)
		if !ok {
			return c.object(Fault{Reason: CertificateNotOfASID, Field: FieldASID})
		}
		if !asid.IsZero() && asid != carried {
			return c.object(Fault{Reason: CertificateNotOfASID, Field: c.a.fields[useSender], Other: FieldASID, Value: c.value[useSender]})
		}
		asid = carried
		c.facts.ClaimedASID = asid
	}
	if !c.m.find(asid, &c.system) {
		return c.object(Fault{Reason: ASIDUnknown, Field: c.claimant(), Value: c.value[useSender]})
	}
	return true
}

// claimant returns where the ASID was claimed: in the header if the client sent it,
// otherwise (InCertificate only) in the certificate.
func (c *check) claimant() Field {
	if c.value[useSender] == "" {
		return FieldASID
	}
	return c.a.fields[useSender]
}

// bound holds the certificate against everything that the entry lists. All kinds that
// are listed must hold: a name alone is anybody's who finds a CA to certify it, a
// fingerprint alone outlives the registration of the name.
func (c *check) bound() bool {
	s, cert := &c.system, c.r.Certificate
	not := func(field Field) bool {
		return c.object(Fault{Reason: CertificateNotOfASID, Field: field, Other: c.claimant(), OtherValue: c.value[useSender]})
	}
	if c.a.Binding.Mode == Registered && s.fingerprints() == "" && s.fqdns() == "" {
		return not(FieldCertificate)
	}
	if s.fingerprints() != "" && !s.fingerprints().has(&cert.sha256) {
		return not(FieldFingerprint)
	}
	if s.fqdns() != "" {
		var names []string
		switch c.a.Binding.Name {
		case PlaceCN:
			names = cert.commonNames
		case PlaceDNSSAN:
			names = cert.dnsNames
		}
		if len(names) != 1 || names[0] == "" || !s.fqdns().has(names[0]) {
			return not(FieldName)
		}
	}
	c.facts.ASID, c.facts.ClaimedASID, c.facts.ODSCode = s.asid, ASID{}, s.ods()
	return true
}

// asid returns the one ASID that the certificate carries in that place.
func (c *PeerCertificate) asid(place Place) (ASID, bool) {
	var values []string
	switch place {
	case PlaceCN:
		values = c.cns
	case PlaceSerialNumber:
		values = c.serialNumbers
	case PlaceUID:
		values = c.uids
	case PlaceURISAN:
		// Other URIs may stand beside it; two ASIDs may not.
		found := ""
		for _, uri := range c.uris {
			if asid, is := strings.CutPrefix(uri, asidURN); is {
				if found != "" {
					return ASID{}, false
				}
				if found = asid; found == "" {
					return ASID{}, false
				}
			}
		}
		return parseASID(found)
	}
	if len(values) != 1 {
		return ASID{}, false
	}
	return parseASID(values[0])
}

func (c *check) receiver() bool {
	if c.facts.Receiver.IsZero() {
		return true // optional in this profile, and not sent
	}
	for _, r := range c.a.Receivers {
		if r == c.facts.Receiver {
			return true
		}
	}
	return c.object(Fault{Reason: ReceiverUnknown, Field: c.a.fields[useReceiver], Value: c.value[useReceiver]})
}
