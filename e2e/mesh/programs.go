package mesh

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"asid-authz/e2e/program"
)

// Programs are the two that a mesh runs.
type Programs struct {
	Envoy, Authz string // paths
	EnvoyVersion string

	dir string
}

// FindPrograms finds Envoy, fetching it if it must, and builds asid-authz from the working
// directory's module, with the tags of the image, and with the race detector if this program
// has it. Remove removes what was built.
func FindPrograms(ctx context.Context) (*Programs, error) {
	var flags []string
	if raceDetector {
		flags = append(flags, "-race")
	}
	return findPrograms(ctx, func(root, path string) error {
		return build(ctx, root, path, "./cmd/asid-authz", os.Environ(), flags...)
	})
}

// FindReleasePrograms is FindPrograms, but asid-authz is built as the image has it.
func FindReleasePrograms(ctx context.Context) (*Programs, error) {
	return findPrograms(ctx, func(root, path string) error { return BuildRelease(ctx, root, path, "./cmd/asid-authz") })
}

// BuildRelease builds a program of the module in root as the Dockerfile builds asid-authz.
func BuildRelease(ctx context.Context, root, path, pkg string) error {
	return build(ctx, root, path, pkg, append(os.Environ(), "CGO_ENABLED=0"), "-trimpath", "-ldflags", "-s -w")
}

func build(ctx context.Context, root, path, pkg string, env []string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-buildvcs=false", "-o", path)
	cmd.Args = append(append(cmd.Args, flags...), pkg)
	cmd.Dir, cmd.Env = root, env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return nil
}

func findPrograms(ctx context.Context, buildAuthz func(root, path string) error) (*Programs, error) {
	envoy, err := FindEnvoy(ctx)
	if err != nil {
		return nil, err
	}
	version, err := EnvoyVersion(ctx, envoy)
	if err != nil {
		return nil, err
	}
	root, err := program.Repository()
	if err != nil {
		return nil, err
	}
	// `go test` answers from its cache unless a file changed that the test has looked at, and
	// what the compiler reads for us it does not see.
	for _, sources := range []string{"authz", "cache", "cmd", "envoy"} {
		err := filepath.WalkDir(filepath.Join(root, sources), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return nil, err
		}
	}
	dir, err := program.TempDir()
	if err != nil {
		return nil, err
	}
	p := &Programs{Envoy: envoy, Authz: filepath.Join(dir, "asid-authz"), EnvoyVersion: version, dir: dir}
	if err := buildAuthz(root, p.Authz); err != nil {
		p.Remove()
		return nil, err
	}
	return p, nil
}

// Remove removes what was built.
func (p *Programs) Remove() error { return os.RemoveAll(p.dir) }

// Run runs asid-authz with those arguments to its end and returns its standard output.
func (p *Programs) Run(ctx context.Context, args ...string) ([]byte, error) {
	out, _, err := p.run(ctx, args...)
	return out, err
}

func (p *Programs) run(ctx context.Context, args ...string) (stdout, stderr []byte, err error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, p.Authz, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), errs.Bytes(), fmt.Errorf("asid-authz %s: %w\n%s", args[0], err, errs.Bytes())
	}
	return out.Bytes(), errs.Bytes(), nil
}
