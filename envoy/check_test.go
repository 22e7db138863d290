package envoy_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/envoy"
)

// TestCheck runs the corpus through the gRPC edge: a real client, a real server, and
// CheckRequests as Envoy fills them, in both forms in which it can send headers.
func TestCheck(t *testing.T) {
	corpus, err := authztest.Load("../authz/testdata")
	if err != nil {
		t.Fatal(err)
	}
	for name, world := range corpus.Worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			minted, config := authztest.Mint(t, world)
			edge := newEdge(t, config)
			for _, c := range corpus.In(name) {
				for form, fill := range map[string]func(*authv3.CheckRequest){"header_map": func(*authv3.CheckRequest) {}, "headers": authztest.JoinHeaders} {
					t.Run(c.File+"/"+form, func(t *testing.T) {
						edge.play(t, minted, c, fill)
					})
				}
			}
		})
	}
}

// An edge is a Server behind a real gRPC connection, and what it recorded.
type edge struct {
	client  authv3.AuthorizationClient
	profile authz.Profile

	mu      sync.Mutex
	records map[string]recorded // by decision id
}

type recorded struct {
	reason, outcome string
	fields          map[string]any
}

func newEdge(t *testing.T, config authz.Config) *edge {
	t.Helper()
	authorizer, err := authz.New(config)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := envoy.NewRules(authorizer)
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{profile: config.Profile, records: map[string]recorded{}}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, envoy.NewServer(func() *envoy.Rules { return rules }, e.record))
	listener := bufconn.Listen(1 << 20)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:edge", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dialer(listener)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	e.client = authv3.NewAuthorizationClient(conn)
	return e
}

func (e *edge) record(r *envoy.Record) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := recorded{reason: r.Reason(), outcome: r.Outcome(), fields: map[string]any{}}
	for f := range r.Fields {
		kept.fields[f.Name] = valueOf(f)
	}
	e.records[strings.Clone(r.DecisionID)] = kept
	return nil
}

// valueOf returns the value of a field as it can be kept.
func valueOf(f envoy.RecordField) any {
	if f.Text != "" {
		return strings.Clone(f.Text)
	}
	return f.Number
}

func (e *edge) play(t *testing.T, minted *authztest.Minted, c *authztest.Case, fill func(*authv3.CheckRequest)) {
	t.Helper()
	now := time.Now()
	r, err := minted.Request(c, &e.profile, now)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := minted.Certificate(c)
	if err != nil {
		t.Fatal(err)
	}
	message := authztest.CheckRequest(r, certificate)
	fill(message)
	response, err := e.client.Check(t.Context(), message)
	if err != nil {
		t.Fatalf("a gRPC error would hand the outcome to failure_mode_allow: %v", err)
	}
	want := c.Want
	if http := message.Attributes.Request.Http; http.HeaderMap == nil && http.Path != r.Target {
		// In this form the bad byte has become a "!" before we see it, which is a legal
		// one: the path is then an unknown endpoint's.
		want.Reason = authz.EndpointUnknown
	}
	e.judge(t, c, want, response)
}

// judge holds the answer and the record against what the case wants.
func (e *edge) judge(t *testing.T, c *authztest.Case, want authztest.Want, response *authv3.CheckResponse) {
	t.Helper()
	explain := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s\n  "+format, append([]any{c.Why}, args...)...)
	}
	metadata := response.GetDynamicMetadata().AsMap()
	id, _ := metadata["decision_id"].(string)
	e.mu.Lock()
	record, found := e.records[id]
	e.mu.Unlock()
	if !found {
		explain("no record has the decision id %q of the metadata", id)
		return
	}
	got := authztest.Want{Kind: authztest.WantDeny}
	switch allowed := response.GetStatus().GetCode() == int32(codes.OK); {
	case response.GetStatus() == nil:
		explain("no status: Envoy would let it through")
	case allowed != (response.GetOkResponse() != nil) || allowed != (record.outcome == "allow") || metadata["decision"] != record.outcome:
		explain("status %v, %T, record %q and metadata %q disagree", response.GetStatus().GetCode(), response.GetHttpResponse(), record.outcome, metadata["decision"])
	case allowed:
		headers := values(t, response.GetOkResponse().GetHeaders())
		got = authztest.Want{Kind: authztest.WantAllow, Endpoint: headers["x-asid-endpoint"], Interaction: headers["x-asid-interaction-id"]}
		e.identified(t, response.GetOkResponse(), headers, record, id)
	default:
		got.Reason, _ = authz.ParseReason(record.reason)
		denied(t, response.GetDeniedResponse(), got.Reason, id)
		if asid, _ := record.fields["asid"].(string); got.Reason == authz.InteractionNotGranted && !strings.Contains(response.GetDeniedResponse().GetBody(), asid) {
			explain("the answer does not name the ASID that it is about: %s", response.GetDeniedResponse().GetBody())
		}
	}
	if got != want {
		explain("got %v, want %v", got, want)
	}
}

// identified checks that every identity header is set to what was recorded, or removed.
func (e *edge) identified(t *testing.T, ok *authv3.OkHttpResponse, headers map[string]string, record recorded, id string) {
	t.Helper()
	removed := map[string]bool{}
	for _, name := range ok.GetHeadersToRemove() {
		removed[name] = true
	}
	for header, field := range map[string]string{
		"x-asid": "asid", "x-asid-ods-code": "ods_code", "x-asid-interaction-id": "interaction",
		"x-asid-endpoint": "endpoint", "x-asid-decision-id": "decision_id",
	} {
		if want, _ := record.fields[field].(string); headers[header] != want || want == "" {
			t.Errorf("%s is %q, the record says %q", header, headers[header], want)
		}
	}
	if _, set := headers["x-asid-subject"]; set == removed["x-asid-subject"] {
		t.Errorf("x-asid-subject is neither set nor removed, or both")
	}
	if strings.Contains(headers["x-asid-subject"], "nhs-number") {
		t.Errorf("x-asid-subject names a patient")
	}
	for _, name := range append([]string{"x-asid-reason"}, e.profile.UnusedHeaders...) {
		if !removed[name] {
			t.Errorf("%s of the client would reach the API: removed are %v", name, ok.GetHeadersToRemove())
		}
	}
	if headers["x-asid-decision-id"] != id {
		t.Errorf("decision id %q in the header, %q in the metadata", headers["x-asid-decision-id"], id)
	}
}

// denied checks the shape of a denial: a 4xx or 5xx, the public Reason, and a
// well-formed OperationOutcome with the decision's id.
func denied(t *testing.T, d *authv3.DeniedHttpResponse, reason authz.Reason, id string) {
	t.Helper()
	headers := values(t, d.GetHeaders())
	if status := int(d.GetStatus().GetCode()); status < 400 || status > 599 {
		t.Errorf("status %d is no denial", status)
	}
	if headers["x-asid-reason"] != reason.Public().String() || headers["x-asid-decision-id"] != id {
		t.Errorf("x-asid-reason %q and x-asid-decision-id %q, want %q and %q", headers["x-asid-reason"], headers["x-asid-decision-id"], reason.Public(), id)
	}
	if patient.MatchString(d.GetBody()) {
		t.Errorf("a patient is named: %s", d.GetBody())
	}
	outcome := parseOutcome(t, headers["content-type"], d.GetBody())
	if outcome.id != id || outcome.code == "" || outcome.diagnostics == "" {
		t.Errorf("the OperationOutcome does not say what it should: %+v in %s", outcome, d.GetBody())
	}
}

// patient matches an NHS number as tokens have it, and not the form that an answer
// says it should have.
var patient = regexp.MustCompile(`nhs-number(\||%7C)\d`)

func values(t *testing.T, options []*corev3.HeaderValueOption) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, o := range options {
		if _, twice := all[o.GetHeader().GetKey()]; twice || o.GetHeader().GetValue() == "" || len(o.GetHeader().GetRawValue()) > 0 {
			t.Errorf("header %q twice, empty or raw: Envoy would keep the last, none, or nothing of it", o.GetHeader().GetKey())
		}
		//lint:ignore SA1019 the deprecated flag is the one that must stay unset
		if o.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD || o.GetAppend() != nil {
			t.Errorf("header %q could be joined with the client's own", o.GetHeader().GetKey())
		}
		all[o.GetHeader().GetKey()] = o.GetHeader().GetValue()
	}
	return all
}

type outcomeFields struct{ id, issue, code, diagnostics string }

// parseOutcome reads an OperationOutcome by the standard library's own parsers.
func parseOutcome(t *testing.T, contentType, body string) outcomeFields {
	t.Helper()
	if strings.HasPrefix(contentType, "application/fhir+json") {
		var o struct {
			ID    string
			Issue []struct {
				Code, Diagnostics string
				Details           struct{ Coding []struct{ Code string } }
			}
		}
		if err := json.Unmarshal([]byte(body), &o); err != nil || len(o.Issue) != 1 || len(o.Issue[0].Details.Coding) != 1 {
			t.Fatalf("no OperationOutcome: %v in %s", err, body)
		}
		return outcomeFields{o.ID, o.Issue[0].Code, o.Issue[0].Details.Coding[0].Code, o.Issue[0].Diagnostics}
	}
	type value struct {
		Value string `xml:"value,attr"`
	}
	var o struct {
		XMLName xml.Name `xml:"http://hl7.org/fhir OperationOutcome"`
		ID      value    `xml:"id"`
		Issue   struct {
			Code        value `xml:"code"`
			Coding      value `xml:"details>coding>code"`
			Diagnostics value `xml:"diagnostics"`
		} `xml:"issue"`
	}
	if !strings.HasPrefix(contentType, "application/fhir+xml") {
		t.Errorf("content-type %q", contentType)
	}
	if err := xml.Unmarshal([]byte(body), &o); err != nil {
		t.Fatalf("no OperationOutcome: %v in %s", err, body)
	}
	return outcomeFields{o.ID.Value, o.Issue.Code.Value, o.Issue.Coding.Value, o.Issue.Diagnostics.Value}
}

func dialer(listener *bufconn.Listener) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
}
