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
	build := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-buildvcs=false", "-o", p.Authz)
	if raceDetector {
		build.Args = append(build.Args, "-race")
	}
	build.Args = append(build.Args, "./cmd/asid-authz")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		p.Remove()
		return nil, fmt.Errorf("building asid-authz: %w\n%s", err, out)
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
