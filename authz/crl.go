package authz

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// The bounds of a file of CRLs. The largest that public CAs publish are a few MB.
const (
	MaxCRLFile    = 16 << 20
	maxCRLsInFile = 64
)

// A CRL is one certificate revocation list (RFC 5280 §5): complete, of one CA, about
// what that CA issued itself. It is immutable but for a memory of its own: which CAs of
// the last bundle signed it.
type CRL struct {
	list       *x509.RevocationList // without its entries
	number     []byte               // big endian, without leading zeros
	nextUpdate time.Time
	revoked    map[string]struct{} // by serialKey

	signers atomic.Pointer[signers]
}

// signers are the CAs of one bundle whose list a CRL is.
type signers struct {
	bundle *bundle
	named  bool  // one of them has the name of the issuer
	cas    []int // those whose key signed it
}

// serialKey returns the form in which serial numbers are compared: their bytes. There
// are no negative ones; both parsers see to that.
func serialKey(serial []byte) string { return string(serial) }

// ParseCRLs reads a file of one or several CRLs, in PEM or DER. It is accepted as a
// whole or refused as a whole.
//
// What would have to be put together from several lists is refused (delta CRLs), and so
// is what speaks about certificates of others or about a part of them (indirect CRLs,
// distribution points), and every critical extension that is not known here: RFC 5280
// §5.2 forbids to use a list that is not understood.
func ParseCRLs(text []byte) ([]*CRL, error) {
	if len(text) > MaxCRLFile {
		return nil, fmt.Errorf("larger than %d bytes", MaxCRLFile)
	}
	var all []*CRL
	add := func(der []byte) (rest []byte, err error) {
		if len(all) == maxCRLsInFile {
			return nil, fmt.Errorf("more than %d CRLs", maxCRLsInFile)
		}
		crl, rest, err := parseCRL(der)
		if err != nil {
			return nil, fmt.Errorf("CRL %d of the file: %w", len(all)+1, err)
		}
		for _, other := range all {
			if other.Issuer() == crl.Issuer() {
				return nil, fmt.Errorf("CRL %d of the file: a second one of %s", len(all)+1, crl.Name())
			}
		}
		all = append(all, crl)
		return rest, nil
	}
	var err error
	if rest := bytes.TrimSpace(text); bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
		for len(rest) > 0 {
			if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
				return nil, fmt.Errorf("CRL %d of the file: text outside of a PEM block", len(all)+1)
			}
			block, after := pem.Decode(rest)
			if block == nil || block.Type != "X509 CRL" {
				return nil, fmt.Errorf("CRL %d of the file: not a PEM block of type X509 CRL", len(all)+1)
			}
			trailing, err := add(block.Bytes)
			if err != nil {
				return nil, err
			}
			if len(trailing) > 0 {
				return nil, fmt.Errorf("CRL %d of the file: more than a CRL in the PEM block", len(all))
			}
			rest = bytes.TrimSpace(after)
		}
	} else {
		for rest := text; len(rest) > 0; {
			if rest, err = add(rest); err != nil {
				return nil, err
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no CRL: an empty file would revoke nothing")
	}
	return all, nil
}

var (
	oidAuthorityKeyID    = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber         = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaCRL          = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidReasonCode        = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidCertificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
)

// removeFromCRL is a reason code of delta CRLs (RFC 5280 §5.3.1).
const removeFromCRL = 8

func parseCRL(der []byte) (crl *CRL, rest []byte, err error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, nil, err
	}
	rest = der[len(list.Raw):] // the parser takes the first and is silent about what follows
	crl = &CRL{list: list, nextUpdate: list.NextUpdate, revoked: make(map[string]struct{}, len(list.RevokedCertificateEntries))}
	switch list.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return nil, nil, fmt.Errorf("of %s: signed with %v, which anybody may be able to forge", crl.Name(), list.SignatureAlgorithm)
	}
	seen := map[string]bool{}
	for _, e := range list.Extensions {
		id := e.Id.String()
		switch {
		case seen[id]:
			return nil, nil, fmt.Errorf("of %s: extension %s stands twice", crl.Name(), id)
		case e.Id.Equal(oidDeltaCRL):
			return nil, nil, fmt.Errorf("of %s: a delta CRL; only complete ones are used", crl.Name())
		case e.Id.Equal(oidDistributionPoint):
			return nil, nil, fmt.Errorf("of %s: an indirect CRL, or one of a part of the certificates (issuing distribution point); only complete ones are used", crl.Name())
		case e.Critical && !e.Id.Equal(oidAuthorityKeyID) && !e.Id.Equal(oidCRLNumber):
			return nil, nil, fmt.Errorf("of %s: extension %s is critical and not known here", crl.Name(), id)
		}
		seen[id] = true
	}
	switch {
	case list.Number == nil || list.Number.Sign() < 0:
		return nil, nil, fmt.Errorf("of %s: it has no CRL number, so an older one could not be told from a newer", crl.Name())
	case list.NextUpdate.IsZero():
		return nil, nil, fmt.Errorf("of %s: it does not say until when it is good (nextUpdate)", crl.Name())
	}
	crl.number = list.Number.Bytes()
	for _, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Sign() < 0 {
			return nil, nil, fmt.Errorf("of %s: a negative serial number", crl.Name())
		}
		for _, e := range entry.Extensions {
			switch {
			case e.Id.Equal(oidCertificateIssuer):
				return nil, nil, fmt.Errorf("of %s: an indirect CRL; only those about a CA's own certificates are used", crl.Name())
			case e.Critical && !e.Id.Equal(oidReasonCode):
				return nil, nil, fmt.Errorf("of %s: extension %s of an entry is critical and not known here", crl.Name(), e.Id)
			}
		}
		if entry.ReasonCode == removeFromCRL {
			return nil, nil, fmt.Errorf("of %s: an entry says removeFromCRL, which only delta CRLs may", crl.Name())
		}
		crl.revoked[serialKey(entry.SerialNumber.Bytes())] = struct{}{}
	}
	// Without the entries, which would be held three times otherwise.
	crl.list = &x509.RevocationList{
		RawTBSRevocationList: list.RawTBSRevocationList, Signature: list.Signature, SignatureAlgorithm: list.SignatureAlgorithm,
		RawIssuer: list.RawIssuer, Issuer: list.Issuer, AuthorityKeyId: list.AuthorityKeyId, Number: list.Number, ThisUpdate: list.ThisUpdate,
	}
	return crl, rest, nil
}

// Issuer returns what is the same for every list of one CA and key.
func (l *CRL) Issuer() string {
	return string(l.list.RawIssuer) + "\x00" + string(l.list.AuthorityKeyId)
}

// Name returns the issuer's name, quoted.
func (l *CRL) Name() string { return Excerpt(l.list.Issuer.String()) }

// Number returns the CRL number in decimal: it rises with every list of an issuer.
func (l *CRL) Number() string { return l.list.Number.String() }

// Len returns how many certificates are revoked.
func (l *CRL) Len() int { return len(l.revoked) }

// NextUpdate returns by when the CA has promised a newer list.
func (l *CRL) NextUpdate() time.Time { return l.nextUpdate }

func (l *CRL) revokes(serial string) bool {
	_, revoked := l.revoked[serial]
	return revoked
}

// Current returns an error unless l is the list of this moment as far as it says itself:
// it has begun, and the CA has not promised a newer one by now.
func (l *CRL) Current(now time.Time) error {
	switch {
	case now.Before(l.list.ThisUpdate):
		return fmt.Errorf("CRL %s of %s is of the future (thisUpdate %s)", l.Number(), l.Name(), l.list.ThisUpdate.Format(time.RFC3339))
	case now.After(l.nextUpdate):
		return fmt.Errorf("CRL %s of %s has expired: a newer one was promised for %s", l.Number(), l.Name(), l.nextUpdate.Format(time.RFC3339))
	}
	return nil
}

// Replaces returns an error if l is older than held: an old list would give rights back
// that a newer one has taken away.
func (l *CRL) Replaces(held *CRL) error {
	if c := l.compare(held); c < 0 || c == 0 && l.list.ThisUpdate.Before(held.list.ThisUpdate) {
		return fmt.Errorf("CRL %s of %s is older than number %s, which was seen already", l.Number(), l.Name(), held.Number())
	}
	return nil
}

// compare compares the numbers.
func (l *CRL) compare(other *CRL) int {
	if a, b := len(l.number), len(other.number); a != b {
		return a - b
	}
	return bytes.Compare(l.number, other.number)
}

// SignedIn reports whether a CA in the bundle of t has the name of the issuer. If it has
// and its key did not sign the list, or may not sign lists, that is an error.
func (l *CRL) SignedIn(t *Trust) (known bool, err error) {
	if t.bundle == nil {
		return false, nil
	}
	s := l.signedBy(t.bundle)
	if s.named && len(s.cas) == 0 {
		return true, fmt.Errorf("CRL %s of %s was not signed by that CA, or its certificate does not let it sign CRLs", l.Number(), l.Name())
	}
	return s.named, nil
}

func (l *CRL) signedBy(b *bundle) *signers {
	if s := l.signers.Load(); s != nil && s.bundle == b {
		return s
	}
	s := &signers{bundle: b}
	for i, ca := range b.cas {
		if !bytes.Equal(ca.RawSubject, l.list.RawIssuer) {
			continue
		}
		// A CA that was given a new key keeps its name; where both sides say which key it
		// is, another one's list is another CA's.
		if len(ca.SubjectKeyId) > 0 && len(l.list.AuthorityKeyId) > 0 && !bytes.Equal(ca.SubjectKeyId, l.list.AuthorityKeyId) {
			continue
		}
		s.named = true
		if l.list.CheckSignatureFrom(ca) == nil {
			s.cas = append(s.cas, i)
		}
	}
	l.signers.Store(s)
	return s
}
