package envoy

import (
	"bytes"
	"embed"
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

//go:embed bootstrap
var bootstrapFiles embed.FS

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
	LoggedID                 string
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
		EnvoyFloor:     envoyFloor,
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
		LoggedID:       "%CEL(" + isOurID + " ? request.id : '')%",
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
		name, begin := regexp.QuoteMeta(h), ""
		rest, isExtension := strings.CutPrefix(h, "x-")
		if isExtension { // no family: everybody's names begin so
			begin = "x-"
		}
		if family, _, found := strings.Cut(rest, "-"); found {
			name = regexp.QuoteMeta(begin+family) + "-.+"
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
		"list":     quoteAll,
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

// quote returns s as a YAML scalar in double quotes, whose escapes are those of Go:
// whatever s holds, it stays one text. ASCII, because YAML ends a line also at
// characters that do not look like it (U+0085).
func quote(s string) string { return strconv.QuoteToASCII(s) }

func quoteAll(all []string) string {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
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
