package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"asid-authz/authz/authztest"
)

// leaf issues a certificate with one DNS name.
func leaf(t *testing.T, ca *authztest.CA, name string, use x509.ExtKeyUsage) *authztest.Certificate {
	t.Helper()
	c, err := ca.Issue(authztest.CertificateSpec{CommonNames: []string{name}, DNSNames: []string{name}, ExtKeyUsages: []x509.ExtKeyUsage{use}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unmarked lets every question come.
func unmarked(ctx context.Context, _ *tap.Info) (context.Context, error) { return ctx, nil }

// TestTLS: only Envoy may ask, by a certificate of its CA and by its name, over TLS 1.3;
// and what is asked for follows the files.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca, other := authztest.NewCA("Internal"), authztest.NewCA("Other")
	server := leaf(t, ca, "authz.internal", x509.ExtKeyUsageServerAuth)
	write("server.pem", server.PEM())
	write("server.key", server.KeyPEM())
	write("ca.pem", ca.PEM())
	c := &Config{file: filepath.Join(dir, "config.yaml"), Listen: ListenConfig{TCP: &TCPConfig{Address: "127.0.0.1:0",
		TLS: &TLSConfig{Certificate: "server.pem", Key: "server.key", ClientCA: "ca.pem", ClientNames: []string{"edge.internal"}}}}}
	identity := &serverIdentity{names: c.Listen.TCP.TLS.ClientNames}
	files := identity.files(c)
	if err := readAll(files); err != nil {
		t.Fatal(err)
	}
	endpoints, err := listen(c, identity, unmarked)
	if err != nil {
		t.Fatal(err)
	}
	e := endpoints[0]
	healthv1.RegisterHealthServer(e.server, health.NewServer())
	go e.server.Serve(e.listener)
	defer e.server.Stop()

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	ask := func(maxVersion uint16, client *authztest.Certificate) error {
		t.Helper()
		config := &tls.Config{RootCAs: roots, ServerName: "authz.internal", MaxVersion: maxVersion}
		if client != nil {
			config.Certificates = []tls.Certificate{client.TLS()}
		}
		conn, err := grpc.NewClient(e.listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		return err
	}
	edge := leaf(t, ca, "edge.internal", x509.ExtKeyUsageClientAuth)
	for name, test := range map[string]struct {
		client  *authztest.Certificate
		version uint16
		ok      bool
	}{
		"Envoy":                   {edge, 0, true},
		"no certificate":          {nil, 0, false},
		"another name":            {leaf(t, ca, "billing.internal", x509.ExtKeyUsageClientAuth), 0, false},
		"a name below":            {leaf(t, ca, "x.edge.internal", x509.ExtKeyUsageClientAuth), 0, false},
		"another CA":              {leaf(t, other, "edge.internal", x509.ExtKeyUsageClientAuth), 0, false},
		"a server's certificate":  {leaf(t, ca, "edge.internal", x509.ExtKeyUsageServerAuth), 0, false},
		"Envoy, over TLS 1.2":     {edge, tls.VersionTLS12, false},
		"Envoy, with a wildcard":  {leaf(t, ca, "*.internal", x509.ExtKeyUsageClientAuth), 0, false},
		"Envoy, once more (ALPN)": {edge, tls.VersionTLS13, true},
	} {
		err := ask(test.version, test.client)
		if (err == nil) != test.ok || err != nil && status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A new CA for Envoy takes effect without a restart; a broken one does not.
	load := func(text []byte) error {
		_, err := files[2].load(text, time.Now())
		return err
	}
	if err := load([]byte("nothing of the kind")); err == nil {
		t.Error("a broken bundle is no error")
	}
	if err := ask(0, edge); err != nil {
		t.Errorf("after a broken bundle: %v", err)
	}
	if err := load(other.PEM()); err != nil {
		t.Fatal(err)
	}
	if err := ask(0, edge); err == nil {
		t.Error("a CA that was taken out is still believed")
	}
	if err := ask(0, leaf(t, other, "edge.internal", x509.ExtKeyUsageClientAuth)); err != nil {
		t.Errorf("the new CA: %v", err)
	}
	// A key and a certificate change one after the other: in between, the old pair stays.
	next := leaf(t, ca, "authz.internal", x509.ExtKeyUsageServerAuth)
	if _, err := files[0].load(next.PEM(), time.Now()); err == nil {
		t.Error("a certificate with another key's file is no error")
	}
	if got := identity.certificate.Load().Certificate[0]; string(got) != string(server.DER) {
		t.Error("half a pair is shown")
	}
	if changed, err := files[1].load(next.KeyPEM(), time.Now()); err != nil || !changed {
		t.Errorf("the key of the pair: %v, %v", changed, err)
	}
	if got := identity.certificate.Load().Certificate[0]; string(got) != string(next.DER) {
		t.Error("the new pair is not shown")
	}
	if _, err := files[0].load(next.PEM(), time.Now()); err != nil {
		t.Errorf("the same certificate, read again: %v", err)
	}
	// One that Envoy would not accept any more is not taken.
	old, err := ca.Issue(authztest.CertificateSpec{DNSNames: []string{"authz.internal"}, NotAfter: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	expired := &serverIdentity{certificateText: old.PEM(), keyText: old.KeyPEM()}
	if _, err := expired.loadPair(); err == nil || !strings.Contains(err.Error(), "expired on") || expired.certificate.Load() != nil {
		t.Errorf("an expired certificate: %v", err)
	}
}

// TestUnixSocket: its permissions are the authentication, so they are set and nothing
// is taken over that is somebody's.
func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "aa")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	first, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want 0660", info.Mode(), err)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a live socket was taken: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as a crash leaves it
	first.Close()
	second, err := listenUnix(path)
	if err != nil {
		t.Fatalf("a dead socket is in the way: %v", err)
	}
	second.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a file was taken for a socket: %v", err)
	}
	if _, err := listenUnix(filepath.Join(dir, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a path that is too long: %v", err)
	}
}
