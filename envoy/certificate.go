package envoy

import (
	"net/url"
	"strings"

	"github.com/maypok86/otter/v2"

	"asid-authz/authz"
)

// A certificates turns what Envoy says of the client's leaf, a PEM text with some bytes
// percent-encoded, into a PeerCertificate. The same text comes with every request of a
// connection, and taking it apart costs more than the whole decision: it is remembered
// by the exact text. What is remembered is what the certificate says, never that it is
// good: validity and trust are judged on each request.
type certificates struct {
	parsed *otter.Cache[string, *authz.PeerCertificate]
}

// maxCertificates bounds the memory of parsed certificates: about 8 kB each.
const maxCertificates = 4096

func newCertificates() *certificates {
	return &certificates{otter.Must(&otter.Options[string, *authz.PeerCertificate]{MaximumSize: maxCertificates})}
}

// parse returns nil for an empty text: the client sent no certificate.
func (c *certificates) parse(escaped string) *authz.PeerCertificate {
	if escaped == "" {
		return nil
	}
	if cert, known := c.parsed.GetIfPresent(escaped); known {
		return cert
	}
	cert := parseEscaped(escaped)
	if cert.SHA256() != [32]byte{} { // what does not parse is not worth the room that it would take from what does
		c.parsed.Set(strings.Clone(escaped), cert)
	}
	return cert
}

// parseEscaped undoes Envoy's encoding. Envoy escapes LF, blank, "+", "/" and "="; a
// text in which a "+" stands unescaped came through something else, which is why "+"
// is not taken for a blank here.
func parseEscaped(escaped string) *authz.PeerCertificate {
	if len(escaped) > 4*authz.MaxCertificate { // base64 and escapes make it about twice as long
		return authz.BadCertificate(authz.Fault{Reason: authz.CertificateMalformed, Field: authz.FieldCertificate})
	}
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return authz.BadCertificate(authz.Fault{Reason: authz.CertificateMalformed, Field: authz.FieldCertificate})
	}
	return authz.ParsePEM([]byte(text))
}
