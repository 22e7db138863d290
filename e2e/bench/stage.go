package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
	"asid-authz/e2e/program"
)

// A variant is one Envoy, and the server that it asks.
type variant struct {
	name     string
	edge     *mesh.Edge
	service  int                                   // process id of the server; 0: none is asked
	decided  func(context.Context) (uint64, error) // how many decisions were made for it
	baseline *variant                              // what it is held against: the same transport, nothing decided
}

// A stage is all variants, all of which are there all the time: those that are not measured
// are idle.
type stage struct {
	programs *mesh.Programs
	alwaysOK string // path of the program
	dir      string
	world    *authztest.Minted
	read     *authztest.Case

	meshes   []*mesh.Mesh
	servers  []*program.Process
	variants []*variant
}

const (
	// worldName and caseName are of the corpus: Spine as it is, and a read of a pointer with a
	// token signed by RS256, as CAS signs.
	worldName = "registered-cn"
	caseName  = "token-rs256"
	// systems is how many the map holds.
	systems = 1000
)

// transports are the ways between Envoy and the server.
var transports = []struct {
	name    string
	options mesh.Options
}{
	{"TCP", mesh.Options{Plain: true}},
	{"mTLS", mesh.Options{}},
	{"Unix socket", mesh.Options{Unix: true}},
}

func newStage(ctx context.Context, workers int) (s *stage, err error) {
	s = &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	root, err := program.Repository()
	if err != nil {
		return s, err
	}
	if err := s.choose(filepath.Join(root, "authz/testdata")); err != nil {
		return s, err
	}
	if s.dir, err = program.TempDir(); err != nil {
		return s, err
	}
	s.alwaysOK = filepath.Join(s.dir, "alwaysok")
	if err := mesh.BuildRelease(ctx, root, s.alwaysOK, "./e2e/bench/alwaysok"); err != nil {
		return s, err
	}
	if s.programs, err = mesh.FindReleasePrograms(ctx); err != nil {
		return s, err
	}
	for i, t := range transports {
		o := t.options
		o.Workers, o.Quiet, o.Audit = workers, true, map[string]any{"output": "stdout"}
		m, err := s.programs.Start(ctx, s.world, o)
		if err != nil {
			return s, err
		}
		s.meshes = append(s.meshes, m)
		if i == 0 {
			if err := s.addUnasked(ctx, m); err != nil {
				return s, err
			}
		}
		baseline, err := s.addAlwaysOK(ctx, m, t.name, o)
		if err != nil {
			return s, err
		}
		if err := s.addAuthz(ctx, m, t.name, baseline); err != nil {
			return s, err
		}
	}
	return s, nil
}

// choose finds the request, and makes the map of its world as large as it is to be.
func (s *stage) choose(corpus string) error {
	all, err := authztest.Load(corpus)
	if err != nil {
		return err
	}
	for _, c := range all.In(worldName) {
		if c.File == caseName {
			s.read = c
		}
	}
	if s.read == nil {
		return fmt.Errorf("the corpus has no case %s in world %s", caseName, worldName)
	}
	if s.world, err = all.Worlds[worldName].Mint(time.Now()); err != nil {
		return err
	}
	var more strings.Builder
	for i := strings.Count(s.world.Map, "- asid:"); i < systems; i++ {
		fmt.Fprintf(&more, "  - asid: \"%012d\"\n    name: System %d\n    ods: X%04d\n    fqdns: [system-%d.example.nhs.uk]\n    state: active\n    interactions: [nrl-consumer, nrl-provider]\n",
			300000000000+i, i, i, i)
	}
	s.world.Map += more.String()
	return nil
}

func (s *stage) addUnasked(ctx context.Context, m *mesh.Mesh) error {
	edge, err := m.Edge(ctx, mesh.Answering, mesh.Unlocked, mesh.Unasked)
	if err != nil {
		return err
	}
	s.variants = append(s.variants, &variant{name: "no ext_authz", edge: edge})
	return nil
}

func (s *stage) addAlwaysOK(ctx context.Context, m *mesh.Mesh, transport string, o mesh.Options) (*variant, error) {
	address := "unix:" + m.Path("alwaysok.sock")
	if !o.Unix {
		var err error
		if address, err = program.FreeAddress(); err != nil {
			return nil, err
		}
	}
	args := []string{"-listen", address}
	if !o.Unix && !o.Plain {
		args = append(args, "-certificate", m.Path("authz.pem"), "-key", m.Path("authz.key"), "-client-ca", m.Path("private-ca.pem"))
	}
	log := m.Path("alwaysok.log")
	server, err := program.Start("alwaysok", exec.Command(s.alwaysOK, args...), log, log)
	if err != nil {
		return nil, err
	}
	s.servers = append(s.servers, server)
	network, name := "tcp", address
	if path, is := strings.CutPrefix(address, "unix:"); is {
		network, name = "unix", path
	}
	err = server.Await(ctx, 20*time.Second, func() bool {
		conn, err := net.Dial(network, name)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	// It does not open the lock, which asks for what asid-authz says beside its OK.
	edge, err := m.Edge(ctx, mesh.Answering, mesh.Unlocked, mesh.Asking(address))
	if err != nil {
		return nil, err
	}
	v := &variant{name: "always OK, " + transport, edge: edge, service: server.Pid()}
	v.decided = func(ctx context.Context) (uint64, error) { return askedBy(ctx, edge) }
	s.variants = append(s.variants, v)
	return v, nil
}

func (s *stage) addAuthz(ctx context.Context, m *mesh.Mesh, transport string, baseline *variant) error {
	edge, err := m.Edge(ctx, mesh.Answering)
	if err != nil {
		return err
	}
	replica := m.Replica()
	s.variants = append(s.variants, &variant{
		name: "asid-authz, " + transport, edge: edge, service: replica.Pid(), baseline: baseline,
		decided: func(ctx context.Context) (uint64, error) { return allowedBy(ctx, replica) },
	})
	return nil
}

// request returns the request, with a token of now.
func (s *stage) request() (mesh.Request, error) {
	fields, body, err := s.world.HTTP2(s.read, time.Now())
	return mesh.NewRequest(fields, body), err
}

// close ends every process and removes what was written.
func (s *stage) close() error {
	var all []error
	for _, m := range s.meshes {
		all = append(all, m.Stop()) // the Envoys first: they hold the connections
	}
	for _, server := range s.servers {
		server.Kill() // it knows no other end
	}
	for _, m := range s.meshes {
		all = append(all, m.Close())
	}
	if s.programs != nil {
		all = append(all, s.programs.Remove())
	}
	if s.dir != "" {
		all = append(all, os.RemoveAll(s.dir))
	}
	return errors.Join(all...)
}
