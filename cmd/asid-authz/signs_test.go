package main

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"asid-authz/envoy"
)

// TestLookout: what is wrong is said once, with what to change, and once that it is over.
func TestLookout(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	l := &lookout{log: zap.New(core), metrics: newMetrics(), identity: &serverIdentity{}}
	gauge := func(sign string) float64 {
		t.Helper()
		families, err := l.metrics.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "asid_authz_misconfiguration" && m.GetLabel()[0].GetValue() == sign {
					return m.GetGauge().GetValue()
				}
			}
		}
		t.Fatalf("no series of %s", sign)
		return 0
	}
	judged := func(names ...string) []bool {
		present := make([]bool, len(envoy.Signs()))
		for i, sign := range envoy.Signs() {
			present[i] = strings.Contains(strings.Join(names, " "), sign.Name)
		}
		return present
	}
	for i, step := range []struct {
		present []bool
		value   float64
		logged  int // lines so far
	}{
		{judged(), 0, 0},
		{judged("no-claim-headers"), 1, 1},
		{judged("no-claim-headers"), 1, 1},
		{judged(), 0, 2},
		{judged(), 0, 2},
		{judged("no-claim-headers"), 1, 3},
	} {
		l.signs(step.present)
		if got := gauge("no-claim-headers"); got != step.value || logs.Len() != step.logged {
			t.Errorf("step %d: metric %v and %d lines, want %v and %d", i, got, logs.Len(), step.value, step.logged)
		}
	}
	first := logs.All()[0]
	if change, _ := first.ContextMap()["change"].(string); first.Level != zap.WarnLevel || !strings.Contains(change, "allowed_headers") {
		t.Errorf("nobody would know what to do: %v", first)
	}
	if got := gauge("no-certificate"); got != 0 {
		t.Errorf("another sign is %v", got)
	}

	now := time.Now()
	l.certificate(now) // there is none
	l.identity.certificate.Store(&tls.Certificate{Leaf: &x509.Certificate{NotAfter: now.Add(time.Minute)}})
	before := logs.Len()
	for i, step := range []struct {
		at     time.Duration
		logged int
	}{{0, 0}, {2 * time.Minute, 1}, {3 * time.Minute, 1}} {
		l.certificate(now.Add(step.at))
		if got := logs.Len() - before; got != step.logged {
			t.Errorf("certificate, step %d: %d lines, want %d", i, got, step.logged)
		}
	}
	l.identity.certificate.Store(&tls.Certificate{Leaf: &x509.Certificate{NotAfter: now.Add(4 * time.Minute)}})
	l.certificate(now.Add(3 * time.Minute))
	l.certificate(now.Add(5 * time.Minute))
	if got := logs.Len() - before; got != 2 {
		t.Errorf("a second certificate that expired: %d lines in all, want 2", got)
	}
}
