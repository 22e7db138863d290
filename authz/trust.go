package authz

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Trust is the CA bundle that client certificates are verified against. It is
// immutable; a changed bundle is a new Trust.
type Trust struct {
	byEnvoy              bool
	roots, intermediates *x509.CertPool
}

// A verdict is what one Trust thought of one certificate. It lives in the
// certificate, so a certificate that is forgotten takes it along, and a new Trust
// finds that it is not its own.
type verdict struct {
	trust       *Trust
	from, until time.Time // within the validity of every certificate of the chain
}

// ParseTrust reads a bundle of PEM certificates: every root and intermediate of the
// client certificates, because the client's leaf is all that Envoy hands on. Every
// block must be a CA certificate and at least one must be a root. Text outside the
// blocks is refused: it is how half a bundle gets lost in a paste.
func ParseTrust(text []byte) (*Trust, error) {
	t := &Trust{roots: x509.NewCertPool(), intermediates: x509.NewCertPool()}
	hasRoot := false
	rest := bytes.TrimSpace(text)
	for n := 1; len(rest) > 0; n++ {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return nil, fmt.Errorf("certificate %d of the bundle: text outside of a PEM block", n)
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("certificate %d of the bundle: not a PEM block of type CERTIFICATE", n)
		}
		rest = bytes.TrimSpace(after)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the bundle: %w", n, err)
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("certificate %d of the bundle, %s, is not a CA: a leaf in the bundle would be trusted whoever issued it",
				n, Excerpt(cert.Subject.String()))
		}
		if bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil {
			t.roots.AddCert(cert)
			hasRoot = true
		} else {
			t.intermediates.AddCert(cert)
		}
	}
	if !hasRoot {
		return nil, errors.New("the bundle holds no root: add the self-signed certificate that the chain ends at")
	}
	return t, nil
}

// TrustEnvoy returns a Trust that verifies nothing because Envoy is believed to have.
// It must be written out in the configuration: an Envoy that does not verify is not
// to be told from one that does, and neither looks again at an open connection.
func TrustEnvoy() *Trust { return &Trust{byEnvoy: true} }

// verifies reports whether c was issued by an authority of t for TLS clients, at now.
//
// Only a yes is remembered. A no is worked out again each time: it costs an attacker
// a TLS handshake per certificate, and remembering it would need an end of its own
// (an intermediate that becomes valid).
func (t *Trust) verifies(c *PeerCertificate, now time.Time) bool {
	if t.byEnvoy {
		return true
	}
	if v := c.verdict.Load(); v != nil && v.trust == t && !now.Before(v.from) && !now.After(v.until) {
		return true
	}
	chains, err := c.leaf.Verify(x509.VerifyOptions{
		Roots:         t.roots,
		Intermediates: t.intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil || len(chains) == 0 {
		return false
	}
	v := &verdict{trust: t}
	for _, cert := range chains[0] {
		if v.from.IsZero() || cert.NotBefore.After(v.from) {
			v.from = cert.NotBefore
		}
		if v.until.IsZero() || cert.NotAfter.Before(v.until) {
			v.until = cert.NotAfter
		}
	}
	c.verdict.Store(v)
	return true
}
