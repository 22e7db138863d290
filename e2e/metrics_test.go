package e2e

import (
	"os"
	"strings"
	"testing"

	"asid-authz/e2e/mesh"
)

// Every metric of Envoy that an alert or the dashboard asks for is one that a real Envoy has,
// with the labels that they select, when it is configured as asid-authz envoy-config prints
// it. An alert on a name that Envoy has changed would be silent for ever.
func TestEnvoyExportsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{})
	s.ask(t, s.edge, s.read)
	list, err := os.ReadFile("../deploy/prometheus/envoy-metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := s.edge.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(list)) {
		label := `envoy_cluster_name="asid-authz"`
		switch {
		case strings.HasPrefix(name, "envoy_http_ext_authz_"):
			label = `envoy_ext_authz_prefix="asid_authz"`
		case strings.HasPrefix(name, "envoy_http_"):
			label = `envoy_http_conn_manager_prefix="https"`
		}
		found := false
		for line := range strings.Lines(metrics) {
			found = found || strings.HasPrefix(line, name+"{") && strings.Contains(line, label)
		}
		if !found {
			t.Errorf("Envoy exports no %s with %s", name, label)
		}
	}
}
