package mesh

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// A change that finds nothing would be a test of nothing.
func TestChangeOfNothing(t *testing.T) {
	for _, c := range []Change{Resuming, Unretried, FailingOpen, Disabled, Shadowed, Unlocked, Unasked, Answering, Naming("read"), Asking("127.0.0.1:1")} {
		if _, err := changed([]byte("static_resources: {}"), []Change{c}); err == nil || !strings.Contains(err.Error(), c.Name) {
			t.Errorf("%s: got %v", c.Name, err)
		}
	}
	if _, err := changed([]byte("http_filters: [{ name: router }]"), []Change{Unlocked}); err == nil || !strings.Contains(err.Error(), "the lock is not there") {
		t.Errorf("got %v", err)
	}
}

func TestChanges(t *testing.T) {
	const before = `
http_filters:
- { name: ask, typed_config: { "@type": type.googleapis.com/envoy.ExtAuthz, failure_mode_allow: false } }
- { name: lock, typed_config: { "@type": type.googleapis.com/envoy.RBAC } }
routes:
- { match: { path: / }, route: { cluster: api } }
`
	const after = `
http_filters:
- { name: ask, typed_config: { "@type": type.googleapis.com/envoy.ExtAuthz, failure_mode_allow: true } }
routes:
- match: { path: / }
  route: { cluster: api }
  typed_per_filter_config:
    envoy.filters.http.ext_authz:
      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
      check_settings: { context_extensions: { asid-authz.endpoint: delete } }
`
	expectChanged(t, before, after, FailingOpen, Unlocked, Naming("delete"))
	if same, err := changed([]byte(before), nil); err != nil || string(same) != before {
		t.Errorf("without a change: %q, %v", same, err)
	}
}

// Envoy answers in the place of the API alone: what leads nowhere is refused as before.
func TestAnsweringUnasked(t *testing.T) {
	const before = `
http_filters:
- { name: ask, typed_config: { "@type": type.googleapis.com/envoy.ExtAuthz } }
- { name: lock, typed_config: { "@type": type.googleapis.com/envoy.RBAC } }
routes:
- { match: { path: / }, route: { cluster: api }, typed_per_filter_config: { envoy.filters.http.ext_authz: {} } }
- { match: { prefix: / }, direct_response: { status: 403 } }
`
	expectChanged(t, before, `
http_filters:
- { name: lock, typed_config: { "@type": type.googleapis.com/envoy.RBAC } }
routes:
- { match: { path: / }, direct_response: { status: 200 } }
- { match: { prefix: / }, direct_response: { status: 403 } }
`, Answering, Unasked)
}

func TestAsking(t *testing.T) {
	const before = `{ cluster_name: asid-authz, endpoints: [] }`
	for address, want := range map[string]string{
		"127.0.0.1:9001": `{ socket_address: { address: 127.0.0.1, port_value: 9001 } }`,
		"unix:/run/s":    `{ pipe: { path: /run/s } }`,
	} {
		expectChanged(t, before, `{ cluster_name: asid-authz, endpoints: [{ lb_endpoints: [{ endpoint: { address: `+want+` } }] }] }`, Asking(address))
	}
}

func expectChanged(t *testing.T, before, after string, changes ...Change) {
	t.Helper()
	text, err := changed([]byte(before), changes)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	for _, tree := range []struct {
		text []byte
		into *any
	}{{text, &got}, {[]byte(after), &want}} {
		if err := yaml.Unmarshal(tree.text, tree.into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
