package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what an [Authorizer] decides by: one generation of it.
type Config struct {
	Profile   Profile
	Binding   Binding
	Receivers []ASID   // who we are: what the receiver header may name
	RulesOff  []string // claim rules of the profile that this deployment switches off, by name

	Tokens TokenVerifier
	Map    MapSource
	Trust  TrustSource

	// BreakGlass holds the orders of an emergency. nil: there is no place for them.
	BreakGlass BreakGlassSource

	// How old the map, the CA bundle and, if the Trust has any, the CRLs may be. Beyond it
	// nothing is allowed: each of them can take a right away, and whoever does not hear of
	// it must not go on.
	MaxStaleness time.Duration
	MaxTrustAge  time.Duration
	MaxCRLAge    time.Duration // 0: without CRLs
}

// A Binding says how a certificate belongs to an ASID.
type Binding struct {
	Mode BindingMode

	// Name is where the certificate's name is read from, to be held against the FQDNs of
	// an entry. Without it (in mode InCertificate only) no entry that lists FQDNs is bound.
	Name Place
	// ASID is where a certificate carries its ASID; InCertificate only.
	ASID Place
}

// BindingMode is one of the two ways in which a certificate belongs to an ASID. It has
// no default: a deployment states it.
type BindingMode uint8

const (
	// Registered: the client claims an ASID, and the map says which certificates are
	// that system's. It is how Spine works: its certificates carry no ASID, and one
	// certificate may serve several.
	Registered BindingMode = iota + 1
	// InCertificate: the certificate carries the ASID; a claimed one must be the same.
	InCertificate
)

// Place is where in a certificate something is read from. There is no falling back
// from one place to another: what an attacker may choose, he will.
type Place uint8

const (
	PlaceCN           Place = iota + 1 // subject common name: for a Name or an ASID
	PlaceDNSSAN                        // DNS subject alternative name: for a Name
	PlaceSerialNumber                  // subject serialNumber (2.5.4.5): for an ASID
	PlaceUID                           // subject UID (0.9.2342.19200300.100.1.1): for an ASID
	PlaceURISAN                        // URI subject alternative name urn:nhs:asid:<asid>: for an ASID
)

// asidURN is what an ASID looks like as a URI SAN.
const asidURN = "urn:nhs:asid:"

// An Authorizer decides. It is immutable and safe for concurrent use.
type Authorizer struct {
	Config
	steps   []step
	table   map[string][]*Endpoint // by method
	byName  map[string]*Endpoint
	headers [maxHeaderName + 1][]headerUse // by the length of the name
	fields  [useCount]Field                // of the headers that carry a value, for Faults
	rules   []ClaimRule                    // those that are on
	checks  sync.Pool
}

// New returns an Authorizer, or everything that is wrong with the Config.
func New(config Config) (*Authorizer, error) {
	var all []error
	for _, problem := range config.Profile.Validate() {
		all = append(all, problem)
	}
	if err := config.Binding.validate(config.Profile); err != nil {
		all = append(all, err)
	}
	if config.Profile.Receiver.Name != "" && len(config.Receivers) == 0 {
		all = append(all, errors.New("receivers: at least one ASID is needed that the header "+config.Profile.Receiver.Name+" may name"))
	}
	for _, r := range config.Receivers {
		if r.IsZero() {
			all = append(all, errors.New("receivers: an ASID is missing"))
		}
	}
	if config.Tokens == nil || config.Map == nil || config.Trust == nil {
		all = append(all, errors.New("a token verifier, a map and a trust are needed"))
	}
	if config.MaxStaleness <= 0 || config.MaxTrustAge <= 0 || config.MaxCRLAge < 0 {
		all = append(all, errors.New("the map and the trust need a largest age"))
	}
	a := &Authorizer{
		Config: config,
		table:  map[string][]*Endpoint{},
		byName: map[string]*Endpoint{},
	}
	// The caller's slices stay the caller's: what is decided by must not change later.
	a.Receivers = slices.Clone(config.Receivers)
	a.Profile.Endpoints = slices.Clone(config.Profile.Endpoints)
	off := map[string]bool{}
	for _, name := range config.RulesOff {
		off[name] = true
	}
	for _, rule := range config.Profile.Token.Rules {
		if off[rule.Name] {
			delete(off, rule.Name)
			continue
		}
		a.rules = append(a.rules, rule)
	}
	for name := range off {
		all = append(all, fmt.Errorf("no claim rule is named %s, so it cannot be switched off", Excerpt(name)))
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	for i := range a.Profile.Endpoints {
		e := &a.Profile.Endpoints[i]
		a.table[e.Method] = append(a.table[e.Method], e)
		a.byName[e.Name] = e
	}
	a.useHeader(a.Profile.Sender.Name, useSender)
	a.useHeader(a.Profile.Receiver.Name, useReceiver)
	a.useHeader(a.Profile.Interaction.Name, useInteraction)
	a.useHeader("authorization", useCredential)
	for _, name := range forbiddenHeaders {
		a.useHeader(name, useForbidden)
	}
	a.steps = stepsOf(config.Binding.Mode)
	a.checks.New = func() any { return new(check) }
	return a, nil
}

func (b Binding) validate(p Profile) error {
	name := b.Name == PlaceCN || b.Name == PlaceDNSSAN
	switch b.Mode {
	case Registered:
		switch {
		case !name:
			return errors.New("binding registered reads the certificate's name from cn or from dns-san")
		case b.ASID != 0:
			return errors.New("binding registered reads no ASID from the certificate")
		case p.Sender.Name == "" || !p.Sender.Required:
			return errors.New("binding registered needs a profile whose sender header is required: the ASID is what it claims")
		}
	case InCertificate:
		switch {
		case b.ASID != PlaceCN && b.ASID != PlaceSerialNumber && b.ASID != PlaceUID && b.ASID != PlaceURISAN:
			return errors.New("binding certificate reads the ASID from cn, serial-number, uid or uri-san")
		case b.Name != 0 && !name:
			return errors.New("binding certificate reads the name from cn, from dns-san or not at all")
		case b.Name == b.ASID:
			return errors.New("binding certificate cannot read the name and the ASID from one place")
		}
	default:
		return errors.New("binding mode is missing: registered or certificate")
	}
	return nil
}

// A headerUse is what a header means to the steps.
type headerUse struct {
	name  string
	use   use
	field Field
}

type use uint8

const (
	useForbidden use = iota
	useSender
	useReceiver
	useInteraction
	useCredential
	useCount // of those that carry a value
)

// maxHeaderName is the longest header name that means something here.
const maxHeaderName = 64

// forbiddenHeaders rename the method or the URL for servers that believe them: what
// we decided about would not be what the API does.
var forbiddenHeaders = []string{
	"x-http-method", "x-http-method-override", "x-method", "x-method-override",
	"x-original-method", "x-original-path", "x-original-uri", "x-original-url",
	"x-rewrite-url", "x-forwarded-method", "x-forwarded-path", "x-forwarded-uri",
}

// ForbiddenHeaders returns the headers that no request may carry, in lower case. Envoy
// must hand them on to be refused.
func ForbiddenHeaders() []string { return append([]string(nil), forbiddenHeaders...) }

func (a *Authorizer) useHeader(name string, u use) {
	if name == "" {
		return
	}
	lower := strings.ToLower(name)
	a.headers[len(lower)] = append(a.headers[len(lower)], headerUse{lower, u, HeaderField(name)})
	a.fields[u] = HeaderField(name)
}

// Check decides r. It always decides: a failure to find out is itself a Decision, so no
// caller can turn an error into an allow. It stops at the first objection.
//
// When ctx is done nobody waits for a yes any more. It is asked after the token, which is
// the one step that can take long, and at the end; the Fault's field says where it was
// found to be done.
func (a *Authorizer) Check(ctx context.Context, r *Request) Decision {
	c := a.begin(ctx, r)
	defer a.end(c)
	for i := range a.steps {
		if !a.steps[i].run(c) {
			return c.denied()
		}
		c.passed |= 1 << i
	}
	return c.allowed()
}

func (a *Authorizer) begin(ctx context.Context, r *Request) *check {
	c := a.checks.Get().(*check)
	c.a, c.ctx, c.r = a, ctx, r
	c.breakGlass, c.facts.BreakGlass, c.maxStaleness = a.emergency(r.Now)
	return c
}

func (a *Authorizer) end(c *check) {
	*c = check{} // or it would keep the transport's buffer alive, and leak one request's facts into another
	a.checks.Put(c)
}
