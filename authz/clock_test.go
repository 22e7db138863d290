package authz_test

import (
	"testing"
	"time"
	"unsafe"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// skewed returns t with a monotonic reading that is d ahead of what belongs to its wall
// clock. There is no door to such a time, and every machine makes them: the wall clock
// is set, or goes on while the monotonic one sleeps with the machine.
func skewed(tb testing.TB, t time.Time, d time.Duration) time.Time {
	tb.Helper()
	layout := (*struct {
		wall uint64
		ext  int64 // the monotonic reading, if wall's highest bit says that there is one
		loc  *time.Location
	})(unsafe.Pointer(&t))
	if layout.wall>>63 == 0 || unsafe.Sizeof(t) != unsafe.Sizeof(*layout) {
		tb.Fatal("package time has changed, or this time has no monotonic reading")
	}
	layout.ext += int64(d)
	return t
}

// TestAge: how old the map is is the larger of what the two clocks say, and never
// negative. Neither a clock that was set nor one that stood still makes anything young.
func TestAge(t *testing.T) {
	confirmed := time.Now()
	wall := confirmed.Round(0)
	later := confirmed.Add(time.Minute)
	for _, test := range []struct {
		name           string
		now, confirmed time.Time
		want           time.Duration
	}{
		{"both clocks", later, confirmed, time.Minute},
		{"only the wall clock is known of now", later.Round(0), confirmed, time.Minute},
		{"only the wall clock is known of the confirmation", later, wall, time.Minute},
		{"confirmed just now", confirmed, confirmed, 0},
		{"confirmed after the question was put", confirmed, later, 0},
		{"the machine slept for an hour, and the monotonic clock with it", skewed(t, confirmed.Add(time.Hour), time.Minute-time.Hour), confirmed, time.Hour},
		{"the wall clock was set back by an hour", skewed(t, confirmed.Add(time.Minute-time.Hour), time.Hour), confirmed, time.Minute},
		{"the wall clock was set forward by an hour", skewed(t, confirmed.Add(time.Minute+time.Hour), -time.Hour), confirmed, time.Minute + time.Hour},
		{"never confirmed", later, time.Time{}, 1<<63 - 1},
		{"confirmed before there were computers", later, time.Unix(-1<<40, 0), 1<<63 - 1},
	} {
		s := newScenario(t)
		s.config.MaxStaleness = 1<<63 - 1
		s.request.Now, s.maps.Confirmed = test.now, test.confirmed
		d := s.check()
		if got := d.Facts().MapAge; got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		s.config.MaxStaleness = max(1, test.want)
		if d := s.check(); d.Reason() == authz.MapStale {
			t.Errorf("%s: stale at its own age", test.name)
		}
		if test.want > 1 {
			s.config.MaxStaleness = test.want - 1
			if d := s.check(); d.Reason() != authz.MapStale {
				t.Errorf("%s: %v beyond the bound", test.name, d.Reason())
			}
		}

		// The CA bundle's age is the same, and has no place in the facts.
		s = newScenario(t)
		s.request.Now, s.trust.Confirmed, s.maps.Confirmed = test.now, test.confirmed, test.now
		s.config.MaxTrustAge = max(1, test.want)
		if d := s.check(); d.Reason() == authz.TrustUnavailable {
			t.Errorf("%s: the bundle is too old at its own age", test.name)
		}
		if test.want > 1 {
			s.config.MaxTrustAge = test.want - 1
			if d := s.check(); d.Reason() != authz.TrustUnavailable {
				t.Errorf("%s: %v with a bundle beyond its bound", test.name, d.Reason())
			}
		}
	}
}

// TestUnknownAgeIsNeverServed: with the largest bound there is, what was never
// confirmed is as old as it.
func TestUnknownAgeIsNeverServed(t *testing.T) {
	s := newScenario(t)
	s.config.MaxStaleness, s.config.MaxTrustAge = authztest.MaxStaleness, authztest.MaxTrustAge
	s.maps.Confirmed = time.Time{}
	if d := s.check(); d.Allowed() || d.Reason() != authz.MapStale {
		t.Errorf("a map of unknown age: allowed=%v, %v", d.Allowed(), d.Reason())
	}
	s = newScenario(t)
	s.trust.Confirmed = time.Time{}
	if d := s.check(); d.Allowed() || d.Reason() != authz.TrustUnavailable {
		t.Errorf("a bundle of unknown age: allowed=%v, %v", d.Allowed(), d.Reason())
	}
}
