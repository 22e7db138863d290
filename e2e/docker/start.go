package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"asid-authz/authz/authztest"
)

// A Start is how long an image took to be ready.
type Start struct {
	Run      time.Duration // from the docker run that started it: the engine's work included
	Process  time.Duration // from the beginning of the process
	MapBytes int
}

// MeasureStart runs the image in that world, with everything from files below dir, until it
// says that it is ready, and removes the container. Both ends are times that the engine and
// the service wrote down themselves, so that nobody's polling is in the measure.
func MeasureStart(ctx context.Context, image, dir string, world *authztest.Minted) (Start, error) {
	s, err := NewStage(dir, world, Addresses{"10.213.7"})
	if err != nil {
		return Start{}, err
	}
	settings := s.settings()
	for i, issuer := range settings["issuers"].([]node) {
		name := "jwks-" + world.World.Issuers[i].Name + ".json"
		issuer["keys"] = node{"file": name}
	}
	text, err := yaml.Marshal(settings)
	if err != nil {
		return Start{}, err
	}
	if err := s.Replace("authz", "asid-authz.yaml", text); err != nil {
		return Start{}, err
	}
	mapText, err := os.ReadFile(filepath.Join(s.Dir, "authz", "map.yaml"))
	if err != nil {
		return Start{}, err
	}
	began := time.Now()
	id, err := Do(ctx, "run", "--detach", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none",
		"--volume", filepath.Join(s.Dir, "authz")+":/etc/asid-authz:ro", image)
	if err != nil {
		return Start{}, err
	}
	defer Do(context.WithoutCancel(ctx), "rm", "--force", id)
	out, err := Do(ctx, "inspect", "--format", "{{.State.StartedAt}}", id)
	if err != nil {
		return Start{}, err
	}
	started, err := time.Parse(time.RFC3339Nano, out)
	if err != nil {
		return Start{}, err
	}
	ready, err := readyAt(ctx, id)
	if err != nil {
		return Start{}, err
	}
	return Start{ready.Sub(began), ready.Sub(started), len(mapText)}, nil
}

// readyAt waits for the line of the service log that says so, and returns its time.
func readyAt(ctx context.Context, id string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		log, err := serviceLog(ctx, id)
		if err != nil {
			return time.Time{}, err
		}
		for line := range bytes.Lines(log) {
			var l struct {
				Time    time.Time `json:"ts"`
				Message string    `json:"msg"`
				Serving bool
			}
			if json.Unmarshal(line, &l) == nil && l.Message == "health" && l.Serving {
				return l.Time, nil
			}
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("the service did not say that it is ready:\n%s", tail(string(log)))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// serviceLog returns what a container wrote to stderr.
func serviceLog(ctx context.Context, id string) ([]byte, error) {
	status, err := Do(ctx, "inspect", "--format", "{{.State.Status}}", id)
	if err != nil {
		return nil, err
	}
	_, errs, err := output(ctx, nil, "docker", "logs", id)
	if err == nil && !strings.HasPrefix(status, "running") {
		err = errors.New("the container is " + status + "\n" + tail(errs))
	}
	return []byte(errs), err
}
