package authztest

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

// A CRLSpec says what a certificate revocation list holds. The zero CRLSpec is number 1,
// an hour old, good for a day, and revokes nobody.
type CRLSpec struct {
	Number                 int64 // 0: 1
	ThisUpdate, NextUpdate time.Time
	Revoked                []*big.Int
	Entries                []x509.RevocationListEntry // more of them: with reasons or extensions
	Extensions             []pkix.Extension
	SignatureAlgorithm     x509.SignatureAlgorithm // 0: the usual one of the key
}

// CRL returns a list of that kind in DER, signed by ca.
func (ca *CA) CRL(spec CRLSpec) ([]byte, error) {
	list := &x509.RevocationList{
		Number:                    big.NewInt(max(spec.Number, 1)),
		ThisUpdate:                spec.ThisUpdate,
		NextUpdate:                spec.NextUpdate,
		RevokedCertificateEntries: spec.Entries,
		ExtraExtensions:           spec.Extensions,
		SignatureAlgorithm:        spec.SignatureAlgorithm,
	}
	if list.ThisUpdate.IsZero() {
		list.ThisUpdate = time.Now().Add(-time.Hour)
	}
	if list.NextUpdate.IsZero() {
		list.NextUpdate = time.Now().Add(24 * time.Hour)
	}
	for _, serial := range spec.Revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: list.ThisUpdate})
	}
	return x509.CreateRevocationList(rand.Reader, list, ca.Certificate, ca.Key)
}

// CRLPEM returns a list in PEM.
func CRLPEM(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}) }

// CRLs returns a file with the lists of the world's root and of its issuing CA. Revoked
// are what the world's options say, and these. A higher number is a newer file.
func (m *Minted) CRLs(number int64, revoked ...*Certificate) ([]byte, error) {
	serials := []*big.Int{m.revoked}
	for _, c := range revoked {
		parsed, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return nil, err
		}
		serials = append(serials, parsed.SerialNumber)
	}
	var file []byte
	for ca, serials := range map[*CA][]*big.Int{m.issuing: serials, m.root: append(serials, m.withdrawn.Certificate.SerialNumber)} {
		der, err := ca.CRL(CRLSpec{Number: number, Revoked: serials, NextUpdate: m.now.Add(48 * time.Hour)})
		if err != nil {
			return nil, err
		}
		file = append(file, CRLPEM(der)...)
	}
	return file, nil
}
