package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"asid-authz/authz"
)

// A trustFile is the CA bundle of the client certificates and the CRLs of its CAs, kept
// current from files. It is an authz.TrustSource.
type trustFile struct {
	path string   // of the bundle
	crls []string // paths; none: revocation is not looked at

	mu     sync.Mutex // guards what follows: one file is taken in at a time
	bundle heldBundle
	files  map[string]heldCRLs // by path
	newest map[string]*authz.CRL

	held atomic.Pointer[heldTrust]
}

type heldBundle struct {
	text      []byte
	trust     *authz.Trust // without lists
	confirmed time.Time
}

type heldCRLs struct {
	text []byte
	authz.CRLFile
}

type heldTrust struct {
	trust     *authz.Trust
	confirmed time.Time // of the bundle
}

// newTrustFile returns the owner of these files. What previous has seen of CRL numbers
// is known to it: a changed setting must not let an older list in.
func newTrustFile(path string, crls []string, previous *trustFile) *trustFile {
	t := &trustFile{path: path, crls: crls, files: map[string]heldCRLs{}, newest: map[string]*authz.CRL{}}
	if previous != nil {
		previous.mu.Lock()
		defer previous.mu.Unlock()
		for key, crl := range previous.newest {
			t.newest[key] = crl
		}
	}
	return t
}

// owns reports whether t keeps exactly these files.
func (t *trustFile) owns(path string, crls []string) bool {
	return t.path == path && slices.Equal(t.crls, crls)
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
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bundle.trust == nil || !bytes.Equal(t.bundle.text, text) {
		trust, err := authz.ParseTrust(text)
		if err != nil {
			return false, err
		}
		t.bundle, changed = heldBundle{text: text, trust: trust}, true
	}
	t.bundle.confirmed = now
	t.publish()
	return changed, nil
}

// loadCRLs takes the content of a file of CRLs. What is held goes on to age if the new
// content is refused, and also if it is the same but its CA has promised a newer one by
// now: a list that is past its time confirms nothing any more.
func (t *trustFile) loadCRLs(path string, text []byte, now time.Time) (changed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bundle.trust == nil {
		return false, errors.New("without the bundle of trust.client_ca, a CRL cannot be verified")
	}
	held, is := t.files[path]
	if !is || !bytes.Equal(held.text, text) {
		crls, err := authz.ParseCRLs(text)
		if err != nil {
			return false, err
		}
		held, changed = heldCRLs{text: text, CRLFile: authz.CRLFile{CRLs: crls}}, true
	}
	for _, crl := range held.CRLs {
		if err := crl.Current(now); err != nil {
			return false, err
		}
		if !changed { // a bundle that has changed since is no reason to forget what was revoked
			continue
		}
		if _, err := crl.SignedIn(t.bundle.trust); err != nil {
			return false, err
		}
		if newest := t.newest[path+"\x00"+crl.Issuer()]; newest != nil {
			if err := crl.Replaces(newest); err != nil {
				return false, err
			}
		}
	}
	for _, crl := range held.CRLs {
		t.newest[path+"\x00"+crl.Issuer()] = crl
	}
	held.Confirmed = now
	t.files[path] = held
	t.publish()
	return changed, nil
}

// publish makes what is held the trust that is decided by.
func (t *trustFile) publish() {
	trust := t.bundle.trust
	if len(t.crls) > 0 {
		files := make([]authz.CRLFile, 0, len(t.files))
		for _, held := range t.files {
			files = append(files, held.CRLFile)
		}
		trust = trust.WithCRLs(files...)
	}
	t.held.Store(&heldTrust{trust, t.bundle.confirmed})
}

// strangers returns the lists that no CA of the bundle is the issuer of.
func (t *trustFile) strangers() (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, path := range t.crls {
		for _, crl := range t.files[path].CRLs {
			if known, _ := crl.SignedIn(t.bundle.trust); !known {
				names = append(names, crl.Name())
			}
		}
	}
	return names
}

// usable returns an error if revocation is looked at and no CA of the bundle has a list:
// then nobody could be let in.
func (t *trustFile) usable() error {
	if trust, _ := t.Current(); len(t.crls) > 0 && trust.NextCRL().IsZero() {
		return fmt.Errorf("trust.crl: no list is one of a CA in %s", t.path)
	}
	return nil
}

// A trustInEnvoy believes that Envoy verified every client certificate.
type trustInEnvoy struct{}

// Current implements authz.TrustSource. What is never read can never be out of date.
func (trustInEnvoy) Current() (*authz.Trust, time.Time) { return envoysWord, time.Now() }

var envoysWord = authz.TrustEnvoy()
