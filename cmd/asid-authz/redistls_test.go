package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"asid-authz/authz/authztest"
	"asid-authz/cache/redistest"
)

// TestServeFromRedisOverTLS: the service believes no server that its configuration does not
// name the authority of, and shows the certificate that a server asks for. What is wrong is in
// the log, nothing is allowed, and what repairs it is the right file in its place.
func TestServeFromRedisOverTLS(t *testing.T) {
	t.Run("terminated", func(t *testing.T) { serveOverTLS(t, terminate(t)) })
	found, err := redistest.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found.Caps.TLS { // not every build; the pinned one does not
		t.Run("of the server", func(t *testing.T) { serveOverTLS(t, ofItsOwn(t)) })
	}
}

func serveOverTLS(t *testing.T, redis *tlsRedis) {
	t.Helper()
	foreign := authztest.NewCA("Foreign Authority")
	stranger, err := foreign.Issue(authztest.CertificateSpec{CommonNames: []string{"stranger"}, ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	d := newDeployment(t)
	d.write("redis-ca.pem", string(foreign.PEM()))
	d.write("redis.pem", redis.certificate)
	d.write("redis.key", redis.key)
	const tls = "tls: {ca: redis-ca.pem, certificate: redis.pem, key: redis.key}"
	d.fromRedis(fmt.Sprintf("addresses: [%q], username: reader, password_file: %q, %s", redis.address, redis.PasswordFile(redistest.Reader), tls))
	d.write("publisher.yaml", fmt.Sprintf("addresses: [%q]\nusername: publisher\npassword_file: %s\n%s\n", redis.address, redis.PasswordFile(redistest.Publisher), tls))
	publish := func() (code int, stderr string) {
		code, _, stderr = command(t, "map", "apply", d.path("map.yaml"), "--yes", "--reason", "first", "--redis", d.path("publisher.yaml"))
		return code, stderr
	}
	refused := func(when, want string) {
		t.Helper()
		d.await(when+" is in the log", func() bool {
			for line := range strings.Lines(d.stderr.String()) {
				if strings.Contains(line, "the interaction map is not confirmed, and ages") && strings.Contains(line, want) {
					return true
				}
			}
			return false
		})
		if got := d.ask(); got != "deny map-unavailable" {
			t.Errorf("%s: %s", when, got)
		}
		if status, body := d.get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "map-unavailable") {
			t.Errorf("%s: ready is %d %s", when, status, body)
		}
		if !d.hasMetric("asid_authz_map_connected 0") {
			t.Errorf("%s: the metrics say that the map's server is there", when)
		}
		if code, stderr := publish(); code != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("%s: the command ends with %d and says %q", when, code, stderr)
		}
	}

	d.start()
	refused("a server of another authority", "tls: failed to verify certificate: x509: certificate signed by unknown authority")

	d.write("redis-ca.pem", redis.ca)
	d.write("redis.pem", string(stranger.PEM()))
	d.write("redis.key", string(stranger.KeyPEM()))
	refused("a certificate that the server does not know", "remote error: tls: ")

	d.write("redis.pem", redis.certificate)
	d.write("redis.key", redis.key)
	if code, stderr := publish(); code != exitOK {
		t.Fatalf("with the right files: exit %d, %s", code, stderr)
	}
	d.await("ready with the right files", func() bool { status, _ := d.get("/readyz"); return status == http.StatusOK })
	if got := d.ask(); got != "allow" {
		t.Errorf("with the right files: %s", got)
	}
	for user, password := range redis.Passwords() {
		if strings.Contains(d.stderr.String()+d.stdout.String(), password) {
			t.Errorf("the service tells the password of %s", user)
		}
	}
}

// A tlsRedis is a real server that takes nobody without TLS and a certificate of its authority.
type tlsRedis struct {
	*redistest.Server
	address              string
	ca, certificate, key string // PEM; the certificate is one that it takes
}

// ofItsOwn starts a server that speaks TLS.
func ofItsOwn(t *testing.T) *tlsRedis {
	t.Helper()
	s := redistest.Standalone(t, redistest.Options{TLS: true})
	if err := s.Admin().ConfigSet(t.Context(), "tls-auth-clients", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return fileText(t, filepath.Join(filepath.Dir(s.CAFile()), name)) }
	return &tlsRedis{s, s.Address(), file("ca.pem"), file("redis.pem"), file("redis.key")}
}

// terminate starts a server that speaks no TLS behind something that does, as managed servers
// often are.
func terminate(t *testing.T) *tlsRedis {
	t.Helper()
	r := &tlsRedis{Server: redistest.Standalone(t, redistest.Options{})}
	ca := authztest.NewCA("Redis Authority")
	server, err := ca.Issue(authztest.CertificateSpec{CommonNames: []string{"redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Issue(authztest.CertificateSpec{CommonNames: []string{"authz"}, ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	r.ca, r.certificate, r.key = string(ca.PEM()), string(client.PEM()), string(client.KeyPEM())
	clients := x509.NewCertPool()
	clients.AddCert(ca.Certificate)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{server.TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients})
	if err != nil {
		t.Fatal(err)
	}
	r.address = listener.Addr().String()
	go func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				return
			}
			go relay(outside, r.Address())
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return r
}

// relay carries a connection to an address until one side has closed.
func relay(outside net.Conn, address string) {
	defer outside.Close()
	if outside.(*tls.Conn).Handshake() != nil {
		return // the client has been told why
	}
	inside, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	end := sync.OnceFunc(func() { inside.Close(); outside.Close() })
	defer end()
	go func() { io.Copy(inside, outside); end() }()
	io.Copy(outside, inside)
}
