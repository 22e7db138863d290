package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
)

// What the command renders for every world is a configuration that Envoy takes without a word
// of warning: a deprecated setting is one that a later Envoy refuses.
func TestEnvoyTakesTheConfiguration(t *testing.T) {
	validate := func(name string, world *authztest.World, options mesh.Options) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			minted, err := world.Mint(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			said, err := startEdge(t, startMesh(t, minted, options)).Validate(t.Context())
			if err != nil || !strings.Contains(said, "OK") || strings.Contains(said, "[warning]") || strings.Contains(said, "eprecated") {
				t.Errorf("envoy --mode validate: %v\n%s", err, said)
			}
		})
	}
	corpus := loadCorpus(t)
	for name, world := range corpus.Worlds {
		validate(name, world, mesh.Options{})
	}
	validate("unix socket", corpus.Worlds[corpus.Cases[0].World], mesh.Options{Unix: true})
}

// Closing a mesh leaves nothing behind, and neither does one that failed to start.
func TestNothingIsLeftBehind(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "left-") // short, for Unix sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	t.Setenv("TMPDIR", tmp)
	nothing := func(after string) {
		t.Helper()
		entries, err := os.ReadDir(tmp)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			t.Errorf("left behind by %s: %s", after, entry.Name())
		}
	}
	corpus := loadCorpus(t)
	world := *corpus.Worlds[corpus.Cases[0].World]
	mint := func() *authztest.Minted {
		minted, err := world.Mint(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return minted
	}

	m, err := programs.Start(t.Context(), mint(), mesh.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Edge(t.Context()); err != nil {
		t.Error(err)
	}
	if e, err := m.Edge(t.Context(), mesh.Unlocked, mesh.Unlocked); err == nil {
		t.Errorf("two locks were taken away: %s", e.Config)
	}
	processes := m.Processes()
	if len(processes) != 2 {
		t.Errorf("%d processes run, want asid-authz and Envoy", len(processes))
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, id := range processes {
		if err := syscall.Kill(id, 0); err != syscall.ESRCH {
			t.Errorf("process %d is still there: %v", id, err)
		}
	}
	nothing("Close")

	world.Map = "no map"
	if _, err := programs.Start(t.Context(), mint(), mesh.Options{}); err == nil || !strings.Contains(err.Error(), "map.yaml") {
		t.Errorf("a map that is none: got %v, want what asid-authz says of map.yaml", err)
	}
	nothing("a failed start")
}
