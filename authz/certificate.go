package authz

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// A PeerCertificate is what we need of the client's leaf. It is immutable but for a
// memory of its own: the verdict of the last Trust that judged it.
type PeerCertificate struct {
	fault  Fault // Reason != Undecided: no usable certificate
	leaf   *x509.Certificate
	sha256 [32]byte

	// Names by the place that they can be read from. Lower case where names are
	// compared without case; an entry that can never match (empty, a wildcard, a
	// trailing dot, not ASCII) is kept as "": it counts, because "exactly one" must
	// not be met by ignoring the strange ones, but it equals nothing.
	commonNames, dnsNames          []string
	serialNumbers, uids, cns, uris []string // verbatim

	verdict atomic.Pointer[verdict]
}

// MaxCertificate is the largest certificate that is looked at, in bytes of its DER.
const MaxCertificate = 16 << 10

var oidSerialNumber = asn1.ObjectIdentifier{2, 5, 4, 5}
var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}
var oidUserID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}

// BadCertificate returns a certificate that carries nothing but why it is none.
func BadCertificate(f Fault) *PeerCertificate { return &PeerCertificate{fault: f} }

func malformedCertificate() *PeerCertificate {
	return BadCertificate(Fault{Reason: CertificateMalformed, Field: FieldCertificate})
}

// ParsePEM returns the certificate of a PEM text that must hold exactly one, and
// nothing else but blanks around it: a second block would leave open which of them
// the client proved to hold the key of.
func ParsePEM(text []byte) *PeerCertificate {
	if len(text) > 2*MaxCertificate {
		return malformedCertificate()
	}
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) { // pem.Decode would skip what stands before it
		return malformedCertificate()
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 || len(bytes.TrimSpace(rest)) != 0 {
		return malformedCertificate()
	}
	return ParseCertificate(block.Bytes)
}

// ParseCertificate returns the certificate of a DER encoding. It never returns nil:
// what does not parse comes back carrying its Fault.
func ParseCertificate(der []byte) *PeerCertificate {
	if len(der) > MaxCertificate {
		return malformedCertificate()
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return malformedCertificate()
	}
	c := &PeerCertificate{leaf: leaf, sha256: sha256.Sum256(der)}
	for _, attribute := range leaf.Subject.Names {
		value, isString := attribute.Value.(string)
		if !isString || hasControl(value) {
			return malformedCertificate()
		}
		switch {
		case attribute.Type.Equal(oidCommonName):
			c.cns = append(c.cns, value)
			c.commonNames = append(c.commonNames, comparableName(value))
		case attribute.Type.Equal(oidSerialNumber):
			c.serialNumbers = append(c.serialNumbers, value)
		case attribute.Type.Equal(oidUserID):
			c.uids = append(c.uids, value)
		}
	}
	// A NUL in a SAN once made one half of a system see another name than the other
	// half did (CVE-2026-47778): such a certificate is refused whole, also for the
	// names that we do not use.
	for _, name := range leaf.DNSNames {
		if hasControl(name) {
			return malformedCertificate()
		}
		c.dnsNames = append(c.dnsNames, comparableName(name))
	}
	for _, name := range leaf.EmailAddresses {
		if hasControl(name) {
			return malformedCertificate()
		}
	}
	for _, uri := range leaf.URIs {
		text := uri.String()
		if hasControl(text) {
			return malformedCertificate()
		}
		c.uris = append(c.uris, text)
	}
	return c
}

// SHA256 returns the SHA-256 of the DER, all zero if there is none.
func (c *PeerCertificate) SHA256() [32]byte { return c.sha256 }

// NotAfter returns the end of the certificate's validity, the zero Time if it does not parse.
func (c *PeerCertificate) NotAfter() time.Time {
	if c.leaf == nil {
		return time.Time{}
	}
	return c.leaf.NotAfter
}

// objection returns why c cannot be used at now whoever issued it, or false.
func (c *PeerCertificate) objection(now time.Time) (Fault, bool) {
	switch {
	case c == nil:
		return Fault{Reason: CertificateMissing, Field: FieldCertificate}, true
	case c.fault.Reason != Undecided:
		return c.fault, true
	case c.leaf == nil:
		return Fault{Reason: CertificateMalformed, Field: FieldCertificate}, true
	case now.Before(c.leaf.NotBefore):
		return Fault{Reason: CertificateNotYetValid, Field: FieldCertificate}, true
	case now.After(c.leaf.NotAfter):
		return Fault{Reason: CertificateExpired, Field: FieldCertificate}, true
	}
	return Fault{}, false
}

// ParseFingerprint returns the SHA-256 of a certificate's DER that s is: 64 hex digits in
// either case, or 32 pairs with colons between them, as openssl prints it. There is no
// mixture of the two.
func ParseFingerprint(s string) (fingerprint [32]byte, err error) {
	digits := strings.ReplaceAll(s, ":", "")
	plain := len(s) == hex.EncodedLen(len(fingerprint))
	colons := len(s) == 3*len(fingerprint)-1
	for i := 2; colons && i < len(s); i += 3 {
		colons = s[i] == ':'
	}
	if (plain || colons) && len(digits) == hex.EncodedLen(len(fingerprint)) {
		_, err = hex.Decode(fingerprint[:], []byte(digits))
	} else {
		err = hex.ErrLength
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("a certificate is the SHA-256 of its DER: 64 hex digits, or 32 pairs with colons between them, not %s", Excerpt(s))
	}
	return fingerprint, nil
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// comparableName returns name as host names are compared, ASCII without case, or ""
// if it must never match: an empty name, a wildcard, a trailing dot, a blank, or
// anything that is not ASCII.
func comparableName(name string) string {
	if name == "" || name[len(name)-1] == '.' {
		return ""
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '*' {
			return ""
		}
	}
	return strings.ToLower(name)
}
