package authz_test

import (
	"testing"
	"testing/synctest"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// TestClockJumps lets a map grow old under the two ways in which a clock lies: the wall
// clock is set (a time without its monotonic part stands for that), and the monotonic
// clock stands still while the machine sleeps.
func TestClockJumps(t *testing.T) {
	s := newScenario(t)
	synctest.Test(t, func(t *testing.T) {
		confirmed := time.Now()
		time.Sleep(authztest.MaxStaleness / 2)
		now := time.Now()

		reason := func(now, confirmed time.Time) authz.Reason {
			s.map_.Confirmed, s.trust.Confirmed = confirmed, now
			s.request.Now = now
			s.trust.Trust, s.config.MaxTrustAge = authz.TrustEnvoy(), 1<<63-1
			s.request.Certificate = validAlways(s)
			d := s.check()
			if d.Reason() == authz.MapStale {
				return authz.MapStale
			}
			return authz.Undecided
		}
		if got := reason(now, confirmed); got != authz.Undecided {
			t.Errorf("half the bound: %v", got)
		}
		// Both clocks went on together beyond the bound.
		if got := reason(now.Add(authztest.MaxStaleness/2+1), confirmed); got != authz.MapStale {
			t.Errorf("beyond the bound: %v", got)
		}
		// The machine slept: the wall clock is far ahead, the monotonic one is not.
		slept := now.Round(0).Add(2 * authztest.MaxStaleness)
		if got := reason(slept, confirmed); got != authz.MapStale {
			t.Errorf("after a sleep: %v", got)
		}
		// The wall clock was set back behind the confirmation; the monotonic one knows.
		time.Sleep(authztest.MaxStaleness)
		if got := reason(time.Now(), confirmed); got != authz.MapStale {
			t.Errorf("by the monotonic clock: %v", got)
		}
	})
}

// validAlways returns a certificate that no clock of a test is outside of.
func validAlways(s *scenario) *authz.PeerCertificate {
	c, err := authztest.SelfSigned(authztest.CertificateSpec{
		CommonNames: []string{"gp-one.example.nhs.uk"},
		NotBefore:   time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:    time.Date(2190, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return authz.ParseCertificate(c.DER)
}
