package cache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"asid-authz/authz"
	"asid-authz/cache/layout"
)

// A scene is a fake server with one replica.
type scene struct {
	t       *testing.T
	f       *fakeServer
	r       *Replica
	log     *observer.ObservedLogs
	content fakeContent
	version uint64
}

// play runs a test with a replica of a server that has nothing published.
func play(t *testing.T, test func(s *scene)) {
	synctest.Test(t, func(t *testing.T) {
		core, log := observer.New(zapcore.InfoLevel)
		s := &scene{t: t, f: newFakeServer(), log: log, content: NewContent(0)}
		s.r = newReplica(zap.New(core), s.f.open, defaultPace)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.r.Run(ctx); close(done) }()
		synctest.Wait() // it looked, and found nothing
		s.f.turn.Lock()
		defer func() { cancel(); s.f.turn.Unlock(); <-done }()
		test(s)
	})
}

const (
	asidA = "100000000001"
	asidB = "100000000002"
	read  = "urn:nhs:names:services:test:Thing.read"
	write = "urn:nhs:names:services:test:Thing.write"
)

func (s *scene) publish(e fakeEdit) {
	s.version++
	s.content = s.f.publish(s.version, s.content, e)
}

func active(asid string, ids ...string) fakeSystem {
	return fakeSystem{asid: asid, ods: "ODS", state: authz.Active, interactions: ids}
}

func (s *scene) wait(d time.Duration) {
	s.f.turn.Unlock()
	time.Sleep(d)
	synctest.Wait()
	s.f.turn.Lock()
}

// serves expects the current map to be that version, as it was published.
func (s *scene) serves(version uint64) {
	s.t.Helper()
	m, _, absent := s.r.Current()
	if m == nil {
		s.t.Fatalf("no map (%s), want version %d; %v", absent, version, s.r.Status().Err)
	}
	if m.Version() != version {
		s.t.Fatalf("version %d, want %d; %v", m.Version(), version, s.r.Status().Err)
	}
	want, _ := s.f.oracle.version(version)
	equalMaps(s.t, fmt.Sprint("version ", version), described(m), want)
}

func (s *scene) none(absent authz.Reason) {
	s.t.Helper()
	if m, confirmed, why := s.r.Current(); m != nil || !confirmed.IsZero() || why != absent {
		s.t.Fatalf("map %v, confirmed %v, %s; want none, never, %s", m, confirmed, why, absent)
	}
}

// age returns how old the map is, as a decision sees it.
func (s *scene) age() time.Duration {
	_, confirmed, _ := s.r.Current()
	return time.Since(confirmed)
}

func (s *scene) young() {
	s.t.Helper()
	// A question that is kept open for a block was sent a block ago when it is answered.
	if age := s.age(); age > 2*defaultPace.block {
		s.t.Fatalf("the map is %v old; %v", age, s.r.Status().Err)
	}
}

// ages expects that time does not make the map younger.
func (s *scene) ages() {
	s.t.Helper()
	_, before, _ := s.r.Current()
	s.wait(10 * time.Second)
	if _, after, _ := s.r.Current(); !after.Equal(before) {
		s.t.Fatalf("the map was confirmed at %v and then at %v", before, after)
	}
}

func (s *scene) status(regressed, incomplete bool, err string) {
	s.t.Helper()
	got := s.r.Status()
	text := ""
	if got.Err != nil {
		text = got.Err.Error()
	}
	if got.Regressed != regressed || got.Incomplete != incomplete || !strings.Contains(text, err) || (err == "") != (text == "") {
		s.t.Fatalf("regressed %t, incomplete %t, %q; want %t, %t, %q", got.Regressed, got.Incomplete, text, regressed, incomplete, err)
	}
}

func TestNothingPublished(t *testing.T) {
	play(t, func(s *scene) {
		s.wait(time.Minute)
		s.none(authz.MapUnavailable)
		s.status(false, false, "nothing is published")
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
		s.wait(2 * time.Second)
		s.serves(1)
		s.young()
		s.status(false, false, "")
	})
}

func TestNoServer(t *testing.T) {
	play(t, func(s *scene) {
		s.f.stop()
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
		s.wait(time.Hour)
		s.none(authz.MapUnavailable)
		s.status(false, false, "connection refused")
		lines := 0
		for _, entry := range s.log.All() {
			if entry.ContextMap()["error"] == "connection refused" {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("%d log lines in an hour of one trouble, want 1", lines)
		}
		s.f.down = false
		s.wait(3 * time.Second)
		s.serves(1)
	})
}

func TestFollows(t *testing.T) {
	play(t, func(s *scene) {
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read, write), active(asidB, read)}})
		s.wait(time.Second)
		s.serves(1)
		for _, e := range []fakeEdit{
			{put: []fakeSystem{active(asidA, read)}},
			{drop: []string{asidB}},
			{suspend: []string{asidA}},
			{put: []fakeSystem{active(asidA, read, write)}}, // does not lift it
			{resume: []string{asidA}},
			{suspend: []string{asidB}}, // which is not there
			{put: []fakeSystem{active(asidB, "urn:nhs:new")}},
			{resume: []string{asidB}},
		} {
			s.publish(e)
			s.wait(0) // no time passes: it waits with the question on the server's side
			s.serves(s.version)
		}
		if got := s.r.Status(); got.Loads != 1 || got.Changes != 8 || got.Connections != 1 {
			t.Errorf("%d loads, %d changes, %d connections; want 1, 8, 1", got.Loads, got.Changes, got.Connections)
		}
		s.wait(24 * time.Hour) // connections are recycled, and nothing is loaded for that
		s.young()
		if got := s.r.Status(); got.Loads != 1 || got.Connections < 200 || got.Connections > 600 {
			t.Errorf("%d loads over %d connections in a day", got.Loads, got.Connections)
		}
	})
}

func TestRoundTripsAreFew(t *testing.T) {
	play(t, func(s *scene) {
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
		reads := 0
		s.f.reading = func(int) { reads++ }
		s.wait(time.Second)
		s.serves(1)
		if reads != 1 {
			t.Errorf("a map of one system was read in %d round trips, want 1", reads)
		}
	})
}

func TestReconnectWithoutLoad(t *testing.T) {
	play(t, func(s *scene) {
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
		s.wait(time.Second)
		s.f.stop()
		s.publish(fakeEdit{put: []fakeSystem{active(asidB, read)}})
		s.wait(10 * time.Minute)
		s.serves(1)
		s.status(false, false, "connection refused")
		s.f.down = false // a clean failover, too: everything is there, and the log goes on
		s.wait(3 * time.Second)
		s.serves(2)
		s.young()
		if got := s.r.Status(); got.Loads != 1 {
			t.Errorf("%d loads, want 1", got.Loads)
		}
	})
}

// What does not prove that nothing is newer makes no map young: an answer of a server
// that is no master, a server that does not answer, a connection that goes nowhere.
func TestAges(t *testing.T) {
	for name, spoil := range map[string]func(s *scene){
		"replica":  func(s *scene) { s.f.role = "replica" },
		"frozen":   func(s *scene) { s.f.frozen = true },
		"too slow": func(s *scene) { s.f.slow = 5 * time.Second },
		"down":     func(s *scene) { s.f.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
				s.wait(10 * time.Second)
				spoil(s)
				s.wait(4 * time.Second) // what was on its way
				s.ages()
				s.serves(1)
				s.f.role, s.f.frozen, s.f.slow, s.f.down = "master", false, 0, false
				s.wait(5 * time.Second)
				s.young()
			})
		})
	}
}

// Age counts from when a question was sent, not from when the answer came: after a load,
// and later.
func TestSlowAnswersCount(t *testing.T) {
	play(t, func(s *scene) {
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
		s.f.slow = 900 * time.Millisecond
		youngest, seen := time.Hour, 0
		for range 1200 {
			s.wait(50 * time.Millisecond)
			if m, _, _ := s.r.Current(); m != nil {
				youngest = min(youngest, s.age())
				seen++
			}
		}
		if youngest < s.f.slow || seen < 1000 {
			t.Errorf("answers took %v, and the map was %v old", s.f.slow, youngest)
		}
	})
}

// A server that is restored between the question what is new and the load has nothing
// that may replace what is held.
func TestRestoredBeforeALoad(t *testing.T) {
	play(t, func(s *scene) {
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read, write)}})
		old := s.f.data.clone()
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
		s.wait(time.Second)
		s.serves(2)
		s.f.starting = func() { s.f.data = old.clone() }
		s.publish(fakeEdit{put: []fakeSystem{active(asidB, read)}, anew: true})
		s.wait(time.Minute)
		s.serves(2)
		s.status(true, false, "older")
		s.ages()
	})
}

// The replica compares what it holds with the server, and not only the server with the
// server's own word.
func TestVerifiesWhatItHolds(t *testing.T) {
	for name, damage := range map[string]func(h *held){
		"layer":      func(h *held) { h.suspended = map[string]bool{asidA: true} },
		"dictionary": func(h *held) { h.idTally.Add("7", "urn:x") },
		"count":      func(h *held) { h.inBucket[layout.BucketOf(asidA)]++ },
		"left out":   func(h *held) { h.refused[asidA] = true },
		"map": func(h *held) {
			a, _ := authz.ParseASID(asidA)
			s, _ := h.m.System(a)
			s.ODSCode = "X"
			changed, err := h.m.With(2, []authz.AccreditedSystem{s}, nil)
			if err != nil {
				panic(err)
			}
			h.m = changed
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}, suspend: []string{asidB}})
				s.wait(time.Second)
				damage(s.r.held)
				s.wait(20 * time.Minute)
				s.serves(1)
				s.young() // it was loaded anew, and is right again
				if got := s.r.Status(); got.Loads != 2 {
					t.Errorf("%d loads, want 2", got.Loads)
				}
				if n := s.log.FilterMessageSnippet("not confirmed").Len(); n < 2 {
					t.Errorf("the log has %d lines about it: %v", n, s.log.All())
				}
			})
		})
	}
}

// A change that cannot be applied leaves nothing of itself behind.
func TestApplyIsAllOrNothing(t *testing.T) {
	play(t, func(s *scene) {
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}, suspend: []string{asidA}})
		s.wait(time.Second)
		h := s.r.held
		change := (&layout.Change{Kind: layout.Edit, Generation: 1, First: 1, IDs: []string{write}, Suspend: []layout.Pair{{Field: asidB, Value: "{}"}}, Resume: []string{asidA}}).Encode()
		e := logEntry{2, change, h.head.Tip.Next(2, change).String()}
		if _, err := h.follow(e, func(string, error) {}); err == nil || !strings.Contains(err.Error(), "without its entry") {
			t.Fatalf("%v", err)
		}
		if len(h.suspended) != 1 || len(h.ids) != 1 || h.head.Version != 1 {
			t.Errorf("the change left %v, %v, %v", h.suspended, h.ids, h.head)
		}
	})
}

func TestRegressed(t *testing.T) {
	for name, lose := range map[string]func(s *scene, before fakeData){
		"an old dump":             func(s *scene, before fakeData) { s.f.data = before.clone(); s.f.cutAll() },
		"an old dump, no restart": func(s *scene, before fakeData) { s.f.data = before.clone() },
		"empty":                   func(s *scene, _ fakeData) { s.f.data = fakeData{}.clone(); s.f.cutAll() },
		"flushed":                 func(s *scene, _ fakeData) { s.f.data = fakeData{}.clone() },
		"the manifest evicted":    func(s *scene, _ fakeData) { s.f.data.manifest = nil },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.publish(fakeEdit{put: []fakeSystem{active(asidA, read, write)}})
				s.wait(time.Second)
				before, content := s.f.data.clone(), s.content.clone()
				s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}}) // the revocation that is lost
				s.wait(time.Second)
				s.serves(2)
				lose(s, before)
				s.wait(5 * time.Second)
				s.serves(2)
				s.status(true, false, "older than the map that is held")
				s.ages()
				s.serves(2)
				// Somebody publishes on top of what the server has.
				s.content = content
				s.publish(fakeEdit{put: []fakeSystem{active(asidB, read)}})
				s.wait(3 * time.Second)
				s.serves(3)
				s.young()
				s.status(false, false, "")
			})
		})
	}
}

// A change that comes while the map is read is neither lost nor half there.
func TestChangesDuringALoad(t *testing.T) {
	for name, change := range map[string]fakeEdit{
		"edit":       {put: []fakeSystem{active(asidA, "urn:nhs:new"), active("100000000003", write, "urn:nhs:newer")}, drop: []string{asidB}},
		"suspend":    {suspend: []string{asidA}},
		"generation": {put: []fakeSystem{active(asidA, "urn:nhs:new")}, anew: true},
	} {
		for _, when := range []int{0, 128, 255} {
			t.Run(fmt.Sprint(name, " at bucket ", when), func(t *testing.T) {
				play(t, func(s *scene) {
					s.f.stop()
					var all []fakeSystem
					for i := range 3 * entriesInPart { // several parts
						all = append(all, active(fmt.Sprintf("1%011d", i), read))
					}
					s.publish(fakeEdit{put: all})
					s.wait(5 * time.Second) // the connection that was cut is given up
					done, loads := false, 0
					s.f.starting = func() { loads++ }
					s.f.reading = func(first int) {
						if !done && first >= when-100 && first <= when {
							done = true
							s.publish(change)
						}
					}
					s.f.down = false
					s.wait(5 * time.Second)
					s.serves(2)
					s.young()
					want := 1
					if change.anew {
						want = 2
					}
					if loads != want || s.log.FilterMessageSnippet("not whole").Len() > 0 || s.r.Status().Loads != 1 {
						t.Errorf("it was read %d times, want %d; %v", loads, want, s.log.All())
					}
				})
			})
		}
	}
}

// Whatever the server lost or somebody touched behind the log's back is found, by a
// replica that starts and by one that holds the map already; nothing of it is served.
func TestNotWhole(t *testing.T) {
	bucket := func(s *scene) map[string]string {
		return s.f.data.buckets[s.version][int(layout.BucketOf(asidA))]
	}
	for name, damage := range map[string]func(s *scene){
		"bucket evicted":     func(s *scene) { delete(s.f.data.buckets[s.version], int(layout.BucketOf(asidA))) },
		"entry removed":      func(s *scene) { delete(bucket(s), asidA) },
		"entry changed":      func(s *scene) { bucket(s)[asidA] = bucket(s)[asidA] + "\x00" },
		"entry added":        func(s *scene) { bucket(s)["100000000009"] = bucket(s)[asidA] },
		"dictionary evicted": func(s *scene) { delete(s.f.data.ids, s.version) },
		"dictionary changed": func(s *scene) { s.f.data.ids[s.version][0] = write },
		"layer evicted":      func(s *scene) { s.f.data.suspended = nil },
		"layer added to":     func(s *scene) { s.f.data.suspended[asidA] = "{}" },
		"manifest torn":      func(s *scene) { delete(s.f.data.manifest, "ids") },
		"manifest's tip":     func(s *scene) { s.f.data.manifest["tip"] = "x" },
		"a bucket's tally":   func(s *scene) { delete(s.f.data.manifest, layout.BucketName(layout.BucketOf(asidA))) },
	} {
		t.Run(name, func(t *testing.T) {
			base := func(s *scene) {
				s.publish(fakeEdit{put: []fakeSystem{active(asidA, read), active(asidB, read)}, suspend: []string{asidB}})
			}
			t.Run("at start", func(t *testing.T) {
				play(t, func(s *scene) {
					base(s)
					damage(s)
					s.wait(time.Minute)
					s.none(authz.MapIncomplete)
					s.status(false, true, "not whole")
				})
			})
			t.Run("later", func(t *testing.T) {
				play(t, func(s *scene) {
					base(s)
					s.wait(time.Second)
					damage(s)
					if strings.HasPrefix(name, "layer") {
						s.wait(time.Minute)
					} else {
						s.wait(20 * time.Minute) // once around
					}
					s.serves(1)
					s.status(false, true, "not whole")
					s.ages()
					// The log is followed all the same: what is taken away is taken away.
					if name != "manifest torn" && name != "manifest's tip" {
						revoke(s)
					}
					s.publish(fakeEdit{anew: true})
					s.wait(20 * time.Second)
					s.serves(s.version)
					s.young()
				})
			})
		})
	}
}

// revoke publishes an entry by hand beside whatever is damaged.
func revoke(s *scene) {
	s.t.Helper()
	m, _, _ := s.r.Current()
	tip, err := layout.ParseDigest(s.f.data.manifest["tip"])
	if err != nil {
		s.t.Fatal(err)
	}
	s.version++
	change := (&layout.Change{Kind: layout.Edit, Generation: 1, First: 1, Drop: []string{asidA}}).Encode()
	tip = tip.Next(s.version, change)
	s.f.data.log = append(s.f.data.log, logEntry{s.version, change, tip.String()})
	s.f.data.manifest["version"], s.f.data.manifest["tip"] = fmt.Sprint(s.version), tip.String()
	s.f.written()
	s.wait(3 * time.Second)
	now, _, _ := s.r.Current()
	a, _ := authz.ParseASID(asidA)
	if _, known := now.System(a); known || now.Version() != m.Version()+1 {
		s.t.Fatalf("version %d still has %s", now.Version(), asidA)
	}
}

func TestLogLost(t *testing.T) {
	for name, lose := range map[string]func(s *scene){
		"trimmed": func(s *scene) { s.f.data.log = s.f.data.log[len(s.f.data.log)-1:] },
		"deleted": func(s *scene) { s.f.data.log = nil },
		"torn":    func(s *scene) { s.f.data.log[len(s.f.data.log)-1].change += "\x00" },
		"renamed": func(s *scene) { s.f.data.log[len(s.f.data.log)-1].version += 7 },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
				s.wait(time.Second)
				s.f.stop()
				s.publish(fakeEdit{put: []fakeSystem{active(asidB, read)}})
				s.publish(fakeEdit{put: []fakeSystem{active(asidB, write)}})
				lose(s)
				s.f.down = false
				s.wait(10 * time.Second)
				s.serves(3)
				if name != "renamed" {
					s.young()
				}
				if got := s.r.Status(); got.Loads < 2 {
					t.Errorf("%d loads, want 2", got.Loads)
				}
				s.publish(fakeEdit{put: []fakeSystem{active(asidB, read, write)}})
				s.wait(10 * time.Second)
				s.serves(4)
				s.young()
			})
		})
	}
}

// A layout of a newer release: whoever holds a map keeps it under its age, whoever starts
// has none, both say what to do, and both go on by themselves if it is taken back.
func TestNewerLayout(t *testing.T) {
	const upgrade = "the map has layout \"2\", and this release reads layout 1: upgrade it"
	play(t, func(s *scene) {
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read)}})
		s.wait(time.Second)
		s.f.data.manifest["layout"] = "2"
		s.wait(5 * time.Second)
		s.serves(1)
		s.ages()
		s.status(false, true, upgrade)
		if s.log.FilterMessageSnippet("not confirmed").FilterField(zap.NamedError("error", unusable(layout.NewerLayoutError{Layout: "2"}))).Len() != 1 {
			s.t.Errorf("the log does not say it once: %v", s.log.All())
		}

		late := newReplica(zap.NewNop(), s.f.open, defaultPace)
		ctx, cancel := context.WithCancel(s.t.Context())
		done := make(chan struct{})
		go func() { late.Run(ctx); close(done) }()
		defer func() { cancel(); s.f.turn.Unlock(); <-done; s.f.turn.Lock() }()
		s.wait(time.Minute)
		if m, _, absent := late.Current(); m != nil || absent != authz.MapIncomplete || !strings.Contains(late.Status().Err.Error(), upgrade) {
			s.t.Errorf("one that starts has map %v, %s: %v; want none, map-incomplete", m, absent, late.Status().Err)
		}

		s.f.data.manifest["layout"] = "1"
		s.wait(time.Minute)
		s.serves(1)
		s.young()
		s.status(false, false, "")
		if m, _, _ := late.Current(); m == nil {
			s.t.Errorf("one that started has no map: %v", late.Status().Err)
		}
	})
}

// An entry that makes no sense costs its own system only, and an interactionId that is
// none only itself.
func TestSenselessEntries(t *testing.T) {
	play(t, func(s *scene) {
		s.f.stop()
		s.publish(fakeEdit{put: []fakeSystem{active(asidA, read, "no interaction"), {asid: asidB, ods: "two words", state: authz.Active}, active("12", read)}})
		s.wait(5 * time.Second)
		s.f.down = false
		s.wait(5 * time.Second)
		want := map[string]string{asidA: fmt.Sprint("ODS active ", []string{read})}
		check := func(refused, unparsable int) {
			t.Helper()
			m, _, _ := s.r.Current()
			if m == nil {
				t.Fatal(s.r.Status().Err)
			}
			equalMaps(t, "map", described(m), want)
			s.young()
			if got := s.r.Status(); got.Refused != refused || got.UnparsableIDs != unparsable {
				t.Errorf("%d refused, %d unparsable; want %d, %d", got.Refused, got.UnparsableIDs, refused, unparsable)
			}
		}
		check(2, 1)
		s.wait(20 * time.Minute) // the verification agrees
		check(2, 1)
		if got := s.log.FilterMessageSnippet("left out").FilterField(zap.String("asid", `"`+asidB+`"`)).Len() +
			s.log.FilterMessageSnippet("left out").FilterField(zap.String("asid", asidB)).Len(); got != 1 {
			t.Errorf("%s is logged %d times, want once: %v", asidB, got, s.log.All())
		}
		// Later, too: a good entry becomes senseless, and a senseless one good.
		s.publish(fakeEdit{put: []fakeSystem{{asid: asidA, ods: "", state: authz.Active}, active(asidB, read)}, drop: []string{"12"}})
		want = map[string]string{asidB: fmt.Sprint("ODS active ", []string{read})}
		s.wait(2 * time.Second)
		check(1, 1)
		s.publish(fakeEdit{drop: []string{asidA}})
		s.wait(20 * time.Minute)
		check(0, 1)
	})
}

// Readers are never in the way and never see half a change.
func TestReplicaIsReadWhileItChanges(t *testing.T) {
	play(t, func(s *scene) {
		var systems []fakeSystem
		for i := range 50 {
			systems = append(systems, fakeSystem{asid: fmt.Sprintf("1%011d", i), ods: "V0", state: authz.Active})
		}
		s.publish(fakeEdit{put: systems})
		s.wait(time.Second)
		for v := range 100 {
			systems = slices.Clone(systems)
			for i := range systems {
				systems[i].ods = fmt.Sprint("V", v)
			}
			s.publish(fakeEdit{put: systems, anew: v%10 == 0})
			s.wait(20 * time.Millisecond)
			m, _, _ := s.r.Current()
			if want, _ := s.f.oracle.version(m.Version()); !maps.Equal(described(m), want) {
				t.Fatalf("version %d is not what was published", m.Version())
			}
		}
	})
}
