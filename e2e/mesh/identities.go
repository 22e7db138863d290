package mesh

import (
	"crypto/x509"

	"asid-authz/authz/authztest"
)

// The names in the deployment's own certificates.
const (
	edgeName  = "edge.internal"  // Envoy, when it asks
	authzName = "authz.internal" // asid-authz
)

// identities are the certificates of the deployment itself; those of the clients come from
// the world. Two authorities: what proves the API to the public must not open the port that
// decides who gets in.
type identities struct {
	public, private     *authztest.CA
	server, edge, authz *authztest.Certificate // the edge towards clients, towards asid-authz, and asid-authz
}

func newIdentities(authority string) (*identities, error) {
	i := &identities{public: authztest.NewCA("Mesh Public Authority"), private: authztest.NewCA("Mesh Private Authority")}
	for _, leaf := range []struct {
		to   **authztest.Certificate
		ca   *authztest.CA
		name string
		use  x509.ExtKeyUsage
	}{
		{&i.server, i.public, authority, x509.ExtKeyUsageServerAuth},
		{&i.edge, i.private, edgeName, x509.ExtKeyUsageClientAuth},
		{&i.authz, i.private, authzName, x509.ExtKeyUsageServerAuth},
	} {
		certificate, err := leaf.ca.Issue(authztest.CertificateSpec{
			CommonNames:  []string{leaf.name},
			DNSNames:     []string{leaf.name},
			ExtKeyUsages: []x509.ExtKeyUsage{leaf.use},
		})
		if err != nil {
			return nil, err
		}
		*leaf.to = certificate
	}
	return i, nil
}

// files returns the identities as the configurations name them.
func (i *identities) files() map[string][]byte {
	return map[string][]byte{
		"public-ca.pem":  i.public.PEM(),
		"private-ca.pem": i.private.PEM(),
		"server.pem":     i.server.PEM(),
		"server.key":     i.server.KeyPEM(),
		"edge.pem":       i.edge.PEM(),
		"edge.key":       i.edge.KeyPEM(),
		"authz.pem":      i.authz.PEM(),
		"authz.key":      i.authz.KeyPEM(),
	}
}

// roots returns what clients verify the edge with.
func (i *identities) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.public.Certificate)
	return pool
}
