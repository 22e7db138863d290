package token

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
)

// Defaults of [Remote], and what is not configurable.
const (
	DefaultInterval    = 5 * time.Minute
	DefaultMinInterval = 30 * time.Second

	maxInterval  = 24 * time.Hour
	fetchTimeout = 10 * time.Second // of all requests of one refresh together
)

// A Remote says where keys are fetched and how. A proxy is taken from the environment
// (HTTPS_PROXY, NO_PROXY).
type Remote struct {
	// Either KeySet, the URL of a key set (RFC 7517) ...
	KeySet string
	// ... or Issuer, to find that URL by OpenID Connect Discovery. The document must
	// name this very issuer, byte for byte.
	Issuer string
	// Discovery is the URL below which /.well-known/openid-configuration stands, where
	// that is not the issuer's name: CIS2's holds ":443", which its URLs do not. "": the
	// Issuer itself.
	Discovery string

	// CA is whom the server's certificate must come from; nil: whom the system trusts.
	CA *x509.CertPool
	// PlainHTTP allows http:// URLs. Whoever is on the way can then hand us keys of his
	// own, and with them mint any token.
	PlainHTTP bool

	// Interval is the time between two refreshes; 0: [DefaultInterval].
	Interval time.Duration
	// MinInterval is the least time between two refreshes, whatever the reason; 0:
	// [DefaultMinInterval]. A key that an issuer begins to use without having published
	// it first is refused for as long.
	MinInterval time.Duration

	Log *zap.Logger
}

// RemoteKeys are keys that are fetched, and kept current by [RemoteKeys.Run].
type RemoteKeys struct {
	holder
	config Remote
	client *http.Client
	first  string        // the URL that a refresh begins with
	wanted chan struct{} // capacity 1: a token named a kid that we do not have

	refreshing sync.Mutex // one refresh at a time; guards what follows
	attempted  time.Time  // when the last refresh began
	failures   int        // in a row
	keySet     document
	discovery  document
	found      string // the key set's URL in the discovery document
}

// NewRemoteKeys returns RemoteKeys that hold nothing yet, or everything that is wrong
// with r.
func NewRemoteKeys(r Remote) (*RemoteKeys, error) {
	if r.Interval == 0 {
		r.Interval = DefaultInterval
	}
	if r.MinInterval == 0 {
		r.MinInterval = DefaultMinInterval
	}
	k := &RemoteKeys{config: r, first: r.KeySet, wanted: make(chan struct{}, 1)}
	var all []error
	switch {
	case (r.KeySet == "") == (r.Issuer == ""):
		all = append(all, errors.New("either the URL of a key set is needed or an issuer to discover it from"))
	case r.KeySet != "" && r.Discovery != "":
		all = append(all, errors.New("a discovery URL beside the URL of the key set, which needs none"))
	case r.KeySet == "":
		base := r.Discovery
		if base == "" {
			base = r.Issuer
		}
		if strings.Contains(base, "?") || strings.Contains(base, "/.well-known/") {
			all = append(all, fmt.Errorf("%s: discovery begins at the URL that /.well-known/openid-configuration stands below", authz.Excerpt(base)))
		}
		k.first = strings.TrimSuffix(base, "/") + "/.well-known/openid-configuration"
	}
	if k.first != "" {
		if err := r.fetchable(k.first); err != nil {
			all = append(all, err)
		}
	}
	if r.MinInterval < time.Second || r.Interval < r.MinInterval || r.Interval > maxInterval {
		all = append(all, fmt.Errorf("keys are refreshed every %v at the latest and every %v at the soonest: the one is at most %v, the other at least a second and not longer", r.Interval, r.MinInterval, maxInterval))
	}
	if r.Log == nil {
		all = append(all, errors.New("a log is needed"))
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	k.source, k.log = k.first, r.Log
	k.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: r.CA},
			DisableKeepAlives:      true, // minutes lie between two requests, and a failed-over name must be resolved anew
			DisableCompression:     true, // what is counted against the bound is what was sent
			MaxResponseHeaderBytes: 64 << 10,
		},
		// Where a redirect leads is the answer of whoever answered, not our configuration.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return k, nil
}

// fetchable returns why keys are not fetched from that URL, or nil.
func (r *Remote) fetchable(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("%s is no URL that keys can be fetched from", authz.Excerpt(address))
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("%s: a user or a fragment has no place in the URL of keys", authz.Excerpt(u.Redacted()))
	case u.Scheme == "http" && !r.PlainHTTP:
		return fmt.Errorf("%s is not https: whoever is on the way could hand us keys of his own. If that is meant, it must be written out", authz.Excerpt(address))
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%s is not https", authz.Excerpt(address))
	}
	return nil
}

// Run keeps the keys current until ctx is done, and then returns nil. A refresh that
// fails is tried again, after a time that grows from MinInterval to Interval.
func (k *RemoteKeys) Run(ctx context.Context) error {
	due, fresh := k.due(), false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wanted:
			fresh = true
			if soon := k.soonest(); soon.Before(due) {
				due = soon
			}
		case <-time.After(time.Until(due)):
			_ = k.refresh(ctx, fresh) // it is in the log and in the Status
			due, fresh = k.due(), false
		}
	}
}

// Refresh fetches the keys now: for a start or a change of configuration that wants
// them before the first request. An error leaves what is held as it is.
func (k *RemoteKeys) Refresh(ctx context.Context) error { return k.refresh(ctx, false) }

// soonest returns the earliest time at which another refresh may begin.
func (k *RemoteKeys) soonest() time.Time {
	k.refreshing.Lock()
	defer k.refreshing.Unlock()
	return k.attempted.Add(k.config.MinInterval)
}

// due returns when the next refresh is due. A tenth is left to chance: replicas that
// were started together need not ask together.
func (k *RemoteKeys) due() time.Time {
	k.refreshing.Lock()
	defer k.refreshing.Unlock()
	if k.attempted.IsZero() {
		return time.Now()
	}
	pause := k.config.Interval
	if k.failures > 0 {
		pause = min(k.config.Interval, k.config.MinInterval<<min(k.failures-1, 10))
	}
	pause += rand.N(pause/10 + 1)
	return k.attempted.Add(pause)
}

// unknown: a set that is younger than MinInterval is taken for the newest. Otherwise an
// issuer may have begun to use a key that we have not seen, and one refresh is asked
// for, however many ask; Run sees to it that they do not follow each other too soon.
func (k *RemoteKeys) unknown(h *held, now time.Time) authz.Reason {
	if authz.Age(now, h.confirmed) < k.config.MinInterval {
		return authz.TokenKeyUnknown
	}
	select {
	case k.wanted <- struct{}{}:
	default:
	}
	return authz.KeysUnavailable
}

// refresh fetches the keys and takes them. fresh asks for the whole document even if
// it says that it has not changed: a token has named a key that is not in ours, and
// some servers count changes in seconds only.
func (k *RemoteKeys) refresh(ctx context.Context, fresh bool) error {
	k.refreshing.Lock()
	defer k.refreshing.Unlock()
	if fresh {
		k.keySet, k.discovery = document{}, document{}
	}
	k.attempted = time.Now()
	err := k.fetch(ctx)
	switch {
	case err == nil:
		k.failures = 0
	case ctx.Err() != context.Canceled: // or it is we who gave up, and nothing is wrong
		k.failures++
		k.refuse(err)
	}
	return err
}

func (k *RemoteKeys) fetch(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	address := k.config.KeySet
	if address == "" {
		if address, err = k.discover(ctx); err != nil {
			return err
		}
	}
	if address != k.keySet.url {
		k.keySet = document{url: address}
	}
	got, err := k.keySet.get(ctx, k.client)
	if err != nil {
		return err
	}
	if got.unchanged {
		k.confirm(k.attempted)
		return nil
	}
	if err := k.accept(got.body, k.attempted); err != nil {
		return err
	}
	k.keySet = got.document
	return nil
}

// discover returns the URL of the key set as the issuer's discovery document has it.
func (k *RemoteKeys) discover(ctx context.Context) (string, error) {
	k.discovery.url = k.first
	got, err := k.discovery.get(ctx, k.client)
	if err != nil {
		return "", err
	}
	if got.unchanged {
		return k.found, nil
	}
	members, err := parseObject(string(got.body), documentBounds)
	if err != nil {
		return "", fmt.Errorf("not a discovery document: %w", err)
	}
	issuer, _ := find(members, "issuer")
	if issuer != (value{kindString, k.config.Issuer}) {
		return "", fmt.Errorf("the discovery document is that of issuer %s, not of %s", authz.Excerpt(issuer.text), authz.Excerpt(k.config.Issuer))
	}
	address, _ := find(members, "jwks_uri")
	if address.kind != kindString || address.text == "" {
		return "", errors.New("the discovery document names no jwks_uri")
	}
	if err := k.config.fetchable(address.text); err != nil {
		return "", fmt.Errorf("jwks_uri of the discovery document: %w", err)
	}
	k.found, k.discovery = address.text, got.document
	return k.found, nil
}
