package mesh

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v4"

	"asid-authz/e2e/program"
)

// An Authz is one asid-authz process of a mesh.
type Authz struct {
	Config  string // path of its configuration file
	Address string // where Envoy asks it: host:port, or unix:/path
	Admin   string // host:port of its operators' port

	mesh    *Mesh
	process *program.Process
}

// Authz starts another asid-authz of the same configuration: a replica.
func (m *Mesh) Authz(ctx context.Context) (*Authz, error) {
	m.mu.Lock()
	n := len(m.replicas) + 1
	m.mu.Unlock()
	a := &Authz{mesh: m, Config: filepath.Join(m.dir, fmt.Sprintf("authz-%d.yaml", n))}
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.replicas = append(m.replicas, a)
	m.mu.Unlock()
	return a, nil
}

// Start starts the process, for the first time or again, and waits until it is ready. Its
// addresses stay what they were, because an Envoy knows them.
func (a *Authz) Start(ctx context.Context) error { return a.startUntil(ctx, "/readyz") }

// Launch is Start, but waits only until the process lives.
func (a *Authz) Launch(ctx context.Context) error { return a.startUntil(ctx, "/healthz") }

func (a *Authz) startUntil(ctx context.Context, path string) error {
	const attempts = 3 // somebody else may take a port between our choice and its use
	again := a.Address != ""
	for attempt := 1; ; attempt++ {
		err := a.start(ctx, path)
		if err == nil || again || attempt == attempts || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
		a.Address, a.Admin = "", ""
	}
}

func (a *Authz) start(ctx context.Context, path string) (err error) {
	if a.Address == "" {
		if a.Admin, err = program.FreeAddress(); err != nil {
			return err
		}
		if a.mesh.options.Unix {
			a.Address = "unix:" + strings.TrimSuffix(a.Config, ".yaml") + ".sock"
		} else if a.Address, err = program.FreeAddress(); err != nil {
			return err
		}
	}
	text, err := yaml.Marshal(a.mesh.settings(a))
	if err != nil {
		return err
	}
	if err := writeFiles(a.mesh.dir, map[string][]byte{filepath.Base(a.Config): text}); err != nil {
		return err
	}
	log := strings.TrimSuffix(a.Config, ".yaml") + ".log"
	a.process, err = program.Start("asid-authz", exec.Command(a.mesh.programs.Authz, "serve", "--config", a.Config), a.mesh.stdout(log), log)
	if err != nil {
		return err
	}
	err = a.process.Await(ctx, wait, func() bool {
		status, _, err := get(ctx, "tcp", a.Admin, path)
		return err == nil && status == http.StatusOK
	})
	if err != nil {
		a.process.Kill()
	}
	return err
}

// Stop stops the process as an orchestrator does, and waits for its end.
func (a *Authz) Stop() error { return a.process.Stop() }

// Kill ends the process as a crash does.
func (a *Authz) Kill() { a.process.Kill() }

// Hold keeps the process from doing anything, until Release: it is there and never answers.
func (a *Authz) Hold() error { return a.process.Signal(syscall.SIGSTOP) }

// Release lets a held process go on.
func (a *Authz) Release() error { return a.process.Signal(syscall.SIGCONT) }

// Running reports whether the process has not ended.
func (a *Authz) Running() bool { return a.process.Running() }

// Pid returns the id of the process.
func (a *Authz) Pid() int { return a.process.Pid() }

// Log returns everything that the process wrote, but for the audit log.
func (a *Authz) Log() string { return a.process.Log() }

// Status returns the status of a path of the operators' port.
func (a *Authz) Status(ctx context.Context, path string) (int, error) {
	status, _, err := get(ctx, "tcp", a.Admin, path)
	return status, err
}

// Metrics returns the text that Prometheus would scrape.
func (a *Authz) Metrics(ctx context.Context) (string, error) {
	status, body, err := get(ctx, "tcp", a.Admin, "/metrics")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/metrics answered %d", status)
	}
	return body, err
}

// get asks an operators' port, on a connection of its own.
func get(ctx context.Context, network, address, path string) (status int, body string, err error) {
	client := &http.Client{Timeout: wait, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, address)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	return response.StatusCode, string(text), err
}
