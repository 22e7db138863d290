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
	text, err := changed([]byte(before), []Change{FailingOpen, Unlocked, Naming("delete")})
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
	if same, err := changed([]byte(before), nil); err != nil || string(same) != before {
		t.Errorf("without a change: %q, %v", same, err)
	}
}
