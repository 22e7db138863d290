package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestBadConfig: each testdata/config/bad-*.yaml begins with comments, "# want: …", that
// say which messages refuse it. All of them must come, and no other.
func TestBadConfig(t *testing.T) {
	files, err := filepath.Glob("testdata/config/bad-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				if message, is := strings.CutPrefix(line, "# want: "); is {
					want = append(want, strings.TrimSpace(message))
				}
			}
			_, err = decodeConfig("config.yaml", text)
			if err == nil {
				t.Fatal("accepted")
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(want) {
				t.Fatalf("got %d problems, want %d:\n%s", len(got), len(want), err)
			}
			for i := range want {
				if !strings.HasPrefix(got[i], "config.yaml:") || !strings.Contains(got[i], want[i]) {
					t.Errorf("problem %d\n got %s\nwant %s", i+1, got[i], want[i])
				}
			}
		})
	}
}

// TestGoodConfig: the documented defaults are the real ones, and what is written down
// is what is used, 0s included.
func TestGoodConfig(t *testing.T) {
	c, err := loadConfig("testdata/config/good-least.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		name      string
		got, want time.Duration
	}{
		{"map.max_staleness", c.Map.MaxStaleness.Duration, time.Hour},
		{"trust.max_age", c.Trust.MaxAge.Duration, time.Hour},
		{"trust.crl_max_age", c.Trust.CRLMaxAge.Duration, 24 * time.Hour},
		{"limits.drain_delay", c.Limits.DrainDelay.Duration, 5 * time.Second},
		{"limits.drain_timeout", c.Limits.DrainTimeout.Duration, 10 * time.Second},
		{"limits.max_connection_age", c.Limits.MaxConnectionAge.Duration, 10 * time.Minute},
		{"issuers[0].max_key_age", c.Issuers[0].MaxKeyAge.Duration, 24 * time.Hour},
		{"issuers[0].keys.refresh", c.Issuers[0].Keys.Refresh.Duration, 15 * time.Minute},
	} {
		if d.got != d.want {
			t.Errorf("%s defaults to %s, want %s", d.name, d.got, d.want)
		}
	}
	if c.Admin.Address != "127.0.0.1:9902" || c.Audit.Output != "stdout" {
		t.Errorf("defaults %q, %q", c.Admin.Address, c.Audit.Output)
	}
	if got := c.path("map.yaml"); got != filepath.Join("testdata", "config", "map.yaml") {
		t.Errorf("a relative path became %s", got)
	}
	if got := c.path("/etc/map.yaml"); got != "/etc/map.yaml" {
		t.Errorf("an absolute path became %s", got)
	}
	full, err := loadConfig("testdata/config/good-full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if full.Limits.DrainDelay.Duration != 0 {
		t.Errorf("drain_delay: 0s became %s", full.Limits.DrainDelay)
	}
	if full.Limits.checks() != 64 || c.Limits.checks() != min(128*runtime.GOMAXPROCS(0), 1024) {
		t.Errorf("limits.checks: %d, by default %d", full.Limits.checks(), c.Limits.checks())
	}
}

func ExampleConfig() {
	_, err := decodeConfig("asid-authz.yaml", []byte("listen: {tpc: {address: 127.0.0.1:9443}}\nbinding: {mode: registred}\n"))
	fmt.Println(err)
	// Output:
	// asid-authz.yaml:1: unknown key "tpc"; did you mean tcp?
	// asid-authz.yaml:2: this is registered or certificate, not "registred"
}

// FuzzConfig: whatever is in the file, there is an answer, and a refusal names the file.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := decodeConfig("f.yaml", text); err != nil && !strings.HasPrefix(err.Error(), "f.yaml:") {
			t.Errorf("an error without the file: %v", err)
		}
	})
}
