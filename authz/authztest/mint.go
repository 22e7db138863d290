package authztest

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Minted is a world with its certificates and keys: made once for a run. It is safe
// for concurrent use.
type Minted struct {
	*World
	Issuers map[string]*Issuer // by their names in the corpus

	root, issuing, foreign *CA
	unlisted, withdrawn    *CA      // below the root: one without a CRL, one that the root revoked
	revoked                *big.Int // the serial number of every leaf that is revoked
	now                    time.Time

	mu     sync.Mutex
	issued map[string]*Certificate // by symbol and options
}

// Mint makes the keys and certificates of w. Validities are counted from now.
func (w *World) Mint(now time.Time) (*Minted, error) {
	root := NewCA("Corpus Root Authority " + w.Name)
	m := &Minted{
		World:     w,
		Issuers:   map[string]*Issuer{},
		root:      root,
		issuing:   root.Intermediate("Corpus Issuing Authority " + w.Name),
		foreign:   NewCA("Foreign Root Authority"),
		unlisted:  root.Intermediate("Corpus Unlisted Authority " + w.Name),
		withdrawn: root.Intermediate("Corpus Withdrawn Authority " + w.Name),
		revoked:   serialNumber(),
		now:       now,
		issued:    map[string]*Certificate{},
	}
	for _, settings := range w.Issuers {
		issuer := NewIssuer(settings.Name)
		for _, name := range settings.Keys {
			alg, kid, _ := strings.Cut(name, "/")
			if err := issuer.AddKey(alg, kid); err != nil {
				return nil, fmt.Errorf("world %s, issuer %s: %w", w.Name, settings.Name, err)
			}
		}
		m.Issuers[settings.Name] = issuer
	}
	for symbol := range w.certificates {
		if _, err := m.certificate(symbol, nil); err != nil {
			return nil, fmt.Errorf("world %s, certificate %s: %w", w.Name, symbol, err)
		}
	}
	return m, nil
}

// CAs returns the bundle that client certificates are verified against: root and
// intermediates, because clients send their leaf alone.
func (m *Minted) CAs() []byte {
	return slices.Concat(m.root.PEM(), m.issuing.PEM(), m.unlisted.PEM(), m.withdrawn.PEM())
}

// MapText returns the map file with the fingerprints of this run in it.
func (m *Minted) MapText() (string, error) { return m.expand(m.Map, "") }

// Certificate returns the client certificate of c, nil if it has none. A case gets the
// same one each time.
func (m *Minted) Certificate(c *Case) (*Certificate, error) {
	if c.Certificate == "" {
		return nil, nil
	}
	return m.certificate(c.Certificate, c.certificateOptions)
}

// certificateKeys are the options of a certificate. Names may stand several times.
var certificateKeys = []string{
	"cn", "serial", "uid", "dns", "email", "uri", // what it is called
	"without",          // one of these: none at all
	"ca",               // issuing (default), root, foreign, self, unlisted (it has no CRL), withdrawn (the root revoked it)
	"revoked",          // yes: its CA has revoked it
	"expired", "early", // for how long it has been expired, or how long until it is valid
	"eku",      // client (default), server, any, none
	"key",      // ec (default), rsa
	"reissued", // yes: the same names, another key
}

func (m *Minted) certificate(symbol string, options []option) (*Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := fmt.Sprintf("%s %q", symbol, options)
	if c := m.issued[name]; c != nil {
		return c, nil
	}
	c, err := m.issue(overlay(m.certificates[symbol], options))
	if err == nil {
		m.issued[name] = c
	}
	return c, err
}

var keyUsages = map[string][]x509.ExtKeyUsage{
	"client": {x509.ExtKeyUsageClientAuth}, "server": {x509.ExtKeyUsageServerAuth}, "any": {x509.ExtKeyUsageAny}, "none": nil,
}

func (m *Minted) issue(options []option) (*Certificate, error) {
	spec := CertificateSpec{
		NotBefore:    m.now.Add(-48 * time.Hour),
		NotAfter:     m.now.Add(48 * time.Hour),
		ExtKeyUsages: keyUsages["client"],
	}
	names := map[string]*[]string{
		"cn": &spec.CommonNames, "serial": &spec.SerialNumbers, "uid": &spec.UIDs,
		"dns": &spec.DNSNames, "email": &spec.EmailAddresses, "uri": &spec.URIs,
	}
	ca := m.issuing
	for _, o := range options {
		known := true
		switch o.key {
		case "without", "reissued":
		case "ca":
			ca, known = map[string]*CA{"issuing": m.issuing, "root": m.root, "foreign": m.foreign, "self": nil,
				"unlisted": m.unlisted, "withdrawn": m.withdrawn}[o.value]
		case "revoked":
			spec.SerialNumber, known = m.revoked, o.value == "yes"
		case "expired", "early":
			d, err := time.ParseDuration(o.value)
			if err != nil {
				return nil, err
			}
			if o.key == "expired" {
				spec.NotAfter = m.now.Add(-d)
			} else {
				spec.NotBefore = m.now.Add(d)
			}
		case "eku":
			spec.ExtKeyUsages, known = keyUsages[o.value]
		case "key":
			spec.RSA = o.value == "rsa"
			known = spec.RSA || o.value == "ec"
		default:
			*names[o.key] = append(*names[o.key], o.value)
		}
		if !known {
			return nil, fmt.Errorf("no such %s: %q", o.key, o.value)
		}
	}
	for _, o := range options {
		if o.key == "without" {
			list := names[o.value]
			if list == nil || *list == nil {
				return nil, fmt.Errorf("without=%s: there is none", o.value)
			}
			*list = nil
		}
	}
	if ca == nil {
		return SelfSigned(spec)
	}
	return ca.Issue(spec)
}

// tokenKeys are the options of a token. A case may also name a claim that the template
// has, to give it another text.
var tokenKeys = []string{
	"issuer",            // whose keys sign: a name of the corpus
	"sign",              // ALG/kid
	"exp", "nbf", "iat", // offsets from now
	"without", // a claim that is left out
	"forged",  // yes: signed with another key under the same kid; embedded: and that key is in the header
	"broken",  // signature: one bit of it is turned over
}

// Token returns the token of c as it is at now, "" if it has none.
func (m *Minted) Token(c *Case, now time.Time) (string, error) {
	if c.Token == "" {
		return "", nil
	}
	template := m.tokens[c.Token]
	claims := template.claims
	var issuer *Issuer
	var alg, kid string
	var forged string
	var broken bool
	var times object
	for _, o := range overlay(template.options, c.tokenOptions) {
		switch o.key {
		case "issuer":
			if issuer = m.Issuers[o.value]; issuer == nil {
				return "", fmt.Errorf("token: world %s has no issuer %q", m.Name, o.value)
			}
		case "sign":
			alg, kid, _ = strings.Cut(o.value, "/")
		case "exp", "nbf", "iat":
			d, err := time.ParseDuration(o.value)
			if err != nil {
				return "", fmt.Errorf("token: %w", err)
			}
			times = append(times, member{o.key, strconv.AppendInt(nil, now.Add(d).Unix(), 10)})
		case "forged":
			if forged = o.value; forged != "yes" && forged != "embedded" {
				return "", fmt.Errorf("token: forged=%s is neither yes nor embedded", forged)
			}
		case "broken":
			if broken = o.value == "signature"; !broken {
				return "", fmt.Errorf("token: broken=%s is not signature", o.value)
			}
		case "without":
			if !claims.has(o.value) && !times.has(o.value) {
				return "", fmt.Errorf("token: without=%s: there is none", o.value)
			}
			claims, times = claims.without(o.value), times.without(o.value)
		default:
			claims = object{{o.key, must(json.Marshal(o.value))}}.laidOver(claims)
		}
	}
	if issuer == nil {
		return "", fmt.Errorf("token %s has no issuer", c.Token)
	}
	payload, err := m.expand(string(c.claims.laidOver(times.laidOver(claims)).text()), "")
	if err != nil {
		return "", err
	}
	header := map[string]any{}
	for _, h := range c.jose {
		header[h.name] = h.value
	}
	var token string
	if forged != "" {
		token, err = issuer.Forge(alg, kid, forged == "embedded", header, []byte(payload))
	} else {
		token, err = issuer.SignPayload(alg, kid, header, []byte(payload))
	}
	if broken {
		token = BreakSignature(token)
	}
	return token, err
}

var placeholder = regexp.MustCompile(`\{(token|0x[0-9a-f]{2}|[!-~]\*[0-9]+|(?:certificate|x5t) [a-z0-9-]+)\}`)

// expand replaces {token}, {0x00} (a byte), {a*3000} (a letter, that often),
// {certificate NAME} (the SHA-256 in hex) and {x5t NAME} (the same as cnf has it).
func (m *Minted) expand(text, token string) (string, error) {
	var failed error
	text = placeholder.ReplaceAllStringFunc(text, func(s string) string {
		s = s[1 : len(s)-1]
		if s == "token" {
			return token
		}
		if digits, is := strings.CutPrefix(s, "0x"); is {
			return string(must(hex.DecodeString(digits)))
		}
		if kind, symbol, is := strings.Cut(s, " "); is {
			if _, known := m.certificates[symbol]; !known {
				failed = fmt.Errorf("world %s has no certificate %q", m.Name, symbol)
				return ""
			}
			c, err := m.certificate(symbol, nil)
			if err != nil {
				failed = err
				return ""
			}
			sum := c.SHA256()
			if kind == "x5t" {
				return base64.RawURLEncoding.EncodeToString(sum[:])
			}
			return hex.EncodeToString(sum[:])
		}
		n, err := strconv.Atoi(s[2:])
		if err != nil || n > 1<<20 {
			failed = fmt.Errorf("{%s}: too many", s)
			return ""
		}
		return strings.Repeat(s[:1], n)
	})
	return text, failed
}
