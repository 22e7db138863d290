package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
)

// A call is a case of the corpus as it is told to somebody who has never seen one.
type call struct {
	file  string // of the case
	story string
	token string // what is particular about it
}

var calls = []call{
	{"allow-read", "GP One reads a pointer", "its own"},
	{"allow-search", "GP One searches for a patient's pointers", "its own"},
	{"allow-create", "GP Two, a provider too, creates a pointer", "its own"},
	{"claim-citizen", "a citizen reads his own record through GP One", "a citizen's"},
	{"shared-certificate-north", "a portal with one certificate and two ASIDs", "its own"},
	{"header-identity-spoofed", "GP One brings x-asid headers: they are stripped", "its own"},
	{"permission-delete-of-consumer", "GP One, a consumer, deletes", "its own"},
	{"permission-read-of-provider", "Trust EPR, a provider only, reads", "its own"},
	{"binding-cn-foreign-asid", "GP One says that it is GP Two", "its own"},
	{"asid-unknown", "GP One claims an ASID that nobody has", "its own"},
	{"asid-suspended", "a system that was suspended reads", "its own"},
	{"claim-system-of-another", "GP One found a token of GP Two", "of GP Two"},
	{"tie-cnf-of-another", "the token is bound to another certificate", "bound to GP Two's"},
	{"claim-organisation-of-another", "the token names another organisation", "another's ODS code"},
	{"claim-scope-write-for-read", "the token is good for writing", "scope write"},
	{"token-expired", "the token was kept too long", "expired"},
	{"token-audience-wrong", "the token is for another API", "another audience"},
	{"token-none", "the token is signed by nobody", "alg none"},
	{"token-hmac-with-public-key", "the token is signed with a key that all know", "HS256, public key"},
	{"header-sender-missing", "GP One does not say who it is", "its own"},
	{"header-sender-repeated", "GP One says it twice, differently", "its own"},
	{"header-receiver-of-another-service", "the request is meant for another service", "its own"},
	{"form-path-parameter", "the path has two readings", "its own"},
	{"form-forbidden-method-override", "a GET that asks to be taken for a DELETE", "its own"},
	{"certificate-none", "somebody without a certificate", "of GP One"},
	{"certificate-expired", "GP One's certificate has expired", "its own"},
}

// playCalls sends every call and shows what came of it.
func (d *demo) playCalls(ctx context.Context) error {
	table := tabwriter.NewWriter(d.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHAT HAPPENS\tFROMASID\tCERTIFICATE\tTOKEN\tCALL\tSTATUS\tWHY")
	for _, k := range calls {
		c, err := d.find(k.file)
		if err != nil {
			return err
		}
		status, why, err := d.play(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", k.file, err)
		}
		certificate, err := d.commonName(c)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.story, sender(c), certificate, k.token, request(c), status, why)
	}
	table.Flush()
	_, err := fmt.Fprintf(d.w, `
WHY is what the audit log says. The client is told as much, but for asid-unknown: to it that
looks like certificate-not-of-asid, or anybody could find out which ASIDs there are.
%d calls reached the API, each with headers in which asid-authz says who called and as what.

`, d.mesh.Upstream.Count())
	return err
}

// play sends a case and says what came of it, marked if that is not what should have.
func (d *demo) play(ctx context.Context, c *authztest.Case) (status, why string, err error) {
	answer, err := d.send(ctx, c)
	if err != nil {
		return "", "", err
	}
	status, got, why, err := d.judge(answer)
	if err != nil {
		return "", "", err
	}
	if want := c.Behind("h2"); got != want {
		d.surprises++
		why += "  <-- should have been: " + want.String()
	}
	return status, why, nil
}

// send sends a case over HTTP/2.
func (d *demo) send(ctx context.Context, c *authztest.Case) (*mesh.Answer, error) {
	certificate, err := d.mesh.World.Certificate(c)
	if err != nil {
		return nil, err
	}
	fields, body, err := d.mesh.World.HTTP2(c, time.Now())
	if err != nil {
		return nil, err
	}
	return d.edge.Client(certificate).Frames(ctx, fields, body)
}

// judge says what an answer means: the Want that it meets, and the same in words.
func (d *demo) judge(a *mesh.Answer) (status string, got authztest.Want, why string, err error) {
	if a.Refused != "" {
		return "-", authztest.Want{Kind: authztest.WantRefused}, "refused in the TLS handshake", nil
	}
	status = fmt.Sprint(a.Status)
	id := a.Header.Get("X-Asid-Decision-Id")
	seen, reached := d.mesh.Upstream.Of(a)
	if reached {
		id = seen.Header.Get("X-Asid-Decision-Id")
	}
	if id == "" {
		return status, authztest.Want{Kind: authztest.WantEnvoyAnswer, Status: a.Status}, "answered by Envoy", nil
	}
	record, err := d.mesh.Record(id)
	if err != nil {
		return "", got, "", err
	}
	if reached && record.Decision == "allow" {
		return status, authztest.Want{Kind: authztest.WantAllow, Endpoint: record.Endpoint, Interaction: record.Interaction}, "allowed: " + record.Endpoint, nil
	}
	reason, err := authz.ParseReason(record.Reason)
	if err != nil || reached {
		return "", got, "", fmt.Errorf("reached the API: %v, but the record says %q %q", reached, record.Decision, record.Reason)
	}
	return status, authztest.Want{Kind: authztest.WantDeny, Reason: reason}, reason.String(), nil
}

// commonName returns what the client's certificate is called, quoted and without the domain
// that all of them share.
func (d *demo) commonName(c *authztest.Case) (string, error) {
	certificate, err := d.mesh.World.Certificate(c)
	if err != nil || certificate == nil {
		return "none", err
	}
	parsed, err := x509.ParseCertificate(certificate.DER)
	if err != nil {
		return "", err
	}
	name := authz.ExcerptBare(strings.TrimSuffix(parsed.Subject.CommonName, ".example.nhs.uk"))
	if time.Now().After(parsed.NotAfter) {
		name += ", expired"
	}
	return name, nil
}

// sender returns what the case says in fromASID.
func sender(c *authztest.Case) string {
	var all []string
	for _, line := range c.Request.Lines {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "fromasid") {
			all = append(all, authz.ExcerptBare(strings.TrimSpace(value)))
		}
	}
	switch len(all) {
	case 0:
		return "-"
	case 1:
		return all[0]
	}
	return all[0] + ", ..."
}

// request returns method and path, short enough for a table.
func request(c *authztest.Case) string {
	path, query, _ := strings.Cut(c.Request.Target, "?")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if len(s) > 30 {
			segments[i] = s[:6] + "..."
		}
	}
	path = strings.Join(segments, "/")
	if query != "" {
		path += "?..."
	}
	return c.Request.Method + " " + authz.ExcerptBare(path)
}
