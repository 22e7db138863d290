package envoy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/proto"

	"asid-authz/authz"
)

// TestAuthzCluster: the way to asid-authz is authenticated on both sides, leaves time
// for a second try, and ends at asid-authz even when no replica is well.
func TestAuthzCluster(t *testing.T) {
	b := nrlBootstrap(t)
	b.Authz.Addresses = append(b.Authz.Addresses, "10.0.0.2:9001")
	b.CheckTimeout = 400 * time.Millisecond
	r := render(t, b)
	c := r.clusters[authzCluster]
	if p := c.GetCommonLbConfig().GetHealthyPanicThreshold(); p == nil || p.GetValue() != 1 {
		t.Errorf("healthy_panic_threshold %v", p)
	}
	if h := c.GetHealthChecks(); len(h) != 1 || h[0].GetGrpcHealthCheck().GetServiceName() != "envoy.service.auth.v3.Authorization" {
		t.Errorf("health checks %v", h)
	}
	http := an[*httpv3.HttpProtocolOptions](t, c.GetTypedExtensionProtocolOptions()["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"])
	if http.GetExplicitHttpConfig().GetHttp2ProtocolOptions() == nil {
		t.Error("gRPC without HTTP/2")
	}
	if n := len(c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()); n != 2 {
		t.Errorf("%d addresses", n)
	}
	tls := an[*tlsv3.UpstreamTlsContext](t, c.GetTransportSocket().GetTypedConfig())
	common := tls.GetCommonTlsContext()
	sans := common.GetValidationContext().GetMatchTypedSubjectAltNames()
	if tls.GetSni() != b.Authz.Name || len(sans) != 1 || sans[0].GetMatcher().GetExact() != b.Authz.Name || common.GetValidationContext().GetTrustedCa().GetFilename() != b.Authz.CA ||
		len(common.GetTlsCertificates()) != 1 || !slices.Equal(common.GetAlpnProtocols(), []string{"h2"}) || common.GetTlsParams().GetTlsMinimumProtocolVersion() != tlsv3.TlsParameters_TLSv1_3 {
		t.Errorf("TLS to asid-authz: %v", tls)
	}

	service := r.authz.GetGrpcService()
	timeout := service.GetTimeout().AsDuration()
	if service.GetEnvoyGrpc().GetClusterName() != authzCluster || timeout != b.CheckTimeout {
		t.Errorf("asks %v", service)
	}
	if max := service.GetRetryPolicy().GetRetryBackOff().GetMaxInterval().AsDuration(); max != timeout {
		t.Errorf("a try ends after %s, the question after %s", max, timeout)
	}
	// A replica that dies resets the questions that it had: they are asked again, elsewhere.
	if on := service.GetRetryPolicy().GetRetryOn(); !slices.Contains(strings.Split(on, ","), "reset") {
		t.Errorf("asks again on %s", on)
	}
	// All of them at once: what is beyond the threshold fails.
	if limits := c.GetCircuitBreakers().GetThresholds()[0]; limits.GetRetryBudget() != nil || limits.GetMaxRetries().GetValue() != limits.GetMaxRequests().GetValue() {
		t.Errorf("asks again within %v", limits)
	}
	// A new replica must be found within seconds, whatever the TTL of the name is.
	dns := an[*dnsv3.DnsCluster](t, c.GetClusterType().GetTypedConfig())
	if dns.GetRespectDnsTtl() || dns.GetDnsRefreshRate().AsDuration() != 5*time.Second {
		t.Errorf("replicas are found by %v", dns)
	}
	if connect := c.GetConnectTimeout().AsDuration(); connect <= 0 || connect > timeout/2 {
		t.Errorf("connecting may take %s of %s", connect, timeout)
	}
}

// TestParts: a part says what the whole says.
func TestParts(t *testing.T) {
	b := nrlBootstrap(t)
	whole := render(t, b)
	tree := map[string]map[string]any{}
	for _, name := range Parts() {
		text, err := b.Part(name)
		if err != nil {
			t.Fatal(err)
		}
		var part map[string]any
		if err := yaml.Load(text, &part); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tree[name] = part
	}

	// Put together by hand, the parts are the HttpConnectionManager of the whole, but
	// for what belongs to no part.
	hcm := maps.Clone(tree["hcm"])
	hcm["stat_prefix"] = whole.hcm.GetStatPrefix()
	maps.Copy(hcm, tree["filter"])
	maps.Copy(hcm, tree["routes"])
	maps.Copy(hcm, tree["access-log"])
	got, want := &hcmv3.HttpConnectionManager{}, proto.CloneOf(whole.hcm)
	decodeTree(t, hcm, got)
	want.HttpFilters = want.HttpFilters[:2]
	if !proto.Equal(got, want) {
		t.Errorf("hcm, filter, routes and access-log are\n%v\nwant\n%v", got, want)
	}

	listener := map[string]any{"static_resources": map[string]any{"clusters": tree["cluster"]["clusters"], "listeners": []any{map[string]any{"filter_chains": []any{tree["tls"]}}}}}
	rest := &bootstrapv3.Bootstrap{}
	decodeTree(t, listener, rest)
	if c := rest.GetStaticResources().GetClusters(); len(c) != 1 || !proto.Equal(c[0], whole.clusters[authzCluster]) {
		t.Errorf("cluster is %v", c)
	}
	if socket := rest.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetTransportSocket(); !proto.Equal(socket, whole.bootstrap.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetTransportSocket()) {
		t.Errorf("tls is %v", socket)
	}

	if _, err := b.Part("rooutes"); err == nil || !strings.Contains(err.Error(), "tls, hcm, filter, routes, access-log, cluster") {
		t.Errorf("a part that there is not: %v", err)
	}
}

// TestSecrets: every secret that the configuration waits for is in a file of that name,
// and that file watches the directory of what it names.
func TestSecrets(t *testing.T) {
	b := nrlBootstrap(t)
	if files, err := b.Secrets(); err != nil || len(files) != 0 {
		t.Errorf("without a directory: %v, %v", files, err)
	}
	b.SecretsDirectory = "/etc/envoy/sds"
	b.Upstream = Peer{Addresses: []string{"api.internal:443"}, CA: "/other/ca.pem", Name: "api.internal", Certificate: "/other/c.pem", Key: "/other/c.key"}
	files, err := b.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	text, err := b.Render()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "filename:") {
		t.Error("a file is read once, in spite of the directory")
	}
	want := map[string][]string{
		"server-certificate": {b.Certificate, b.Key}, "client-ca": {b.ClientCA},
		"authz-certificate": {b.Authz.Certificate, b.Authz.Key}, "authz-ca": {b.Authz.CA},
		"api-certificate": {b.Upstream.Certificate, b.Upstream.Key}, "api-ca": {b.Upstream.CA},
	}
	if len(files) != len(want) {
		t.Errorf("files %v", slices.Sorted(maps.Keys(files)))
	}
	for name, named := range want {
		if !strings.Contains(string(text), fmt.Sprintf("{ name: %s, sds_config: { path_config_source: { path: %q }", name, "/etc/envoy/sds/"+name+".yaml")) {
			t.Errorf("nothing waits for %s", name)
		}
		var d discoveryv3.DiscoveryResponse
		decode(t, files[name+".yaml"], &d)
		if len(d.GetResources()) != 1 {
			t.Fatalf("%s: %v", name, &d)
		}
		secret := an[*tlsv3.Secret](t, d.GetResources()[0])
		got, watched := []string{secret.GetValidationContext().GetTrustedCa().GetFilename()}, secret.GetValidationContext().GetWatchedDirectory()
		if c := secret.GetTlsCertificate(); c != nil {
			got, watched = []string{c.GetCertificateChain().GetFilename(), c.GetPrivateKey().GetFilename()}, c.GetWatchedDirectory()
		}
		if secret.GetName() != name || !slices.Equal(got, named) || watched.GetPath() != path.Dir(named[0]) {
			t.Errorf("%s: %v", name, secret)
		}
	}
}

// TestBootstrapQuotes: no value becomes configuration.
func TestBootstrapQuotes(t *testing.T) {
	for _, evil := range []string{
		`/a" }, private_key: { filename: "/b`, `/a # comment`, `/a: b`, `/{{.Key}}`, `/a'b`, `/%START_TIME%`, `/a\b\n`, `/<é>&`, `/- x`, "/a\u2028b", "/a\u0085b", "/\U0001F600",
	} {
		b := nrlBootstrap(t)
		b.Certificate, b.ClientCA, b.Admin = evil, evil, "unix:"+evil
		r := render(t, b)
		if got := r.tls.GetCommonTlsContext().GetTlsCertificates()[0].GetCertificateChain().GetFilename(); got != evil {
			t.Errorf("%q became %q", evil, got)
		}
		if got := r.bootstrap.GetAdmin().GetAddress().GetPipe(); got.GetPath() != evil || got.GetMode() != 0o600 {
			t.Errorf("%q became %v", evil, got)
		}
		b.SecretsDirectory = evil
		files, err := b.Secrets()
		if err != nil {
			t.Fatal(err)
		}
		var d discoveryv3.DiscoveryResponse
		decode(t, files["client-ca.yaml"], &d)
		if got := an[*tlsv3.Secret](t, d.GetResources()[0]).GetValidationContext().GetTrustedCa().GetFilename(); got != evil {
			t.Errorf("%q became %q", evil, got)
		}
		render(t, b)
	}
}

// TestBootstrapRefuses: a mistake is named, and nothing is rendered.
func TestBootstrapRefuses(t *testing.T) {
	for want, change := range map[string]func(*Bootstrap){
		`no error dialect is named "klingon"`:         func(b *Bootstrap) { b.Profile.Dialect = "klingon" },
		"profile: no endpoints":                       func(b *Bootstrap) { b.Profile.Endpoints = nil },
		"a base path is empty or like /STU3":          func(b *Bootstrap) { b.Profile.Base = "/a/" },
		`listen: "0.0.0.0" is not host:port`:          func(b *Bootstrap) { b.Listen = "0.0.0.0" },
		`listen: "localhost" is no IP address`:        func(b *Bootstrap) { b.Listen = "localhost:1" },
		`listen: "1.2.3.4:0" has no port`:             func(b *Bootstrap) { b.Listen = "1.2.3.4:0" },
		`listen: "1.2.3.4:65536" has no port`:         func(b *Bootstrap) { b.Listen = "1.2.3.4:65536" },
		`listen: "1.2.3.4:+1" has no port`:            func(b *Bootstrap) { b.Listen = "1.2.3.4:+1" },
		`listen: "1.2.3.4:010" has no port`:           func(b *Bootstrap) { b.Listen = "1.2.3.4:010" },
		"server names: at least one is needed":        func(b *Bootstrap) { b.ServerNames = nil },
		`server names: "*.example.org"`:               func(b *Bootstrap) { b.ServerNames = []string{"*.example.org"} },
		`server names: "A.example.org"`:               func(b *Bootstrap) { b.ServerNames = []string{"A.example.org"} },
		`server names: "a.example.org."`:              func(b *Bootstrap) { b.ServerNames = []string{"a.example.org."} },
		`server names: "a"`:                           func(b *Bootstrap) { b.ServerNames = []string{"a", "a"} },
		`certificate: "a.pem" is not an absolute`:     func(b *Bootstrap) { b.Certificate = "a.pem" },
		"key: a path is missing":                      func(b *Bootstrap) { b.Key = "" },
		"client CA: a path is missing":                func(b *Bootstrap) { b.ClientCA, b.UnverifiedClients = "", true },
		`client CA: "/a\nb" holds a control`:          func(b *Bootstrap) { b.ClientCA = "/a\nb" },
		`client CA: "/a\xff" holds a control`:         func(b *Bootstrap) { b.ClientCA = "/a\xff" },
		"check timeout: 19ms":                         func(b *Bootstrap) { b.CheckTimeout = 19 * time.Millisecond },
		"check timeout: -1s":                          func(b *Bootstrap) { b.CheckTimeout = -time.Second },
		"check timeout: 6s":                           func(b *Bootstrap) { b.CheckTimeout = 6 * time.Second },
		"asid-authz: an address is missing":           func(b *Bootstrap) { b.Authz.Addresses = nil },
		"asid-authz: an address that is not of this":  func(b *Bootstrap) { b.Authz = Peer{Addresses: []string{"127.0.0.1:1", "10.0.0.1:1"}} },
		"asid-authz: a CA without a certificate":      func(b *Bootstrap) { b.Authz.Certificate, b.Authz.Key = "", "" },
		"asid-authz: CA and name belong together":     func(b *Bootstrap) { b.Authz.Name = "" },
		"asid-authz: certificate and key":             func(b *Bootstrap) { b.Authz.Key = "" },
		"asid-authz: a certificate without a CA":      func(b *Bootstrap) { b.Authz.CA, b.Authz.Name = "", "" },
		"asid-authz: a Unix socket stands alone":      func(b *Bootstrap) { b.Authz.Addresses = []string{"unix:/a"} },
		"asid-authz: a Unix socket stands":            func(b *Bootstrap) { b.Authz = Peer{Addresses: []string{"unix:/a", "127.0.0.1:1"}} },
		"asid-authz: TLS and insecure exclude":        func(b *Bootstrap) { b.InsecureAuthz = true },
		"asid-authz: the path of a Unix socket":       func(b *Bootstrap) { b.Authz = Peer{Addresses: []string{"unix:/" + strings.Repeat("a", 107)}} },
		`asid-authz: "*.a" is no lower-case DNS name`: func(b *Bootstrap) { b.Authz.Name = "*.a" },
		"upstream: an address is missing":             func(b *Bootstrap) { b.Upstream = Peer{} },
		`upstream: "http://api:80" is not host:port`:  func(b *Bootstrap) { b.Upstream.Addresses = []string{"http://api:80"} },
		"upstream: CA and name belong together":       func(b *Bootstrap) { b.Upstream.CA = "/a" },
		`upstream: "a" is not an absolute path`:       func(b *Bootstrap) { b.Upstream.CA, b.Upstream.Name = "a", "b" },
		"admin: the address is not of this machine":   func(b *Bootstrap) { b.Admin = "0.0.0.0:9901" },
		`admin: "9901" is not host:port`:              func(b *Bootstrap) { b.Admin = "9901" },
		"admin: a path is missing":                    func(b *Bootstrap) { b.Admin = "unix:" },
		`secrets directory: "sds" is not an absolute`: func(b *Bootstrap) { b.SecretsDirectory = "sds" },
		"endpoint root: no path, and no base": func(b *Bootstrap) {
			b.Profile.Base = ""
			root := b.Profile.Endpoints[1]
			root.Name, root.Path = "root", authz.PathTemplate{}
			b.Profile.Endpoints = append(b.Profile.Endpoints, root)
		},
	} {
		b := nrlBootstrap(t)
		b.Profile.Endpoints = slices.Clone(b.Profile.Endpoints)
		change(&b)
		text, err := b.Render()
		if text != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := b.Part("filter"); err == nil {
			t.Errorf("%s: but a part is rendered", want)
		}
	}

	var nothing Bootstrap
	if _, err := nothing.Render(); err == nil || strings.Count(err.Error(), "\n") < 8 {
		t.Errorf("of the zero Bootstrap not everything is named at once: %v", err)
	}
	if _, err := nothing.Secrets(); err == nil {
		t.Error("the zero Bootstrap has secrets")
	}
}
