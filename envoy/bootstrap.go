package envoy

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
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

// EnvoyFloor is the oldest Envoy that what Render writes was run on. Older ones do not
// know every setting, or have holes that matter here.
const EnvoyFloor = "1.39.3"

const (
	defaultCheckTimeout = 250 * time.Millisecond
	authzCluster        = "asid-authz"
	apiCluster          = "api"
	elsewhereRoute      = "(elsewhere)" // no endpoint is named so: parentheses are no letters of a name
)

// Parts are the names that [Bootstrap.Part] knows: what somebody who has an Envoy
// already needs of the configuration.
func Parts() []string { return []string{"tls", "hcm", "filter", "routes", "cluster"} }

//go:embed bootstrap
var bootstrapFiles embed.FS

// Render returns the whole configuration, with the reason of each setting beside it.
// The error holds everything that is wrong with b.
func (b Bootstrap) Render() ([]byte, error) { return b.render("bootstrap") }

// Part returns one part of what Render returns: tls (transport_socket of the listener's
// filter chain), hcm (settings of the HttpConnectionManager), filter (ext_authz and the
// lock), routes (route_config) or cluster (asid-authz). Each stands below the key
// that it belongs under, but for hcm, which is many.
func (b Bootstrap) Part(name string) ([]byte, error) {
	if !slices.Contains(Parts(), name) {
		return nil, fmt.Errorf("no part is named %s; there are %s", authz.Excerpt(name), strings.Join(Parts(), ", "))
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
		text, err := b.execute("secret", map[string]string{"Name": s.name, "File": s.file, "Key": s.key, "Directory": path.Dir(s.file)})
		if err != nil {
			return nil, err
		}
		files[s.name+".yaml"] = append(text, '\n')
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
	text, err := b.execute(name, view)
	return append(text, '\n'), err
}

// bootstrapView is what the templates see.
type bootstrapView struct {
	Bootstrap
	EnvoyFloor, RouteKey     string
	AuthzCluster, APICluster string
	AuthzAuthority           string
	ConnectTimeout           time.Duration
	Routes                   []bootstrapRoute
	ElsewhereRoute           string
	AllowedHeaders           []allowedHeader
	UnusedHeaders            []string
	Mutable                  string
	LocalReplies             []localReply
}

// A bootstrapRoute leads to one endpoint, by Path or, if it holds an id, by Regex.
type bootstrapRoute struct{ Name, Method, Path, Regex string }

type allowedHeader struct{ Name, Why string }

func (b Bootstrap) view() (*bootstrapView, error) {
	d, err := dialectNamed(b.Profile.Dialect)
	if err != nil {
		return nil, err
	}
	v := &bootstrapView{
		Bootstrap:      b,
		EnvoyFloor:     EnvoyFloor,
		RouteKey:       RouteKey,
		AuthzCluster:   authzCluster,
		APICluster:     apiCluster,
		AuthzAuthority: b.Authz.Name,
		ConnectTimeout: b.CheckTimeout * 2 / 5,
		ElsewhereRoute: elsewhereRoute,
		AllowedHeaders: allowedHeaders(&b.Profile),
		UnusedHeaders:  b.Profile.UnusedHeaders,
		Mutable:        mutableHeaders(&b.Profile),
		LocalReplies:   localReplies(d),
	}
	if v.AuthzAuthority == "" {
		v.AuthzAuthority = authzCluster
	}
	for i := range b.Profile.Endpoints {
		e := &b.Profile.Endpoints[i]
		whole, err := authz.ParsePathTemplate(b.Profile.Base + e.Path.String())
		switch {
		case err != nil:
			return nil, fmt.Errorf("endpoint %s: %w", e.Name, err)
		case whole.String() == "":
			return nil, fmt.Errorf("endpoint %s: no path, and no base: no request can have it", e.Name)
		}
		route := bootstrapRoute{Name: e.Name, Method: e.Method, Path: whole.String()}
		if !whole.IsLiteral() {
			route.Path, route.Regex = "", routeRegexp(whole)
		}
		v.Routes = append(v.Routes, route)
	}
	return v, nil
}

// routeRegexp returns the template's expression without the bound on the length of an
// id: Envoy refuses an expression whose compiled form is larger than 100 instructions,
// unless its runtime is changed, and a counted repetition is. A longer id takes the same
// route, and asid-authz, whose table has the bound, refuses it as endpoint-unknown.
func routeRegexp(t authz.PathTemplate) string {
	return strings.ReplaceAll(t.Regexp(), fmt.Sprintf("{1,%d}", authz.MaxID), "+")
}

// allowedHeaders lists what asid-authz is handed: what it reads, and nothing beside it.
// Lower case, because Envoy compares with lower-case names.
func allowedHeaders(p *authz.Profile) []allowedHeader {
	all := []allowedHeader{
		{":path", "with the bytes that go to the API; the attribute beside it replaces those that are not UTF-8"},
		{"authorization", ""},
		{"accept", "the format of a denial"},
		{"x-request-id", "for the record"},
		{"traceparent", "for the record"},
	}
	for i, h := range []authz.ClaimHeader{p.Sender, p.Receiver, p.Interaction} {
		if h.Name != "" {
			all = append(all, allowedHeader{strings.ToLower(h.Name), [...]string{"the sender", "the receiver", "the interaction"}[i]})
		}
	}
	for i, name := range authz.ForbiddenHeaders() {
		why := ""
		if i == 0 {
			why = "this one and the following are handed on so that they are refused"
		}
		all = append(all, allowedHeader{name, why})
	}
	return all
}

// mutableHeaders returns the expression for what an answer may set or remove: the
// identity headers, also those that a later release will have, and what is removed
// because the profile does not judge it. Those are many, and Envoy refuses a long
// expression: of a family ("nhsd-…") only the beginning is written.
func mutableHeaders(p *authz.Profile) string {
	names := []string{headerASID + "(-[a-z-]+)?"}
	for _, h := range p.UnusedHeaders {
		name := regexp.QuoteMeta(h)
		if family, _, found := strings.Cut(strings.TrimPrefix(h, "x-"), "-"); found {
			name = regexp.QuoteMeta(strings.TrimSuffix(h, strings.TrimPrefix(h, "x-"))+family) + "-.+"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

func (b Bootstrap) execute(name string, data any) ([]byte, error) {
	var t *template.Template
	include := func(name string, indent int, different ...any) (string, error) {
		with := data
		if len(different) > 0 {
			with = different[0]
		}
		var text bytes.Buffer
		if err := t.ExecuteTemplate(&text, name+".yaml.tmpl", with); err != nil {
			return "", err
		}
		margin := strings.Repeat(" ", indent)
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		for i := range lines {
			if lines[i] != "" {
				lines[i] = margin + lines[i]
			}
		}
		return strings.Join(lines, "\n"), nil
	}
	t = template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"include":  include,
		"quote":    quote,
		"list":     func(all []string) string { return quote(all) },
		"address":  address,
		"socket":   socketPath,
		"duration": func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s" },
		"unix":     func(p Peer) bool { return socketPath(p.Addresses[0]) != "" },
		"peer": func(p Peer, prefix, alpn string) any {
			return struct {
				Peer
				Prefix, ALPN string
				SDS          bool
			}{p, prefix, alpn, b.SecretsDirectory != ""}
		},
		"sds": func(name string) string {
			return fmt.Sprintf("{ name: %s, sds_config: { path_config_source: { path: %s }, resource_api_version: V3 } }",
				name, quote(path.Join(b.SecretsDirectory, name+".yaml")))
		},
		"cel": func(expression string) string {
			return `{ extension_filter: { name: envoy.access_loggers.extension_filters.cel, typed_config: { "@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter, expression: ` +
				quote(expression) + " } } }"
		},
	})
	if _, err := t.ParseFS(bootstrapFiles, "bootstrap/*.yaml.tmpl"); err != nil {
		return nil, err
	}
	text, err := include(name, 0)
	return []byte(text), err
}

// quote returns v as JSON, which is YAML: whatever a text holds, it stays one text.
func quote(v any) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // texts, lists and maps of them always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}

const unixPrefix = "unix:"

// socketPath returns the path of a Unix socket's address, "" of any other.
func socketPath(a string) string {
	file, is := strings.CutPrefix(a, unixPrefix)
	if !is {
		return ""
	}
	return file
}

// address returns Envoy's form of an address that was checked.
func address(a string) string {
	if file := socketPath(a); file != "" {
		return "{ pipe: { path: " + quote(file) + " } }"
	}
	host, port, _ := net.SplitHostPort(a)
	return "{ socket_address: { address: " + quote(host) + ", port_value: " + port + " } }"
}

// check returns everything that is wrong with b.
func (b Bootstrap) check() error {
	var all []error
	object := func(what string, err error) {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", what, err))
		}
	}
	for _, problem := range b.Profile.Validate() {
		object("profile", problem)
	}
	if _, err := dialectNamed(b.Profile.Dialect); err != nil {
		object("profile", err)
	}
	if host, err := checkTCP(b.Listen); err != nil {
		object("listen", err)
	} else if net.ParseIP(host) == nil {
		object("listen", fmt.Errorf("%s is no IP address", authz.Excerpt(host)))
	}
	if len(b.ServerNames) == 0 {
		object("server names", errors.New("at least one is needed: without SNI and host anybody's name would do"))
	}
	for i, name := range b.ServerNames {
		if !isDNSName(name) || slices.Contains(b.ServerNames[:i], name) {
			object("server names", fmt.Errorf("%s is no lower-case DNS name without wildcard, or stands twice", authz.Excerpt(name)))
		}
	}
	object("certificate", checkFile(b.Certificate))
	object("key", checkFile(b.Key))
	object("client CA", checkFile(b.ClientCA))
	if b.CheckTimeout != 0 && (b.CheckTimeout < 20*time.Millisecond || b.CheckTimeout > 5*time.Second) {
		object("check timeout", fmt.Errorf("%s is not between 20ms and 5s", b.CheckTimeout))
	}
	for _, err := range b.Authz.check() {
		object("asid-authz", err)
	}
	if b.Authz.CA != "" && b.InsecureAuthz {
		object("asid-authz", errors.New("TLS and insecure exclude each other"))
	}
	if b.Authz.CA != "" && b.Authz.Certificate == "" {
		object("asid-authz", errors.New("a CA without a certificate for Envoy: asid-authz must be able to refuse whoever is not this Envoy"))
	}
	if b.Authz.CA == "" && !b.InsecureAuthz && slices.ContainsFunc(b.Authz.Addresses, func(a string) bool { return !isLocal(a) }) {
		object("asid-authz", errors.New("an address that is not of this machine needs TLS: CA, name, certificate and key"))
	}
	for _, err := range b.Upstream.check() {
		object("upstream", err)
	}
	if b.Admin != "" {
		if err := checkAddress(b.Admin); err != nil {
			object("admin", err)
		} else if !isLocal(b.Admin) {
			object("admin", errors.New("the address is not of this machine: whoever reaches it can stop Envoy"))
		}
	}
	if b.SecretsDirectory != "" {
		object("secrets directory", checkFile(b.SecretsDirectory))
	}
	return errors.Join(all...)
}

func (p Peer) check() (all []error) {
	if len(p.Addresses) == 0 {
		all = append(all, errors.New("an address is missing"))
	}
	sockets := 0
	for _, a := range p.Addresses {
		if err := checkAddress(a); err != nil {
			all = append(all, err)
		}
		if strings.HasPrefix(a, unixPrefix) {
			sockets++
		}
	}
	if sockets > 0 && (sockets < len(p.Addresses) || p.CA != "" || p.Name != "" || p.Certificate != "" || p.Key != "") {
		all = append(all, errors.New("a Unix socket stands alone: without TCP addresses and without TLS"))
	}
	if (p.Certificate == "") != (p.Key == "") {
		all = append(all, errors.New("certificate and key belong together"))
	}
	if (p.CA == "") != (p.Name == "") {
		all = append(all, errors.New("CA and name belong together: a CA certifies many, and a name is proved by nothing else"))
	}
	if p.CA == "" && p.Certificate != "" {
		all = append(all, errors.New("a certificate without a CA: without one there is no TLS"))
	}
	if p.Name != "" && !isDNSName(p.Name) {
		all = append(all, fmt.Errorf("%s is no lower-case DNS name without wildcard", authz.Excerpt(p.Name)))
	}
	for _, file := range []string{p.CA, p.Certificate, p.Key} {
		if file == "" {
			continue
		}
		if err := checkFile(file); err != nil {
			all = append(all, err)
		}
	}
	return all
}

func checkAddress(a string) error {
	if file, is := strings.CutPrefix(a, unixPrefix); is {
		if len(file) > maxSocketPath {
			return fmt.Errorf("the path of a Unix socket has at most %d bytes", maxSocketPath)
		}
		return checkFile(file)
	}
	_, err := checkTCP(a)
	return err
}

// maxSocketPath is what fits into Linux's sockaddr_un, with the NUL at its end.
const maxSocketPath = 107

func checkTCP(a string) (host string, err error) {
	host, port, err := net.SplitHostPort(a)
	if err != nil || net.ParseIP(host) == nil && !isDNSName(host) {
		return "", fmt.Errorf("%s is not host:port", authz.Excerpt(a))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return "", fmt.Errorf("%s has no port between 1 and 65535", authz.Excerpt(a))
	}
	return host, nil
}

// isLocal reports whether an address that was checked is of this machine alone.
func isLocal(a string) bool {
	if strings.HasPrefix(a, unixPrefix) {
		return true
	}
	host, _, _ := net.SplitHostPort(a)
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// checkFile accepts an absolute path: a relative one would mean another file in another
// directory that Envoy is started from.
func checkFile(file string) error {
	switch {
	case file == "":
		return errors.New("a path is missing")
	case !path.IsAbs(file):
		return fmt.Errorf("%s is not an absolute path", authz.Excerpt(file))
	case strings.ContainsFunc(file, func(c rune) bool { return c < 0x20 || c == 0x7f || c == '\uFFFD' }):
		return fmt.Errorf("%s holds a control character, or is not UTF-8", authz.Excerpt(file))
	}
	return nil
}

var dnsName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

func isDNSName(s string) bool { return len(s) <= 253 && dnsName.MatchString(s) }
