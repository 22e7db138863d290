package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/e2e/program"
)

// Options are what a mesh may have otherwise than the world says. The zero Options are mutual
// TLS between Envoy and asid-authz, and nothing else.
type Options struct {
	Unix       bool            // a Unix socket between Envoy and asid-authz instead
	Plain      bool            // or TCP without TLS, as the loopback allows
	ClientCAs  []*authztest.CA // that are trusted beside the world's
	CRLs       bool            // those of the world, also if it says nothing of them
	DrainDelay time.Duration   // of asid-authz
	Audit      map[string]any  // settings of the audit log that are not those of a mesh
	Workers    int             // threads of an Envoy; 0 is one
	Quiet      bool            // what is written on standard output is thrown away: Envoy's access log, an audit log

	Redis        Redis         // where the map is published, instead of a file
	MaxStaleness time.Duration // of the map; 0 is the default
}

// A Mesh is the API, an asid-authz or several, and the Envoys in front of them.
type Mesh struct {
	World    *authztest.Minted
	Upstream *Upstream

	programs   *Programs
	options    Options
	dir        string
	identities *identities
	audit      *audit

	mu           sync.Mutex
	replicas     []*Authz
	edges        []*Edge
	edgesStarted int
}

// Start starts the API and one asid-authz in that world.
func (p *Programs) Start(ctx context.Context, world *authztest.Minted, options Options) (*Mesh, error) {
	m := &Mesh{World: world, programs: p, options: options}
	if err := m.start(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Mesh) start(ctx context.Context) (err error) {
	if m.dir, err = program.TempDir(); err != nil {
		return err
	}
	m.audit = newAudit(m.Path("audit.jsonl"))
	if m.identities, err = newIdentities(m.World.Authority); err != nil {
		return err
	}
	if err = m.writeWorld(); err != nil {
		return err
	}
	if m.options.Redis != nil {
		if err = errors.Join(m.writePublisher(), m.publish(ctx)); err != nil {
			return err
		}
	}
	if m.Upstream, err = startUpstream(); err != nil {
		return err
	}
	_, err = m.Authz(ctx)
	return err
}

// Replica returns the first asid-authz.
func (m *Mesh) Replica() *Authz { return m.replicas[0] }

// PrivateCA returns the authority that Envoy and asid-authz prove themselves to each other with.
func (m *Mesh) PrivateCA() *authztest.CA { return m.identities.private }

// Processes returns the ids of the processes that run.
func (m *Mesh) Processes() (ids []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.edges {
		if e.process.Running() {
			ids = append(ids, e.process.Pid())
		}
	}
	for _, a := range m.replicas {
		if a.Running() {
			ids = append(ids, a.process.Pid())
		}
	}
	return ids
}

// stdout returns where a process writes what it would write into that file.
func (m *Mesh) stdout(file string) string {
	if m.options.Quiet {
		return os.DevNull
	}
	return file
}

// Path returns the path of a file of the mesh's directory, which Close removes.
func (m *Mesh) Path(name string) string { return filepath.Join(m.dir, name) }

// writeWorld writes what the configuration of asid-authz names.
func (m *Mesh) writeWorld() error {
	files, err := WorldFiles(m.World)
	if err != nil {
		return err
	}
	for _, ca := range m.options.ClientCAs {
		files["client-ca.pem"] = append(files["client-ca.pem"], ca.PEM()...)
	}
	files["break-glass.yaml"] = []byte("{}\n")
	if m.hasCRLs() {
		if files["crls.pem"], err = m.World.CRLs(1); err != nil {
			return err
		}
	}
	maps.Copy(files, m.identities.files())
	return writeFiles(m.dir, files)
}

// settings returns the configuration of one asid-authz.
func (m *Mesh) settings(a *Authz) node {
	settings := WorldSettings(m.World)
	settings["listen"] = node{"unix": node{"path": strings.TrimPrefix(a.Address, "unix:")}}
	if !m.options.Unix {
		tcp := node{"address": a.Address}
		if !m.options.Plain {
			tcp["tls"] = node{"certificate": "authz.pem", "key": "authz.key", "client_ca": "private-ca.pem", "client_names": []string{edgeName}}
		}
		settings["listen"] = node{"tcp": tcp}
	}
	settings["admin"] = node{"address": a.Admin}
	settings["map"] = m.mapSettings()
	if m.hasCRLs() {
		settings["trust"] = node{"client_ca": "client-ca.pem", "crl": []string{"crls.pem"}}
	}
	// A test looks for each denial, also for the thousandth of a second.
	audit := node{"output": "file", "file": "audit.jsonl", "early_denials": 1_000_000}
	maps.Copy(audit, m.options.Audit)
	if audit["output"] == "stdout" {
		delete(audit, "file")
	}
	settings["audit"] = audit
	settings["limits"] = node{"drain_delay": m.options.DrainDelay.String()}
	return settings
}

// SetMap replaces the map file, as a publisher does, or publishes it.
func (m *Mesh) SetMap(ctx context.Context, text string) error {
	if err := replaceFile(m.Path("map.yaml"), []byte(text)); err != nil {
		return err
	}
	return m.publish(ctx)
}

// SetCRLs replaces the file of CRLs by one of that number, with more certificates revoked.
func (m *Mesh) SetCRLs(number int64, revoked ...*authztest.Certificate) error {
	text, err := m.World.CRLs(number, revoked...)
	if err != nil {
		return err
	}
	return replaceFile(m.Path("crls.pem"), text)
}

// SetBreakGlass replaces the file with the orders of an emergency. It begins without any.
func (m *Mesh) SetBreakGlass(text string) error {
	return replaceFile(m.Path("break-glass.yaml"), []byte(text))
}

func (m *Mesh) hasCRLs() bool { return m.World.World.CRLs || m.options.CRLs }

// Record waits for the audit record of that decision.
func (m *Mesh) Record(decisionID string) (Record, error) { return m.audit.find(decisionID) }

// Records returns every audit record but the first n, in their order.
func (m *Mesh) Records(n int) ([]Record, error) { return m.audit.since(n) }

// Outputs returns everything that the processes wrote, by file: what they log, the audit log,
// and what the commands that changed the map in Redis printed.
func (m *Mesh) Outputs() (map[string]string, error) {
	outputs := map[string]string{}
	for _, pattern := range []string{"*.log", "*.jsonl"} {
		files, err := filepath.Glob(m.Path(pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			outputs[filepath.Base(file)] = string(text)
		}
	}
	return outputs, nil
}

// Log returns the end of what every process wrote, for people to read after a failure.
func (m *Mesh) Log() string {
	log := ""
	for _, e := range m.edges {
		log += e.Log()
	}
	for _, a := range m.replicas {
		log += a.Log()
	}
	return log
}

// Stop ends every process, in the order in which requests reach them, so that they have
// written what they hold back. The error says which of them did not end as it should.
func (m *Mesh) Stop() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []error
	for _, e := range m.edges {
		all = append(all, e.Stop())
	}
	for _, a := range m.replicas {
		all = append(all, a.Stop())
	}
	return errors.Join(all...)
}

// Close is Stop, and removes the directory.
func (m *Mesh) Close() error {
	all := []error{m.Stop()}
	if m.Upstream != nil {
		m.Upstream.close()
	}
	if m.dir != "" {
		if err := os.RemoveAll(m.dir); err != nil {
			all = append(all, fmt.Errorf("removing what the mesh wrote: %w", err))
		}
	}
	return errors.Join(all...)
}
