package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"asid-authz/e2e/program"
)

// A Server is one Redis or Valkey process, with a port and a directory that stay the same
// when it is started again.
type Server struct {
	*realm

	role    role
	dir     string
	address string
	bus     string // address of a Cluster node's bus
	proxy   *Proxy // before it, or nil

	admin *redis.Client

	state   sync.Mutex
	process *program.Process
	frozen  bool
}

// A role is what a process is beside an ordinary server.
type role int

const (
	data role = iota
	node      // of a Cluster
	sentinel
)

// Start starts one server.
func Start(ctx context.Context, options Options) (*Server, error) {
	r, err := newRealm(ctx, options)
	if err != nil {
		return nil, err
	}
	s, err := r.start(ctx, data, nil)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return s, nil
}

// start starts a server, with those lines added to its configuration.
func (r *realm) start(ctx context.Context, role role, lines []string) (*Server, error) {
	const attempts = 3 // somebody else may take a port between our choice and its use
	for attempt := 1; ; attempt++ {
		s, err := r.newServer(role, lines)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		r.servers = append(r.servers, s)
		r.mu.Unlock()
		err = s.run(ctx)
		if err == nil {
			return s, nil
		}
		if attempt == attempts || !strings.Contains(err.Error(), "ddress already in use") {
			return nil, err
		}
		if err := s.end(); err != nil {
			return nil, err
		}
		r.mu.Lock()
		r.servers = r.servers[:len(r.servers)-1]
		r.mu.Unlock()
	}
}

func (r *realm) newServer(role role, lines []string) (*Server, error) {
	s := &Server{realm: r, role: role}
	var err error
	if s.address, err = program.FreeAddress(); err != nil {
		return nil, err
	}
	if role == node {
		// By default the bus is 10000 above, where outgoing connections are.
		if s.bus, err = program.FreeAddress(); err != nil {
			return nil, err
		}
	}
	if r.options.Proxy != nil && role != sentinel {
		s.proxy = r.options.Proxy(s.address)
	}
	s.dir = filepath.Join(r.dir, port(s.address))
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	users := serverUsers(r.options.Namespace)
	if role == sentinel {
		users = sentinelUsers()
	}
	for name, text := range map[string]string{
		"users.acl":  aclFile(users, r.hash),
		"redis.conf": strings.Join(append(s.config(), lines...), "\n") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	// go-redis stops dialling for a second once as many dials failed as the pool is large,
	// which is what a server that was down and is back must not look like.
	options := s.adminOptions()
	options.PoolSize = 1000
	s.admin = redis.NewClient(options)
	return s, nil
}

// config returns the lines of the configuration file that every server of that role has.
func (s *Server) config() []string {
	lines := []string{
		"bind 127.0.0.1",
		"dir " + s.dir,
		"aclfile " + filepath.Join(s.dir, "users.acl"),
		"loglevel notice",
	}
	plain, secure := "port "+port(s.address), "tls-port 0"
	if s.options.TLS {
		plain, secure = "port 0", "tls-port "+port(s.address)
		lines = append(lines,
			"tls-cert-file "+filepath.Join(s.realm.dir, "redis.pem"),
			"tls-key-file "+filepath.Join(s.realm.dir, "redis.key"),
			"tls-ca-cert-file "+s.CAFile(),
			"tls-auth-clients no",
			"tls-replication yes")
	}
	lines = append(lines, plain)
	if s.program.Caps.TLS {
		lines = append(lines, secure)
	}
	if s.role == sentinel {
		return lines
	}
	lines = append(lines,
		`save ""`,
		"appendonly no",
		"maxmemory-policy noeviction",
		"enable-debug-command local", // for Admin: the ACL refuses it to the others
		"masteruser "+ReplicaUser,
		"masterauth "+s.passwords[ReplicaUser],
		"repl-diskless-sync-delay 0",
		"shutdown-timeout 1",
	)
	if s.proxy != nil {
		lines = append(lines, "replica-announce-ip 127.0.0.1", "replica-announce-port "+port(s.announced()))
	}
	if s.role == node {
		lines = append(lines,
			"cluster-enabled yes",
			"cluster-config-file nodes.conf",
			"cluster-port "+port(s.bus),
			"cluster-announce-ip 127.0.0.1",
			"cluster-node-timeout "+strconv.Itoa(s.options.downAfter()),
			"cluster-replica-validity-factor 0",  // a replica may take over however long it was cut off
			"cluster-allow-replica-migration no") // each master keeps the replica that it was given
		if s.options.TLS {
			lines = append(lines, "tls-cluster yes")
		}
		if s.proxy != nil {
			lines = append(lines, "cluster-announce-port "+port(s.announced()), "cluster-announce-bus-port "+port(s.bus))
		}
	}
	return append(lines, s.options.Config...)
}

// run starts the process and waits until it answers and has loaded what it must.
func (s *Server) run(ctx context.Context) error {
	return s.launch(ctx, func() bool { return s.answers(ctx) == nil })
}

// launch starts the process, with what else it is told, and waits until it is ready.
func (s *Server) launch(ctx context.Context, ready func() bool, more ...string) error {
	args := append([]string{filepath.Join(s.dir, "redis.conf")}, more...)
	if s.role == sentinel {
		args = append(args, "--sentinel")
	}
	log := filepath.Join(s.dir, "log")
	process, err := program.Start(s.name(), exec.Command(s.program.Path, args...), log, log)
	if err != nil {
		return err
	}
	s.state.Lock()
	s.process, s.frozen = process, false
	s.state.Unlock()
	if err := process.Await(ctx, wait, ready); err != nil {
		process.Kill()
		return err
	}
	return nil
}

// answers says what is wrong when the server does not answer, on a connection of its own.
func (s *Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	// go-redis would log each time that nobody listens yet.
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	conn.Close()
	options := s.adminOptions()
	options.MaxRetries = -1
	options.DialerRetries = 1
	client := redis.NewClient(options)
	defer client.Close()
	return client.Ping(ctx).Err()
}

func (s *Server) name() string {
	return [...]string{"redis", "redis node", "sentinel"}[s.role] + " " + port(s.address)
}

// port returns the port of an address.
func port(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(err) // it is one of FreeAddress
	}
	return port
}

// Address returns host:port, where the server listens.
func (s *Server) Address() string { return s.address }

// Proxy returns what stands before the server, nil without Options.Proxy.
func (s *Server) Proxy() *Proxy { return s.proxy }

// announced returns the address that everybody but Admin knows.
func (s *Server) announced() string {
	if s.proxy != nil {
		return s.proxy.Address()
	}
	return s.address
}

// ClientOptions returns what a client of this server alone needs as that user. They can be
// changed before they are given to redis.NewUniversalClient.
func (s *Server) ClientOptions(user string) *redis.UniversalOptions {
	options := s.clientOptions(user)
	options.Addrs = []string{s.announced()}
	return options
}

// adminOptions are those of a client that no proxy is in the way of.
func (s *Server) adminOptions() *redis.Options {
	options := s.ClientOptions(Admin).Simple()
	options.Addr = s.address
	return options
}

// Admin returns a client that may do everything. Close closes it.
func (s *Server) Admin() *redis.Client { return s.admin }

// Pid returns the id of the process that runs, or that ran last.
func (s *Server) Pid() int { return s.running().Pid() }

// running returns the process that was started last.
func (s *Server) running() *program.Process {
	s.state.Lock()
	defer s.state.Unlock()
	return s.process
}

// live reports whether the server can answer.
func (s *Server) live() bool {
	s.state.Lock()
	defer s.state.Unlock()
	return !s.frozen && s.process.Running()
}

// Log returns the end of what the server wrote.
func (s *Server) Log() string {
	if p := s.running(); p != nil {
		return p.Log()
	}
	return ""
}

// end closes the client and kills the process.
func (s *Server) end() error {
	err := s.admin.Close()
	if p := s.running(); p != nil {
		p.Kill()
	}
	return err
}

// Kill ends the process at once, as a crash does: what it held in memory is lost.
func (s *Server) Kill() { s.running().Kill() }

// Stop ends the process as an administrator does. It writes no dump.
func (s *Server) Stop() error {
	err := s.running().Stop()
	s.state.Lock()
	s.frozen = false
	s.state.Unlock()
	return err
}

// Freeze holds the process (SIGSTOP) until Thaw: the kernel still takes connections and bytes
// for it, but nothing answers. It returns when the process is held.
func (s *Server) Freeze() error {
	if err := s.hold(true, syscall.SIGSTOP); err != nil {
		return err
	}
	return until(context.Background(), "the process is held", func() error {
		state, err := processState(s.Pid())
		if err == nil && !strings.HasPrefix(state, "T") {
			err = fmt.Errorf("%s is in state %q", s.name(), state)
		}
		return err
	})
}

// Thaw lets a frozen process go on.
func (s *Server) Thaw() error { return s.hold(false, syscall.SIGCONT) }

func (s *Server) hold(frozen bool, signal syscall.Signal) error {
	s.state.Lock()
	defer s.state.Unlock()
	if !s.process.Running() {
		return fmt.Errorf("%s does not run", s.name())
	}
	if err := s.process.Signal(signal); err != nil {
		return err
	}
	s.frozen = frozen
	return nil
}

// Restart starts a server that has ended on the same port, with the configuration that it
// had in the end, and with the dump in it; nil is an empty one. It returns when the dump is
// loaded.
func (s *Server) Restart(ctx context.Context, dump []byte) error {
	if s.running().Running() {
		return fmt.Errorf("%s still runs", s.name())
	}
	path := filepath.Join(s.dir, "dump.rdb")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if dump != nil {
		if err := os.WriteFile(path, dump, 0o600); err != nil {
			return err
		}
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	if s.role == sentinel {
		return s.hasten(ctx)
	}
	return nil
}

// Dump returns what the server holds, as Restart takes it.
func (s *Server) Dump(ctx context.Context) ([]byte, error) {
	if err := s.admin.Save(ctx).Err(); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(s.dir, "dump.rdb"))
}
