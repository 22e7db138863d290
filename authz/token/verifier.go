package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"asid-authz/authz"
)

// DefaultCacheEntries is how many tokens are remembered unless a Config says otherwise;
// one takes about as much memory as its payload and 1 kB.
const DefaultCacheEntries = 1 << 15

// MaxClockSkew is the most that an issuer's clock may be apart from ours.
const MaxClockSkew = time.Minute

// A Config says whose tokens are accepted.
type Config struct {
	Issuers      []Issuer
	CacheEntries int // 0: [DefaultCacheEntries]
}

// An Issuer is one whose tokens are accepted, and by which rules.
type Issuer struct {
	// Name is the claim iss, compared byte by byte. It need not be a URL.
	Name string
	// Keys are where this issuer's keys come from.
	Keys Keys
	// MaxKeyAge is how long after they were last confirmed the keys may still be used: a
	// key that the issuer has withdrawn is good here for at most as long.
	MaxKeyAge time.Duration
	// Algorithms that this issuer signs with, of [Algorithms].
	Algorithms []string

	// Whom a token must be for. At least one of the two lists is needed: a token for
	// somebody else is no token, and an empty list must not mean that anybody will do.
	Audiences         []string // one of them is in aud
	AuthorizedParties []string // azp and client_id, whichever are there, are among them

	// ClockSkew is how much the issuer's clock may be apart from ours, at most
	// [MaxClockSkew].
	ClockSkew time.Duration
	// IDTokens accepts ID tokens, too; see the package comment.
	IDTokens bool
}

// A Verifier is an [authz.TokenVerifier]. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	cache   *otter.Cache[[sha256.Size]byte, *verified] // by the SHA-256 of the credential
}

type issuer struct{ Issuer }

// New returns a Verifier, or everything that is wrong with the Config.
func New(config Config) (*Verifier, error) {
	v := &Verifier{issuers: map[string]*issuer{}}
	var all []error
	if len(config.Issuers) == 0 {
		all = append(all, errors.New("no issuers: no token could be accepted"))
	}
	for i := range config.Issuers {
		is := config.Issuers[i]
		for _, err := range is.problems() {
			all = append(all, fmt.Errorf("issuer %s: %w", authz.Excerpt(is.Name), err))
		}
		if v.issuers[is.Name] != nil {
			all = append(all, fmt.Errorf("issuer %s stands twice", authz.Excerpt(is.Name)))
		}
		is.Algorithms = slices.Clone(is.Algorithms)
		is.Audiences = slices.Clone(is.Audiences)
		is.AuthorizedParties = slices.Clone(is.AuthorizedParties)
		v.issuers[is.Name] = &issuer{is}
	}
	entries := config.CacheEntries
	if entries == 0 {
		entries = DefaultCacheEntries
	}
	if entries < 0 {
		all = append(all, errors.New("a cache cannot have fewer than no entries"))
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	var err error
	v.cache, err = otter.New(&otter.Options[[sha256.Size]byte, *verified]{MaximumSize: entries})
	return v, err
}

// problems returns everything that is wrong with is.
func (is *Issuer) problems() (all []error) {
	object := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if is.Name == "" {
		object("the name is missing")
	}
	if is.Keys == nil {
		object("keys are missing")
	}
	if len(is.Audiences)+len(is.AuthorizedParties) == 0 {
		object("neither audiences nor authorized parties: every token of this issuer would do, whoever it is for")
	}
	for _, name := range slices.Concat(is.Audiences, is.AuthorizedParties) {
		if name == "" {
			object("an audience or authorized party is empty")
		}
	}
	if len(is.Algorithms) == 0 {
		object("algorithms are missing: %s", strings.Join(Algorithms(), ", "))
	}
	for _, name := range is.Algorithms {
		if algorithmNamed(name) == nil {
			object("algorithm %s is none of %s", authz.Excerpt(name), strings.Join(Algorithms(), ", "))
		}
	}
	if is.ClockSkew < 0 || is.ClockSkew > MaxClockSkew {
		object("the clock skew is %v, not 0 to %v", is.ClockSkew, MaxClockSkew)
	}
	if is.MaxKeyAge <= 0 {
		object("the keys need a largest age")
	}
	if remote, ok := is.Keys.(*RemoteKeys); ok {
		if remote.config.Issuer != "" && remote.config.Issuer != is.Name {
			object("its keys are discovered as those of issuer %s", authz.Excerpt(remote.config.Issuer))
		}
		if is.MaxKeyAge > 0 && is.MaxKeyAge < 2*remote.config.Interval {
			object("the largest age of its keys, %v, leaves no room for one failed refresh: they are refreshed every %v", is.MaxKeyAge, remote.config.Interval)
		}
	}
	return all
}

// VerifyToken returns the claims of a credential that one of the issuers signed for us
// and that may be used at now. It never blocks. Every error is an *authz.Fault; of the
// token it holds at most the name of its issuer, its audience or its client.
func (v *Verifier) VerifyToken(_ context.Context, credential string, now time.Time) (*authz.Claims, error) {
	if len(credential) > authz.MaxCredential {
		return nil, refusal(authz.TokenMalformed)
	}
	// A usual token is copied to the stack to be hashed: a conversion would allocate it.
	var buffer [2 << 10]byte
	id := sha256.Sum256(append(buffer[:0], credential...))
	t, hit := v.cache.GetIfPresent(id)
	if hit {
		h, f := t.issuer.held(now)
		if f != nil {
			return nil, f
		}
		hit = h.set == t.keys
	}
	if !hit {
		var f *authz.Fault
		if t, f = v.verify(credential, now); f != nil {
			return nil, f
		}
	}
	if f := t.objection(now); f != nil {
		return nil, f
	}
	if !hit {
		v.cache.Set(id, t)
	}
	return &t.claims, nil
}

// verify does what depends on the credential and the keys alone.
func (v *Verifier) verify(credential string, now time.Time) (*verified, *authz.Fault) {
	u, ok := parse(credential)
	if !ok {
		return nil, refusal(authz.TokenMalformed)
	}
	name, found := find(u.claims, "iss")
	switch {
	case !found:
		return nil, missing("iss")
	case name.kind != kindString:
		return nil, malformed("iss")
	}
	is := v.issuers[name.text]
	if is == nil {
		return nil, &authz.Fault{Reason: authz.TokenIssuerUnknown, Field: authz.ClaimField("iss"), Value: name.text}
	}
	if !slices.Contains(is.Algorithms, u.algorithm) {
		return nil, refusal(authz.TokenAlgorithmRefused)
	}
	h, f := is.held(now)
	if f != nil {
		return nil, f
	}
	k := h.set.keys[u.kid]
	switch {
	case k == nil:
		return nil, refusal(is.Keys.unknown(h, now))
	case !slices.Contains(k.algorithms, u.algorithm):
		return nil, refusal(authz.TokenAlgorithmRefused)
	case algorithmNamed(u.algorithm).method.Verify(u.signed, u.signature, k.public) != nil:
		return nil, refusal(authz.TokenSignatureInvalid)
	}
	return u.verified(is, h.set)
}

// held returns the issuer's keys if they may be used at now.
func (is *issuer) held(now time.Time) (*held, *authz.Fault) {
	h := is.Keys.current()
	if h.set == nil || authz.Age(now, h.confirmed) > is.MaxKeyAge {
		return nil, refusal(authz.KeysUnavailable)
	}
	return h, nil
}
