package authztest

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/authz/profile"
	"asid-authz/authz/token"
	"asid-authz/cache"
)

// A Source is a map and a trust that stay as they are, confirmed when it was said.
type Source struct {
	Map       *authz.InteractionMap
	Absent    authz.Reason // why Map is nil
	Trust     *authz.Trust
	Confirmed time.Time
}

// Maps returns s as the source of maps.
func (s *Source) Maps() authz.MapSource { return mapSource{s} }

// Trusts returns s as the source of the CA bundle.
func (s *Source) Trusts() authz.TrustSource { return trustSource{s} }

type mapSource struct{ *Source }

func (s mapSource) Current() (*authz.InteractionMap, time.Time, authz.Reason) {
	return s.Map, s.Confirmed, s.Absent
}

type trustSource struct{ *Source }

func (s trustSource) Current() (*authz.Trust, time.Time) { return s.Trust, s.Confirmed }

// The bounds of every world.
const (
	MaxStaleness = time.Hour
	MaxTrustAge  = 24 * time.Hour
	MaxCRLAge    = 24 * time.Hour
	MaxKeyAge    = 24 * time.Hour
)

// Decoded returns the world's profile, with the base of the deployment.
func (w *World) Decoded() (p authz.Profile, err error) {
	if w.ProfileText == "" {
		p, err = profile.Builtin(w.Profile)
	} else {
		p, err = profile.Decode(w.Profile+".yaml", []byte(w.ProfileText))
	}
	if err != nil {
		return p, err
	}
	if p.Name != w.Profile {
		return p, fmt.Errorf("world %s: its profile is named %s, not %s", w.Name, p.Name, w.Profile)
	}
	if w.Base != nil {
		p.Base = *w.Base
	}
	return p, nil
}

// Config returns what the world decides by, with the real decoders and the real token
// verifier, and map and trust confirmed at now. A test may change it before [authz.New].
func (m *Minted) Config(now time.Time) (authz.Config, error) {
	p, err := m.Decoded()
	if err != nil {
		return authz.Config{}, err
	}
	text, err := m.MapText()
	if err != nil {
		return authz.Config{}, err
	}
	file, err := cache.DecodeMap(m.Name+".yaml", []byte(text))
	if err != nil {
		return authz.Config{}, err
	}
	source := &Source{Confirmed: now}
	if source.Map, err = file.Build(1); err != nil {
		return authz.Config{}, err
	}
	if source.Trust, err = authz.ParseTrust(m.CAs()); err != nil {
		return authz.Config{}, err
	}
	if m.World.CRLs {
		text, err := m.CRLs(1)
		if err != nil {
			return authz.Config{}, err
		}
		crls, err := authz.ParseCRLs(text)
		if err != nil {
			return authz.Config{}, err
		}
		source.Trust = source.Trust.WithCRLs(authz.CRLFile{CRLs: crls, Confirmed: now})
	}
	verifier, err := m.Verifier(now)
	if err != nil {
		return authz.Config{}, err
	}
	return authz.Config{
		Profile:      p,
		Binding:      m.Binding,
		Receivers:    slices.Clone(m.Receivers),
		RulesOff:     slices.Clone(m.RulesOff),
		Tokens:       verifier,
		Map:          source.Maps(),
		Trust:        source.Trusts(),
		MaxStaleness: MaxStaleness,
		MaxTrustAge:  MaxTrustAge,
		MaxCRLAge:    MaxCRLAge,
	}, nil
}

// Verifier returns the token verifier of the world, with the keys of its issuers
// confirmed at now.
func (m *Minted) Verifier(now time.Time) (*token.Verifier, error) {
	var config token.Config
	for _, settings := range m.World.Issuers {
		keys := token.NewFileKeys(settings.Name, zap.NewNop())
		if err := keys.Load(m.Issuers[settings.Name].JWKS(), now); err != nil {
			return nil, err
		}
		config.Issuers = append(config.Issuers, token.Issuer{
			Name:       settings.Issuer,
			Keys:       keys,
			MaxKeyAge:  MaxKeyAge,
			Algorithms: settings.Algorithms,
			Audiences:  settings.Audiences,
		})
	}
	return token.New(config)
}
