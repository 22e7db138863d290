package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/tap"

	"asid-authz/envoy"
)

// maxSocketPath is what the smallest sockaddr_un of our platforms takes, with its NUL.
const maxSocketPath = 103

// An endpoint is one listener with the gRPC server that belongs to it: the transport
// security is the server's, so TCP and Unix socket each have their own.
type endpoint struct {
	name     string
	listener net.Listener
	server   *grpc.Server
}

// listen opens what the configuration names. Nothing is served yet.
// arrive marks each question where its connection is read.
func listen(c *Config, identity *serverIdentity, arrive tap.ServerInHandle) (endpoints []endpoint, err error) {
	defer func() {
		if err != nil {
			for _, e := range endpoints {
				e.listener.Close()
			}
		}
	}()
	if t := c.Listen.TCP; t != nil {
		listener, err := net.Listen("tcp", string(t.Address))
		if err != nil {
			return endpoints, err
		}
		options := serverOptions(c, arrive)
		if t.TLS != nil {
			options = append(options, grpc.Creds(credentials.NewTLS(identity.config())))
		}
		endpoints = append(endpoints, endpoint{"tcp " + listener.Addr().String(), listener, grpc.NewServer(options...)})
	}
	if u := c.Listen.Unix; u != nil {
		listener, err := listenUnix(c.path(u.Path))
		if err != nil {
			return endpoints, err
		}
		endpoints = append(endpoints, endpoint{"unix " + c.path(u.Path), listener, grpc.NewServer(serverOptions(c, arrive)...)})
	}
	return endpoints, nil
}

// maxStreams bounds what waits on one connection. Envoy, as it is rendered, opens another
// connection at half of it; and limits.checks is below it, because what is beyond this
// bound is refused by the transport, without a Reason.
const maxStreams = 2048

func serverOptions(c *Config, arrive tap.ServerInHandle) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(arrive),
		grpc.ForceServerCodecV2(envoy.Codec()),
		// Envoy pings idle connections every ten seconds, which grpc-go takes for an
		// attack unless it is told otherwise: at the fourth ping it would hang up.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		// A new replica gets its share of the work only over new connections. grpc-go adds
		// or takes up to a tenth, so that connections that began together do not end
		// together, and Envoy loses nothing when one ends by GOAWAY.
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: c.Limits.MaxConnectionAge.Duration, MaxConnectionAgeGrace: 30 * time.Second, Time: 30 * time.Second, Timeout: 5 * time.Second}),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(256 << 10), // a CheckRequest is a few kB; Envoy's own bound on headers is below this
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.WaitForHandlers(true),
	}
}

// listenUnix opens a Unix socket that only its owner and group can connect to. A socket
// that a crash left behind is removed; one that somebody answers on is not ours to take.
func listenUnix(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("unix socket %s: the path is longer than %d bytes", path, maxSocketPath)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("unix socket %s: something else is there", path)
		}
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("unix socket %s: another process listens on it", path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("unix socket %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// The socket must not be open to everybody for even a moment, and chmod alone would
	// come after bind.
	old := syscall.Umask(0o117)
	listener, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// A serverIdentity is what the TCP port shows and asks of Envoy, kept current from files.
type serverIdentity struct {
	names       []string // of Envoy's certificate
	certificate atomic.Pointer[tls.Certificate]
	clientCA    atomic.Pointer[x509.CertPool]

	certificateText, keyText, caText []byte // of the last content, for the watcher's goroutine alone
}

// config returns the TLS configuration that follows the files: each handshake uses what
// was read last.
func (i *serverIdentity) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{
				MinVersion:             tls.VersionTLS13,
				NextProtos:             []string{"h2"}, // grpc-go sets it on the outer configuration only
				Certificates:           []tls.Certificate{*i.certificate.Load()},
				ClientAuth:             tls.RequireAndVerifyClientCert,
				ClientCAs:              i.clientCA.Load(),
				SessionTicketsDisabled: true, // a resumed session would outlive a changed client_ca
				VerifyConnection: func(state tls.ConnectionState) error {
					for _, name := range state.PeerCertificates[0].DNSNames {
						if slices.Contains(i.names, name) {
							return nil
						}
					}
					return errors.New("the client certificate has none of the names in listen.tcp.tls.client_names")
				},
			}, nil
		},
	}
}

// loadPair takes a certificate and its key. Two files change one after the other: while
// they do not belong together, the old pair is kept. One that has expired is refused:
// Envoy would not connect, and nobody here would see why.
func (i *serverIdentity) loadPair() (changed bool, err error) {
	if i.certificateText == nil || i.keyText == nil {
		return false, nil // the other one has not been read yet
	}
	pair, err := tls.X509KeyPair(i.certificateText, i.keyText)
	if err != nil {
		return false, err
	}
	if expired := pair.Leaf.NotAfter; time.Now().After(expired) {
		return false, fmt.Errorf("the certificate expired on %s", expired.UTC().Format(time.DateTime))
	}
	i.certificate.Store(&pair)
	return true, nil
}

// files returns the files of the identity.
func (i *serverIdentity) files(c *Config) []*watchedFile {
	t := c.Listen.TCP
	if t == nil || t.TLS == nil {
		return nil
	}
	part := func(held *[]byte, use func() (bool, error)) func([]byte, time.Time) (bool, error) {
		var usable bool
		return func(text []byte, _ time.Time) (changed bool, err error) {
			if usable && string(*held) == string(text) {
				return false, nil
			}
			*held = text
			changed, err = use()
			usable = err == nil
			return changed, err
		}
	}
	return []*watchedFile{
		{what: "server certificate", path: c.path(t.TLS.Certificate), load: part(&i.certificateText, i.loadPair)},
		{what: "server key", path: c.path(t.TLS.Key), load: part(&i.keyText, i.loadPair)},
		{what: "envoy ca", path: c.path(t.TLS.ClientCA), load: part(&i.caText, func() (bool, error) {
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(i.caText) {
				return false, errors.New("no certificate in the bundle")
			}
			i.clientCA.Store(pool)
			return true, nil
		})},
	}
}
