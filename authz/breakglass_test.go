package authz_test

import (
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// orders is a BreakGlassSource.
type orders struct {
	b         *authz.BreakGlass
	confirmed time.Time
}

func (o *orders) Current() (*authz.BreakGlass, time.Time) { return o.b, o.confirmed }

// order gives the scenario the orders, as read at its time.
func (s *scenario) order(o authz.Orders) *orders {
	s.t.Helper()
	b, err := authz.NewBreakGlass(o, s.request.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	source := &orders{b, s.request.Now}
	s.config.BreakGlass = source
	return source
}

func TestBreakGlassDenies(t *testing.T) {
	ours, other := asid(t, "200000000117"), asid(t, "200000000118")
	sum := newScenario(t).request.Certificate.SHA256()
	for _, test := range []struct {
		name   string
		orders authz.Orders
		change func(s *scenario)
		reason authz.Reason
		field  authz.Field
	}{
		{"nobody", authz.Orders{}, nil, authz.Undecided, ""},
		{"another system", authz.Orders{ASIDs: []authz.ASID{other}}, nil, authz.Undecided, ""},
		{"the system", authz.Orders{ASIDs: []authz.ASID{other, ours}}, nil, authz.SystemSuspended, authz.FieldBreakGlass},
		{"another certificate", authz.Orders{Certificates: [][32]byte{{1}}}, nil, authz.Undecided, ""},
		{"the certificate", authz.Orders{Certificates: [][32]byte{{1}, sum}}, nil, authz.CertificateRevoked, authz.FieldBreakGlass},
		{"both", authz.Orders{ASIDs: []authz.ASID{ours}, Certificates: [][32]byte{sum}}, nil, authz.CertificateRevoked, authz.FieldBreakGlass},
		// Whether an ASID is denied is known to its own system alone.
		{"an ASID that the caller only claims", authz.Orders{ASIDs: []authz.ASID{other}},
			func(s *scenario) { s.header("fromasid", other.String()) }, authz.CertificateNotOfASID, authz.FieldName},
		{"an ASID that does not exist", authz.Orders{ASIDs: []authz.ASID{asid(t, "200000000999")}},
			func(s *scenario) { s.header("fromasid", "200000000999") }, authz.ASIDUnknown, authz.HeaderField("fromASID")},
		// A denied certificate learns nothing from the map, also not that there is none.
		{"the certificate, and an ASID that does not exist", authz.Orders{Certificates: [][32]byte{sum}},
			func(s *scenario) { s.header("fromasid", "200000000999") }, authz.CertificateRevoked, authz.FieldBreakGlass},
		{"the certificate, without a map", authz.Orders{Certificates: [][32]byte{sum}},
			func(s *scenario) { s.maps.Map = nil }, authz.CertificateRevoked, authz.FieldBreakGlass},
		{"no certificate", authz.Orders{Certificates: [][32]byte{{}}},
			func(s *scenario) { s.request.Certificate = nil }, authz.CertificateMissing, authz.FieldCertificate},
		{"a certificate of nobody", authz.Orders{Certificates: [][32]byte{sum}},
			func(s *scenario) { s.trust.Trust = parseTrust(s.t, authztest.NewCA("Other").PEM()) }, authz.CertificateUntrusted, authz.FieldCertificate},
		{"the certificate, when Envoy is believed", authz.Orders{Certificates: [][32]byte{sum}},
			func(s *scenario) { s.trust.Trust = authz.TrustEnvoy() }, authz.CertificateRevoked, authz.FieldBreakGlass},
	} {
		s := newScenario(t)
		source := s.order(test.orders)
		if test.change != nil {
			test.change(s)
		}
		for _, confirmed := range []time.Time{source.confirmed, s.request.Now.Add(-1000 * time.Hour), {}} { // a denial has no age
			source.confirmed = confirmed
			d := s.check()
			if d.Allowed() != (test.reason == authz.Undecided) || d.Reason() != test.reason || d.Fault().Field != test.field {
				t.Errorf("%s: allowed=%v, %v (%s), want %v (%s)", test.name, d.Allowed(), d.Reason(), d.Fault().Field, test.reason, test.field)
			}
			want := "deny"
			if len(test.orders.ASIDs)+len(test.orders.Certificates) == 0 {
				want = ""
			}
			if d.Facts().BreakGlass != want {
				t.Errorf("%s: the record says %q, want %q", test.name, d.Facts().BreakGlass, want)
			}
		}
	}
}

// TestBreakGlassLengthens: the longer bound is for the map alone, has an end, and is
// the one that health asks for.
func TestBreakGlassLengthens(t *testing.T) {
	const bound, longer = authztest.MaxStaleness, 6 * time.Hour
	start := newScenario(t).request.Now
	end := start.Add(4 * time.Hour).Round(0) // written in a file, it is of the wall clock alone
	for _, test := range []struct {
		name              string
		after, wallBack   time.Duration // since the order; by how much the wall clock is behind
		mapAge, unseen    time.Duration
		value             time.Duration
		reason            authz.Reason
		inForce           bool
		withoutAny, empty bool
	}{
		{name: "within it", after: time.Minute, mapAge: longer, value: longer, inForce: true},
		{name: "beyond it", after: time.Minute, mapAge: longer + 1, value: longer, reason: authz.MapStale, inForce: true},
		{name: "no orders", after: time.Minute, mapAge: bound + 1, withoutAny: true, reason: authz.MapStale},
		{name: "a file without orders", after: time.Minute, mapAge: bound + 1, empty: true, reason: authz.MapStale},
		{name: "just before its end", after: 4*time.Hour - 1, mapAge: longer, value: longer, inForce: true},
		{name: "at its end", after: 4 * time.Hour, mapAge: longer, value: longer, reason: authz.MapStale},
		{name: "at its end, with a young map", after: 4 * time.Hour, mapAge: bound, value: longer},
		{name: "at its end, by a clock that was set back", after: 4 * time.Hour, wallBack: 3 * time.Hour, mapAge: longer, value: longer, reason: authz.MapStale},
		{name: "not longer than the setting", after: time.Minute, mapAge: bound + 1, value: bound, reason: authz.MapStale},
		{name: "shorter than the setting", after: time.Minute, mapAge: bound, value: time.Minute},
		{name: "the order seen as long ago as a map may be", after: 2 * time.Hour, unseen: bound, mapAge: longer, value: longer, inForce: true},
		{name: "the order not seen any more", after: 2 * time.Hour, unseen: bound + 1, mapAge: longer, value: longer, reason: authz.MapStale},
	} {
		s := newScenario(t)
		o := authz.Orders{}
		if !test.empty {
			o.MaxStaleness, o.Until = test.value, end
		}
		if !test.withoutAny {
			b, err := authz.NewBreakGlass(o, start)
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			s.config.BreakGlass = &orders{b, start.Add(test.after - test.unseen)}
		}
		now := start.Add(test.after)
		if test.wallBack > 0 {
			now = skewed(t, now.Add(-test.wallBack), test.wallBack)
		}
		s.request.Now, s.maps.Confirmed, s.trust.Confirmed = now, now.Add(-test.mapAge), now
		// What stands behind the map has times of its own: the steps show what the map's are.
		_, steps := s.authorizer().Explain(s.ctx, s.request)
		got := authz.Undecided
		for _, step := range steps {
			if step.Name == "map" {
				got = step.Fault.Reason
			}
		}
		if got != test.reason {
			t.Errorf("%s: %v, want %v", test.name, got, test.reason)
		}
		inForce, max := s.authorizer().InForce(now)
		want, wantMax := "", bound
		if test.inForce {
			want, wantMax = "max_staleness", longer
		}
		if inForce != want || max != wantMax {
			t.Errorf("%s: in force %q with %v, want %q with %v", test.name, inForce, max, want, wantMax)
		}
	}
}

// TestBreakGlassLastLook: an allow by the longer bound passes the last look, and its
// record says so; both kinds of orders are named.
func TestBreakGlassLastLook(t *testing.T) {
	s := newScenario(t)
	s.maps.Confirmed = s.request.Now.Add(-2 * authztest.MaxStaleness)
	if d := s.check(); d.Reason() != authz.MapStale {
		t.Errorf("without orders: %v", d.Reason())
	}
	o := authz.Orders{MaxStaleness: 2 * authztest.MaxStaleness, Until: s.request.Now.Add(time.Hour)}
	s.order(o)
	if d := s.check(); !d.Allowed() || d.Facts().BreakGlass != "max_staleness" || d.Facts().MapAge != 2*authztest.MaxStaleness {
		t.Errorf("with them: %v, in force %q, age %v", d.Reason(), d.Facts().BreakGlass, d.Facts().MapAge)
	}
	o.ASIDs = []authz.ASID{asid(t, "200000000118")}
	s.order(o)
	if d := s.check(); !d.Allowed() || d.Facts().BreakGlass != "deny,max_staleness" {
		t.Errorf("with both: %v, in force %q", d.Reason(), d.Facts().BreakGlass)
	}
	s.request.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldRequest}
	if d := s.check(); d.Facts().BreakGlass != "deny,max_staleness" {
		t.Errorf("the first denial of all says %q", d.Facts().BreakGlass)
	}
	s.config.BreakGlass = &orders{}
	s.request.Fault = nil
	if d := s.check(); d.Reason() != authz.MapStale || d.Facts().BreakGlass != "" {
		t.Errorf("a source that holds nothing: %v, in force %q", d.Reason(), d.Facts().BreakGlass)
	}
}

func TestNewBreakGlass(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		orders authz.Orders
		want   string
	}{
		{authz.Orders{MaxStaleness: authz.MaxBreakGlassStaleness, Until: now.Add(authz.MaxBreakGlassPeriod)}, ""},
		{authz.Orders{MaxStaleness: time.Hour, Until: now.Add(-time.Hour)}, ""},
		{authz.Orders{MaxStaleness: authz.MaxBreakGlassStaleness + 1, Until: now}, "at most 72h0m0s"},
		{authz.Orders{MaxStaleness: -1, Until: now}, "above 0s"},
		{authz.Orders{MaxStaleness: time.Hour}, "until is missing"},
		{authz.Orders{Until: now}, "value is missing"},
		{authz.Orders{MaxStaleness: time.Hour, Until: now.Add(authz.MaxBreakGlassPeriod + 1)}, "more than 7 days ahead"},
		{authz.Orders{ASIDs: make([]authz.ASID, 1)}, "an ASID is missing"},
		{authz.Orders{Certificates: make([][32]byte, authz.MaxBreakGlassDenied+1)}, "more than 10000"},
	} {
		_, err := authz.NewBreakGlass(test.orders, now)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
	// The caller's slices stay the caller's.
	list := []authz.ASID{asid(t, "200000000117")}
	b, err := authz.NewBreakGlass(authz.Orders{ASIDs: list}, now)
	if err != nil {
		t.Fatal(err)
	}
	list[0] = asid(t, "200000000118")
	b.Orders().ASIDs[0] = list[0]
	if got := b.Orders().ASIDs[0].String(); got != "200000000117" {
		t.Errorf("the orders have become %s", got)
	}
}

// TestExplainBreakGlass: a record alone shows whom the orders of today would deny.
func TestExplainBreakGlass(t *testing.T) {
	s := newScenario(t)
	d := s.check()
	facts := *d.Facts()
	s.order(authz.Orders{ASIDs: []authz.ASID{facts.ASID}, Certificates: [][32]byte{facts.CertificateSHA256}})
	failed := map[string]authz.Reason{}
	for _, step := range s.authorizer().ExplainFacts(s.request.Now, facts) {
		if step.Outcome == authz.Failed {
			failed[step.Name] = step.Fault.Reason
		}
	}
	if len(failed) != 2 || failed["break-glass"] != authz.CertificateRevoked || failed["state"] != authz.SystemSuspended {
		t.Errorf("failed: %v", failed)
	}
}
