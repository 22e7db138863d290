package authztest

import (
	"testing"
	"time"

	"asid-authz/authz"
)

// Usual is the world that most deployments are like.
const Usual = "registered-cn"

// Setup is what most tests of another layer begin with: the corpus in dir, its usual
// world minted as of now, and what that decides by. It fails the test if there is none.
func Setup(t testing.TB, dir string) (*Corpus, *Minted, authz.Config) {
	t.Helper()
	corpus, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	minted, config := Mint(t, corpus.Worlds[Usual])
	return corpus, minted, config
}

// Mint mints w as of now, and returns what it decides by.
func Mint(t testing.TB, w *World) (*Minted, authz.Config) {
	t.Helper()
	now := time.Now()
	minted, err := w.Mint(now)
	if err != nil {
		t.Fatal(err)
	}
	config, err := minted.Config(now)
	if err != nil {
		t.Fatal(err)
	}
	return minted, config
}

// AllowedRead returns the plainest request of m's world that is allowed to read, and the
// certificate that it comes with: nothing is in it but what it must have.
func AllowedRead(t testing.TB, corpus *Corpus, m *Minted, p *authz.Profile) (*authz.Request, *Certificate) {
	t.Helper()
	for _, c := range corpus.In(m.Name) {
		if c.Want.Kind != WantAllow || c.Want.Endpoint != "read" {
			continue
		}
		r, err := m.Request(c, p, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Headers) != 3 {
			continue
		}
		certificate, err := m.Certificate(c)
		if err != nil {
			t.Fatal(err)
		}
		return r, certificate
	}
	t.Fatalf("world %s allows nobody to read", m.Name)
	return nil, nil
}
