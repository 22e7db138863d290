package main

import (
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/authz/profile"
	"asid-authz/envoy"
)

// A generation is one configuration and what was built from it, to decide by. It is
// built whole beside the running one; then one pointer is swapped.
type generation struct {
	config     *Config
	authorizer *authz.Authorizer
	rules      *envoy.Rules

	interactions heldMap
	trust        authz.TrustSource
	breakGlass   *breakGlassFile // nil: none is configured
	keys         []issuerKeys
	files        []*watchedFile // whose content has an owner of its own
	parts        []part         // files that are read once for a generation: a change makes a new one
}

// A part is a file that a generation was built from.
type part struct {
	what, path string
	text       []byte
}

// read reads a file that is part of the generation.
func (g *generation) read(what string, file PathValue) ([]byte, error) {
	path := g.config.path(file)
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	g.parts = append(g.parts, part{what, path, text})
	return text, nil
}

// build makes a generation of c. What previous holds already under the same setting (a
// map file, a bundle, a key set) is shared with it, so that nothing is forgotten and
// nothing is fetched twice when an unrelated setting changes.
//
// Files are read; keys from the network are not yet, and the caller runs what refreshes them.
func build(c *Config, previous *generation, log *zap.Logger) (*generation, error) {
	g := &generation{config: c}
	p, err := g.profile()
	if err != nil {
		return nil, err
	}
	if err := g.useMap(previous, log); err != nil {
		return nil, err
	}
	g.useBreakGlass(previous)
	g.useTrust(previous)
	if err := g.useKeys(previous, log); err != nil {
		return nil, err
	}
	if err := readAll(g.files); err != nil {
		return nil, err
	}
	if t, is := g.trust.(*trustFile); is {
		if err := t.usable(); err != nil {
			return nil, err
		}
	}
	verifier, err := g.verifier()
	if err != nil {
		return nil, err
	}
	receivers := make([]authz.ASID, len(c.Receivers))
	for i, r := range c.Receivers {
		receivers[i] = r.ASID
	}
	config := authz.Config{
		Profile:      p,
		Binding:      authz.Binding{Mode: authz.BindingMode(c.Binding.Mode), Name: authz.Place(c.Binding.Name), ASID: authz.Place(c.Binding.ASID)},
		Receivers:    receivers,
		RulesOff:     c.Profile.RulesOff,
		Tokens:       verifier,
		Map:          g.interactions,
		Trust:        g.trust,
		MaxStaleness: c.Map.MaxStaleness.Duration,
		MaxTrustAge:  c.Trust.MaxAge.Duration,
		MaxCRLAge:    c.Trust.CRLMaxAge.Duration,
	}
	if g.breakGlass != nil {
		config.BreakGlass = g.breakGlass
	}
	g.authorizer, err = authz.New(config)
	if err != nil {
		return nil, err
	}
	g.rules, err = envoy.NewRules(g.authorizer)
	return g, err
}

// profile returns the profile of the generation.
func (g *generation) profile() (authz.Profile, error) {
	c := g.config.Profile
	if c.File == "" {
		p, err := profile.Builtin(c.Name)
		return c.based(p), err
	}
	text, err := g.read("profile", c.File)
	if err != nil {
		return authz.Profile{}, err
	}
	p, err := profile.Decode(g.config.path(c.File), text)
	return c.based(p), err
}

// based returns p below the base path that the configuration says, if it says one.
func (c ProfileConfig) based(p authz.Profile) authz.Profile {
	if c.Base != nil {
		p.Base = *c.Base
	}
	return p
}

// loadProfile returns the profile that a command is told about, with its base.
func loadProfile(c ProfileConfig, path func(PathValue) string) (authz.Profile, error) {
	g := generation{config: &Config{Profile: c}}
	g.config.Profile.File = ""
	if c.File != "" {
		g.config.Profile.File = PathValue(path(c.File))
	}
	return g.profile()
}

func (g *generation) useTrust(previous *generation) {
	if g.config.Trust.ClientCA == trustEnvoy {
		g.trust = trustInEnvoy{}
		return
	}
	path := g.config.path(PathValue(g.config.Trust.ClientCA))
	var crls []string
	for _, file := range g.config.Trust.CRL {
		crls = append(crls, g.config.path(file))
	}
	var old *trustFile
	if previous != nil {
		old, _ = previous.trust.(*trustFile)
	}
	held, shared := old, old != nil && old.owns(path, crls)
	if !shared {
		held = newTrustFile(path, crls, old)
	}
	g.trust = held
	g.files = append(g.files, &watchedFile{what: "client ca", path: path, shared: shared, load: held.load})
	for _, path := range crls { // after the bundle, which they are verified against
		g.files = append(g.files, &watchedFile{what: "crl", path: path, shared: shared, load: func(text []byte, now time.Time) (bool, error) {
			return held.loadCRLs(path, text, now)
		}})
	}
}

func (g *generation) useBreakGlass(previous *generation) {
	if g.config.Map.BreakGlass == "" {
		return
	}
	path := g.config.path(g.config.Map.BreakGlass)
	shared := previous != nil && previous.breakGlass != nil && previous.breakGlass.path == path
	if shared {
		g.breakGlass = previous.breakGlass
	} else {
		g.breakGlass = &breakGlassFile{path: path}
	}
	g.files = append(g.files, &watchedFile{what: "break-glass", path: path, shared: shared, load: g.breakGlass.load})
}

// breakGlassAt returns the orders of an emergency and what of them is in force.
func (g *generation) breakGlassAt(now time.Time) (orders *authz.BreakGlass, inForce string) {
	if g.breakGlass != nil {
		orders, _ = g.breakGlass.Current()
	}
	inForce, _ = g.authorizer.InForce(now)
	return orders, inForce
}

// breakGlassAge returns how long ago the orders of an emergency were last read.
func (g *generation) breakGlassAge(now time.Time) time.Duration {
	if g.breakGlass == nil {
		return 0
	}
	_, confirmed := g.breakGlass.Current()
	return authz.Age(now, confirmed)
}

// fresh reports whether everything that can take a right away is young enough to decide
// by; why names the first that is not.
func (g *generation) fresh(now time.Time) (is bool, why string) {
	m, confirmed, absent := g.interactions.Current()
	_, maxStaleness := g.authorizer.InForce(now)
	switch {
	case m == nil:
		return false, absent.String()
	case authz.Age(now, confirmed) > maxStaleness:
		return false, authz.MapStale.String()
	}
	trust, confirmed := g.trust.Current()
	if trust == nil || authz.Age(now, confirmed) > g.config.Trust.MaxAge.Duration {
		return false, authz.TrustUnavailable.String()
	}
	if trust.CRLAge(now) > g.config.Trust.CRLMaxAge.Duration {
		return false, authz.RevocationUnknown.String()
	}
	for _, k := range g.keys {
		if k.keys.Status().Age(now) > k.issuer.MaxKeyAge.Duration {
			return false, authz.KeysUnavailable.String() + " of " + authz.Excerpt(k.issuer.Issuer)
		}
	}
	return true, "ready"
}
