package envoy

import (
	"encoding/json"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/authz/profile"
)

func nrlBootstrap(t *testing.T) Bootstrap {
	t.Helper()
	p, err := profile.Builtin("nrl")
	if err != nil {
		t.Fatal(err)
	}
	return Bootstrap{
		Profile:     p,
		Listen:      "0.0.0.0:8443",
		ServerNames: []string{"api.example.org", "api2.example.org"},
		Certificate: "/tls/server.pem", Key: "/tls/server.key", ClientCA: "/tls/client-ca.pem",
		Authz:    Peer{Addresses: []string{"authz.example.org:9001"}, CA: "/tls/ca.pem", Name: "authz.example.org", Certificate: "/tls/envoy.pem", Key: "/tls/envoy.key"},
		Upstream: Peer{Addresses: []string{"127.0.0.1:8080"}},
		Admin:    "unix:/run/admin.sock",
	}
}

// decode reads YAML as Envoy does: into its own messages, nothing unknown, every
// message, also those in an Any, as its rules say.
func decode(t *testing.T, text []byte, into proto.Message) {
	t.Helper()
	var tree any
	if err := yaml.Load(text, &tree); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	decodeTree(t, tree, into)
}

func decodeTree(t *testing.T, tree any, into proto.Message) {
	t.Helper()
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(text, into); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	validate(t, into)
}

func validate(t *testing.T, m proto.Message) {
	t.Helper()
	if v, is := m.(interface{ ValidateAll() error }); !is {
		t.Errorf("%T has no rules", m)
	} else if err := v.ValidateAll(); err != nil {
		t.Errorf("%T: %v", m, err)
	}
	eachAny(t, m.ProtoReflect(), func(inner proto.Message) { validate(t, inner) })
}

// eachAny calls f with what the Any fields below m hold, but not with what is in those.
func eachAny(t *testing.T, m protoreflect.Message, f func(proto.Message)) {
	if a, is := m.Interface().(*anypb.Any); is {
		inner, err := a.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		f(inner)
		return
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					eachAny(t, v.Message(), f)
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range v.List().Len() {
				eachAny(t, v.List().Get(i).Message(), f)
			}
		default:
			eachAny(t, v.Message(), f)
		}
		return true
	})
}

// an unpacks a typed_config of the type that is expected.
func an[T proto.Message](t *testing.T, a *anypb.Any) T {
	t.Helper()
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	typed, is := m.(T)
	if !is {
		t.Fatalf("a %T", m)
	}
	return typed
}

// A rendered configuration, taken apart.
type rendered struct {
	bootstrap *bootstrapv3.Bootstrap
	tls       *tlsv3.DownstreamTlsContext
	hcm       *hcmv3.HttpConnectionManager
	authz     *extauthzv3.ExtAuthz
	clusters  map[string]*clusterv3.Cluster
}

func render(t *testing.T, b Bootstrap) *rendered {
	t.Helper()
	text, err := b.Render()
	if err != nil {
		t.Fatal(err)
	}
	r := &rendered{bootstrap: &bootstrapv3.Bootstrap{}, clusters: map[string]*clusterv3.Cluster{}}
	decode(t, text, r.bootstrap)
	listeners := r.bootstrap.GetStaticResources().GetListeners()
	if len(listeners) != 1 || len(listeners[0].GetFilterChains()) != 1 || listeners[0].GetDefaultFilterChain() != nil {
		t.Fatalf("want one listener with one filter chain, so that there is one way in")
	}
	chain := listeners[0].GetFilterChains()[0]
	if len(chain.GetFilters()) != 1 {
		t.Fatalf("%d network filters", len(chain.GetFilters()))
	}
	r.tls = an[*tlsv3.DownstreamTlsContext](t, chain.GetTransportSocket().GetTypedConfig())
	r.hcm = an[*hcmv3.HttpConnectionManager](t, chain.GetFilters()[0].GetTypedConfig())
	r.authz = an[*extauthzv3.ExtAuthz](t, r.hcm.GetHttpFilters()[0].GetTypedConfig())
	for _, c := range r.bootstrap.GetStaticResources().GetClusters() {
		r.clusters[c.GetName()] = c
	}
	return r
}

// profiles are those of the corpus: what they allow and what a configuration leads to
// the API must be the same, whatever they look like.
func profiles(t *testing.T) map[string]authz.Profile {
	t.Helper()
	corpus, err := authztest.Load("../authz/testdata")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]authz.Profile{}
	for name, world := range corpus.Worlds {
		if all[name], err = world.Decoded(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestBootstrapVariants: every form that the parameters can give it is one that Envoy
// would read.
func TestBootstrapVariants(t *testing.T) {
	for name, change := range map[string]func(*Bootstrap){
		"as it is":     func(*Bootstrap) {},
		"sds":          func(b *Bootstrap) { b.SecretsDirectory = "/etc/envoy/sds" },
		"unverified":   func(b *Bootstrap) { b.UnverifiedClients = true },
		"unix":         func(b *Bootstrap) { b.Authz = Peer{Addresses: []string{"unix:/run/a.sock"}} },
		"plain":        func(b *Bootstrap) { b.Authz = Peer{Addresses: []string{"127.0.0.1:1", "[::1]:2", "localhost:3"}} },
		"insecure":     func(b *Bootstrap) { b.Authz, b.InsecureAuthz = Peer{Addresses: []string{"10.0.0.1:1"}}, true },
		"no admin":     func(b *Bootstrap) { b.Admin = "" },
		"admin on tcp": func(b *Bootstrap) { b.Admin = "127.0.0.1:9901" },
		"upstream tls": func(b *Bootstrap) { b.Upstream.CA, b.Upstream.Name = "/tls/api-ca.pem", "api.internal" },
		"upstream mtls, unverified, sds": func(b *Bootstrap) {
			b.Upstream.CA, b.Upstream.Name, b.Upstream.Certificate, b.Upstream.Key = "/a", "api.internal", "/b", "/c"
			b.UnverifiedClients, b.SecretsDirectory = true, "/etc/envoy/sds"
		},
		"upstream unix": func(b *Bootstrap) { b.Upstream.Addresses = []string{"unix:/run/api.sock"} },
		"timeout":       func(b *Bootstrap) { b.CheckTimeout = 30 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			b := nrlBootstrap(t)
			change(&b)
			r := render(t, b)
			if (r.bootstrap.GetAdmin() == nil) != (b.Admin == "") {
				t.Error("admin is there, or is not, against what was asked")
			}
			verified := r.tls.GetRequireClientCertificate().GetValue()
			validation := r.tls.GetCommonTlsContext().GetValidationContext()
			if c := r.tls.GetCommonTlsContext().GetCombinedValidationContext(); c != nil {
				validation = c.GetDefaultValidationContext()
			} else if validation.GetTrustedCa().GetFilename() != b.ClientCA {
				t.Errorf("clients are verified against %q", validation.GetTrustedCa().GetFilename())
			}
			if accepts := validation.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED; verified == b.UnverifiedClients || accepts != b.UnverifiedClients {
				t.Errorf("unverified %t: certificate required %t, untrusted accepted %t", b.UnverifiedClients, verified, accepts)
			}
			if !r.tls.GetDisableStatelessSessionResumption() || !r.tls.GetDisableStatefulSessionResumption() {
				t.Error("sessions can be resumed: a certificate would outlive its end")
			}
		})
	}
}

// TestLock: nothing stands before ext_authz, nothing between it and the lock, nothing
// can answer before both, and no route may take either away.
func TestLock(t *testing.T) {
	r := render(t, nrlBootstrap(t))
	var names []string
	for _, f := range r.hcm.GetHttpFilters() {
		names = append(names, f.GetName())
		if f.GetDisabled() || f.GetIsOptional() {
			t.Errorf("%s may be missing", f.GetName())
		}
	}
	if want := []string{"envoy.filters.http.ext_authz", "envoy.filters.http.rbac", "envoy.filters.http.router"}; !slices.Equal(names, want) {
		t.Fatalf("HTTP filters %v, want %v", names, want)
	}

	a := r.authz
	for what, wrong := range map[string]bool{
		"failure_mode_allow":                a.GetFailureModeAllow(),
		"filter_enabled":                    a.GetFilterEnabled() != nil || a.GetFilterEnabledMetadata() != nil || a.GetDenyAtDisable() != nil,
		"shadow_mode":                       a.GetShadowMode(),
		"with_request_body":                 a.GetWithRequestBody() != nil,
		"clear_route_cache":                 a.GetClearRouteCache(),
		"status_on_error":                   a.GetStatusOnError().GetCode() != 503,
		"include_peer_certificate":          !a.GetIncludePeerCertificate(),
		"encode_raw_headers":                !a.GetEncodeRawHeaders(),
		"validate_mutations":                !a.GetValidateMutations(),
		"enable_dynamic_metadata_ingestion": a.GetEnableDynamicMetadataIngestion() != nil && !a.GetEnableDynamicMetadataIngestion().GetValue(),
		"transport_api_version":             a.GetTransportApiVersion() != corev3.ApiVersion_V3,
	} {
		if wrong {
			t.Errorf("ext_authz: %s is wrong", what)
		}
	}

	lock := an[*rbacv3.RBAC](t, r.hcm.GetHttpFilters()[1].GetTypedConfig())
	var want rbacconfigv3.RBAC
	decode(t, []byte(`
action: ALLOW
policies:
  asid-authz-allowed:
    permissions: [{any: true}]
    principals:
    - sourced_metadata:
        metadata_source: DYNAMIC
        metadata_matcher: {filter: envoy.filters.http.ext_authz, path: [{key: decision}], value: {string_match: {exact: allow}}}`), &want)
	if !proto.Equal(lock.GetRules(), &want) || lock.GetShadowRules() != nil || lock.GetMatcher() != nil {
		t.Errorf("the lock is %v", lock)
	}

	for _, host := range r.hcm.GetRouteConfig().GetVirtualHosts() {
		for _, route := range host.GetRoutes() {
			for name := range route.GetTypedPerFilterConfig() {
				if name != names[0] {
					t.Errorf("route %s overrides %s", route.GetName(), name)
				}
			}
		}
	}
}

// TestEdge: what reaches asid-authz is one spelling of the request, and none of it is a
// client's word for what Envoy should know.
func TestEdge(t *testing.T) {
	h := render(t, nrlBootstrap(t)).hcm
	for what, wrong := range map[string]bool{
		"use_remote_address":                   !h.GetUseRemoteAddress().GetValue(),
		"xff_num_trusted_hops":                 h.GetXffNumTrustedHops() != 0,
		"internal_address_config":              h.GetInternalAddressConfig() != nil,
		"normalize_path":                       !h.GetNormalizePath().GetValue(),
		"merge_slashes":                        !h.GetMergeSlashes(),
		"path_with_escaped_slashes_action":     h.GetPathWithEscapedSlashesAction() != hcmv3.HttpConnectionManager_REJECT_REQUEST,
		"stream_error_on_invalid_http_message": h.GetStreamErrorOnInvalidHttpMessage().GetValue(),
		"forward_client_cert_details":          h.GetForwardClientCertDetails() != hcmv3.HttpConnectionManager_SANITIZE,
		"preserve_external_request_id":         h.GetPreserveExternalRequestId(),
		"always_set_request_id_in_response":    !h.GetAlwaysSetRequestIdInResponse(),
		"headers_with_underscores_action":      h.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction() != corev3.HttpProtocolOptions_REJECT_REQUEST,
		"max_headers_count":                    h.GetCommonHttpProtocolOptions().GetMaxHeadersCount().GetValue() > authz.MaxHeaders,
		"max_request_headers_kb":               h.GetMaxRequestHeadersKb().GetValue()<<10 > authz.MaxHeaderBytes,
		"max_connection_duration":              h.GetCommonHttpProtocolOptions().GetMaxConnectionDuration() == nil,
		"allow_chunked_length":                 h.GetHttpProtocolOptions().GetAllowChunkedLength(),
		"accept_http_10":                       h.GetHttpProtocolOptions().GetAcceptHttp_10(),
		"allow_connect":                        h.GetHttp2ProtocolOptions().GetAllowConnect(),
		"upgrade_configs":                      len(h.GetUpgradeConfigs()) > 0,
		"request_headers_timeout":              h.GetRequestHeadersTimeout() == nil,
		"stat_prefix":                          h.GetStatPrefix() == "",
	} {
		if wrong {
			t.Errorf("%s is wrong", what)
		}
	}
}

// TestAccessLog: a closed list of what is written about a request. Anything else could be
// a path, a query, a credential or a header of the client's choice.
func TestAccessLog(t *testing.T) {
	harmless := map[string]bool{
		"%START_TIME%": true, "%CONNECTION_ID%": true, "%REQUEST_HEADER(:METHOD):8%": true, "%ROUTE_NAME%": true,
		"%RESPONSE_CODE%": true, "%RESPONSE_CODE_DETAILS%": true, "%RESPONSE_FLAGS%": true, "%DURATION%": true,
		"%DOWNSTREAM_TLS_VERSION%": true, "%DOWNSTREAM_PEER_FINGERPRINT_256%": true,
		"%CEL(" + isOurID + " ? request.id : '')%":                      true,
		"%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%":              true,
		"%FILTER_STATE(envoy.filters.http.ext_authz:FIELD:latency_us)%": true,
	}
	logs := render(t, nrlBootstrap(t)).hcm.GetAccessLog()
	if len(logs) != 1 {
		t.Fatalf("%d access logs", len(logs))
	}
	for _, log := range logs {
		config := &streamv3.StdoutAccessLog{}
		if err := log.GetTypedConfig().UnmarshalTo(config); err != nil {
			t.Fatal(err)
		}
		format := config.GetLogFormat().GetJsonFormat().AsMap()
		for name, value := range format {
			if text, is := value.(string); name != "log" && (!is || !harmless[text]) {
				t.Errorf("the access log holds %s: %v", name, value)
			}
		}
		if format["authz"] != "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%" {
			t.Error("the access log does not hold what was decided")
		}
	}
}

// TestOneWord: the lock waits for the word that an allow is recorded with, under the
// name that a record has.
func TestOneWord(t *testing.T) {
	record := &Record{}
	for f := range record.Fields {
		if f.Name == "decision" && f.Text == "deny" && !metadataOmits[f.Name] {
			return
		}
	}
	t.Error("the lock waits for a field decision that no record has")
}

// TestRoutes: an endpoint has one route, which is the only kind that leads to the API;
// everything else is asked about without an endpoint and ends in Envoy.
func TestRoutes(t *testing.T) {
	for name, p := range profiles(t) {
		t.Run(name, func(t *testing.T) {
			b := nrlBootstrap(t)
			b.Profile = p
			r := render(t, b)
			hosts := r.hcm.GetRouteConfig().GetVirtualHosts()
			if len(hosts) != 1 || !slices.Equal(hosts[0].GetDomains(), b.ServerNames) || len(hosts[0].GetTypedPerFilterConfig()) > 0 || len(r.hcm.GetRouteConfig().GetTypedPerFilterConfig()) > 0 {
				t.Fatalf("virtual hosts: %v", hosts)
			}
			routes := hosts[0].GetRoutes()
			last := routes[len(routes)-1]
			if last.GetMatch().GetPrefix() != "/" || len(last.GetMatch().GetHeaders()) > 0 || last.GetDirectResponse().GetStatus() != 403 || len(last.GetTypedPerFilterConfig()) > 0 {
				t.Errorf("the last route does not end what matches no endpoint: %v", last)
			}
			found := map[string]int{}
			for _, route := range routes[:len(routes)-1] {
				if route.GetRoute().GetCluster() != apiCluster || route.GetRoute().GetTimeout().AsDuration() <= 0 {
					t.Errorf("route %s does not lead to the API: %v", route.GetName(), route)
				}
				if endpointOf(t, route) != route.GetName() {
					t.Errorf("route %s names endpoint %q", route.GetName(), endpointOf(t, route))
				}
				found[route.GetName()]++
			}
			for _, e := range p.Endpoints {
				if found[e.Name] != 1 {
					t.Errorf("endpoint %s has %d routes", e.Name, found[e.Name])
				}
				delete(found, e.Name)
			}
			if len(found) > 0 {
				t.Errorf("routes for no endpoint: %v", found)
			}
		})
	}
}

// endpointOf returns the endpoint that a route names to asid-authz.
func endpointOf(t *testing.T, route *routev3.Route) string {
	t.Helper()
	config, is := route.GetTypedPerFilterConfig()["envoy.filters.http.ext_authz"]
	if !is {
		return ""
	}
	per := an[*extauthzv3.ExtAuthzPerRoute](t, config)
	if per.GetDisabled() || len(per.GetCheckSettings().GetContextExtensions()) != 1 || per.GetCheckSettings().GetGrpcService() != nil {
		t.Errorf("route %s: %v", route.GetName(), per)
	}
	return per.GetCheckSettings().GetContextExtensions()["asid-authz.endpoint"]
}

// routed is Envoy's choice: the first route whose method is equal and whose expression
// matches the whole path, without the query.
func routed(t *testing.T, routes []*routev3.Route, method, path string) *routev3.Route {
	t.Helper()
	for _, route := range routes {
		matches := true
		switch m := route.GetMatch().GetPathSpecifier().(type) {
		case *routev3.RouteMatch_Path:
			matches = path == m.Path
		case *routev3.RouteMatch_SafeRegex:
			matches = regexp.MustCompile(`\A(?:` + m.SafeRegex.GetRegex() + `)\z`).MatchString(path)
		case *routev3.RouteMatch_Prefix:
			matches = strings.HasPrefix(path, m.Prefix)
		default:
			t.Fatalf("route %s matches by %T", route.GetName(), m)
		}
		for _, h := range route.GetMatch().GetHeaders() {
			if h.GetName() != ":method" || h.GetInvertMatch() || h.GetStringMatch().GetIgnoreCase() {
				t.Fatalf("route %s matches the header %v", route.GetName(), h)
			}
			matches = matches && method == h.GetStringMatch().GetExact()
		}
		if matches {
			return route
		}
	}
	return nil
}

// TestRoutesAgree holds Envoy's choice against the decision's own: whatever leads to the
// API is an endpoint, and the same one, in both. What only one of them takes for an
// endpoint is refused.
func TestRoutesAgree(t *testing.T) {
	id := func(n int) string { return strings.Repeat("a", n) }
	for name, p := range profiles(t) {
		t.Run(name, func(t *testing.T) {
			b := nrlBootstrap(t)
			b.Profile = p
			routes := render(t, b).hcm.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()
			explain := endpointStep(t, p)
			var paths []string
			for _, e := range p.Endpoints {
				whole := p.Base + strings.ReplaceAll(e.Path.String(), "{id}", "Ab-9.z")
				paths = append(paths, whole, whole+"/", whole+"/x", whole+"x", "x"+whole, "/x"+whole, whole[:len(whole)-1],
					strings.ToUpper(whole), strings.ToLower(whole), strings.ReplaceAll(whole, ".", "x"), whole+"%20", whole+"\n", "\n"+whole, whole+"é", whole+"$", whole+";x",
					strings.Replace(whole, "Ab-9.z", id(64), 1), strings.Replace(whole, "Ab-9.z", id(65), 1), strings.Replace(whole, "Ab-9.z", "", 1),
					strings.Replace(whole, "Ab-9.z", "a_b", 1), strings.Replace(whole, "Ab-9.z", "{id}", 1))
			}
			paths = append(paths, "/", "", "*", p.Base, "/metadata")
			both := 0
			for _, path := range paths {
				for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "FOO", ""} {
					route := routed(t, routes, method, path)
					if route == nil { // as "*" has none: not asked about, and the lock refuses it
						if path != "" && path[0] == '/' {
							t.Errorf("%s %q: no route", method, path)
						}
						continue
					}
					named := endpointOf(t, route)
					toAPI := route.GetRoute() != nil
					passes := explain(method, path, named)
					switch {
					case toAPI && passes:
						both++
					case toAPI && !passes && !regexp.MustCompile(`[A-Za-z0-9.-]{65}`).MatchString(path):
						t.Errorf("%s %q: the route is %s, and the decision does not think so", method, path, named)
					case !toAPI && passes:
						t.Errorf("%s %q: the decision knows the endpoint, and no route leads there", method, path)
					}
				}
			}
			if both < len(p.Endpoints) {
				t.Errorf("%d paths led to an endpoint, of %d endpoints: the list is wrong", both, len(p.Endpoints))
			}
		})
	}
}

// endpointStep returns a function that asks the decision whether a request's method,
// path and route are one endpoint.
func endpointStep(t *testing.T, p authz.Profile) func(method, path, route string) bool {
	t.Helper()
	receiver, err := authz.ParseASID("999999999999")
	if err != nil {
		t.Fatal(err)
	}
	none := &authztest.Source{}
	authorizer, err := authz.New(authz.Config{
		Profile: p, Binding: authz.Binding{Mode: authz.InCertificate, ASID: authz.PlaceURISAN}, Receivers: []authz.ASID{receiver},
		Tokens: noTokens{}, Map: none.Maps(), Trust: none.Trusts(), MaxStaleness: time.Hour, MaxTrustAge: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(method, path, route string) bool {
		_, steps := authorizer.Explain(t.Context(), &authz.Request{Now: time.Now(), Method: method, Target: path + "?x=/y", Route: route})
		for _, s := range steps {
			if s.Name == "endpoint" {
				return s.Outcome == authz.Passed
			}
		}
		t.Fatal("there is no step endpoint")
		return false
	}
}

// TestPrograms: RE2 compiles an expression to a program, and Envoy refuses one of more
// than 100 instructions.
func TestPrograms(t *testing.T) {
	for name, p := range profiles(t) {
		b := nrlBootstrap(t)
		b.Profile = p
		r := render(t, b)
		expressions := []string{r.authz.GetDecoderHeaderMutationRules().GetAllowExpression().GetRegex()}
		for _, route := range r.hcm.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
			if e := route.GetMatch().GetSafeRegex().GetRegex(); e != "" {
				expressions = append(expressions, e)
			}
		}
		for _, e := range expressions {
			parsed, err := syntax.Parse(e, syntax.Perl)
			if err != nil {
				t.Fatal(err)
			}
			program, err := syntax.Compile(parsed.Simplify())
			if err != nil {
				t.Fatal(err)
			}
			// Go counts a class as one instruction, RE2 one for each range and byte.
			if n := len(program.Inst) + 4*strings.Count(e, "["); n > 90 {
				t.Errorf("%s: %q has about %d instructions", name, e, n)
			}
		}
	}
}

// TestAllowedHeaders: asid-authz is handed exactly what it reads, under the names that
// Envoy compares with.
func TestAllowedHeaders(t *testing.T) {
	b := nrlBootstrap(t)
	want := append([]string{":path", "authorization", "accept", "x-request-id", "traceparent", "fromasid", "toasid", "interactionid"}, authz.ForbiddenHeaders()...)
	var got []string
	for _, pattern := range render(t, b).authz.GetAllowedHeaders().GetPatterns() {
		if pattern.GetExact() == "" || pattern.GetExact() != strings.ToLower(pattern.GetExact()) || pattern.GetIgnoreCase() {
			t.Errorf("pattern %v fits no lower-case name, or more than one", pattern)
		}
		got = append(got, pattern.GetExact())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("handed on are\n%q, want\n%q", got, want)
	}
}

// TestMutations: what an allow sets and removes may be set and removed, and nothing that
// the client or the API relies on.
func TestMutations(t *testing.T) {
	for name, p := range profiles(t) {
		b := nrlBootstrap(t)
		b.Profile = p
		r := render(t, b)
		rules := r.authz.GetDecoderHeaderMutationRules()
		if !rules.GetDisallowAll().GetValue() || !rules.GetDisallowIsError().GetValue() || rules.GetDisallowExpression() != nil || rules.GetAllowAllRouting().GetValue() || rules.GetAllowEnvoy().GetValue() {
			t.Errorf("%s: %v", name, rules)
		}
		allowed := regexp.MustCompile(`\A(?:` + rules.GetAllowExpression().GetRegex() + `)\z`)
		for _, h := range append([]string{headerASID, headerODSCode, headerInteraction, headerEndpoint, headerSubject, headerDecisionID, headerReason}, p.UnusedHeaders...) {
			if !allowed.MatchString(h) {
				t.Errorf("%s: an allow may not touch %s: every request would be answered with 500", name, h)
			}
		}
		for _, h := range []string{"authorization", "cookie", "host", "content-type", "content-length", "x-forwarded-for", "x-request-id", "traceparent", "x-asi", "x-asidx", "xx-asid", "fromasid", "te"} {
			if allowed.MatchString(h) && !slices.Contains(p.UnusedHeaders, h) {
				t.Errorf("%s: an allow may touch %s", name, h)
			}
		}

		early := r.hcm.GetEarlyHeaderMutationExtensions()
		if len(early) != 1 {
			t.Fatalf("%d early mutations", len(early))
		}
		mutations := an[*headermutationv3.HeaderMutation](t, early[0].GetTypedConfig()).GetMutations()
		if mutations[0].GetRemoveOnMatch().GetKeyMatcher().GetPrefix() != "x-asid" {
			t.Errorf("%s: identity headers of the client are not stripped", name)
		}
		var stripped []string
		for _, m := range mutations[1:] {
			stripped = append(stripped, m.GetRemove())
		}
		if !slices.Equal(stripped, p.UnusedHeaders) {
			t.Errorf("%s: stripped are %q, unused %q", name, stripped, p.UnusedHeaders)
		}
	}
}

// noTokens verifies nothing: the decision about the endpoint comes before the token.
type noTokens struct{ authz.TokenVerifier }
