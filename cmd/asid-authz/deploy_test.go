package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"asid-authz/authz"
)

// An alert is one of deploy/prometheus.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// alerts returns those of every file, in their order: what asid-authz exports first.
func alerts(t *testing.T) (all []alert) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/prometheus/*.rules.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		var rules struct {
			Groups []struct {
				Rules []alert `yaml:"rules"`
			} `yaml:"groups"`
		}
		if err := yaml.Unmarshal([]byte(readText(t, file)), &rules); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, group := range rules.Groups {
			all = append(all, group.Rules...)
		}
	}
	return all
}

// alertsTable lists them with where the runbook speaks of each.
func alertsTable(t *testing.T) *docTable {
	t.Helper()
	table := &docTable{head: []string{"Alert", "Severity", "Waits", "It says", "Runbook"}}
	for _, a := range alerts(t) {
		_, anchor, _ := strings.Cut(a.Annotations["runbook_url"], "#")
		table.rows = append(table.rows, []string{code(a.Alert), a.Labels["severity"], a.For, plain(a.Annotations["summary"]),
			"[" + strings.ReplaceAll(anchor, "-", " ") + "](#" + anchor + ")"})
	}
	return table
}

// TestAlerts: each says what it must, leads to a heading of the runbook, and has a unit test.
func TestAlerts(t *testing.T) {
	tests := ""
	files, err := filepath.Glob("../../deploy/prometheus/*.test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		tests += readText(t, file)
	}
	seen := map[string]bool{}
	for _, a := range alerts(t) {
		if seen[a.Alert] {
			t.Errorf("%s stands twice", a.Alert)
		}
		seen[a.Alert] = true
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has the severity %q", a.Alert, s)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s does not say what is the matter", a.Alert)
		}
		file, anchor, _ := strings.Cut(a.Annotations["runbook_url"], "#")
		if !hasHeading(readText(t, "../../"+file), anchor) {
			t.Errorf("%s: %s has no heading %s", a.Alert, file, anchor)
		}
		if !strings.Contains(tests, "- name: "+a.Alert+"\n") {
			t.Errorf("%s has no unit test", a.Alert)
		}
	}
}

var (
	selector   = regexp.MustCompile(`\{[^}]*\}`)
	labelList  = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	reasonTest = regexp.MustCompile(`\breason=~?"([^"]*)"`)
	timeRange  = regexp.MustCompile(`\[[^\]]*\]|\boffset\s+\S+`)
	identifier = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*\b\s*\(?`)
)

// metricsOf returns the metrics that a query names: the words that are neither functions
// nor operators, nor labels.
func metricsOf(query string) (names []string) {
	for _, cut := range []*regexp.Regexp{selector, labelList, timeRange} {
		query = cut.ReplaceAllString(query, " ")
	}
	for _, word := range identifier.FindAllString(query, -1) {
		switch {
		case strings.HasSuffix(word, "("), slices.Contains([]string{"and", "or", "unless", "sum", "min", "max", "by", "on", "bool", "e9"}, strings.TrimSpace(word)):
		default:
			names = append(names, strings.TrimSpace(word))
		}
	}
	return names
}

// dashboards returns what is read of each of deploy/grafana.
func dashboards(t *testing.T) map[string]*dashboard {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := map[string]*dashboard{}
	for _, file := range files {
		d := &dashboard{}
		if err := json.Unmarshal([]byte(readText(t, file)), d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = d
	}
	return all
}

type dashboard struct {
	UID    string
	Panels []struct {
		ID          int
		Type, Title string
		GridPos     struct{ X, Y, W, H int }
		Datasource  struct{ Type, UID string }
		Targets     []struct {
			Expr       string
			Datasource struct{ Type, UID string }
		}
	}
	Templating struct {
		List []struct {
			Name, Type string
			Definition string
		}
	}
}

// TestQueries: every metric that an alert or a panel names is one that the service, its Go
// runtime or Envoy exports, and every Reason that they select exists.
func TestQueries(t *testing.T) {
	known := exported(t)
	envoys := strings.Fields(readText(t, "../../deploy/prometheus/envoy-metrics.txt"))
	queries := map[string][]string{}
	for _, a := range alerts(t) {
		queries[a.Alert] = append(queries[a.Alert], a.Expr)
	}
	for name, d := range dashboards(t) {
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				queries[name+", "+panel.Title] = append(queries[name+", "+panel.Title], target.Expr)
			}
		}
	}
	used := map[string]bool{}
	for _, where := range slices.Sorted(maps.Keys(queries)) {
		for _, query := range queries[where] {
			names := metricsOf(query)
			if len(names) == 0 {
				t.Errorf("%s asks for nothing: %s", where, query)
			}
			for _, name := range names {
				used[name] = true
				if !known[name] && !slices.Contains(envoys, name) {
					t.Errorf("%s: nothing exports %s", where, name)
				}
			}
			for _, m := range reasonTest.FindAllStringSubmatch(query, -1) {
				for pattern := range strings.SplitSeq(m[1], "|") {
					whole := regexp.MustCompile("^(?:" + pattern + ")$")
					if !slices.ContainsFunc(authz.Reasons(), func(r authz.Reason) bool { return whole.MatchString(r.String()) }) {
						t.Errorf("%s: there is no Reason %s", where, pattern)
					}
				}
			}
		}
	}
	for _, name := range envoys {
		if !used[name] {
			t.Errorf("envoy-metrics.txt: nothing asks for %s", name)
		}
	}
}

// exported returns the names of every series of the service, as Prometheus has them.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, row := range documented(t)["metrics"].rows {
		name := strings.Trim(row[0], "`")
		known[name] = true
		if row[2] == "histogram" {
			known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true
		}
	}
	families, err := newMetrics().registry.Gather() // go_… and process_… are in no table
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		known[f.GetName()] = true
	}
	return known
}

// TestDashboards: what Grafana needs to take one without a question, and would take wrong
// without a word.
func TestDashboards(t *testing.T) {
	for name, d := range dashboards(t) {
		if d.UID+".json" != name {
			t.Errorf("%s has the uid %q: a dashboard that changes its uid is a second one", name, d.UID)
		}
		variables := map[string]string{}
		for _, v := range d.Templating.List {
			variables[v.Name] = v.Type
			for _, metric := range regexp.MustCompile(`label_values\((\w+),`).FindAllStringSubmatch(v.Definition, -1) {
				if !exported(t)[metric[1]] && !strings.Contains(readText(t, "../../deploy/prometheus/envoy-metrics.txt"), metric[1]+"\n") {
					t.Errorf("%s: variable %s asks for %s, which nothing exports", name, v.Name, metric[1])
				}
			}
		}
		if variables["datasource"] != "datasource" {
			t.Errorf("%s does not let its user choose the data source", name)
		}
		ids, places := map[int]bool{}, map[string]string{}
		for _, p := range d.Panels {
			if ids[p.ID] {
				t.Errorf("%s: panel %q has the id of another", name, p.Title)
			}
			ids[p.ID] = true
			place := fmt.Sprintf("%d/%d", p.GridPos.X, p.GridPos.Y)
			if other := places[place]; other != "" || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %q has no place of its own (%q)", name, p.Title, other)
			}
			places[place] = p.Title
			if (p.Type == "row") != (len(p.Targets) == 0) {
				t.Errorf("%s: panel %q has %d queries", name, p.Title, len(p.Targets))
			}
			for _, target := range p.Targets {
				if target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
					t.Errorf("%s: panel %q asks another data source than the one that is chosen", name, p.Title)
				}
				for _, v := range regexp.MustCompile(`\$([a-z]\w*)`).FindAllStringSubmatch(target.Expr, -1) {
					if variables[v[1]] == "" {
						t.Errorf("%s: panel %q uses $%s, which is no variable", name, p.Title, v[1])
					}
				}
			}
		}
	}
}

// TestDeployedConfigs: the configurations of the manifests are ones that the service takes,
// and listen where the manifests say.
func TestDeployedConfigs(t *testing.T) {
	for shape, listens := range map[string]string{"fleet": ":9001", "sidecar": "/run/asid-authz/authz.sock"} {
		c, err := loadConfig("../../deploy/kubernetes/" + shape + "/asid-authz.yaml")
		if err != nil {
			t.Errorf("%s: %v", shape, err)
			continue
		}
		where := ""
		if c.Listen.TCP != nil {
			where = string(c.Listen.TCP.Address)
		} else {
			where = string(c.Listen.Unix.Path)
		}
		if where != listens || c.Admin.Address != ":9902" {
			t.Errorf("%s listens at %s, its admin port is %s; want %s and :9902", shape, where, c.Admin.Address, listens)
		}
	}
}

// deployedEnvoy is what the configuration of the sidecar's Envoy is rendered from;
// docs/kubernetes.md says the same.
var deployedEnvoy = []string{
	"--authz", "unix:/run/asid-authz/authz.sock",
	"--server-name", "api.example.org",
	"--certificate", "/etc/envoy-tls/tls.crt", "--key", "/etc/envoy-tls/tls.key",
	"--client-ca", "/etc/envoy-client-ca/client-ca.pem",
	"--upstream", "api.api.svc.cluster.local:8443", "--upstream-name", "api.api.svc.cluster.local",
	"--upstream-ca", "/etc/envoy-upstream/ca.crt",
	"--upstream-certificate", "/etc/envoy-upstream/tls.crt", "--upstream-key", "/etc/envoy-upstream/tls.key",
}

// TestDeployedEnvoy: the sidecar's Envoy has the configuration that this version renders.
// With -update it is rendered.
func TestDeployedEnvoy(t *testing.T) {
	const deployed = "../../deploy/kubernetes/sidecar/"
	out := t.TempDir()
	args := append([]string{"envoy-config", "--config", deployed + "asid-authz.yaml", "--out", out}, deployedEnvoy...)
	if exit, _, stderr := command(t, args...); exit != exitOK {
		t.Fatal(stderr)
	}
	rendered, err := filepath.Glob(out + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := filepath.Glob(out + "/sds/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifest := readText(t, deployed+"kustomization.yaml") + readText(t, deployed+"sidecar.yaml")
	for _, file := range append(rendered, secrets...) {
		name, err := filepath.Rel(out, file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(readText(t, file), out, "/etc/envoy")
		there := deployed + "envoy/" + name
		if *update {
			if err := os.WriteFile(there, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if now := readText(t, there); now != text {
			t.Errorf("%s is not what this version renders (make docs does):\n%s", there, firstDifference(now, text))
		}
		if !strings.Contains(manifest, "- envoy/"+name+"\n") || !strings.Contains(manifest, "path: "+name+"}") {
			t.Errorf("the manifests do not bring %s to where Envoy finds it", name)
		}
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDeployedIstio: what the recipe for Istio merges into ext_authz is what this version
// renders for the profile nrl, but for what the extension provider says.
func TestDeployedIstio(t *testing.T) {
	exit, text, stderr := command(t, "envoy-config", "--part", "filter")
	if exit != exitOK {
		t.Fatal(stderr)
	}
	var rendered struct {
		Filters []struct {
			Config map[string]any `yaml:"typed_config"`
		} `yaml:"http_filters"`
	}
	if err := yaml.Unmarshal([]byte(text), &rendered); err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(readText(t, "../../deploy/istio/gateway.yaml"), "kind: EnvoyFilter\n")
	if !found {
		t.Fatal("the recipe has no EnvoyFilter")
	}
	var filter struct {
		Spec struct {
			Patches []struct {
				Patch struct {
					Value struct {
						Config map[string]any `yaml:"typed_config"`
					}
				}
			} `yaml:"configPatches"`
		}
	}
	if err := yaml.Unmarshal([]byte(text), &filter); err != nil {
		t.Fatal(err)
	}
	for i, f := range rendered.Filters {
		delete(f.Config, "grpc_service")
		delete(f.Config, "transport_api_version")
		if diff := cmp.Diff(f.Config, filter.Spec.Patches[i].Patch.Value.Config); diff != "" {
			t.Errorf("rendered, and in the recipe:\n%s", diff)
		}
	}
}
