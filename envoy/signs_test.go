package envoy_test

import (
	"net/url"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"asid-authz/authz/authztest"
	"asid-authz/envoy"
)

// from sets the address of the client, for questions without a certificate.
func from(m *authv3.CheckRequest, address string) {
	m.Attributes.Source.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 40000}}}}
}

func without(m *authv3.CheckRequest, name string) {
	fields := &m.Attributes.Request.Http.HeaderMap.Headers
	*fields = slices.DeleteFunc(*fields, func(h *corev3.HeaderValue) bool { return h.Key == name })
}

// escaped returns a certificate of ca as Envoy hands it over.
func escaped(t *testing.T, ca *authztest.CA) string {
	t.Helper()
	certificate, err := ca.Issue(authztest.CertificateSpec{CommonNames: []string{"another.example.nhs.uk"}})
	if err != nil {
		t.Fatal(err)
	}
	return url.PathEscape(string(certificate.PEM()))
}

// TestSigns: each sign appears when none of many questions of several clients is as it
// should be, and goes away with the first that is.
func TestSigns(t *testing.T) {
	rules, good := allowed(t)
	route(good, "read")
	another := escaped(t, authztest.NewCA("Another"))
	shown := map[string]bool{}
	for _, test := range []struct {
		name  string
		wrong func(m *authv3.CheckRequest)
		also  []string
	}{
		{"no-certificate", func(m *authv3.CheckRequest) { m.Attributes.Source.Certificate = "" }, nil},
		{"no-claim-headers", func(m *authv3.CheckRequest) { without(m, "fromasid") }, nil},
		{"no-token", func(m *authv3.CheckRequest) { without(m, "authorization") }, nil},
		{"no-path-header", func(m *authv3.CheckRequest) { without(m, ":path") }, nil},
		{"headers-joined", func(m *authv3.CheckRequest) {
			http := m.Attributes.Request.Http
			http.Headers = map[string]string{}
			for _, h := range http.HeaderMap.Headers {
				http.Headers[h.Key] = string(h.RawValue)
			}
			http.HeaderMap = nil
		}, nil},
		{"no-route", func(m *authv3.CheckRequest) { m.Attributes.ContextExtensions = nil }, nil},
		{"no-claim-headers", func(m *authv3.CheckRequest) { m.Attributes.Request.Http.HeaderMap = nil }, []string{"no-token", "no-path-header"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serverOf(rules, unrecorded)
			wrong := proto.Clone(good).(*authv3.CheckRequest)
			test.wrong(wrong)
			ask := func(m *authv3.CheckRequest, times int, address string) {
				t.Helper()
				m = proto.Clone(m).(*authv3.CheckRequest)
				from(m, address)
				if m.Attributes.Source.Certificate != "" && address != "192.0.2.1" {
					m.Attributes.Source.Certificate = another
				}
				for range times {
					check(t, s, m)
				}
			}
			want := append([]string{test.name}, test.also...)
			ask(wrong, 200, "192.0.2.1")
			expect(t, s, "one client alone")
			ask(wrong, 1, "198.51.100.7")
			expect(t, s, "many questions of two", want...)
			shown[test.name] = true
			ask(wrong, 3, "192.0.2.1")
			expect(t, s, "too few since to judge again", want...)
			ask(good, 1, "192.0.2.1")
			expect(t, s, "one as it should be")
			ask(wrong, 200, "192.0.2.1")
			ask(wrong, 200, "198.51.100.7")
			expect(t, s, "a good one among them")
			ask(wrong, 99, "192.0.2.1")
			expect(t, s, "99 in the next window")
			ask(wrong, 1, "198.51.100.7")
			expect(t, s, "100", want...)
		})
	}
	t.Run("request-body", func(t *testing.T) {
		for name, wrong := range map[string]func(h *authv3.AttributeContext_HttpRequest){
			"text": func(h *authv3.AttributeContext_HttpRequest) { h.Body = "{}" },
			"raw":  func(h *authv3.AttributeContext_HttpRequest) { h.RawBody = []byte("{}") },
		} {
			s := serverOf(rules, unrecorded)
			m := proto.Clone(good).(*authv3.CheckRequest)
			wrong(m.Attributes.Request.Http)
			check(t, s, m)
			expect(t, s, name, "request-body")
			expect(t, s, name+", judged once more", "request-body")
			for range 100 {
				check(t, s, good)
			}
			other := proto.Clone(good).(*authv3.CheckRequest)
			other.Attributes.Source.Certificate = another
			check(t, s, other)
			expect(t, s, name+", among many without", "request-body")
			for range 100 {
				check(t, s, good)
			}
			check(t, s, other)
			expect(t, s, name+", and many without")
		}
		shown["request-body"] = true
	})
	for _, sign := range envoy.Signs() {
		if !shown[sign.Name] {
			t.Errorf("no test shows %s", sign.Name)
		}
		if sign.Meaning == "" || sign.Setting == "" {
			t.Errorf("%s does not say what it means and what to change", sign.Name)
		}
	}
}

// expect judges, and wants these signs and no other.
func expect(t *testing.T, s *envoy.Server, when string, want ...string) {
	t.Helper()
	var got []string
	for i, present := range s.Judge() {
		if present {
			got = append(got, envoy.Signs()[i].Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: signs %q, want %q", when, got, want)
	}
}
