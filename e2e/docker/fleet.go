package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Fleet is the deployment of ../compose.yaml, running.
type Fleet struct {
	Stage  *Stage
	Images Images
	Authz  string // the image that is tested
	Peers  Image

	project   string
	compose   []string // the command
	file      string   // compose.yaml
	addresses Addresses
	removed   []Output // of containers that are gone
}

// FindCompose returns the command of the newest Compose that is there.
func FindCompose(ctx context.Context) ([]string, error) {
	if _, err := Do(ctx, "compose", "version"); err == nil {
		return []string{"docker", "compose"}, nil
	}
	if _, err := exec.LookPath("docker-compose"); err == nil {
		return []string{"docker-compose"}, nil
	}
	return nil, errors.New("no Compose: install the plugin of Docker (docker compose), or docker-compose 1.29 or newer")
}

// FreeAddresses returns a subnet that no network of the engine has.
func FreeAddresses(ctx context.Context) (Addresses, error) {
	ids, err := Do(ctx, "network", "ls", "--quiet")
	if err != nil {
		return Addresses{}, err
	}
	taken := ""
	if fields := strings.Fields(ids); len(fields) > 0 {
		taken, err = Do(ctx, append([]string{"network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}"}, fields...)...)
		if err != nil {
			return Addresses{}, err
		}
	}
	for n := 7; n < 256; n++ {
		if subnet := fmt.Sprintf("10.213.%d", n); !strings.Contains(taken, subnet+".") {
			return Addresses{subnet}, nil
		}
	}
	return Addresses{}, errors.New("no subnet of 10.213.0.0/16 is free: docker network prune")
}

// NewFleet returns a deployment that is not started yet.
func NewFleet(ctx context.Context, project string, stage *Stage, images Images, authz string, peers Image) (*Fleet, error) {
	compose, err := FindCompose(ctx)
	if err != nil {
		return nil, err
	}
	root, err := Repository(ctx)
	if err != nil {
		return nil, err
	}
	return &Fleet{
		Stage: stage, Images: images, Authz: authz, Peers: peers,
		project: project, compose: compose, file: filepath.Join(root, "e2e", "compose.yaml"), addresses: stage.addresses,
	}, nil
}

// Compose runs one command of Compose on the deployment.
func (f *Fleet) Compose(ctx context.Context, args ...string) (string, error) {
	args = append(append(f.compose[1:len(f.compose):len(f.compose)], "--project-name", f.project, "--file", f.file), args...)
	cmd := exec.CommandContext(ctx, f.compose[0], args...)
	cmd.Env = append(os.Environ(),
		"E2E_DIR="+f.Stage.Dir,
		"E2E_SUBNET="+f.addresses.Subnet,
		"AUTHZ_IMAGE="+f.Authz,
		"ENVOY_IMAGE="+f.Images.Envoy.Name,
		"REDIS_IMAGE="+f.Images.Redis.Name,
		"PEERS_IMAGE="+f.Peers.Name,
	)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(append(f.compose, args...), " "), err, tail(string(out)))
	}
	return string(out), nil
}

// Up starts everything, in the order in which it needs each other, and waits until all of it
// is healthy.
func (f *Fleet) Up(ctx context.Context) error {
	if _, err := f.Compose(ctx, "up", "--detach"); err != nil {
		return errors.Join(err, errors.New(f.Log(ctx)))
	}
	return f.Healthy(ctx, "envoy", "authz", "api", "issuer", "redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3")
}

// Down ends everything and leaves nothing behind but images.
func (f *Fleet) Down(ctx context.Context) error {
	_, err := f.Compose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "5")
	return err
}

// Containers returns the ids of a service's containers, those that have ended included. By
// label, because the names differ between Compose 1 and 2.
func (f *Fleet) Containers(ctx context.Context, service string) ([]string, error) {
	out, err := Do(ctx, "ps", "--all", "--quiet", "--no-trunc",
		"--filter", "label=com.docker.compose.project="+f.project, "--filter", "label=com.docker.compose.service="+service)
	return strings.Fields(out), err
}

// Healthy waits until every container of those services is.
func (f *Fleet) Healthy(ctx context.Context, services ...string) error {
	const most = 90 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for _, service := range services {
		for {
			status, err := f.health(ctx, service)
			if err == nil && status == "healthy" {
				break
			}
			if strings.HasPrefix(status, "exited") {
				return fmt.Errorf("%s has ended\n%s", service, f.Log(ctx))
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s is %s after %v: %w\n%s", service, status, most, errors.Join(err, ctx.Err()), f.Log(context.WithoutCancel(ctx)))
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// health returns healthy if all containers of the service are, else what one of them is.
func (f *Fleet) health(ctx context.Context, service string) (string, error) {
	ids, err := f.Containers(ctx, service)
	if err != nil || len(ids) == 0 {
		return "missing", err
	}
	out, err := Do(ctx, append([]string{"inspect", "--format", "{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}"}, ids...)...)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "running healthy" {
			return line, nil
		}
	}
	return "healthy", nil
}

// Edge returns the address at which clients reach Envoy.
func (f *Fleet) Edge(ctx context.Context) (string, error) {
	ids, err := f.Containers(ctx, "envoy")
	if err != nil {
		return "", err
	}
	if len(ids) != 1 {
		return "", fmt.Errorf("%d containers of envoy", len(ids))
	}
	out, err := Do(ctx, "port", ids[0], "8443/tcp")
	address, _, _ := strings.Cut(out, "\n")
	return address, err
}

// Log returns the end of what every container wrote, for people to read after a failure.
func (f *Fleet) Log(ctx context.Context) string {
	out, err := f.Compose(ctx, "logs", "--no-color", "--tail", "25")
	if err != nil {
		return err.Error()
	}
	return out
}
