package envoy_test

import (
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"asid-authz/authz/authztest"
	"asid-authz/envoy"
)

// FuzzCheck feeds Check whatever bytes decode as a CheckRequest. It always answers, the
// answer is whole, and it is an allow only for the one message that is: any other would
// have to hold a token and a certificate that the fuzzer cannot make.
func FuzzCheck(f *testing.F) {
	rules, good := allowed(f)
	seed := func(message *authv3.CheckRequest) {
		wire, err := proto.Marshal(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	seed(good)
	seed(&authv3.CheckRequest{})
	joined := proto.Clone(good).(*authv3.CheckRequest)
	authztest.JoinHeaders(joined)
	seed(joined)
	bare := proto.Clone(good).(*authv3.CheckRequest)
	bare.Attributes.Source.Certificate = ""
	seed(bare)
	records, recorded := 0, ""
	s := serverOf(rules, func(r *envoy.Record) error {
		records++
		recorded = r.Outcome()
		return nil
	})
	f.Fuzz(func(t *testing.T, wire []byte) {
		var message authv3.CheckRequest
		if proto.Unmarshal(wire, &message) != nil {
			return // grpc-go answers that, and Envoy denies on it
		}
		records = 0
		response, err := s.Check(t.Context(), &message)
		if err != nil || response.GetStatus() == nil {
			t.Fatalf("no whole answer: %v, %v", response, err)
		}
		if s.Panics() != 0 {
			t.Fatal("a panic")
		}
		allow := response.GetStatus().GetCode() == int32(codes.OK)
		if records != 1 || (recorded == "allow") != allow || allow != (response.GetOkResponse() != nil) || allow == (response.GetDeniedResponse() != nil) {
			t.Fatalf("%d records, the last %q, answer %v", records, recorded, response)
		}
		if allow && !sameRequest(&message, good) {
			t.Errorf("allowed, and it is not the request that is:\n%v", &message)
		}
	})
}

// sameRequest reports whether a differs from b only in what no rule looks at: the method,
// the path, the route, the certificate and every header that means something are the same.
func sameRequest(a, b *authv3.CheckRequest) bool {
	meant := func(m *authv3.CheckRequest) map[string]string {
		http := m.GetAttributes().GetRequest().GetHttp()
		all := map[string]string{
			"certificate": m.GetAttributes().GetSource().GetCertificate(),
			"method":      http.GetMethod(),
		}
		take := func(name, value string) {
			switch name {
			case "fromasid", "toasid", "interactionid", "authorization":
				all[name] = value
			}
		}
		for name, value := range http.GetHeaders() {
			take(name, value)
		}
		for _, h := range http.GetHeaderMap().GetHeaders() {
			value := string(h.GetRawValue())
			if value == "" {
				value = h.GetValue()
			}
			take(h.GetKey(), value)
		}
		return all
	}
	x, y := meant(a), meant(b)
	for name := range y {
		// Another read by the same caller may name another document, and the scheme may be
		// written in another case: what is compared is what the client is identified by.
		if name != "authorization" && name != "toasid" && x[name] != y[name] {
			return false
		}
	}
	return true
}
