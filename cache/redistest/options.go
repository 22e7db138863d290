package redistest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"asid-authz/authz/authztest"
	"asid-authz/cache/layout"
	"asid-authz/e2e/program"
)

// Options are what servers may have otherwise. The zero Options are the found program, the
// default namespace, no TLS, and two replicas of a primary or one of each Cluster master.
type Options struct {
	Program   *Program         // else what Find finds
	Namespace layout.Namespace // that reader and publisher may use
	TLS       bool             // instead of plain TCP; the program must speak it
	Replicas  int              // of the primary that Sentinels watch: 1 or 2
	Patient   bool             // Sentinels and Cluster nodes call nobody down within a minute
	Config    []string         // more lines of each server's configuration file, such as "maxmemory 5mb"

	// Proxy returns what stands before the server of that address; nil is nothing. Clients,
	// replicas, Sentinels and nodes of the Cluster are told the proxy's address and no other,
	// so what it does befalls all of them alike; only the Cluster's bus goes around it. Not
	// with TLS.
	Proxy func(address string) *Proxy
}

// downAfter returns after how many ms without an answer somebody is called down.
func (o *Options) downAfter() int {
	if o.Patient {
		return patience
	}
	return downAfter
}

// wait bounds every start, and everything that is waited for.
const wait = 30 * time.Second

// A realm is what the servers of one deployment share: a directory, passwords, certificates.
type realm struct {
	options   Options
	program   *Program
	dir       string
	passwords map[string]string // by user
	tls       *tls.Config       // of clients; nil without TLS

	mu      sync.Mutex
	servers []*Server
}

func newRealm(ctx context.Context, options Options) (r *realm, err error) {
	if options.Namespace == (layout.Namespace{}) {
		options.Namespace = layout.DefaultNamespace
	}
	r = &realm{options: options, program: options.Program, passwords: map[string]string{}}
	if r.program == nil {
		if r.program, err = Find(ctx); err != nil {
			return nil, err
		}
	}
	if options.TLS && options.Proxy != nil {
		return nil, errors.New("a proxy stands before servers without TLS only")
	}
	if options.TLS && !r.program.Caps.TLS {
		return nil, fmt.Errorf("%s is %s", r.program.Path, r.program)
	}
	if r.dir, err = program.TempDir(); err != nil {
		return nil, err
	}
	if err := r.write(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// write writes what all servers and their clients read.
func (r *realm) write() error {
	for _, name := range []string{Reader, Publisher, Admin, ReplicaUser, SentinelUser, Discovery} {
		r.passwords[name] = rand.Text()
		if err := os.WriteFile(r.passwordFile(name), []byte(r.passwords[name]+"\n"), 0o600); err != nil {
			return err
		}
	}
	if !r.options.TLS {
		return nil
	}
	ca := authztest.NewCA("Redis Test Authority")
	certificate, err := ca.Issue(authztest.CertificateSpec{
		CommonNames: []string{"redis"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		// A server is a client of others: replicas, Sentinels and Cluster nodes show it too.
		ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	r.tls = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	for name, text := range map[string][]byte{"ca.pem": ca.PEM(), "redis.pem": certificate.PEM(), "redis.key": certificate.KeyPEM()} {
		if err := os.WriteFile(filepath.Join(r.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (r *realm) passwordFile(user string) string { return filepath.Join(r.dir, user+".password") }

// TLSConfig returns what clients verify the servers with, nil without Options.TLS.
func (r *realm) TLSConfig() *tls.Config { return r.tls.Clone() }

// Password returns the password of that user, which differs from run to run.
func (r *realm) Password(user string) string { return r.passwords[user] }

// Passwords returns the passwords of all users, by user: nothing that is written anywhere may
// hold one.
func (r *realm) Passwords() map[string]string { return maps.Clone(r.passwords) }

// PasswordFile returns the path of a file that holds the password of that user and a line end.
func (r *realm) PasswordFile(user string) string { return r.passwordFile(user) }

// CAFile returns the path of the authority that the servers' certificates are verified
// against: they are valid for 127.0.0.1 and localhost. It exists with Options.TLS.
func (r *realm) CAFile() string { return filepath.Join(r.dir, "ca.pem") }

// Program returns the server's program.
func (r *realm) Program() *Program { return r.program }

// hash returns the password of a user as an ACL file takes it.
func (r *realm) hash(user string) string {
	sum := sha256.Sum256([]byte(r.passwords[user]))
	return hex.EncodeToString(sum[:])
}

// clientOptions are those that all clients have. With them go-redis does not send what the
// documented rules refuse, but for COMMAND, which a ClusterClient asks for and can do without.
func (r *realm) clientOptions(user string) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Protocol: 3,
		Username: user, Password: r.passwords[user],
		TLSConfig:                r.TLSConfig(),
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		PipelinePoolSize:         -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Log returns the end of what every server wrote, for people to read after a failure.
func (r *realm) Log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := ""
	for _, s := range r.servers {
		log += s.Log()
	}
	return log
}

// Close kills every server of the deployment, whatever state it is in, and removes what they
// wrote.
func (r *realm) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []error
	for _, s := range r.servers {
		all = append(all, s.end())
	}
	if err := os.RemoveAll(r.dir); err != nil {
		all = append(all, fmt.Errorf("removing what Redis wrote: %w", err))
	}
	return errors.Join(all...)
}

// until waits until condition says yes. Its error says what it last said instead.
func until(ctx context.Context, what string, condition func() error) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w: %w", what, ctx.Err(), err)
		case <-tick.C:
		}
	}
}
