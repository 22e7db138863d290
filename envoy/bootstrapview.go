package envoy

import (
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"asid-authz/authz"
)

// view returns what the templates see.
func (b Bootstrap) view() (fields, error) {
	d, err := dialectNamed(b.Profile.Dialect)
	if err != nil {
		return nil, err
	}
	routes, err := b.routes()
	if err != nil {
		return nil, err
	}
	authority := b.Authz.Name
	if authority == "" {
		authority = authzCluster
	}
	v := fields{
		"envoy_floor": verbatim(envoyFloor),
		"profile":     verbatim(b.Profile.Name),

		"listen":             address(b.Listen),
		"server_names":       quoteAll(b.ServerNames),
		"server_certificate": b.Certificate,
		"server_key":         b.Key,
		"client_ca":          b.ClientCA,
		"unverified_clients": b.UnverifiedClients,
		"admin":              fields(nil),

		"sds":                    b.SecretsDirectory != "",
		"server_certificate_sds": b.sds("server-certificate"),
		"client_ca_sds":          b.sds("client-ca"),

		"authz_cluster":   authzCluster,
		"authz_authority": authority,
		"authz_addresses": addresses(b.Authz),
		"authz_is_local":  socketPath(b.Authz.Addresses[0]) != "",
		"authz_tls":       b.tls(b.Authz, "authz", true),
		"check_timeout":   seconds(b.CheckTimeout),
		"connect_timeout": seconds(b.CheckTimeout * 2 / 5),

		"api_cluster":   apiCluster,
		"api_addresses": addresses(b.Upstream),
		"api_is_local":  socketPath(b.Upstream.Addresses[0]) != "",
		"api_tls":       b.tls(b.Upstream, "api", false),

		"routes":          routes,
		"route_key":       RouteKey,
		"elsewhere_route": elsewhereRoute,
		"allowed_headers": allowedHeaders(&b.Profile),
		"mutable_headers": mutableHeaders(&b.Profile),
		"unused_headers":  each(b.Profile.UnusedHeaders, func(h string) fields { return fields{"name": h} }),
		"logged_id":       "%CEL(" + isOurID + " ? request.id : '')%",
		"denied":          cel("response.code_details == 'ext_authz_denied'"),
		"local_replies": each(localReplies(d), func(r localReply) fields {
			return fields{"filter": cel(r.Expression), "content_type": r.ContentType, "format": r.Format}
		}),
	}
	if b.Admin != "" {
		v["admin"] = fields{"socket": socketPath(b.Admin), "address": address(b.Admin)}
	}
	return v, nil
}

// routes lead to one endpoint each, by path or, if it holds an id, by regex.
func (b Bootstrap) routes() (all []fields, err error) {
	for i := range b.Profile.Endpoints {
		e := &b.Profile.Endpoints[i]
		whole, err := authz.ParsePathTemplate(b.Profile.Base + e.Path.String())
		switch {
		case err != nil:
			return nil, fmt.Errorf("endpoint %s: %w", e.Name, err)
		case whole.String() == "":
			return nil, fmt.Errorf("endpoint %s: no path, and no base: no request can have it", e.Name)
		}
		route := fields{"name": e.Name, "method": e.Method, "path": whole.String(), "regex": ""}
		if !whole.IsLiteral() {
			route["regex"] = routeRegexp(whole)
		}
		all = append(all, route)
	}
	return all, nil
}

// tls returns what the connections to p are secured with, nil if they are not.
func (b Bootstrap) tls(p Peer, secret string, grpc bool) fields {
	if p.CA == "" {
		return nil
	}
	alpn := "http/1.1"
	if grpc {
		alpn = "h2"
	}
	return fields{
		"name": p.Name, "ca": p.CA, "certificate": p.Certificate, "key": p.Key, "grpc": grpc, "alpn": alpn,
		"certificate_sds": b.sds(secret + "-certificate"), "ca_sds": b.sds(secret + "-ca"),
	}
}

// sds names a file of SecretsDirectory.
func (b Bootstrap) sds(name string) verbatim {
	file := path.Join(b.SecretsDirectory, name+".yaml")
	return verbatim("{ name: " + name + ", sds_config: { path_config_source: { path: " + quote(file) + " }, resource_api_version: V3 } }")
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
func allowedHeaders(p *authz.Profile) []fields {
	allowed := func(name string, why verbatim) fields { return fields{"name": name, "why": why} }
	all := []fields{
		allowed(":path", "with the bytes that go to the API; the attribute beside it replaces those that are not UTF-8"),
		allowed("authorization", ""),
		allowed("accept", "the format of a denial"),
		allowed("x-request-id", "for the record"),
		allowed("traceparent", "for the record"),
	}
	for i, h := range []authz.ClaimHeader{p.Sender, p.Receiver, p.Interaction} {
		if h.Name != "" {
			all = append(all, allowed(strings.ToLower(h.Name), [...]verbatim{"the sender", "the receiver", "the interaction"}[i]))
		}
	}
	for i, name := range authz.ForbiddenHeaders() {
		why := verbatim("")
		if i == 0 {
			why = "this one and the following are handed on so that they are refused"
		}
		all = append(all, allowed(name, why))
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

func each[T any](all []T, of func(T) fields) []fields {
	list := make([]fields, len(all))
	for i := range all {
		list[i] = of(all[i])
	}
	return list
}

func addresses(p Peer) []fields {
	return each(p.Addresses, func(a string) fields { return fields{"address": address(a)} })
}

// cel returns an access log filter, which is also what a mapper of local replies takes.
func cel(expression string) verbatim {
	return verbatim(`{ extension_filter: { name: envoy.access_loggers.extension_filters.cel, typed_config: { "@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter, expression: ` +
		quote(expression) + " } } }")
}

func seconds(d time.Duration) verbatim {
	return verbatim(strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s")
}

// quote returns s as a YAML scalar in double quotes, whose escapes are those of Go:
// whatever s holds, it stays one text. ASCII, because YAML ends a line also at
// characters that do not look like it (U+0085).
func quote(s string) string { return strconv.QuoteToASCII(s) }

func quoteAll(all []string) verbatim {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = quote(s)
	}
	return verbatim("[" + strings.Join(quoted, ", ") + "]")
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
func address(a string) verbatim {
	if file := socketPath(a); file != "" {
		return verbatim("{ pipe: { path: " + quote(file) + " } }")
	}
	host, port, _ := net.SplitHostPort(a)
	return verbatim("{ socket_address: { address: " + quote(host) + ", port_value: " + port + " } }")
}
