package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	{"allow-read", "GP One reads a pointer", "own"},
	{"allow-search", "GP One searches for a patient", "own"},
	{"allow-create", "GP Two, also a provider, creates", "own"},
	{"claim-citizen", "a citizen reads through GP One", "a citizen's"},
	{"shared-certificate-north", "one certificate of two ASIDs", "own"},
	{"header-identity-spoofed", "GP One brings x-asid headers", "own"},
	{"permission-delete-of-consumer", "GP One, a consumer, deletes", "own"},
	{"permission-read-of-provider", "Trust EPR, a provider, reads", "own"},
	{"binding-cn-foreign-asid", "GP One says that it is GP Two", "own"},
	{"asid-unknown", "GP One claims an unknown ASID", "own"},
	{"asid-suspended", "a suspended system reads", "own"},
	{"claim-system-of-another", "GP One uses a token of GP Two", "of GP Two"},
	{"tie-cnf-of-another", "a token for another certificate", "cnf of GP Two"},
	{"claim-organisation-of-another", "a token of another organisation", "other ODS code"},
	{"claim-scope-write-for-read", "a token for writing only", "scope write"},
	{"token-expired", "a token that was kept too long", "expired"},
	{"token-audience-wrong", "a token for another API", "other audience"},
	{"token-none", "a token that nobody signed", "alg none"},
	{"token-hmac-with-public-key", "a token signed with a public key", "HS256"},
	{"header-sender-missing", "no sender is named", "own"},
	{"header-sender-repeated", "two senders are named", "own"},
	{"header-receiver-of-another-service", "meant for another service", "own"},
	{"form-path-parameter", "a path with two readings", "own"},
	{"form-forbidden-method-override", "a GET to be taken for a DELETE", "own"},
	{"certificate-none", "no certificate", "of GP One"},
	{"certificate-expired", "an expired certificate", "own"},
}

// playCalls sends every call and shows what came of it.
func (d *demo) playCalls(ctx context.Context) error {
	table := tabwriter.NewWriter(d.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHAT HAPPENS\tFROMASID\tCERTIFICATE\tTOKEN\tCALL\tANSWER")
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
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s %s\n", k.story, sender(c), certificate, k.token, request(c), status, why)
	}
	table.Flush()
	fmt.Fprintf(d.w, `
The Reason in ANSWER is that of the audit log. The client is told it too, but for asid-unknown:
to the client that is certificate-not-of-asid, or anybody could find out which ASIDs there are.

%d calls reached the API. This is what it was told about the first, whatever the client wrote
into such headers:

`, d.mesh.Upstream.Count())
	return d.showIdentity()
}

// showIdentity shows the headers in which the API learns who called it.
func (d *demo) showIdentity() error {
	all := d.mesh.Upstream.All()
	if len(all) == 0 {
		return errors.New("no call reached the API")
	}
	for _, name := range slices.Sorted(maps.Keys(all[0].Header)) {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-asid") {
			fmt.Fprintf(d.w, "    %s: %s\n", lower, strings.Join(all[0].Header[name], ", "))
		}
	}
	_, err := fmt.Fprintln(d.w)
	return err
}

// play sends a case and says what came of it, marked if that is not what should have.
func (d *demo) play(ctx context.Context, c *authztest.Case) (status, why string, err error) {
	answer, err := d.send(ctx, c)
	if err != nil {
		return "", "", err
	}
	v, err := d.judge(answer)
	if err != nil {
		return "", "", err
	}
	if want := c.Behind("h2"); v.got != want {
		v.why += d.surprise(want.String())
	}
	return v.status, v.why, nil
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

// surprise says, and remembers, that something should have come out otherwise.
func (d *demo) surprise(want string) string {
	d.surprises++
	return "  <-- should have been: " + want
}

// A verdict is what an answer means.
type verdict struct {
	status     string
	got        authztest.Want // that it meets
	why        string         // the same in words
	mapVersion uint64         // that was decided by; 0 if nobody decided, or without a map
}

// judge says what an answer means.
func (d *demo) judge(a *mesh.Answer) (v verdict, err error) {
	if a.Refused != "" {
		return verdict{status: "-  ", got: authztest.Want{Kind: authztest.WantRefused}, why: "refused in the TLS handshake"}, nil
	}
	v.status = fmt.Sprint(a.Status)
	id := a.Header.Get("X-Asid-Decision-Id")
	seen, reached := d.mesh.Upstream.Of(a)
	if reached {
		id = seen.Header.Get("X-Asid-Decision-Id")
	}
	if id == "" {
		v.got, v.why = authztest.Want{Kind: authztest.WantEnvoyAnswer, Status: a.Status}, "answered by Envoy"
		return v, nil
	}
	record, err := d.mesh.Record(id)
	if err != nil {
		return v, err
	}
	v.mapVersion = record.MapVersion
	if reached && record.Decision == "allow" {
		v.got = authztest.Want{Kind: authztest.WantAllow, Endpoint: record.Endpoint, Interaction: record.Interaction}
		v.why = "allowed: " + record.Endpoint
		return v, nil
	}
	reason, err := authz.ParseReason(record.Reason)
	if err != nil || reached {
		return v, fmt.Errorf("reached the API: %v, but the record says %q %q", reached, record.Decision, record.Reason)
	}
	v.got, v.why = authztest.Want{Kind: authztest.WantDeny, Reason: reason}, reason.String()
	return v, nil
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
	return fmt.Sprintf("%d of them", len(all))
}

// request returns method and path below the base, short enough for a table.
func request(c *authztest.Case) string {
	path, query, _ := strings.Cut(c.Request.Target, "?")
	segments := strings.Split(strings.TrimPrefix(path, "/STU3"), "/")
	for i, s := range segments {
		if len(s) > 30 {
			segments[i] = "{id}"
		}
	}
	path = strings.Join(segments, "/")
	if query != "" {
		path += "?..."
	}
	return c.Request.Method + " " + authz.ExcerptBare(path)
}
