package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
)

// patience bounds what a test waits for. Nothing takes nearly as long.
const patience = 30 * time.Second

// eventually waits until done says yes.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	within(t, patience, what, done)
}

// within is eventually, for what may take longer.
func within(t *testing.T, most time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(most)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", most, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// issued returns a certificate of that name for Envoy's side of a connection.
func issued(t *testing.T, ca *authztest.CA, name string) tls.Certificate {
	t.Helper()
	certificate, err := ca.Issue(authztest.CertificateSpec{DNSNames: []string{name}, ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	return certificate.TLS()
}

// commonName returns the name in the certificate of a case.
func (s *scene) commonName(t *testing.T, c *authztest.Case) string {
	t.Helper()
	certificate, err := s.World.Certificate(c)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(certificate.DER)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Subject.CommonName
}

// whileValid opens a connection with a certificate that is about to expire and sends the read
// on it, which is allowed. On a slow machine the certificate may expire before: then another
// one lives longer.
func (s *scene) whileValid(t *testing.T, ca *authztest.CA, e *mesh.Edge, protocol mesh.Protocol, adjust func(*mesh.Client)) (*mesh.Client, mesh.Conn) {
	t.Helper()
	for life := 2 * time.Second; life < patience; life *= 2 {
		certificate, err := ca.Issue(authztest.CertificateSpec{
			CommonNames:  []string{s.commonName(t, s.read)},
			NotAfter:     time.Now().Add(life),
			ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			t.Fatal(err)
		}
		client := e.Client(certificate)
		adjust(client)
		conn, _, err := client.Open(t.Context(), protocol)
		if err != nil {
			t.Fatal(err)
		}
		if conn == nil {
			continue
		}
		if answer, err := conn.Do(s.request(t, s.read)); err == nil && answer.Status == 200 {
			return client, conn
		} else if err != nil || answer.Status != 403 {
			t.Fatalf("got %v, %v", answer, err)
		}
		conn.Close()
	}
	t.Fatal("every certificate had expired before it could be used")
	return nil, nil
}

// A connection outlives the certificate that it was opened with, and Envoy never looks again.
func TestCertificateExpiresOnOpenConnection(t *testing.T) {
	t.Parallel()
	ca := authztest.NewCA("Short Lived Authority")
	s := play(t, mesh.Options{ClientCAs: []*authztest.CA{ca}})
	for _, protocol := range mesh.Protocols {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			_, conn := s.whileValid(t, ca, s.edge, protocol, func(*mesh.Client) {})
			defer conn.Close()
			eventually(t, "the open connection is refused", func() bool {
				answer, err := conn.Do(s.request(t, s.read))
				if err != nil {
					t.Fatal(err)
				}
				if answer.Status == 200 {
					return false
				}
				expect(t, []*mesh.Answer{answer}, 403, "certificate-expired")
				return true
			})
		})
	}
}

// A resumed session brings back a certificate that no handshake would take any more. Envoy as
// we configure it resumes none; one that does has it refused by us.
func TestCertificateExpiresBeforeResumption(t *testing.T) {
	t.Parallel()
	ca := authztest.NewCA("Short Lived Authority")
	s := play(t, mesh.Options{ClientCAs: []*authztest.CA{ca}})
	resuming := startEdge(t, s.Mesh, mesh.Resuming)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			remembering := func(c *mesh.Client) {
				c.MaxTLS, c.Sessions = version, tls.NewLRUClientSessionCache(1)
			}
			client, conn := s.whileValid(t, ca, resuming, mesh.HTTP1, remembering)
			conn.Close()
			fresh := *client
			fresh.Sessions = nil
			eventually(t, "the certificate opens no new connection", func() bool {
				answer, err := fresh.Do(t.Context(), mesh.HTTP1, s.request(t, s.read))
				if err != nil {
					t.Fatal(err)
				}
				return answer.Refused != ""
			})
			answer, err := client.Do(t.Context(), mesh.HTTP1, s.request(t, s.read))
			if err != nil {
				t.Fatal(err)
			}
			if !answer.TLS.DidResume {
				t.Fatalf("the session was not resumed: %v", answer)
			}
			expect(t, []*mesh.Answer{answer}, 403, "certificate-expired")

			client = s.client(t, s.edge, s.read)
			remembering(client)
			for range 2 {
				if answer, err = client.Do(t.Context(), mesh.HTTP1, s.request(t, s.read)); err != nil {
					t.Fatal(err)
				}
				expect(t, []*mesh.Answer{answer}, 200, "")
				if answer.TLS.DidResume {
					t.Error("Envoy resumes sessions as we configure it")
				}
			}
		})
	}
}
