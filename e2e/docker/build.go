package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Repository returns the folder of the module that the working directory lies in.
func Repository(ctx context.Context) (string, error) {
	env, err := goEnv(ctx, "GOMOD")
	if err != nil {
		return "", err
	}
	if filepath.Base(env["GOMOD"]) != "go.mod" {
		return "", errors.New("the working directory is not in the repository")
	}
	return filepath.Dir(env["GOMOD"]), nil
}

// A Build says how the image that ships is built.
type Build struct {
	Name              string // of the image
	Go, Runtime       string // base images; "": the Dockerfile's
	Version, Revision string // "": the Dockerfile's
}

// Run builds the image from the Dockerfile of the repository, with whichever builder Docker
// has. What it prints goes to out.
func (b Build) Run(ctx context.Context, out *os.File) error {
	root, err := Repository(ctx)
	if err != nil {
		return err
	}
	args := []string{"build", "--tag", b.Name}
	for _, arg := range []struct{ name, value string }{
		{"GO_IMAGE", b.Go}, {"RUNTIME_IMAGE", b.Runtime}, {"VERSION", b.Version}, {"REVISION", b.Revision},
	} {
		if arg.value != "" {
			args = append(args, "--build-arg", arg.name+"="+arg.value)
		}
	}
	cmd := exec.CommandContext(ctx, "docker", append(args, root)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("docker build: %w; where no registry can be reached, STANDIN=1 builds with this machine's Go", err)
	}
	return nil
}

// Size returns the size of an image, in bytes.
func Size(ctx context.Context, image string) (int64, error) {
	out, err := Do(ctx, "image", "inspect", "--format", "{{.Size}}", image)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(out, 10, 64)
}

// BuildPeers builds the program that plays the API and the issuer, into dir/peers, where
// Envoy and Redis have it as their health check, and makes an image of it alone.
func BuildPeers(ctx context.Context, dir string) (Image, error) {
	root, err := Repository(ctx)
	if err != nil {
		return Image{}, err
	}
	arch, err := Do(ctx, "version", "--format", "{{.Server.Arch}}")
	if err != nil {
		return Image{}, err
	}
	program := filepath.Join(dir, "peers", "peers")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "./e2e/docker/peers")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		return Image{}, fmt.Errorf("go build: %w\n%s", err, tail(string(out)))
	}
	for _, path := range []string{filepath.Dir(program), program} { // whatever the umask is
		if err := os.Chmod(path, 0o755); err != nil {
			return Image{}, err
		}
	}
	r := newRootfs()
	r.files["/peers"] = program
	image := Image{"asid-authz-peers:latest", "built here"}
	return image, r.load(ctx, image.Name)
}

// Describe returns the version and the revision of the repository, "" where there is none.
func Describe(ctx context.Context) (version, revision string) {
	version, _ = run(ctx, nil, "git", "describe", "--tags", "--always", "--dirty")
	revision, _ = run(ctx, nil, "git", "rev-parse", "HEAD")
	return version, revision
}
