package main

import (
	"bytes"
	"sync/atomic"
	"time"

	"asid-authz/authz"
)

// A trustFile is the CA bundle of the client certificates, kept current from a file.
// It is an authz.TrustSource.
type trustFile struct {
	held atomic.Pointer[heldTrust]
}

type heldTrust struct {
	trust     *authz.Trust
	text      []byte
	confirmed time.Time
}

// Current implements authz.TrustSource.
func (t *trustFile) Current() (*authz.Trust, time.Time) {
	h := t.held.Load()
	if h == nil {
		return nil, time.Time{}
	}
	return h.trust, h.confirmed
}

// load takes the content of the bundle. A broken one is refused and does not count as
// fresh: the bundle that is kept ages on.
func (t *trustFile) load(text []byte, now time.Time) (changed bool, err error) {
	if h := t.held.Load(); h != nil && bytes.Equal(h.text, text) {
		t.held.Store(&heldTrust{h.trust, h.text, now})
		return false, nil
	}
	trust, err := authz.ParseTrust(text)
	if err != nil {
		return false, err
	}
	t.held.Store(&heldTrust{trust, text, now})
	return true, nil
}

// A trustInEnvoy believes that Envoy verified every client certificate.
type trustInEnvoy struct{}

// Current implements authz.TrustSource. What is never read can never be out of date.
func (trustInEnvoy) Current() (*authz.Trust, time.Time) { return envoysWord, time.Now() }

var envoysWord = authz.TrustEnvoy()
