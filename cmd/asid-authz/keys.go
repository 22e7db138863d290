package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/authz/token"
)

// An issuerKeys is the key set of one issuer, from a file or fetched.
type issuerKeys struct {
	issuer IssuerConfig
	keys   token.Keys
	file   *keyFile          // keys, if they are in a file
	remote *token.RemoteKeys // keys, if they are fetched; somebody must Run it
	ca     []byte            // of remote
}

// A keyFile is a key set that is kept current from a file.
type keyFile struct {
	*token.FileKeys
	accepted []byte
}

func (k *keyFile) load(text []byte, now time.Time) (changed bool, err error) {
	if err := k.Load(text, now); err != nil {
		return false, err
	}
	changed = !bytes.Equal(k.accepted, text)
	k.accepted = text
	return changed, nil
}

func (g *generation) useKeys(previous *generation, log *zap.Logger) error {
	var all []error
	for i, issuer := range g.config.Issuers {
		k, err := g.keysOf(issuer, previous, log)
		if err != nil {
			all = append(all, fmt.Errorf("issuers[%d].keys: %w", i, err))
			continue
		}
		g.keys = append(g.keys, k)
	}
	return errors.Join(all...)
}

// keysOf returns the keys of an issuer: those of previous if nothing about where they
// come from has changed.
func (g *generation) keysOf(issuer IssuerConfig, previous *generation, log *zap.Logger) (issuerKeys, error) {
	k := issuerKeys{issuer: issuer}
	var old issuerKeys
	if previous != nil {
		for _, candidate := range previous.keys {
			if candidate.issuer.Issuer == issuer.Issuer && candidate.issuer.Keys == issuer.Keys {
				old = candidate
			}
		}
	}
	if issuer.Keys.File != "" {
		k.file = old.file
		if k.file == nil {
			k.file = &keyFile{FileKeys: token.NewFileKeys(g.config.path(issuer.Keys.File), log)}
		}
		k.keys = k.file
		g.files = append(g.files, &watchedFile{what: "keys", path: g.config.path(issuer.Keys.File), shared: old.file != nil, ownerLogs: true, load: k.file.load})
		return k, nil
	}
	r := token.Remote{KeySet: issuer.Keys.URL, PlainHTTP: issuer.Keys.AllowHTTP, Interval: issuer.Keys.Refresh.Duration, Log: log}
	if issuer.Keys.Discovery != "" {
		r.Issuer, r.Discovery = issuer.Issuer, issuer.Keys.Discovery
	}
	if issuer.Keys.CA != "" {
		var err error
		if k.ca, err = g.read("issuer ca", issuer.Keys.CA); err != nil {
			return k, err
		}
		r.CA = x509.NewCertPool()
		if !r.CA.AppendCertsFromPEM(k.ca) {
			return k, fmt.Errorf("%s: no certificate in the bundle", g.config.path(issuer.Keys.CA))
		}
	}
	if old.remote != nil && bytes.Equal(old.ca, k.ca) {
		k.keys, k.remote = old.remote, old.remote
		return k, nil
	}
	var err error
	k.remote, err = token.NewRemoteKeys(r)
	k.keys = k.remote
	return k, err
}

// fetch asks for the keys that come over the network and are not there yet, so that a
// new generation does not begin by refusing everybody.
func (g *generation) fetch(ctx context.Context) error {
	var all []error
	for _, k := range g.keys {
		if k.remote != nil && k.keys.Status().Confirmed.IsZero() {
			if err := k.remote.Refresh(ctx); err != nil {
				all = append(all, fmt.Errorf("keys of issuer %s: %w", authz.Excerpt(k.issuer.Issuer), err))
			}
		}
	}
	return errors.Join(all...)
}

// verifier returns the token verifier of the generation's issuers.
func (g *generation) verifier() (*token.Verifier, error) {
	var issuers []token.Issuer
	for _, k := range g.keys {
		issuers = append(issuers, token.Issuer{
			Name:              k.issuer.Issuer,
			Audiences:         k.issuer.Audiences,
			AuthorizedParties: k.issuer.AuthorizedParties,
			Algorithms:        k.issuer.Algorithms,
			ClockSkew:         k.issuer.ClockSkew.Duration,
			MaxKeyAge:         k.issuer.MaxKeyAge.Duration,
			IDTokens:          k.issuer.IDTokens,
			Keys:              k.keys,
		})
	}
	return token.New(token.Config{Issuers: issuers})
}
