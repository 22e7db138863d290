package authztest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"asid-authz/authz"
)

// HTTP1 returns the bytes of c's request on an HTTP/1.1 connection. A Host line and a
// content-length are added where c has none.
func (m *Minted) HTTP1(c *Case, now time.Time) ([]byte, error) {
	token, err := m.Token(c, now)
	if err != nil {
		return nil, err
	}
	lines := []string{c.Request.Method + " " + c.Request.Target + " HTTP/1.1"}
	if !c.hasHeader("host") {
		lines = append(lines, "Host: "+m.Authority)
	}
	lines = append(lines, c.Request.Lines...)
	body, err := m.expand(c.Request.Body, token)
	if err != nil {
		return nil, err
	}
	if body != "" && !c.hasHeader("content-length") && !c.hasHeader("transfer-encoding") {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	head, err := m.expand(strings.Join(lines, "\r\n"), token)
	if err != nil {
		return nil, err
	}
	return []byte(head + "\r\n\r\n" + body), nil
}

// HTTP2 returns the header fields of c's request on an HTTP/2 connection, pseudo-headers
// first, names in lower case, and its body.
func (m *Minted) HTTP2(c *Case, now time.Time) (fields []authz.Header, body []byte, err error) {
	token, err := m.Token(c, now)
	if err != nil {
		return nil, nil, err
	}
	headers, err := m.headers(c, token)
	if err != nil {
		return nil, nil, err
	}
	target, err := m.expand(c.Request.Target, token)
	if err != nil {
		return nil, nil, err
	}
	text, err := m.expand(c.Request.Body, token)
	if err != nil {
		return nil, nil, err
	}
	fields = []authz.Header{{Name: ":method", Value: c.Request.Method}}
	authority := m.Authority
	for _, h := range headers {
		if h.Name == "host" {
			authority = h.Value
		}
	}
	if c.Request.Method == "CONNECT" { // RFC 9113 §8.5: no scheme, no path
		authority = target
	} else {
		fields = append(fields, authz.Header{Name: ":scheme", Value: "https"}, authz.Header{Name: ":path", Value: target})
	}
	fields = append(fields, authz.Header{Name: ":authority", Value: authority})
	for _, h := range headers {
		if h.Name != "host" {
			fields = append(fields, h)
		}
	}
	return fields, []byte(text), nil
}

// Request returns the question that package authz is asked, as it would be if Envoy
// changed nothing: no normalisation, only the headers that the profile and the rules
// look at, and the two of them that Envoy joins joined.
func (m *Minted) Request(c *Case, p *authz.Profile, now time.Time) (*authz.Request, error) {
	token, err := m.Token(c, now)
	if err != nil {
		return nil, err
	}
	headers, err := m.headers(c, token)
	if err != nil {
		return nil, err
	}
	target, err := m.expand(c.Request.Target, token)
	if err != nil {
		return nil, err
	}
	certificate, err := m.Certificate(c)
	if err != nil {
		return nil, err
	}
	r := &authz.Request{Now: now, Method: c.Request.Method, Target: target, Route: c.Route}
	if certificate != nil {
		r.Certificate = authz.ParseCertificate(certificate.DER)
	}
	shown := append(authz.ForbiddenHeaders(), "authorization", "accept", "x-request-id", "traceparent")
	for _, h := range []authz.ClaimHeader{p.Sender, p.Receiver, p.Interaction} {
		shown = append(shown, strings.ToLower(h.Name))
	}
	shown = append(shown, p.UnusedHeaders...)
	for _, h := range headers {
		if !slices.Contains(shown, h.Name) {
			continue
		}
		if h.Name == "authorization" || h.Name == "accept" {
			if i := slices.IndexFunc(r.Headers, func(o authz.Header) bool { return o.Name == h.Name }); i >= 0 {
				r.Headers[i].Value += "," + h.Value
				continue
			}
		}
		r.Headers = append(r.Headers, h)
	}
	return r, nil
}

// headers returns c's header fields, names in lower case, folded lines unfolded.
func (m *Minted) headers(c *Case, token string) (all []authz.Header, err error) {
	for _, line := range c.Request.Lines {
		if line, err = m.expand(line, token); err != nil {
			return nil, err
		}
		if line[0] == ' ' || line[0] == '\t' {
			all[len(all)-1].Value += " " + strings.TrimSpace(line)
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		all = append(all, authz.Header{Name: strings.ToLower(name), Value: strings.Trim(value, " \t")})
	}
	return all, nil
}

func (c *Case) hasHeader(name string) bool {
	return slices.ContainsFunc(c.Request.Lines, func(line string) bool {
		got, _, _ := strings.Cut(line, ":")
		return strings.EqualFold(got, name)
	})
}
