package envoy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"asid-authz/authz"
)

// A Bootstrap is what an Envoy in front of asid-authz is configured from. Its values are
// checked before they are written, and quoted when they are: no value can become
// configuration. Files and directories are absolute paths as Envoy sees them; an
// address is "host:port" or, where that is said, "unix:/path".
type Bootstrap struct {
	// Profile, its Base included, gives the routes, the headers that asid-authz is
	// handed, those that it may change, and the dialect of Envoy's own answers. It must
	// be the profile that asid-authz decides by: a request that matches another
	// endpoint's route is refused as endpoint-mismatch, and a header that is not handed
	// on is refused as missing.
	Profile authz.Profile

	// Listen is the IP address and port that clients reach. A host name is refused:
	// Envoy would bind whatever it resolves to on that day.
	Listen string
	// ServerNames are the DNS names of the API, in the handshake (SNI) and in the host
	// header. Exact ones: with a wildcard the API could be reached under names that
	// nobody thought of.
	ServerNames []string
	// Certificate and Key are what the API proves its names with (PEM files).
	Certificate, Key string

	// ClientCA is the bundle that clients' certificates are verified against: roots and
	// intermediates, because clients send their leaf alone (PEM file).
	ClientCA string
	// UnverifiedClients leaves it to asid-authz to verify them: Envoy asks for a
	// certificate and takes any, or none. A client whose certificate is wrong then gets
	// an OperationOutcome instead of a broken handshake, and nothing but asid-authz
	// stands between it and the API. By default both verify.
	UnverifiedClients bool

	// Authz is asid-authz: "unix:/path", or "host:port" with CA, Certificate, Key and
	// Name. Without these an address must be of the loopback: whoever could answer in
	// its place could let everybody in.
	Authz Peer
	// InsecureAuthz lets Authz do without TLS beyond the loopback, because something else
	// guards the way, a service mesh for one.
	InsecureAuthz bool
	// CheckTimeout bounds one question, retry included; 0 is 250 ms. Below 20 ms a
	// handshake with asid-authz does not fit in; above 5 s clients give up first.
	CheckTimeout time.Duration

	// Upstream is the API: plain, or TLS with CA and Name, and Certificate and Key if
	// the API asks who calls. It believes the x-asid headers of whoever reaches it.
	Upstream Peer

	// Admin is where Envoy's own administration listens: "unix:/path", or an address of
	// the loopback, because it can stop and drain Envoy. "": nowhere, and there is
	// nothing to probe.
	Admin string

	// SecretsDirectory is where Envoy finds the files that Secrets returns. Through them
	// it takes up certificates and CAs that are replaced while it runs. "": the
	// configuration is one file, and what it names is read once, at the start.
	SecretsDirectory string
}

// A Peer is one of the servers that Envoy calls.
type Peer struct {
	// Addresses of all replicas, or one DNS name that has them all. The name of a load
	// balancer would bind every connection to one replica.
	Addresses []string
	// CA verifies the peer's certificate, which must be for the DNS name Name: a CA
	// alone certifies many others as well. "": no TLS.
	CA, Name string
	// Certificate and Key are what Envoy proves itself with to the peer.
	Certificate, Key string
}

// envoyFloor is the oldest Envoy that what Render writes was run on. Older ones do not
// know every setting, or have holes that matter here.
const envoyFloor = "1.39.3"

const (
	defaultCheckTimeout = 250 * time.Millisecond
	authzCluster        = "asid-authz"
	apiCluster          = "api"
	elsewhereRoute      = "(elsewhere)" // no endpoint is named so: parentheses are no letters of a name
)

// Parts are the names that [Bootstrap.Part] knows: what somebody who has an Envoy
// already needs of the configuration.
func Parts() []string { return []string{"tls", "hcm", "filter", "routes", "access-log", "cluster"} }

// Render returns the whole configuration, with the reason of each setting beside it.
// The error holds everything that is wrong with b.
func (b Bootstrap) Render() ([]byte, error) { return b.render("bootstrap") }

// Part returns one part of what Render returns: tls (transport_socket of the listener's
// filter chain), hcm (settings of the HttpConnectionManager), filter (ext_authz and the
// lock), routes (route_config), access-log (access_log, which holds every decision) or
// cluster (asid-authz). Each stands below the key that it belongs under, but for hcm,
// which is many.
func (b Bootstrap) Part(name string) ([]byte, error) {
	if !slices.Contains(Parts(), name) {
		return nil, fmt.Errorf("no part is named %s; the parts are %s", authz.Excerpt(name), strings.Join(Parts(), ", "))
	}
	return b.render(name)
}

// Secrets returns the files of SecretsDirectory by name, none if that is "".
func (b Bootstrap) Secrets() (map[string][]byte, error) {
	if err := b.check(); err != nil || b.SecretsDirectory == "" {
		return nil, err
	}
	files := map[string][]byte{}
	for _, s := range []struct{ name, file, key string }{
		{"server-certificate", b.Certificate, b.Key},
		{"client-ca", b.ClientCA, ""},
		{"authz-certificate", b.Authz.Certificate, b.Authz.Key},
		{"authz-ca", b.Authz.CA, ""},
		{"api-certificate", b.Upstream.Certificate, b.Upstream.Key},
		{"api-ca", b.Upstream.CA, ""},
	} {
		if s.file == "" {
			continue
		}
		text, err := fields{"name": s.name, "file": s.file, "key": s.key, "directory": path.Dir(s.file)}.rendered("secret")
		if err != nil {
			return nil, err
		}
		files[s.name+".yaml"] = []byte(text + "\n")
	}
	return files, nil
}

func (b Bootstrap) render(name string) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if b.CheckTimeout == 0 {
		b.CheckTimeout = defaultCheckTimeout
	}
	view, err := b.view()
	if err != nil {
		return nil, err
	}
	text, err := view.rendered(name)
	return []byte(text + "\n"), err
}
