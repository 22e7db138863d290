package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"asid-authz/authz/authztest"
	"asid-authz/authz/profile"
)

// A deployment is a running service with its files, in the world that most are like.
type deployment struct {
	t       *testing.T
	dir     string
	files   map[string]string
	message *authv3.CheckRequest // that is allowed
	minted  *authztest.Minted
	client  *authztest.Certificate // of message

	stop           context.CancelFunc
	exited         chan int
	stdout, stderr *lines

	checks authv3.AuthorizationClient
	health healthv1.HealthClient
	admin  string
	asked  string // the id of the last decision
}

// lines is an output that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	corpus, minted, config := authztest.Setup(t, "../../authz/testdata")
	// A short name: some systems take no longer paths for sockets.
	dir, err := os.MkdirTemp("", "aa")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &deployment{t: t, dir: dir, files: map[string]string{}, minted: minted, exited: make(chan int, 1), stdout: &lines{}, stderr: &lines{}}
	r, certificate := authztest.AllowedRead(t, corpus, minted, &config.Profile)
	d.client = certificate
	d.message = authztest.CheckRequest(r, certificate)
	d.write("client.pem", string(certificate.PEM()))
	for _, h := range r.Headers {
		if token, is := strings.CutPrefix(h.Value, "Bearer "); is && h.Name == "authorization" {
			d.write("token.jwt", token+"\n")
		}
	}
	mapText, err := minted.MapText()
	if err != nil {
		t.Fatal(err)
	}
	d.write("map.yaml", mapText)
	d.write("clients.pem", string(minted.CAs()))
	d.write("jwks.json", string(minted.Issuers["cas"].JWKS()))
	d.write("asid-authz.yaml", `
listen: {unix: {path: s}}
admin: {address: 127.0.0.1:0}
profile: {name: nrl, base: /STU3}
receivers: ["999999999999", "200000000370"]
binding: {mode: registered, name: cn}
issuers:
  - issuer: https://cas.example.nhs.uk
    audiences: [https://nrl.example.nhs.uk]
    algorithms: [RS256, PS256, ES256, ES384, EdDSA]
    keys: {file: jwks.json}
map: {source: file, file: map.yaml}
trust: {client_ca: clients.pem}
limits: {drain_delay: 1ms}
`)
	return d
}

func (d *deployment) path(name string) string { return filepath.Join(d.dir, name) }

func (d *deployment) write(name, text string) {
	d.t.Helper()
	d.files[name] = text
	if err := os.WriteFile(d.path(name)+".next", []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(d.path(name)+".next", d.path(name)); err != nil {
		d.t.Fatal(err)
	}
}

// replace changes a file that was written.
func (d *deployment) replace(name, old, next string) {
	d.t.Helper()
	if !strings.Contains(d.files[name], old) {
		d.t.Fatalf("%s holds no %q", name, old)
	}
	d.write(name, strings.Replace(d.files[name], old, next, 1))
}

// start runs the service and waits until it listens.
func (d *deployment) start() {
	d.t.Helper()
	ctx, stop := context.WithCancel(d.t.Context())
	d.stop = stop
	go func() {
		d.exited <- run(ctx, []string{"serve", "--config", d.path("asid-authz.yaml")}, d.stdout, d.stderr)
	}()
	d.t.Cleanup(func() { d.end() })
	d.dial()
}

// dial waits until the service listens.
func (d *deployment) dial() {
	d.t.Helper()
	d.await("the service listens", func() bool {
		for line := range strings.Lines(d.stderr.String()) {
			var entry struct{ Msg, For, Address string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" && entry.For == "operators" {
				d.admin = entry.Address
			}
		}
		return d.admin != ""
	})
	conn, err := grpc.NewClient("unix:"+d.path("s"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	d.checks, d.health = authv3.NewAuthorizationClient(conn), healthv1.NewHealthClient(conn)
}

// end stops the service, if it still runs, and returns its exit code.
func (d *deployment) end() int {
	d.stop()
	code := <-d.exited
	d.exited <- code
	return code
}

// await waits until is holds, for as long as a watched file may take and more.
func (d *deployment) await(what string, is func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("in vain: %s\nstdout:\n%s\nstderr:\n%s", what, d.stdout, d.stderr)
		}
	}
}

// ask asks about the allowed request and returns the outcome of its record.
func (d *deployment) ask() string {
	d.t.Helper()
	response, err := d.checks.Check(d.t.Context(), d.message)
	if err != nil {
		d.t.Fatal(err)
	}
	fields := response.GetDynamicMetadata().AsMap()
	d.asked = fmt.Sprint(fields["decision_id"])
	return strings.TrimSpace(fmt.Sprint(fields["decision"], " ", or(fields["reason"], "")))
}

func or(value, fallback any) any {
	if value == nil {
		return fallback
	}
	return value
}

func (d *deployment) get(path string) (status int, body string) {
	d.t.Helper()
	response, err := http.Get("http://" + d.admin + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func (d *deployment) hasMetric(line string) bool {
	_, body := d.get("/metrics")
	return strings.Contains(body, "\n"+line+"\n")
}

func TestServe(t *testing.T) {
	d := newDeployment(t)
	d.start()

	if got := d.ask(); got != "allow" {
		t.Fatalf("the request is answered with %s\n%s", got, d.stderr)
	}
	d.await("the record is written", func() bool { return strings.HasSuffix(d.stdout.String(), "\n") })
	var record map[string]any
	if err := json.Unmarshal([]byte(d.stdout.String()), &record); err != nil || record["decision"] != "allow" || record["schema"] != 1.0 || record["asid"] != "200000000117" {
		t.Errorf("standard output is the audit log, one line for one decision: %v in %q", err, d.stdout)
	}
	d.await("ready", func() bool { status, _ := d.get("/readyz"); return status == http.StatusOK })
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/": 404, "/debug/pprof/": 404, "/config": 404} {
		if status, _ := d.get(path); status != want {
			t.Errorf("GET %s on the admin port is %d, want %d", path, status, want)
		}
	}
	for _, line := range []string{
		`asid_authz_decisions_total{decision="allow",reason=""} 1`,
		`asid_authz_check_seconds_count 1`,
		`asid_authz_wait_seconds_count 1`, // or nothing marks what arrives, and no overload is ever seen
		`asid_authz_map_systems 10`,
		`asid_authz_panics_total 0`,
		`asid_authz_decisions_total{decision="deny",reason="overloaded"} 0`,
		`asid_authz_misconfiguration{sign="no-certificate"} 0`,
		`asid_authz_build_info{version="` + version() + `"} 1`,
	} {
		if !d.hasMetric(line) {
			_, body := d.get("/metrics")
			t.Errorf("the metrics do not say %s:\n%s", line, body)
		}
	}
	if code, out, _ := command(t, "health", "--admin", d.admin); code != exitOK || out != "ok\n" {
		t.Errorf("health: exit %d, %q", code, out)
	}
	serving, err := d.health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "envoy.service.auth.v3.Authorization"})
	if err != nil || serving.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health by the service's name: %v, %v", serving, err)
	}

	t.Run("grant", func(t *testing.T) {
		d.replace("map.yaml", "state: active\n    interactions: [nrl-consumer]", "state: suspended\n    interactions: [nrl-consumer]")
		d.await("a suspension takes effect", func() bool { return d.ask() == "deny system-suspended" })
		good := d.files["map.yaml"]
		d.write("map.yaml", good+"nonsense")
		d.await("a broken map is refused", func() bool { return d.hasMetric(`asid_authz_reloads_total{result="refused",what="map"} 1`) })
		if got := d.ask(); got != "deny system-suspended" {
			t.Errorf("under a broken map: %s", got)
		}
		d.write("map.yaml", strings.Replace(good, "state: suspended", "state: active", 1))
		d.await("the grant is back", func() bool { return d.ask() == "allow" })
	})
	t.Run("trust", func(t *testing.T) {
		good := d.files["clients.pem"]
		d.write("clients.pem", string(authztest.NewCA("Another Authority").PEM()))
		d.await("another CA is trusted", func() bool { return d.ask() == "deny certificate-untrusted" })
		d.write("clients.pem", "nothing of the kind")
		d.await("a broken bundle is refused", func() bool { return d.hasMetric(`asid_authz_reloads_total{result="refused",what="client ca"} 1`) })
		d.write("clients.pem", good)
		d.await("the CA is back", func() bool { return d.ask() == "allow" })
	})
	t.Run("keys", func(t *testing.T) {
		good := d.files["jwks.json"]
		other := authztest.NewIssuer("https://cas.example.nhs.uk")
		if err := other.AddKey("ES256", "another"); err != nil {
			t.Fatal(err)
		}
		d.write("jwks.json", string(other.JWKS()))
		d.await("a key is withdrawn", func() bool { return d.ask() == "deny token-key-unknown" })
		d.write("jwks.json", good)
		d.await("the key is back", func() bool { return d.ask() == "allow" })
	})
	t.Run("configuration", func(t *testing.T) {
		d.replace("asid-authz.yaml", `receivers: ["999999999999", "200000000370"]`, `receivers: ["200000000371"]`)
		d.await("a new generation decides", func() bool { return d.ask() == "deny receiver-unknown" })
		d.replace("asid-authz.yaml", "binding: {mode: registered", "binding: {mode: guessed")
		d.await("a bad configuration is refused", func() bool { return d.hasMetric(`asid_authz_reloads_total{result="refused",what="configuration"} 1`) })
		if got := d.ask(); got != "deny receiver-unknown" {
			t.Errorf("under a bad configuration: %s", got)
		}
		d.replace("asid-authz.yaml", "mode: guessed", "mode: registered")
		d.replace("asid-authz.yaml", `["200000000371"]`, `["200000000370", "999999999999"]`)
		d.replace("asid-authz.yaml", "admin: {address: 127.0.0.1:0}", "admin: {address: 127.0.0.1:1}")
		d.replace("asid-authz.yaml", "limits: {", "audit: {allows: none}\nlimits: {")
		d.await("the receivers are back", func() bool { return d.ask() == "allow" })
		for _, pending := range []string{
			`"setting":"admin.address","in_force":"127.0.0.1:0","written":"127.0.0.1:1"`,
			`"setting":"audit.allows","in_force":"all","written":"none"`,
		} {
			if !strings.Contains(d.stderr.String(), pending) {
				t.Errorf("nobody was told of %s", pending)
			}
		}
		if strings.Contains(d.stderr.String(), "recorded in Envoy's access log") {
			t.Error("audit.allows is told of as if it had taken effect")
		}
	})

	t.Run("profile", func(t *testing.T) {
		source, err := profile.Source("nrl")
		if err != nil {
			t.Fatal(err)
		}
		d.write("profile.yaml", string(source))
		d.replace("asid-authz.yaml", "profile: {name: nrl,", "profile: {file: profile.yaml,")
		d.await("the profile's file is read", func() bool {
			return strings.Contains(d.stderr.String(), `"what":"configuration","file":"`+d.path("asid-authz.yaml")) && d.ask() == "allow"
		})
		d.replace("profile.yaml", "scope: patient/DocumentReference.read", "scope: patient/DocumentReference.write")
		d.await("a changed profile decides", func() bool { return d.ask() == "deny scope-insufficient" })
		d.write("profile.yaml", "format: 1")
		d.await("a broken profile is refused", func() bool { return d.hasMetric(`asid_authz_reloads_total{result="refused",what="profile"} 1`) })
		if got := d.ask(); got != "deny scope-insufficient" {
			t.Errorf("under a broken profile: %s", got)
		}
		d.write("profile.yaml", string(source))
		d.await("the profile is back", func() bool { return d.ask() == "allow" })
	})

	if code := d.end(); code != exitOK {
		t.Errorf("exit %d after SIGTERM: %s", code, d.stderr)
	}
	if _, err := os.Stat(d.path("s")); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if strings.Contains(d.stderr.String()+d.stdout.String(), strings.TrimSpace(d.files["token.jwt"])) {
		t.Error("a token is in the output")
	}
}

// TestStartRefused: what a service would decide by must be whole before it listens.
func TestStartRefused(t *testing.T) {
	for name, test := range map[string]struct {
		breakIt func(d *deployment)
		want    string
	}{
		"no map":          {func(d *deployment) { os.Remove(d.path("map.yaml")) }, "map"},
		"broken map":      {func(d *deployment) { d.write("map.yaml", "format: 1\nsystems: [{asid: 1}]") }, "map.yaml:2"},
		"empty CA bundle": {func(d *deployment) { d.write("clients.pem", "") }, "client ca"},
		"no keys":         {func(d *deployment) { d.write("jwks.json", `{"keys":[]}`) }, "keys"},
		"rule unknown": {func(d *deployment) {
			d.replace("asid-authz.yaml", "base: /STU3", "base: /STU3, rules_off: [no-such-rule]")
		}, "no-such-rule"},
		"no audience": {func(d *deployment) {
			d.replace("asid-authz.yaml", "audiences: [https://nrl.example.nhs.uk]", "audiences: []")
		}, "audience"},
		"algorithm none": {func(d *deployment) { d.replace("asid-authz.yaml", "[RS256,", "[none,") }, "none"},
		"bad base":       {func(d *deployment) { d.replace("asid-authz.yaml", "/STU3", "/STU3/") }, "base"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeployment(t)
			test.breakIt(d)
			code, _, stderr := command(t, "serve", "--config", d.path("asid-authz.yaml"), "--check-config")
			if code != exitFailed || !strings.Contains(stderr, test.want) {
				t.Errorf("--check-config: exit %d, %q, want a word of %q", code, stderr, test.want)
			}
			code, _, again := command(t, "serve", "--config", d.path("asid-authz.yaml"))
			if code != exitFailed || !strings.Contains(again, test.want) {
				t.Errorf("serve: exit %d, %q", code, again)
			}
		})
	}
	d := newDeployment(t)
	if code, out, stderr := command(t, "serve", "--config", d.path("asid-authz.yaml"), "--check-config"); code != exitOK || !strings.Contains(out, "is good") {
		t.Errorf("a good configuration: exit %d, %q, %q", code, out, stderr)
	}
}

// TestExplain: what the service would decide, and everything else that is wrong.
func TestExplain(t *testing.T) {
	d := newDeployment(t)
	const path = "/STU3/DocumentReference/da2b6e8a-3c8f-11e8-baae-6c3be5a609f5-584d385036514c383142"
	explain := func(args ...string) (int, string) {
		code, out, stderr := command(t, append([]string{"explain", "--config", d.path("asid-authz.yaml")}, args...)...)
		return code, out + stderr
	}
	good := []string{"--path", path, "--cert", d.path("client.pem"), "--token", d.path("token.jwt"), "--header", "fromASID: 200000000117", "--header", "toASID: 999999999999"}
	if code, out := explain(good...); code != exitOK || !strings.HasPrefix(out, "allow read ") || strings.Contains(out, "FAILED") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	code, out := explain(append(good, "--method", "DELETE")...)
	for _, want := range []string{"deny scope-insufficient", "FAILED         scope", "FAILED         permission", "interaction-not-granted", "not reachable  last look",
		"the client sees: 400 MISSING_OR_INVALID_HEADER", `"GP One, a consumer"`} {
		if code != exitDifferences || !strings.Contains(out, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, out)
		}
	}
	code, out = explain(append(good, "--at", time.Now().Add(time.Hour).Format(time.RFC3339))...)
	if code != exitDifferences || !strings.Contains(out, "deny token-expired") {
		t.Errorf("an hour later: exit %d:\n%s", code, out)
	}
	// From the record alone, by what the map says today.
	record := `{"time":"2026-11-24T09:00:00Z","schema":1,"decision_id":"x","decision":"deny","reason":"interaction-not-granted","field":"endpoint","asid":"200000000117","receiver":"999999999999","endpoint":"delete","interaction":"urn:nhs:names:services:nrl:DocumentReference.delete","map_version":1}`
	d.write("record.json", record+"\n")
	code, out = explain("--record", d.path("record.json"))
	for _, want := range []string{"recorded 2026-11-24T09:00:00Z: deny interaction-not-granted", "FAILED         permission", "passed         state", "recorded       binding", "not reachable  token"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, out)
		}
	}
	if code, out := explain("--path", path, "--header", "no colon"); code != exitUsage {
		t.Errorf("a bad header: exit %d: %s", code, out)
	}
	d.write("summary.json", `{"time":"2026-11-24T09:00:00Z","schema":1,"reason":"asid-unknown","suppressed":3,"since":"2026-11-24T08:59:50Z"}`)
	if code, out := explain("--record", d.path("summary.json")); code != exitFailed || !strings.Contains(out, "of no decision") {
		t.Errorf("a summary: exit %d: %s", code, out)
	}
	if code, out := explain("--record", d.path("map.yaml")); code != exitFailed {
		t.Errorf("no record: exit %d: %s", code, out)
	}
}
