package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/authz/profile"
	"asid-authz/authz/token"
	"asid-authz/cache"
	"asid-authz/envoy"
)

// A generation is one configuration and what was built from it, to decide by. It is
// built whole beside the running one; then one pointer is swapped.
type generation struct {
	config     *Config
	authorizer *authz.Authorizer
	rules      *envoy.Rules

	interactions *cache.Memory
	trust        authz.TrustSource
	keys         []issuerKeys
	files        []*watchedFile
}

// An issuerKeys is the key set of one issuer, whatever its source.
type issuerKeys struct {
	issuer IssuerConfig
	keys   token.Keys
	remote *token.RemoteKeys // keys, if they are fetched; somebody must Run it
}

// build makes a generation of c. What previous holds already under the same setting (a
// map file, a bundle, a key set) is shared with it, so that nothing is forgotten and
// nothing is fetched twice when an unrelated setting changes.
//
// Files are read; keys from the network are not yet, and the caller runs what refreshes them.
func build(c *Config, previous *generation, log *zap.Logger) (*generation, error) {
	g := &generation{config: c}
	p, err := loadProfile(c.Profile, c.path)
	if err != nil {
		return nil, err
	}
	g.useMap(previous, log)
	g.useTrust(previous)
	if err := g.useKeys(previous, log); err != nil {
		return nil, err
	}
	if err := readAll(g.files); err != nil {
		return nil, err
	}
	verifier, err := g.verifier()
	if err != nil {
		return nil, err
	}
	receivers := make([]authz.ASID, len(c.Receivers))
	for i, r := range c.Receivers {
		receivers[i] = r.ASID
	}
	g.authorizer, err = authz.New(authz.Config{
		Profile:      p,
		Binding:      authz.Binding{Mode: authz.BindingMode(c.Binding.Mode), Name: authz.Place(c.Binding.Name), ASID: authz.Place(c.Binding.ASID)},
		Receivers:    receivers,
		RulesOff:     c.Profile.RulesOff,
		Tokens:       verifier,
		Map:          g.interactions,
		Trust:        g.trust,
		MaxStaleness: c.Map.MaxStaleness.Duration,
		MaxTrustAge:  c.Trust.MaxAge.Duration,
	})
	if err != nil {
		return nil, err
	}
	g.rules, err = envoy.NewRules(g.authorizer)
	return g, err
}

// loadProfile returns the profile that the configuration names, with its base.
func loadProfile(c ProfileConfig, path func(PathValue) string) (p authz.Profile, err error) {
	if c.File != "" {
		text, err := os.ReadFile(path(c.File))
		if err != nil {
			return p, err
		}
		if p, err = profile.Decode(path(c.File), text); err != nil {
			return p, err
		}
	} else if p, err = profile.Builtin(c.Name); err != nil {
		return p, err
	}
	if c.Base != nil {
		p.Base = *c.Base
	}
	return p, nil
}

func (g *generation) useMap(previous *generation, log *zap.Logger) {
	path := g.config.path(g.config.Map.File)
	if previous != nil && previous.config.path(previous.config.Map.File) == path {
		g.interactions = previous.interactions
	} else {
		g.interactions = cache.NewMemory(log)
	}
	g.files = append(g.files, &watchedFile{what: "map", path: path, ownerLogs: true, load: func(text []byte, now time.Time) (bool, error) {
		return g.interactions.Load(path, text, now)
	}})
}

func (g *generation) useTrust(previous *generation) {
	if g.config.Trust.ClientCA == trustEnvoy {
		g.trust = trustInEnvoy{}
		return
	}
	path := g.config.path(PathValue(g.config.Trust.ClientCA))
	held := &trustFile{}
	if previous != nil && previous.config.path(PathValue(previous.config.Trust.ClientCA)) == path {
		if same, ok := previous.trust.(*trustFile); ok {
			held = same
		}
	}
	g.trust = held
	g.files = append(g.files, &watchedFile{what: "client ca", path: path, load: held.load})
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
	if previous != nil {
		for _, old := range previous.keys {
			if old.issuer.Issuer == issuer.Issuer && old.issuer.Keys == issuer.Keys && previous.config.file == g.config.file {
				k.keys, k.remote = old.keys, old.remote
			}
		}
	}
	if file := issuer.Keys.File; file != "" {
		held, same := k.keys.(*token.FileKeys)
		if !same {
			held = token.NewFileKeys(g.config.path(file), log)
		}
		k.keys = held
		var last []byte
		g.files = append(g.files, &watchedFile{what: "keys", path: g.config.path(file), ownerLogs: true, load: func(text []byte, now time.Time) (bool, error) {
			err := held.Load(text, now)
			changed := err == nil && !bytes.Equal(last, text)
			if changed {
				last = text
			}
			return changed, err
		}})
		return k, nil
	}
	if k.remote != nil {
		return k, nil
	}
	r := token.Remote{KeySet: issuer.Keys.URL, PlainHTTP: issuer.Keys.AllowHTTP, Interval: issuer.Keys.Refresh.Duration, Log: log}
	if issuer.Keys.Discovery != "" {
		r.Issuer, r.Discovery = issuer.Issuer, issuer.Keys.Discovery
	}
	if issuer.Keys.CA != "" {
		text, err := os.ReadFile(g.config.path(issuer.Keys.CA))
		if err != nil {
			return k, err
		}
		r.CA = x509.NewCertPool()
		if !r.CA.AppendCertsFromPEM(text) {
			return k, fmt.Errorf("%s: no certificate in the bundle", g.config.path(issuer.Keys.CA))
		}
	}
	remote, err := token.NewRemoteKeys(r)
	if err != nil {
		return k, err
	}
	k.keys, k.remote = remote, remote
	return k, nil
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

// fresh reports whether everything that can take a right away is young enough to decide
// by; why names the first that is not.
func (g *generation) fresh(now time.Time) (is bool, why string) {
	m, confirmed, absent := g.interactions.Current()
	switch {
	case m == nil:
		return false, absent.String()
	case authz.Age(now, confirmed) > g.config.Map.MaxStaleness.Duration:
		return false, authz.MapStale.String()
	}
	trust, confirmed := g.trust.Current()
	if trust == nil || authz.Age(now, confirmed) > g.config.Trust.MaxAge.Duration {
		return false, authz.TrustUnavailable.String()
	}
	for _, k := range g.keys {
		if k.keys.Status().Age(now) > k.issuer.MaxKeyAge.Duration {
			return false, authz.KeysUnavailable.String() + " of " + authz.Excerpt(k.issuer.Issuer)
		}
	}
	return true, "ready"
}
