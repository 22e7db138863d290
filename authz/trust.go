package authz

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Trust is what client certificates are verified against: a CA bundle, and the lists
// of what its CAs have revoked. It is immutable; what changed is a new Trust.
type Trust struct {
	byEnvoy bool
	bundle  *bundle
	crls    []heldCRL // by the index of their CA in the bundle; nil: revocation is not looked at
}

// A bundle is shared by every Trust that differs in the lists alone, so that a new list
// costs no verdict.
type bundle struct {
	roots, intermediates *x509.CertPool
	cas                  []*x509.Certificate
}

// A verdict is what was found out about one certificate by one bundle: that it is
// trusted, and by whose word. It lives in the certificate, so a certificate that is
// forgotten takes it along, and a new bundle finds that it is not its own.
type verdict struct {
	bundle      *bundle
	from, until time.Time // within the validity of every certificate of the chains
	links       []link
}

// A link is a certificate of a chain, seen from its issuer: what a CRL has to say about.
type link struct {
	issuer int // index in the bundle
	serial string
	ca     bool // what is revoked would be a CA, not the leaf
}

// onEnvoysWord has no links: nothing of it can be looked up.
var onEnvoysWord = &verdict{}

// ParseTrust reads a bundle of PEM certificates: every root and intermediate of the
// client certificates, because the client's leaf is all that Envoy hands on. Every
// block must be a CA certificate and at least one must be a root. Text outside the
// blocks is refused: it is how half a bundle gets lost in a paste.
func ParseTrust(text []byte) (*Trust, error) {
	b := &bundle{roots: x509.NewCertPool(), intermediates: x509.NewCertPool()}
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
			b.roots.AddCert(cert)
			hasRoot = true
		} else {
			b.intermediates.AddCert(cert)
		}
		b.cas = append(b.cas, cert)
	}
	if !hasRoot {
		return nil, errors.New("the bundle holds no root: add the self-signed certificate that the chain ends at")
	}
	return &Trust{bundle: b}, nil
}

// TrustEnvoy returns a Trust that verifies nothing because Envoy is believed to have.
// It must be written out in the configuration: an Envoy that does not verify is not
// to be told from one that does, and neither looks again at an open connection.
func TrustEnvoy() *Trust { return &Trust{byEnvoy: true} }

// verify returns how c was issued by an authority of t for TLS clients, at now; nil if
// it was not.
//
// Only a yes is remembered. A no is worked out again each time: it costs an attacker
// a TLS handshake per certificate, and remembering it would need an end of its own
// (an intermediate that becomes valid).
func (t *Trust) verify(c *PeerCertificate, now time.Time) *verdict {
	switch {
	case t.byEnvoy:
		return onEnvoysWord
	case t.bundle == nil:
		return nil
	}
	if v := c.verdict.Load(); v != nil && v.bundle == t.bundle && !now.Before(v.from) && !now.After(v.until) {
		return v
	}
	chains, err := c.leaf.Verify(x509.VerifyOptions{
		Roots:         t.bundle.roots,
		Intermediates: t.bundle.intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil || len(chains) == 0 {
		return nil
	}
	v := &verdict{bundle: t.bundle}
	for _, chain := range chains {
		for i, cert := range chain {
			if v.from.IsZero() || cert.NotBefore.After(v.from) {
				v.from = cert.NotBefore
			}
			if v.until.IsZero() || cert.NotAfter.Before(v.until) {
				v.until = cert.NotAfter
			}
			if i == len(chain)-1 {
				break // nobody can revoke a root but whoever takes it out of the bundle
			}
			issuer := slices.IndexFunc(t.bundle.cas, chain[i+1].Equal)
			if l := (link{issuer, serialKey(cert.SerialNumber.Bytes()), i > 0}); !slices.Contains(v.links, l) {
				v.links = append(v.links, l)
			}
		}
	}
	c.verdict.Store(v)
	return v
}
