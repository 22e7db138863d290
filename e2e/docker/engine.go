package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// Do runs one docker command and returns what it printed, without the last newline.
func Do(ctx context.Context, args ...string) (string, error) { return run(ctx, nil, "docker", args...) }

// Available returns an error of one line if no engine answers.
func Available(ctx context.Context) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("no docker command: install Docker, or a docker command that speaks to an engine elsewhere")
	}
	if _, err := Do(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return errors.New("no Docker engine answers: start it, or let DOCKER_HOST name one that runs")
	}
	return nil
}

// run runs a program to its end and returns what it printed. The error ends with what it
// wrote to stderr.
func run(ctx context.Context, stdin io.Reader, program string, args ...string) (string, error) {
	out, _, err := output(ctx, stdin, program, args...)
	return strings.TrimSuffix(out, "\n"), err
}

func output(ctx context.Context, stdin io.Reader, program string, args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, tail(errs.String()))
	}
	return out.String(), errs.String(), err
}

// tail returns the last lines of a program's output.
func tail(text string) string {
	const most = 4 << 10
	if len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	return strings.TrimSpace(text)
}
