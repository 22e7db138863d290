package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"asid-authz/authz"
	"asid-authz/envoy"
)

func newServeCommand() *cobra.Command {
	var file string
	var checkOnly bool
	command := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Answer Envoy's authorization checks until SIGTERM",
		Args:  noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if checkOnly {
				return checkConfig(file, command.OutOrStdout(), command.ErrOrStderr())
			}
			return serve(command.Context(), file, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	command.Flags().StringVar(&file, "config", "", "configuration file")
	command.Flags().BoolVar(&checkOnly, "check-config", false, "read the configuration and every file that it names, say what is wrong, and end")
	command.MarkFlagRequired("config")
	return command
}

// checkConfig does everything that serve does before it listens.
func checkConfig(file string, stdout, stderr io.Writer) error {
	c, err := loadConfig(file)
	if err != nil {
		return err
	}
	g, err := build(c, nil, zap.NewNop())
	if err != nil {
		return err
	}
	if err := readAll((&serverIdentity{}).files(c)); err != nil {
		return err
	}
	(&announcements{}).announce(g, time.Now(), newLog(stderr))
	systems := fmt.Sprintf("%d systems", g.interactions.state().systems)
	if c.Map.Source == "redis" {
		systems = "a map from Redis, which was not asked"
	}
	fmt.Fprintf(stdout, "%s is good: profile %s, %s, %d issuers\n", file, g.authorizer.Profile.Name, systems, len(g.keys))
	return nil
}

// A service is the running process.
type service struct {
	log      *zap.Logger
	metrics  *metrics
	audit    *auditLog
	watcher  *watcher
	identity *serverIdentity
	health   *health.Server
	checks   *envoy.Server

	generation atomic.Pointer[generation]
	draining   atomic.Bool
	wasReady   atomic.Bool

	mu       sync.Mutex // guards what follows: one generation is built at a time
	refresh  map[any]context.CancelFunc
	settings *watchedFile // the configuration file
	running  sync.WaitGroup
}

// serve is the order in which a process comes up and goes down.
func serve(ctx context.Context, file string, stdout, stderr io.Writer) (err error) {
	c, err := loadConfig(file)
	if err != nil {
		return err
	}
	log := newLog(stderr)
	signal.Ignore(syscall.SIGPIPE) // or the end of whoever reads the audit log would be ours
	m := newMetrics()
	audit, err := openAudit(c, stdout, func(records int) { m.auditLost.Add(float64(records)) }, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, audit.close()) }() // after the last call was answered
	limitMemory(hostRoot(), os.Getenv, log)
	s := &service{log: log, metrics: m, audit: audit, identity: &serverIdentity{}, health: health.NewServer(), refresh: map[any]context.CancelFunc{}}
	s.checks = envoy.NewServer(func() *envoy.Rules { return s.generation.Load().rules }, s.record)
	if c.Listen.TCP != nil && c.Listen.TCP.TLS != nil {
		s.identity.names = slices.Clone(c.Listen.TCP.TLS.ClientNames)
	}
	s.watcher = newWatcher(log, s.metrics.reload)
	s.setHealth(false) // grpc-go begins with SERVING, before anybody has looked

	background, stop := context.WithCancel(context.Background())
	defer s.running.Wait()
	defer stop()
	g, err := build(c, nil, log)
	if err != nil {
		return err
	}
	identityFiles := s.identity.files(c)
	if err := readAll(identityFiles); err != nil {
		return err
	}
	s.settings = &watchedFile{what: "configuration", path: file, load: func(text []byte, _ time.Time) (bool, error) {
		return s.reconfigure(background, text, identityFiles)
	}}
	s.adopt(background, g, identityFiles)
	s.warn(c)

	endpoints, err := listen(c, s.identity, s.checks.Arrive)
	if err != nil {
		return err
	}
	adminListener, err := net.Listen("tcp", string(c.Admin.Address))
	if err != nil {
		for _, e := range endpoints {
			e.listener.Close()
		}
		return err
	}
	s.metrics.observe(s, s.checks)

	failed := make(chan error, len(endpoints)+1)
	for _, e := range endpoints {
		authv3.RegisterAuthorizationServer(e.server, s.checks)
		healthv1.RegisterHealthServer(e.server, s.health)
		s.running.Go(func() {
			if err := e.server.Serve(e.listener); err != nil {
				failed <- fmt.Errorf("%s: %w", e.name, err)
			}
		})
		log.Info("listening", zap.String("for", "envoy"), zap.String("address", e.name))
	}
	admin := newAdmin(s.metrics, s.ready)
	s.running.Go(func() {
		if err := admin.Serve(adminListener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("admin: %w", err)
		}
	})
	log.Info("listening", zap.String("for", "operators"), zap.String("address", adminListener.Addr().String()))
	s.running.Go(func() { s.watcher.run(background) })
	s.running.Go(func() { g.follow(background) })
	s.running.Go(func() { s.watchHealth(background) })
	s.running.Go(func() {
		(&lookout{log: log, metrics: s.metrics, identity: s.identity}).run(background, s.checks)
	})

	// A listener that breaks ends the process: one that lives on without it would look
	// healthy and answer nobody.
	select {
	case <-ctx.Done():
		s.drain(endpoints, s.generation.Load().config.Limits)
		err = nil
	case err = <-failed:
		for _, e := range endpoints {
			e.server.Stop()
		}
	}
	admin.Close()
	return err
}

// drain ends the service without losing a call: first everybody is told, then the calls
// that still come are answered for a while, then those in flight are waited for.
func (s *service) drain(endpoints []endpoint, limits LimitsConfig) {
	s.log.Info("draining", zap.Duration("delay", limits.DrainDelay.Duration), zap.Duration("timeout", limits.DrainTimeout.Duration))
	s.draining.Store(true)
	s.health.Shutdown()
	time.Sleep(limits.DrainDelay.Duration)
	timeout := time.AfterFunc(limits.DrainTimeout.Duration, func() {
		for _, e := range endpoints {
			e.server.Stop()
		}
	})
	defer timeout.Stop()
	var stopped sync.WaitGroup
	for _, e := range endpoints {
		stopped.Go(e.server.GracefulStop)
	}
	stopped.Wait()
	s.log.Info("drained")
}

// record is what the server hands every decision to. What is counted is what is
// answered: an allow that could not be written down is a denial.
func (s *service) record(r *envoy.Record) error {
	if r.Panic != nil {
		s.log.Error("a check panicked, and was denied", zap.String("decision_id", r.DecisionID), zap.ByteString("panic", r.Panic))
	}
	answered := *r
	err := s.audit.write(r)
	if err != nil {
		answered.Decision = r.Decision.Denied(authz.Fault{Reason: authz.AuditUnavailable})
	}
	s.metrics.count(&answered)
	return err
}

// reconfigure takes a changed configuration file. What is wrong with it leaves the
// running generation as it is.
func (s *service) reconfigure(ctx context.Context, text []byte, identityFiles []*watchedFile) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.generation.Load()
	if slices.Equal(text, old.config.text) {
		return false, nil
	}
	return s.rebuild(ctx, text, identityFiles)
}

// rebuild makes a new generation of the configuration in text and the files that it
// names, and adopts it. s.mu is held.
func (s *service) rebuild(ctx context.Context, text []byte, identityFiles []*watchedFile) (changed bool, err error) {
	old := s.generation.Load()
	c, err := decodeConfig(s.settings.path, text)
	if err != nil {
		return false, err
	}
	g, err := build(c, old, s.log)
	if err != nil {
		return false, err
	}
	if err := g.fetch(ctx); err != nil {
		return false, err
	}
	for _, p := range c.keepProcessSettings(old.config) {
		s.log.Warn("a changed setting needs a restart: until then the old value stays in force",
			zap.String("setting", p.key), zap.String("in_force", p.inForce), zap.String("written", p.written))
	}
	s.adoptLocked(ctx, g, identityFiles)
	s.warn(c)
	return true, nil
}

// adopt makes g the generation that is decided by.
func (s *service) adopt(ctx context.Context, g *generation, identityFiles []*watchedFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adoptLocked(ctx, g, identityFiles)
}

func (s *service) adoptLocked(ctx context.Context, g *generation, identityFiles []*watchedFile) {
	used := map[any]bool{}
	for _, k := range g.keys {
		if k.remote == nil {
			continue
		}
		used[k.remote] = true
		if s.refresh[k.remote] == nil {
			refresh, cancel := context.WithCancel(ctx)
			s.refresh[k.remote] = cancel
			s.running.Go(func() { k.remote.Run(refresh) })
		}
	}
	s.generation.Store(g)
	s.checks.Limit(g.config.Limits.checks())
	files := slices.Concat([]*watchedFile{s.settings}, identityFiles, g.files)
	for _, p := range g.parts {
		files = append(files, &watchedFile{what: p.what, path: p.path, load: func(text []byte, _ time.Time) (bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if slices.Equal(text, p.text) {
				return false, nil
			}
			return s.rebuild(ctx, s.generation.Load().config.text, identityFiles)
		}})
	}
	s.watcher.set(files)
	for keys, cancel := range s.refresh {
		if !used[keys] {
			cancel()
			delete(s.refresh, keys)
		}
	}
}

// warn says at every start, and with every change, what is switched off.
func (s *service) warn(c *Config) {
	if c.Trust.ClientCA == trustEnvoy {
		s.log.Warn("trust.client_ca is trust-envoy: client certificates are not verified here, and an expired or withdrawn one goes on over an open connection")
	}
	if c.Audit.Allows != "all" {
		s.log.Warn("audit.allows: what is allowed is recorded in Envoy's access log, and not here", zap.String("allows", string(c.Audit.Allows)))
	}
	for _, rule := range c.Profile.RulesOff {
		s.log.Warn("a claim rule is switched off", zap.String("rule", rule))
	}
	if t := c.Listen.TCP; t != nil && t.TLS == nil {
		s.log.Warn("listen.tcp has no TLS: whoever can reach it can ask about anybody", zap.String("address", string(t.Address)))
	}
}

// ready reports whether the service can take requests: it has held everything that it
// decides by once, and is not going away. What it holds may have grown too old since;
// that is for the gRPC health to say, so that a restart is not the answer to an outage.
func (s *service) ready() (is bool, why string) {
	if s.draining.Load() {
		return false, "draining"
	}
	if s.wasReady.Load() {
		return true, "ready"
	}
	is, why = s.generation.Load().fresh(time.Now())
	if is {
		s.wasReady.Store(true)
	}
	return is, why
}

// watchHealth keeps what Envoy's health checks are told up to date.
func (s *service) watchHealth(ctx context.Context) {
	tick := time.NewTicker(pollEvery / 4)
	defer tick.Stop()
	was := ""
	var said announcements
	for {
		g, now := s.generation.Load(), time.Now()
		said.announce(g, now, s.log)
		is, why := g.fresh(now)
		s.setHealth(is)
		if is {
			s.wasReady.Store(true) // also if nobody asked while it was
		}
		if why != was {
			s.log.Info("health", zap.Bool("serving", is), zap.String("why", why))
			was = why
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// setHealth says what Envoy's health checks are told, about the process and about the service.
// While it drains this changes nothing.
func (s *service) setHealth(serving bool) {
	status := healthv1.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, status)
}

// newLog returns the service's own log: JSON lines, for people who operate it.
func newLog(stderr io.Writer) *zap.Logger {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(config), zapcore.Lock(zapcore.AddSync(stderr)), zapcore.InfoLevel))
}
