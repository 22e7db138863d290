package authz_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// A world is one of the corpus with its certificates and keys, and its Authorizer.
type world struct {
	*authztest.Minted
	config     authz.Config
	authorizer *authz.Authorizer
}

// request returns the question of a case.
func (w *world) request(tb testing.TB, c *authztest.Case, now time.Time) *authz.Request {
	tb.Helper()
	r, err := w.Request(c, &w.config.Profile, now)
	if err != nil {
		tb.Fatalf("%s: %v", c.File, err)
	}
	return r
}

// loaded is the corpus, read once: nobody changes it.
var loaded = sync.OnceValues(func() (*authztest.Corpus, error) { return authztest.Load("testdata") })

func loadCorpus(tb testing.TB) *authztest.Corpus {
	tb.Helper()
	corpus, err := loaded()
	if err != nil {
		tb.Fatal(err)
	}
	return corpus
}

func mint(tb testing.TB, corpus *authztest.Corpus, name string, now time.Time) *world {
	tb.Helper()
	minted, err := corpus.Worlds[name].Mint(now)
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{Minted: minted}
	if w.config, err = minted.Config(now); err != nil {
		tb.Fatal(err)
	}
	if w.authorizer, err = authz.New(w.config); err != nil {
		tb.Fatal(err)
	}
	return w
}

func mintAll(tb testing.TB, corpus *authztest.Corpus, now time.Time) map[string]*world {
	tb.Helper()
	worlds := map[string]*world{}
	for name := range corpus.Worlds {
		worlds[name] = mint(tb, corpus, name, now)
	}
	return worlds
}

// TestCheck asks every case of the corpus, through the real token verifier, map decoder
// and certificate parser. Envoy's normalisation does not happen here: what it changes is
// in the cases' want envoy.
func TestCheck(t *testing.T) {
	now := time.Now()
	corpus := loadCorpus(t)
	worlds := mintAll(t, corpus, now)
	for _, c := range corpus.Cases {
		t.Run(c.File, func(t *testing.T) {
			w := worlds[c.World]
			d := w.authorizer.Check(context.Background(), w.request(t, c, now))
			if got := authztest.Got(d); got != c.Want {
				t.Errorf("%s\n\n got %v (%s %s)\nwant %v", c.Why, got, d.Fault().Field, authz.Excerpt(d.Fault().Value), c.Want)
			}
		})
	}
}

// noCase holds the Reasons that no single request can cause, each with what would.
// All of them have tests of their own.
var noCase = map[authz.Reason]string{
	authz.Undecided:        "a step that is missing",
	authz.RequestMalformed: "a message of Envoy's that contradicts itself; no client can make Envoy send one",
	authz.MapUnavailable:   "a service that has never had a map",
	authz.MapIncomplete:    "a map that does not match its manifest",
	authz.MapStale:         "a map whose source is silent",
	authz.KeysUnavailable:  "an issuer whose keys could not be fetched",
	authz.TrustUnavailable: "a CA bundle that cannot be read any more",
	authz.Overloaded:       "more requests than the service can take",
	authz.Cancelled:        "a client that gave up",
	authz.AuditUnavailable: "a record that could not be written",
	authz.InternalError:    "a bug",
}

func TestEveryReasonHasACase(t *testing.T) {
	reached := map[authz.Reason]bool{}
	for _, c := range loadCorpus(t).Cases {
		wants := []authztest.Want{c.Want}
		for _, protocol := range c.Protocols() {
			wants = append(wants, c.Behind(protocol))
		}
		for _, w := range wants {
			if w.Kind == authztest.WantDeny {
				reached[w.Reason] = true
			}
		}
	}
	for _, r := range authz.Reasons() {
		switch why, exempt := noCase[r]; {
		case !exempt && !reached[r]:
			t.Errorf("no case is denied as %s", r)
		case exempt && reached[r]:
			t.Errorf("%s needs no exception any more: %q", r, why)
		}
	}
}

// TestEveryEndpointHasACase keeps a new endpoint from being added without anybody being
// let through to it.
func TestEveryEndpointHasACase(t *testing.T) {
	corpus := loadCorpus(t)
	reached := map[string]bool{} // profile and endpoint
	for _, c := range corpus.Cases {
		if c.Want.Kind == authztest.WantAllow {
			reached[corpus.Worlds[c.World].Profile+" "+c.Want.Endpoint] = true
		}
	}
	for _, w := range corpus.Worlds {
		p, err := w.Decoded()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Endpoints {
			if !reached[p.Name+" "+e.Name] {
				t.Errorf("profile %s: no case is let through to endpoint %s", p.Name, e.Name)
			}
		}
	}
}
