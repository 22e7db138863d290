package envoy_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/envoy"
)

// allowed returns rules that allow, and the message that they allow: whatever a test
// then breaks must be what it is denied for.
func allowed(t testing.TB) (*envoy.Rules, *authv3.CheckRequest) {
	t.Helper()
	corpus, minted, config := authztest.Setup(t, "../authz/testdata")
	authorizer, err := authz.New(config)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := envoy.NewRules(authorizer)
	if err != nil {
		t.Fatal(err)
	}
	return rules, authztest.CheckRequest(authztest.AllowedRead(t, corpus, minted, &config.Profile))
}

// setHeader adds a header to message.
func setHeader(message *authv3.CheckRequest, name, value string) {
	fields := &message.Attributes.Request.Http.HeaderMap.Headers
	*fields = append(*fields, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
}

func serverOf(rules *envoy.Rules, record func(*envoy.Record) error) *envoy.Server {
	return envoy.NewServer(func() *envoy.Rules { return rules }, record)
}

func unrecorded(*envoy.Record) error { return nil }

// check asks s and returns what Envoy would do: let it through, or the status and the
// public Reason of the denial.
func check(t testing.TB, s *envoy.Server, message *authv3.CheckRequest) (allow bool, status int, reason string) {
	t.Helper()
	response, err := s.Check(t.Context(), message)
	if err != nil {
		t.Fatalf("a gRPC error would hand the outcome to failure_mode_allow: %v", err)
	}
	if response.GetStatus() == nil {
		t.Fatal("no status: Envoy takes it for an allow")
	}
	if response.GetStatus().GetCode() == int32(codes.OK) {
		return true, 0, ""
	}
	for _, h := range response.GetDeniedResponse().GetHeaders() {
		if h.GetHeader().GetKey() == "x-asid-reason" {
			reason = h.GetHeader().GetValue()
		}
	}
	return false, int(response.GetDeniedResponse().GetStatus().GetCode()), reason
}

func TestAllowed(t *testing.T) {
	rules, message := allowed(t)
	if allow, _, reason := check(t, serverOf(rules, unrecorded), message); !allow {
		t.Fatalf("denied: %s. The other tests of this file would pass for nothing", reason)
	}
}

// TestHostileMessages: a CheckRequest that Envoy would never send is denied, whatever
// else in it is good.
func TestHostileMessages(t *testing.T) {
	rules, good := allowed(t)
	s := serverOf(rules, unrecorded)
	for name, test := range map[string]struct {
		change func(m *authv3.CheckRequest)
		status int
		reason authz.Reason
	}{
		"no attributes":        {func(m *authv3.CheckRequest) { m.Attributes = nil }, 400, authz.RequestMalformed},
		"no request":           {func(m *authv3.CheckRequest) { m.Attributes.Request = nil }, 400, authz.RequestMalformed},
		"no http":              {func(m *authv3.CheckRequest) { m.Attributes.Request.Http = nil }, 400, authz.RequestMalformed},
		"no method":            {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.Method = "" }, 400, authz.RequestMalformed},
		"no source":            {func(m *authv3.CheckRequest) { m.Attributes.Source = nil }, 403, authz.CertificateMissing},
		"no certificate":       {func(m *authv3.CheckRequest) { m.Attributes.Source.Certificate = "" }, 403, authz.CertificateMissing},
		"truncated":            {func(m *authv3.CheckRequest) { cut(&m.Attributes.Source.Certificate) }, 403, authz.CertificateMalformed},
		"two certificates":     {func(m *authv3.CheckRequest) { m.Attributes.Source.Certificate += m.Attributes.Source.Certificate }, 403, authz.CertificateMalformed},
		"text before it":       {func(m *authv3.CheckRequest) { m.Attributes.Source.Certificate = "x" + m.Attributes.Source.Certificate }, 403, authz.CertificateMalformed},
		"bad escape":           {func(m *authv3.CheckRequest) { m.Attributes.Source.Certificate += "%zz" }, 403, authz.CertificateMalformed},
		"escaped twice":        {func(m *authv3.CheckRequest) { again(&m.Attributes.Source.Certificate) }, 403, authz.CertificateMalformed},
		"a megabyte":           {func(m *authv3.CheckRequest) { m.Attributes.Source.Certificate = strings.Repeat("A", 1<<20) }, 403, authz.CertificateMalformed},
		"both header forms":    {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.Headers = map[string]string{"fromasid": "1"} }, 400, authz.RequestMalformed},
		"neither header form":  {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.HeaderMap = nil }, 400, authz.HeaderMissing},
		"upper-case header":    {func(m *authv3.CheckRequest) { setHeader(m, "fromASID", "200000000118") }, 400, authz.RequestMalformed},
		"header without name":  {func(m *authv3.CheckRequest) { setHeader(m, "", "x") }, 400, authz.RequestMalformed},
		"second :path":         {func(m *authv3.CheckRequest) { setHeader(m, ":path", m.Attributes.Request.Http.Path) }, 400, authz.RequestMalformed},
		"second :method":       {func(m *authv3.CheckRequest) { setHeader(m, ":method", "GET") }, 400, authz.RequestMalformed},
		"another path":         {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.Path = "/STU3/DocumentReference" }, 400, authz.RequestMalformed},
		"another method":       {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.Method = "DELETE" }, 400, authz.RequestMalformed},
		"129 headers":          {func(m *authv3.CheckRequest) { many(m, 129) }, 400, authz.RequestTooLarge},
		"headers of a MB":      {func(m *authv3.CheckRequest) { setHeader(m, "accept", strings.Repeat("a", 1<<20)) }, 400, authz.RequestTooLarge},
		"unknown route":        {func(m *authv3.CheckRequest) { route(m, "nothing") }, 403, authz.EndpointUnknown},
		"route of another":     {func(m *authv3.CheckRequest) { route(m, "delete") }, 403, authz.EndpointMismatch},
		"repeated claim":       {func(m *authv3.CheckRequest) { setHeader(m, "fromasid", "200000000118") }, 400, authz.HeaderRepeated},
		"repeated token":       {func(m *authv3.CheckRequest) { setHeader(m, "authorization", "Bearer x") }, 400, authz.TokenRepeated},
		"header not UTF-8":     {func(m *authv3.CheckRequest) { setHeader(m, "interactionid", "\xff") }, 400, authz.HeaderMalformed},
		"NUL in a claim":       {func(m *authv3.CheckRequest) { setHeader(m, "interactionid", "urn:x\x00") }, 400, authz.HeaderMalformed},
		"CONNECT without path": {func(m *authv3.CheckRequest) { connect(m) }, 400, authz.MethodNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			message := proto.Clone(good).(*authv3.CheckRequest)
			test.change(message)
			allow, status, reason := check(t, s, message)
			if allow || status != test.status || reason != test.reason.String() {
				t.Errorf("allow %v, %d %s, want %d %s", allow, status, reason, test.status, test.reason)
			}
		})
	}
	for name, message := range map[string]*authv3.CheckRequest{"nil": nil, "empty": {}} {
		if allow, status, reason := check(t, s, message); allow || status != 400 || reason != authz.RequestMalformed.String() {
			t.Errorf("%s message: allow %v, %d %s", name, allow, status, reason)
		}
	}
}

func cut(s *string)   { *s = (*s)[:len(*s)/2] }
func again(s *string) { *s = strings.ReplaceAll(*s, "%", "%25") }

func many(m *authv3.CheckRequest, n int) {
	for range n {
		m.Attributes.Request.Http.HeaderMap.Headers = append(m.Attributes.Request.Http.HeaderMap.Headers, &corev3.HeaderValue{Key: "accept", RawValue: []byte("*/*")})
	}
}

func route(m *authv3.CheckRequest, name string) {
	m.Attributes.ContextExtensions = map[string]string{envoy.RouteKey: name}
}

func connect(m *authv3.CheckRequest) {
	http := m.Attributes.Request.Http
	http.Method, http.Path = "CONNECT", ""
	for _, h := range http.HeaderMap.Headers {
		switch h.Key {
		case ":method":
			h.RawValue = []byte("CONNECT")
		case ":path":
			h.RawValue = nil
		}
	}
}

// TestPanic: whatever panics, the answer is a denial that is complete.
func TestPanic(t *testing.T) {
	rules, message := allowed(t)
	for name, s := range map[string]*envoy.Server{
		"in the rules":  envoy.NewServer(func() *envoy.Rules { panic("rules") }, unrecorded),
		"in the record": serverOf(rules, func(*envoy.Record) error { panic("record") }),
		"in the record of the denial too": envoy.NewServer(func() *envoy.Rules { panic("rules") },
			func(*envoy.Record) error { panic("record") }),
	} {
		t.Run(name, func(t *testing.T) {
			allow, status, reason := check(t, s, message)
			if allow || status != 503 || reason != "internal-error" {
				t.Errorf("allow %v, %d %s, want 503 internal-error", allow, status, reason)
			}
			if s.Panics() != 1 {
				t.Errorf("%d panics counted, want 1", s.Panics())
			}
		})
	}
	t.Run("recorded", func(t *testing.T) {
		var reasons []string
		s := envoy.NewServer(func() *envoy.Rules { panic("rules") }, func(r *envoy.Record) error {
			reasons = append(reasons, r.Reason())
			if !strings.Contains(string(r.Panic), "rules") || !strings.Contains(string(r.Panic), "server_test.go") {
				t.Errorf("nobody could find out what happened: %s", r.Panic)
			}
			return nil
		})
		check(t, s, message)
		if len(reasons) != 1 || reasons[0] != "internal-error" {
			t.Errorf("recorded %v, want one internal-error", reasons)
		}
	})
}

// TestNoRules: without rules there is nothing to allow by.
func TestNoRules(t *testing.T) {
	_, message := allowed(t)
	if allow, status, reason := check(t, serverOf(nil, unrecorded), message); allow || status != 503 || reason != "undecided" {
		t.Errorf("allow %v, %d %s, want 503 undecided", allow, status, reason)
	}
}

// TestUnrecorded: an allow that could not be recorded is none; a denial stays what it is.
func TestUnrecorded(t *testing.T) {
	rules, message := allowed(t)
	var seen []string
	s := serverOf(rules, func(r *envoy.Record) error {
		seen = append(seen, r.Outcome()+" "+r.Reason())
		return errors.New("disk full")
	})
	if allow, status, reason := check(t, s, message); allow || status != 503 || reason != "audit-unavailable" {
		t.Errorf("allow %v, %d %s, want 503 audit-unavailable", allow, status, reason)
	}
	message.Attributes.Source.Certificate = ""
	if allow, status, reason := check(t, s, message); allow || status != 403 || reason != "certificate-missing" {
		t.Errorf("allow %v, %d %s, want 403 certificate-missing", allow, status, reason)
	}
	if len(seen) != 2 || seen[0] != "allow " || seen[1] != "deny certificate-missing" {
		t.Errorf("the record function was given %q", seen)
	}
}

// TestCancelled: when Envoy has given up, the answer is not yes.
func TestCancelled(t *testing.T) {
	rules, message := allowed(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	response, err := serverOf(rules, unrecorded).Check(ctx, message)
	if err != nil || response.GetStatus().GetCode() == int32(codes.OK) || response.GetStatus() == nil {
		t.Errorf("a cancelled Check got %v, %v", response, err)
	}
}

// TestRecord: what is written down is what the auditor needs, under the published names.
func TestRecord(t *testing.T) {
	rules, message := allowed(t)
	headers := &message.Attributes.Request.Http.HeaderMap.Headers
	*headers = append(*headers,
		&corev3.HeaderValue{Key: "x-request-id", RawValue: []byte("1f1c3c2e-0000-4000-8000-000000000001")},
		&corev3.HeaderValue{Key: "traceparent", RawValue: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")})
	fields := map[string]any{}
	var order []string
	s := serverOf(rules, func(r *envoy.Record) error {
		for f := range r.Fields {
			fields[f.Name] = valueOf(f)
			order = append(order, f.Name)
		}
		return nil
	})
	if allow, _, reason := check(t, s, message); !allow {
		t.Fatalf("denied: %s", reason)
	}
	for name, want := range map[string]any{
		"decision": "allow", "profile": "nrl", "asid": "200000000117", "receiver": "999999999999", "endpoint": "read",
		"interaction": "urn:nhs:names:services:nrl:DocumentReference.read", "map_version": uint64(1),
		"request_id": "1f1c3c2e-0000-4000-8000-000000000001", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
	} {
		if fields[name] != want {
			t.Errorf("%s is %v, want %v", name, fields[name], want)
		}
	}
	const published = "decision_id decision profile asid ods_code receiver endpoint interaction map_version map_age_ms certificate_sha256 request_id trace_id duration_us"
	if got := strings.Join(order, " "); got != published {
		t.Errorf("fields %s\nwant   %s", got, published)
	}
	// What a client puts in place of an id is not written down.
	for _, h := range *headers {
		switch h.Key {
		case "x-request-id":
			h.RawValue = []byte("4505577104\n{}")
		case "traceparent":
			h.RawValue = []byte("00-4505577104-x")
		}
	}
	clear(fields)
	check(t, s, message)
	if fields["request_id"] != nil || fields["trace_id"] != nil {
		t.Errorf("recorded a stranger's text: %v, %v", fields["request_id"], fields["trace_id"])
	}
}
