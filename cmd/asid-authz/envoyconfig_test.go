package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"asid-authz/envoy"
)

// TestEnvoyConfigExample: without flags it is whole, and so is every part.
func TestEnvoyConfigExample(t *testing.T) {
	code, whole, stderr := command(t, "envoy-config")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	for _, want := range []string{"DownstreamTlsContext", "failure_mode_allow: false", "asid-authz-allowed", `"asid-authz.endpoint": "search"`, "healthy_panic_threshold", `address: "asid-authz.example.org"`, `path: "/STU3/DocumentReference"`} {
		if !strings.Contains(whole, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, part := range envoy.Parts() {
		code, text, stderr := command(t, "envoy-config", "--part", part)
		if code != exitOK || stderr != "" {
			t.Fatalf("part %s: exit %d, %s", part, code, stderr)
		}
		for line := range strings.Lines(text) {
			if !strings.Contains(whole, strings.TrimSpace(line)) {
				t.Errorf("part %s says %q, and the whole does not", part, line)
			}
		}
	}
}

// TestEnvoyConfigFlags: a flag lands where it belongs, a mistake is one of usage.
func TestEnvoyConfigFlags(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	rest := strings.Join(strings.Split(fileText(t, "testdata/config/good-least.yaml"), "\n")[2:], "\n")
	loopback := write("loopback.yaml", "listen: {tcp: {address: 127.0.0.1:9443}}\nprofile: {name: nrl, base: /mine}\n"+rest)
	unix := write("unix.yaml", "listen: {unix: {path: run/a.sock}, tcp: {address: 127.0.0.1:1}}\nprofile: {name: nrl}\n"+rest)
	everywhere := write("everywhere.yaml", "listen: {tcp: {address: 0.0.0.0:9443, insecure: true}}\nprofile: {name: nrl}\n"+rest)
	mesh := write("mesh.yaml", "listen: {tcp: {address: 10.0.0.1:9443, insecure: true}}\nprofile: {name: nrl}\n"+rest)
	mutual := write("mutual.yaml", "listen: {tcp: {address: 127.0.0.1:9443, tls: {certificate: c, key: k, client_ca: a, client_names: [edge]}}}\nprofile: {name: nrl}\n"+rest)
	own := write("own.yaml", strings.Replace(profileText(t), "\nname: nrl\n", "\nname: mine\n", 1))

	for _, test := range []struct {
		args   string
		code   int
		stdout []string
		stderr string
	}{
		{"--config " + loopback, exitOK, []string{`path: "/mine/DocumentReference"`, `address: { socket_address: { address: "127.0.0.1", port_value: 9443 } }`}, ""},
		{"--config " + unix, exitOK, []string{`pipe: { path: "` + dir + `/run/a.sock" }`}, ""},
		{"--config " + mesh, exitOK, []string{`address: "10.0.0.1", port_value: 9443`}, ""},
		{"--config " + everywhere, exitUsage, nil, "no address to dial: say --authz"},
		{"--config " + everywhere + " --authz 127.0.0.1:9443", exitOK, []string{`address: "127.0.0.1", port_value: 9443`}, ""},
		{"--config " + mutual, exitUsage, nil, "say --authz-ca"},
		{"--config " + mutual + " --authz-ca /a --authz-name n --authz-certificate /c --authz-key /k", exitOK, []string{`exact: "n"`}, ""},
		{"--config " + loopback + " --base /x", exitUsage, nil, "base"},
		{"--config " + dir + "/nothing.yaml", exitFailed, nil, "no such file"},
		{"--profile-file " + own, exitOK, []string{"profile mine"}, ""},
		{"--profile nlr", exitFailed, nil, "did you mean nrl"},
		{"--base /other", exitOK, []string{`path: "/other/DocumentReference"`}, ""},
		{"--base= ", exitOK, []string{`path: "/DocumentReference"`}, ""},
		{"--server-name a.example --server-name b.example", exitOK, []string{`server_names: ["a.example", "b.example"]`, `domains: ["a.example", "b.example"]`}, ""},
		{"--listen 127.0.0.1:1 --certificate /c --key /k --client-ca /ca --admin 127.0.0.1:2", exitOK, []string{`"/c"`, `"/k"`, `"/ca"`, "port_value: 1 ", "port_value: 2 "}, ""},
		{"--unverified-clients", exitOK, []string{"ACCEPT_UNTRUSTED"}, ""},
		{"--authz 127.0.0.1:1 --authz 127.0.0.1:2 --check-timeout 400ms", exitOK, []string{"port_value: 1 ", "port_value: 2 ", "timeout: 0.4s"}, ""},
		{"--authz 10.0.0.1:1", exitUsage, nil, "needs TLS"},
		{"--authz 10.0.0.1:1 --authz-insecure", exitOK, []string{`"10.0.0.1"`}, ""},
		{"--upstream api.internal:443 --upstream-ca /u --upstream-name api.internal", exitOK, []string{`address: "api.internal", port_value: 443`, `trusted_ca: { filename: "/u" }`}, ""},
		{"--part nothing", exitUsage, nil, "the parts are tls, hcm, filter, routes, access-log, cluster"},
		{"--part tls --out " + dir, exitUsage, nil, "none of the others can be"},
		{"--listen nowhere", exitUsage, nil, `listen: "nowhere" is not host:port`},
	} {
		code, stdout, stderr := command(t, append([]string{"envoy-config"}, strings.Fields(test.args)...)...)
		if code != test.code || !strings.Contains(stderr, test.stderr) || code == exitOK && stderr != "" || code != exitOK && stdout != "" {
			t.Errorf("%s: exit %d, %s", test.args, code, stderr)
		}
		for _, want := range test.stdout {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: %q is missing", test.args, want)
			}
		}
	}
}

// TestEnvoyConfigOut: with --out nothing is read once, and nothing is half written.
func TestEnvoyConfigOut(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the second time over the first
		code, stdout, stderr := command(t, "envoy-config", "--out", dir)
		if code != exitOK || stderr != "" {
			t.Fatalf("exit %d, %s", code, stderr)
		}
		var files []string
		for line := range strings.Lines(stdout) {
			file, err := filepath.Rel(dir, strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
			if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o644 {
				t.Errorf("%s: %v, %v", file, info, err)
			}
		}
		if got := strings.Join(files, " "); got != "sds/authz-ca.yaml sds/authz-certificate.yaml sds/client-ca.yaml sds/server-certificate.yaml envoy.yaml" {
			t.Errorf("wrote %s", got)
		}
	}
	text := fileText(t, filepath.Join(dir, "envoy.yaml"))
	if !strings.Contains(text, `"`+filepath.Join(dir, "sds", "client-ca.yaml")+`"`) || strings.Contains(text, "filename:") {
		t.Error("envoy.yaml does not name the files beside it")
	}
	for _, where := range []string{dir, filepath.Join(dir, "sds")} {
		if left, err := filepath.Glob(filepath.Join(where, ".new-*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
	if code, _, stderr := command(t, "envoy-config", "--out", filepath.Join(dir, "envoy.yaml")); code != exitFailed || stderr == "" {
		t.Errorf("into a file: exit %d, %s", code, stderr)
	}
}

func profileText(t *testing.T) string {
	t.Helper()
	code, text, stderr := command(t, "profile", "show", "nrl")
	if code != exitOK {
		t.Fatal(stderr)
	}
	return text
}

func fileText(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
