package authztest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// A CA issues certificates. Its key is on P-256, its validity from a day ago to ten
// days ahead unless it was asked for another.
type CA struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// NewCA returns a root.
func NewCA(commonName string) *CA {
	return newCA(commonName, nil, time.Now().Add(-24*time.Hour), time.Now().Add(240*time.Hour))
}

// Intermediate returns a CA whose certificate ca issued.
func (ca *CA) Intermediate(commonName string) *CA {
	return newCA(commonName, ca, ca.Certificate.NotBefore, ca.Certificate.NotAfter)
}

// IntermediateWithin is Intermediate with a validity of its own.
func (ca *CA) IntermediateWithin(commonName string, notBefore, notAfter time.Time) *CA {
	return newCA(commonName, ca, notBefore, notAfter)
}

func newCA(commonName string, parent *CA, notBefore, notAfter time.Time) *CA {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber:          serialNumber(),
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	issuer, signer := template, crypto.Signer(key)
	if parent != nil {
		issuer, signer = parent.Certificate, parent.Key
	}
	der := must(x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer))
	return &CA{Certificate: must(x509.ParseCertificate(der)), Key: key}
}

// CrossSign returns other, vouched for by ca as well.
func (ca *CA) CrossSign(other *CA) (*CA, error) {
	template := *other.Certificate
	template.SerialNumber = serialNumber()
	template.AuthorityKeyId = nil
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.Certificate, other.Key.Public(), ca.Key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &CA{Certificate: certificate, Key: other.Key}, err
}

// CAWithout returns, in PEM, another certificate of the same CA and key, which does not
// let it use the key for that.
func (ca *CA) CAWithout(usage x509.KeyUsage) ([]byte, error) {
	template := *ca.Certificate
	template.KeyUsage &^= usage
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, ca.Key.Public(), ca.Key)
	return certificatePEM(der), err
}

// PEM returns the CA's own certificate.
func (ca *CA) PEM() []byte { return certificatePEM(ca.Certificate.Raw) }

// A CertificateSpec says what a leaf holds. What is empty is left out, so the zero
// CertificateSpec is a certificate without names or extensions, which is how Spine
// issues them.
type CertificateSpec struct {
	// Of the subject, each in an RDN of its own, in this order.
	CommonNames, SerialNumbers, UIDs []string
	// Subject is more of the subject: names in odd string types, for instance.
	Subject []pkix.AttributeTypeAndValue

	// Of the subject alternative names.
	DNSNames, EmailAddresses, URIs []string
	IPAddresses                    []net.IP

	NotBefore, NotAfter time.Time // zero: an hour ago, a day ahead
	ExtKeyUsages        []x509.ExtKeyUsage
	Extensions          []pkix.Extension

	RSA bool // RSA with 2048 bits instead of P-256

	SerialNumber *big.Int // of the certificate; nil: a random one
}

// A Certificate is a leaf with its key.
type Certificate struct {
	DER []byte
	Key crypto.Signer
}

// Issue returns a certificate of that kind, signed by ca.
func (ca *CA) Issue(spec CertificateSpec) (*Certificate, error) { return issue(spec, ca) }

// SelfSigned returns a certificate of that kind that is its own issuer.
func SelfSigned(spec CertificateSpec) (*Certificate, error) { return issue(spec, nil) }

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSerialNumber = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidUserID       = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
)

func issue(spec CertificateSpec, ca *CA) (*Certificate, error) {
	var subject pkix.Name
	for _, part := range []struct {
		oid    asn1.ObjectIdentifier
		values []string
	}{{oidCommonName, spec.CommonNames}, {oidSerialNumber, spec.SerialNumbers}, {oidUserID, spec.UIDs}} {
		for _, value := range part.values {
			subject.ExtraNames = append(subject.ExtraNames, pkix.AttributeTypeAndValue{Type: part.oid, Value: value})
		}
	}
	subject.ExtraNames = append(subject.ExtraNames, spec.Subject...)
	template := &x509.Certificate{
		SerialNumber:    serialNumber(),
		Subject:         subject,
		NotBefore:       spec.NotBefore,
		NotAfter:        spec.NotAfter,
		DNSNames:        spec.DNSNames,
		EmailAddresses:  spec.EmailAddresses,
		IPAddresses:     spec.IPAddresses,
		ExtKeyUsage:     spec.ExtKeyUsages,
		ExtraExtensions: spec.Extensions,
	}
	if spec.SerialNumber != nil {
		template.SerialNumber = spec.SerialNumber
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	for _, text := range spec.URIs {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("URI SAN: %w", err)
		}
		template.URIs = append(template.URIs, uri)
	}
	key, err := leafKey(spec.RSA)
	if err != nil {
		return nil, err
	}
	issuer, signer := template, key
	if ca != nil {
		issuer, signer = ca.Certificate, ca.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return &Certificate{DER: der, Key: key}, nil
}

func leafKey(useRSA bool) (crypto.Signer, error) {
	if useRSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// PEM returns the certificate.
func (c *Certificate) PEM() []byte { return certificatePEM(c.DER) }

// KeyPEM returns the private key, in PKCS #8.
func (c *Certificate) KeyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(c.Key))})
}

// TLS returns what a TLS client presents: the leaf alone, as Spine's clients do.
func (c *Certificate) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.DER}, PrivateKey: c.Key}
}

// SHA256 returns the fingerprint.
func (c *Certificate) SHA256() [32]byte { return sha256.Sum256(c.DER) }

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func serialNumber() *big.Int {
	return must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)))
}

// must is for what fails only when the machine has no randomness.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
