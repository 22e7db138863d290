package mesh

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"asid-authz/authz/authztest"
	"asid-authz/e2e/program"
)

// An Edge is an Envoy in front of the mesh's asid-authz and API.
type Edge struct {
	Address string // host:port that clients call
	Config  string // path of its configuration file

	mesh    *Mesh
	admin   string // path of the Unix socket of its operators' port
	process *program.Process
}

// Edge starts an Envoy with the configuration that `asid-authz envoy-config` prints for this
// mesh, with those changes made, and waits until it takes requests.
func (m *Mesh) Edge(ctx context.Context, changes ...Change) (*Edge, error) {
	const attempts = 3 // somebody else may take a port between our choice and its use
	for attempt := 1; ; attempt++ {
		e, err := m.startEdge(ctx, changes)
		if err == nil || attempt == attempts || !strings.Contains(err.Error(), "ddress already in use") {
			return e, err
		}
	}
}

func (m *Mesh) startEdge(ctx context.Context, changes []Change) (*Edge, error) {
	m.mu.Lock()
	m.edgesStarted++
	base := filepath.Join(m.dir, fmt.Sprintf("envoy-%d", m.edgesStarted))
	m.mu.Unlock()
	e := &Edge{mesh: m, Config: base + ".yaml", admin: base + ".sock"}
	var err error
	if e.Address, err = program.FreeAddress(); err != nil {
		return nil, err
	}
	text, err := m.envoyConfig(ctx, e, changes)
	if err != nil {
		return nil, err
	}
	if text, err = changed(text, changes); err != nil {
		return nil, err
	}
	if err := writeFiles(m.dir, map[string][]byte{filepath.Base(e.Config): text}); err != nil {
		return nil, err
	}
	e.process, err = program.Start("envoy", exec.Command(m.programs.Envoy, "--config-path", e.Config,
		"--disable-hot-restart", "--concurrency", strconv.Itoa(max(m.options.Workers, 1)), "--log-level", "warning"), m.stdout(base+".access.log"), base+".log")
	if err != nil {
		return nil, err
	}
	err = e.process.Await(ctx, wait, func() bool {
		status, _, err := get(ctx, "unix", e.admin, "/ready")
		return err == nil && status == http.StatusOK
	})
	if err != nil {
		e.process.Kill()
		return nil, err
	}
	m.mu.Lock()
	m.edges = append(m.edges, e)
	m.mu.Unlock()
	return e, nil
}

// envoyConfig returns what the command prints.
func (m *Mesh) envoyConfig(ctx context.Context, e *Edge, changes []Change) ([]byte, error) {
	args := []string{"envoy-config",
		"--config", m.replicas[0].Config,
		"--listen", e.Address,
		"--admin", "unix:" + e.admin,
		"--server-name", m.World.Authority,
		"--certificate", filepath.Join(m.dir, "server.pem"),
		"--key", filepath.Join(m.dir, "server.key"),
		"--client-ca", filepath.Join(m.dir, "client-ca.pem"),
		"--upstream", m.Upstream.Address,
		// The default is a quarter of a second. A busy machine that runs many tests at once
		// needs longer now and then, and that would look like a service that is down.
		"--check-timeout", "2s",
	}
	for _, a := range m.replicas {
		args = append(args, "--authz", a.Address)
	}
	if !m.options.Unix && !m.options.Plain {
		args = append(args,
			"--authz-ca", filepath.Join(m.dir, "private-ca.pem"),
			"--authz-certificate", filepath.Join(m.dir, "edge.pem"),
			"--authz-key", filepath.Join(m.dir, "edge.key"),
			"--authz-name", authzName)
	}
	for _, c := range changes {
		if c.flag != "" {
			args = append(args, c.flag)
		}
	}
	return m.programs.Run(ctx, args...)
}

// Validate lets Envoy say what it thinks of its own configuration, without running it.
func (e *Edge) Validate(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, e.mesh.programs.Envoy, "--mode", "validate", "--config-path", e.Config).CombinedOutput()
	return string(out), err
}

// Client returns a client of the edge that shows the certificate, or none if it is nil.
func (e *Edge) Client(certificate *authztest.Certificate) *Client {
	c := &Client{Address: e.Address, ServerName: e.mesh.World.Authority, Roots: e.mesh.identities.roots()}
	if certificate != nil {
		shown := certificate.TLS()
		c.Certificate = &shown
	}
	return c
}

// Pid returns the id of the Envoy's process.
func (e *Edge) Pid() int { return e.process.Pid() }

// Stop stops the Envoy and waits for its end.
func (e *Edge) Stop() error { return e.process.Stop() }

// Log returns what the Envoy wrote, its access log included.
func (e *Edge) Log() string { return e.process.Log() }

// Stats returns the Envoy's own counters, as text.
func (e *Edge) Stats(ctx context.Context) (string, error) {
	_, body, err := get(ctx, "unix", e.admin, "/stats")
	return body, err
}

// Metrics returns the text that Prometheus would scrape.
func (e *Edge) Metrics(ctx context.Context) (string, error) {
	_, body, err := get(ctx, "unix", e.admin, "/stats/prometheus")
	return body, err
}
