package redistest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Without a hash for a platform pip refuses the wheel there, and without a version it would
// take whatever is newest.
func TestValkeyIsPinned(t *testing.T) {
	if got := valkeyWheel.Version(); !regexp.MustCompile(`^\d+\.\d+\.\d+\.post\d+$`).MatchString(got) {
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

// server is a program that says it has that version, and that of a certificate.
func server(version, ofTLS string) string {
	return `if [ "$1" = --version ]; then echo '` + version + `'; else echo '` + ofTLS + `'; exit 1; fi`
}

const (
	redis6   = "Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64 build=1"
	redis7   = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0"
	valkey9  = "Valkey server v=9.1.2 sha=00000000:0 malloc=libc bits=64 build=1"
	hasTLS   = "# Failed to configure TLS. Check logs for more info."
	noTLS    = "# Failed finding TLS support."
	noTLSOld = "Bad directive or wrong number of arguments"
)

func TestFind(t *testing.T) {
	for name, test := range map[string]struct {
		programs map[string]string
		named    string
		want     string // the program or the error
	}{
		"redis on the PATH":    {map[string]string{"redis-server": server(redis7, hasTLS), "valkey-server": server(valkey9, hasTLS)}, "", "redis-server: Redis 7.0.15 with TLS"},
		"valkey on the PATH":   {map[string]string{"valkey-server": server(valkey9, noTLS)}, "", "valkey-server: Valkey 9.1.2 without TLS"},
		"an old one before it": {map[string]string{"redis-server": server(redis6, hasTLS), "valkey-server": server(valkey9, noTLSOld)}, "", "valkey-server: Valkey 9.1.2 without TLS"},
		"named":                {map[string]string{"redis-server": server(redis7, hasTLS), "other": server(valkey9, hasTLS)}, "other", "other: Valkey 9.1.2 with TLS"},
		"named and not there":  {map[string]string{"redis-server": server(redis7, hasTLS)}, "other", `$REDIS_SERVER names no program: exec: "other": executable file not found in $PATH`},
		"named and old":        {map[string]string{"other": server(redis6, hasTLS)}, "other", "$REDIS_SERVER: DIR/other is Redis 6.2.14, and 7 is the oldest that knows the ACL rules"},
		"named and another":    {map[string]string{"other": server("something else", hasTLS)}, "other", `$REDIS_SERVER: DIR/other --version: neither Redis nor Valkey in "something else\n"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, script := range test.programs {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir)
			t.Setenv("REDIS_SERVER", test.named)
			got := ""
			if p, err := Find(t.Context()); err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR")
			} else {
				got = filepath.Base(p.Path) + ": " + p.String()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// Without TLS in the program nothing starts without it instead.
func TestTLSIsNotLeftOut(t *testing.T) {
	_, err := Start(t.Context(), Options{TLS: true, Program: &Program{Path: "/some/server", Name: "Valkey", Version: "9.1.2"}})
	if want := "/some/server is Valkey 9.1.2 without TLS"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}
