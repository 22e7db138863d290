package docker

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What is done to a deployment while it works. A container is named by its id.

// Kill ends a container at once, as a machine that fails does.
func (f *Fleet) Kill(ctx context.Context, id string) error {
	_, err := Do(ctx, "kill", id)
	return err
}

// Stop ends a container as a deployment does: SIGTERM, and time to drain.
func (f *Fleet) Stop(ctx context.Context, id string) error {
	_, err := Do(ctx, "stop", "--time", "30", id)
	return err
}

// Start starts a container that has ended.
func (f *Fleet) Start(ctx context.Context, id string) error {
	_, err := Do(ctx, "start", id)
	return err
}

// Remove takes a container that has ended away. What it wrote stays in [Fleet.Outputs].
func (f *Fleet) Remove(ctx context.Context, id string) error {
	out, err := OutputOf(ctx, id)
	if err != nil {
		return err
	}
	f.removed = append(f.removed, out)
	_, err = Do(ctx, "rm", id)
	return err
}

// Scale lets a service have n containers. Those that it has stay as they are.
func (f *Fleet) Scale(ctx context.Context, service string, n int) error {
	_, err := f.Compose(ctx, "up", "--detach", "--no-deps", "--no-recreate", "--scale", service+"="+strconv.Itoa(n), service)
	return err
}

// Disconnect takes a container off a network.
func (f *Fleet) Disconnect(ctx context.Context, id, network string) error {
	name, err := f.network(ctx, network)
	if err != nil {
		return err
	}
	_, err = Do(ctx, "network", "disconnect", name, id)
	return err
}

// Connect puts a container on a network again.
func (f *Fleet) Connect(ctx context.Context, id, network string) error {
	name, err := f.network(ctx, network)
	if err != nil {
		return err
	}
	_, err = Do(ctx, "network", "connect", name, id)
	return err
}

// network returns the id of a network of the deployment. By label, because the names differ
// between Compose 1 and 2.
func (f *Fleet) network(ctx context.Context, name string) (string, error) {
	out, err := Do(ctx, "network", "ls", "--quiet",
		"--filter", "label=com.docker.compose.project="+f.project, "--filter", "label=com.docker.compose.network="+name)
	if err == nil && len(strings.Fields(out)) != 1 {
		err = fmt.Errorf("the networks %s are %q", name, out)
	}
	return out, err
}

// Map runs `asid-authz map` as a job of the publisher, and returns what it printed.
func (f *Fleet) Map(ctx context.Context, args ...string) (string, error) {
	job := append([]string{"run", "--rm", "--no-deps", "-T", "publisher", "map"}, args...)
	out, err := f.Compose(ctx, append(job, "--redis", "/etc/publisher/publisher.yaml")...)
	f.removed = append(f.removed, Output{Service: "publisher", Stdout: out})
	return out, err
}

// An Output is what a container has written.
type Output struct {
	Service, ID    string
	Stdout, Stderr string
}

// Outputs returns what all containers wrote so far, those that are gone included.
func (f *Fleet) Outputs(ctx context.Context) ([]Output, error) {
	all := slices.Clone(f.removed)
	ids, err := Do(ctx, "ps", "--all", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.project="+f.project)
	if err != nil {
		return nil, err
	}
	for _, id := range strings.Fields(ids) {
		out, err := OutputOf(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, out)
	}
	return all, nil
}

// OutputOf returns what a container wrote so far.
func OutputOf(ctx context.Context, id string) (Output, error) {
	service, err := Do(ctx, "inspect", "--format", `{{index .Config.Labels "com.docker.compose.service"}}`, id)
	if err != nil {
		return Output{}, err
	}
	stdout, stderr, err := output(ctx, nil, "docker", "logs", id)
	return Output{service, id, stdout, stderr}, err
}
