package authztest

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"asid-authz/authz"
)

// CheckRequest returns what Envoy sends for r, with encode_raw_headers: the headers in
// header_map, pseudo-headers among them, and the client's leaf as an escaped PEM text.
// The key of the route is spelled out, not taken from package envoy: it is published,
// and a test must notice if it changes.
func CheckRequest(r *authz.Request, certificate *Certificate) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Method: Sanitised(r.Method), Path: Sanitised(r.Target), Host: "nrl.example.nhs.uk", Protocol: "HTTP/1.1",
		HeaderMap: &corev3.HeaderMap{},
	}
	for _, h := range append([]authz.Header{{Name: ":path", Value: r.Target}, {Name: ":method", Value: r.Method}}, r.Headers...) {
		http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: h.Name, RawValue: []byte(h.Value)})
	}
	message := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:  &authv3.AttributeContext_Peer{},
		Request: &authv3.AttributeContext_Request{Http: http},
	}}
	if r.Route != "" {
		message.Attributes.ContextExtensions = map[string]string{"asid-authz.endpoint": r.Route}
	}
	if certificate != nil {
		message.Attributes.Source.Certificate = escaped.Replace(string(certificate.PEM()))
	}
	return message
}

// JoinHeaders turns message into what Envoy sends without encode_raw_headers: a map in
// which repetitions are joined by a comma and bytes that are no UTF-8 are "!".
func JoinHeaders(message *authv3.CheckRequest) {
	http := message.Attributes.Request.Http
	http.Headers = map[string]string{}
	for _, h := range http.HeaderMap.Headers {
		value := Sanitised(string(h.RawValue))
		if before, repeated := http.Headers[h.Key]; repeated {
			value = before + "," + value
		}
		http.Headers[h.Key] = value
	}
	http.HeaderMap = nil
}

// Sanitised returns s as Envoy shows it where protobuf wants UTF-8.
func Sanitised(s string) string { return strings.ToValidUTF8(s, "!") }

// escaped encodes exactly the bytes that Envoy encodes in a PEM text.
var escaped = strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D")
