package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"asid-authz/authz/authztest"
)

// A Start is how long an image takes to be ready: medians of a few rounds.
type Start struct {
	Ready    time.Duration // from docker run until the service says that it is ready
	Engine   time.Duration // from docker run until the same image has printed its version and ended: what the engine takes for any program
	MapBytes int
}

// rounds is odd, so that one of them is the median.
const rounds = 5

// MeasureStart runs the image in that world, with everything from files below dir, and removes
// its containers. The ends are times that the service and the engine wrote down themselves, so
// that nobody's polling is in the measure. When a process began, the engine writes down only
// after it has seen it, which can be after it was ready: hence the comparison.
func MeasureStart(ctx context.Context, image, dir string, world *authztest.Minted) (Start, error) {
	s, err := NewStage(dir, world, Addresses{"10.213.7"}) // there is no network
	if err != nil {
		return Start{}, err
	}
	settings := s.settings()
	for i, issuer := range settings["issuers"].([]node) {
		issuer["keys"] = node{"file": "jwks-" + world.World.Issuers[i].Name + ".json"}
	}
	settings["map"] = node{"source": "file", "file": "map.yaml"}
	text, err := yaml.Marshal(settings)
	if err != nil {
		return Start{}, err
	}
	mapText, err := world.MapText()
	if err != nil {
		return Start{}, err
	}
	for file, content := range map[string][]byte{"asid-authz.yaml": text, "map.yaml": []byte(mapText)} {
		if err := s.Replace("authz", file, content); err != nil {
			return Start{}, err
		}
	}
	var ready, engine []time.Duration
	for range rounds {
		took, err := timed(ctx, s, image, readyAt)
		if err != nil {
			return Start{}, err
		}
		ready = append(ready, took)
		if took, err = timed(ctx, s, image, endedAt, "--version"); err != nil {
			return Start{}, err
		}
		engine = append(engine, took)
	}
	slices.Sort(ready)
	slices.Sort(engine)
	return Start{ready[rounds/2], engine[rounds/2], len(mapText)}, nil
}

// timed returns how long it took from docker run to what the function finds in the container.
func timed(ctx context.Context, s *Stage, image string, until func(ctx context.Context, id string) (time.Time, error), args ...string) (time.Duration, error) {
	began := time.Now()
	id, err := Do(ctx, append([]string{"run", "--detach", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none",
		"--volume", filepath.Join(s.Dir, "authz") + ":/etc/asid-authz:ro", image}, args...)...)
	if err != nil {
		return 0, err
	}
	defer Do(context.WithoutCancel(ctx), "rm", "--force", id)
	end, err := until(ctx, id)
	return end.Sub(began), err
}

// endedAt waits for the end of a container.
func endedAt(ctx context.Context, id string) (time.Time, error) {
	code, err := Do(ctx, "wait", id)
	if err == nil && code != "0" {
		err = fmt.Errorf("the container ended with %s", code)
	}
	if err != nil {
		return time.Time{}, err
	}
	out, err := Do(ctx, "inspect", "--format", "{{.State.FinishedAt}}", id)
	if err != nil {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339Nano, out)
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
