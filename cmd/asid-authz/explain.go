package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"asid-authz/authz"
)

// An explanation is what explain is asked about.
type explanation struct {
	config, method, path, route string
	headers                     []string
	certificate, token, record  string
	keys                        []string
	at                          string
}

// forever is an age that nothing reaches.
var forever = duration(100 * 365 * 24 * time.Hour)

func newExplainCommand() *cobra.Command {
	var e explanation
	command := &cobra.Command{
		Use:   "explain --config FILE (--method M --path P … | --record FILE)",
		Short: "Show every step of one decision: passed, failed or not reachable",
		Long: `Show every step of one decision: passed, failed or not reachable.

The same code decides here as in the service, by the files that the configuration
names as they are now, offline: keys that the service would fetch are given with
--keys. Exit 0 if the request would be allowed, 3 if it would be denied.

With --record, a line of the audit log instead of a request: it holds neither the
certificate nor the token, so only the steps that it has the input of are run.`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return e.run(command.Context(), command.InOrStdin(), command.OutOrStdout())
		},
	}
	f := command.Flags()
	f.StringVar(&e.config, "config", "", "configuration file of the service")
	f.StringVar(&e.method, "method", "GET", "method of the request")
	f.StringVar(&e.path, "path", "", "path of the request with its query, as Envoy forwards it")
	f.StringVar(&e.route, "route", "", "endpoint that Envoy's route names, if it names one")
	f.StringArrayVar(&e.headers, "header", nil, "header of the request, 'name: value'; may be repeated")
	f.StringVar(&e.certificate, "cert", "", "PEM file with the client's certificate")
	f.StringVar(&e.token, "token", "", "file with the bearer token, or - for standard input (never the token itself: others can see the command line)")
	f.StringArrayVar(&e.keys, "keys", nil, "'ISSUER=FILE': key set of an issuer whose keys the service fetches; may be repeated")
	f.StringVar(&e.at, "at", "", "decide as of this time (RFC 3339) instead of now; how old the files are is not looked at then")
	f.StringVar(&e.record, "record", "", "file with one line of the audit log, or - for standard input")
	command.MarkFlagRequired("config")
	command.MarkFlagsMutuallyExclusive("record", "path")
	command.MarkFlagsOneRequired("record", "path")
	return command
}

func (e *explanation) run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	c, err := loadConfig(e.config)
	if err != nil {
		return err
	}
	for i := range c.Issuers {
		for _, given := range e.keys {
			issuer, file, found := strings.Cut(given, "=")
			if !found {
				return exitError{exitUsage, fmt.Errorf("--keys takes ISSUER=FILE, not %s", authz.Excerpt(given))}
			}
			if issuer == c.Issuers[i].Issuer {
				absolute, err := filepath.Abs(file)
				if err != nil {
					return err
				}
				c.Issuers[i].Keys = KeysConfig{File: PathValue(absolute)}
			}
		}
	}
	if e.at != "" {
		// The files were read just now, whatever time the question is about.
		c.Map.MaxStaleness, c.Trust.MaxAge, c.Trust.CRLMaxAge = forever, forever, forever
		for i := range c.Issuers {
			c.Issuers[i].MaxKeyAge = forever
		}
	}
	g, err := build(c, nil, zap.NewNop())
	if err != nil {
		return err
	}
	if err := g.await(ctx, 10*time.Second); err != nil {
		return err
	}
	if e.record != "" {
		return e.explainRecord(g, stdin, stdout)
	}
	r, err := e.request(stdin)
	if err != nil {
		return err
	}
	decision, steps := g.authorizer.Explain(ctx, r)
	printDecision(stdout, g, &decision)
	printSteps(stdout, steps)
	printSystem(stdout, g, decision.Facts(), r.Certificate)
	if !decision.Allowed() {
		return exitError{code: exitDifferences}
	}
	return nil
}

// request makes the request that Envoy would put for what the flags say.
func (e *explanation) request(stdin io.Reader) (*authz.Request, error) {
	r := &authz.Request{Now: time.Now(), Method: e.method, Target: e.path, Route: e.route}
	if e.at != "" {
		at, err := time.Parse(time.RFC3339, e.at)
		if err != nil {
			return nil, exitError{exitUsage, fmt.Errorf("--at is a time like 2026-11-24T10:00:00Z, not %s", authz.Excerpt(e.at))}
		}
		r.Now = at
	}
	for _, line := range e.headers {
		name, value, found := strings.Cut(line, ":")
		if !found {
			return nil, exitError{exitUsage, fmt.Errorf("--header takes 'name: value', not %s", authz.Excerpt(line))}
		}
		r.Headers = append(r.Headers, authz.Header{Name: strings.ToLower(strings.TrimSpace(name)), Value: strings.TrimSpace(value)})
	}
	if e.token != "" {
		text, err := readArgument(e.token, stdin)
		if err != nil {
			return nil, err
		}
		r.Headers = append(r.Headers, authz.Header{Name: "authorization", Value: "Bearer " + strings.TrimSpace(string(text))})
	}
	if e.certificate != "" {
		text, err := os.ReadFile(e.certificate)
		if err != nil {
			return nil, err
		}
		r.Certificate = authz.ParsePEM(text)
	}
	return r, nil
}

// readArgument reads a file, or standard input for "-".
func readArgument(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(stdin, 1<<20))
	}
	return os.ReadFile(file)
}

// explainRecord explains a line of the audit log.
func (e *explanation) explainRecord(g *generation, stdin io.Reader, stdout io.Writer) error {
	text, err := readArgument(e.record, stdin)
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	var record struct {
		Time        time.Time `json:"time"`
		ID          string    `json:"decision_id"`
		Decision    string    `json:"decision"`
		Reason      string    `json:"reason"`
		Field       string    `json:"field"`
		ASID        string    `json:"asid"`
		Claimed     string    `json:"claimed_asid"`
		Receiver    string    `json:"receiver"`
		Endpoint    string    `json:"endpoint"`
		Interaction string    `json:"interaction"`
		Version     uint64    `json:"map_version"`
		Certificate string    `json:"certificate_sha256"`
	}
	if err := json.Unmarshal([]byte(line), &record); err != nil {
		return fmt.Errorf("%s holds no line of the audit log: %w", e.record, err)
	}
	if record.ID == "" { // a count of what was not written
		return fmt.Errorf("%s: the line is of no decision", e.record)
	}
	var facts authz.Facts
	for _, field := range []struct {
		text string
		asid *authz.ASID
	}{{record.ASID, &facts.ASID}, {record.Claimed, &facts.ClaimedASID}, {record.Receiver, &facts.Receiver}} {
		if field.text == "" {
			continue
		}
		if *field.asid, err = authz.ParseASID(field.text); err != nil {
			return err
		}
	}
	if record.Interaction != "" {
		if facts.Interaction, err = authz.ParseInteractionID(record.Interaction); err != nil {
			return err
		}
	}
	if sum, err := hex.DecodeString(record.Certificate); err == nil {
		copy(facts.CertificateSHA256[:], sum)
	}
	facts.Endpoint = record.Endpoint
	fmt.Fprintf(stdout, "recorded %s: %s %s %s (decision %s, map version %d)\n",
		record.Time.Format(time.RFC3339), authz.ExcerptBare(record.Decision), authz.ExcerptBare(record.Reason), authz.ExcerptBare(record.Field), authz.Excerpt(record.ID), record.Version)
	if reason, err := authz.ParseReason(record.Reason); err == nil {
		denied := authz.Deny(authz.Fault{Reason: reason})
		status, outcome := g.rules.Answer(&denied, "")
		printAnswer(stdout, status, outcome.Code, reason) // without the text: its values are not in the record
	}
	fmt.Fprintf(stdout, "\nby the files of today (map version %d):\n", g.interactions.state().version)
	printSteps(stdout, g.authorizer.ExplainFacts(time.Now(), facts))
	printSystem(stdout, g, &facts, nil)
	return nil
}

func printDecision(w io.Writer, g *generation, d *authz.Decision) {
	facts := d.Facts()
	if d.Allowed() {
		fmt.Fprintf(w, "allow %s %s\n\n", facts.Endpoint, facts.Interaction)
		return
	}
	fmt.Fprintf(w, "deny %s (%s)\n", d.Reason(), d.Fault().Field)
	status, outcome := g.rules.Answer(d, "")
	printAnswer(w, status, outcome.Code, d.Reason())
	fmt.Fprintf(w, "  %s\n\n", outcome.Diagnostics)
}

// printAnswer says what the client sees.
func printAnswer(w io.Writer, status int, code string, reason authz.Reason) {
	fmt.Fprintf(w, "the client sees: %d %s, x-asid-reason: %s\n", status, code, reason.Public())
}

func printSteps(w io.Writer, steps []authz.Step) {
	for _, s := range steps {
		if s.Outcome == authz.Failed {
			fmt.Fprintf(w, "  %-13s  %-18s  %s\n", "FAILED", s.Name, describe(&s.Fault))
			continue
		}
		fmt.Fprintf(w, "  %-13s  %s\n", s.Outcome, s.Name)
	}
}

// describe puts a Fault into a line: what was objected to, what it was and against what.
func describe(f *authz.Fault) string {
	text := f.Reason.String() + ": " + string(f.Field)
	if f.Value != "" {
		text += " " + authz.Excerpt(f.Value)
	}
	if f.Other != "" {
		text += " against " + string(f.Other)
	}
	if f.OtherValue != "" {
		text += " " + authz.Excerpt(f.OtherValue)
	}
	return text
}

// printSystem shows what is registered for the system: here, on the operator's side,
// what no client is told.
func printSystem(w io.Writer, g *generation, facts *authz.Facts, certificate *authz.PeerCertificate) {
	asid := facts.ASID
	if asid.IsZero() {
		asid = facts.ClaimedASID
	}
	m, _, _ := g.interactions.Current()
	if asid.IsZero() || m == nil {
		return
	}
	fmt.Fprintf(w, "\nin the map, for ASID %s:\n", asid)
	s, known := m.System(asid)
	if !known {
		fmt.Fprintln(w, "  nothing")
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, values ...string) {
		if len(values) > 0 {
			fmt.Fprintf(table, "  %s\t%s\n", name, strings.Join(values, ", "))
		}
	}
	row("name", authz.Excerpt(s.Name))
	row("organisation", s.ODSCode)
	row("state", s.State.String())
	row("fqdns", s.FQDNs...)
	for _, fingerprint := range s.Fingerprints {
		row("certificate", hex.EncodeToString(fingerprint[:]))
	}
	row("token clients", s.TokenClients...)
	for _, id := range s.Interactions {
		row("interaction", id.String())
	}
	if certificate != nil && certificate.SHA256() != [32]byte{} {
		sum := certificate.SHA256()
		row("(certificate given)", hex.EncodeToString(sum[:]))
	}
	table.Flush()
}
