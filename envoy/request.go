package envoy

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"asid-authz/authz"
)

// RouteKey is the key in a route's context_extensions under which it names its endpoint.
const RouteKey = "asid-authz.endpoint"

// read fills r from what Envoy says. It judges nothing but the message itself: one that
// contradicts itself cannot be trusted to describe the request, and says so in r.Fault.
// The certificate is not read: taking it apart costs more than all the rest.
func read(r *authz.Request, message *authv3.CheckRequest) (hasPath bool) {
	attributes := message.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	if http == nil {
		r.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldRequest}
		return false
	}
	r.Method, r.Target = http.GetMethod(), http.GetPath()
	r.Route = attributes.GetContextExtensions()[RouteKey]

	fields := http.GetHeaderMap().GetHeaders()
	if len(fields) > 0 && len(http.GetHeaders()) > 0 { // Envoy fills one of them; which one would be believed?
		r.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldHeaders}
		return false
	}
	var pseudo pseudoHeaders
	r.Headers = make([]authz.Header, 0, max(len(fields), len(http.GetHeaders())))
	for _, field := range fields {
		if !pseudo.add(r, field.GetKey(), fieldValue(field)) {
			return pseudo.hasPath
		}
	}
	for name, value := range http.GetHeaders() {
		if !pseudo.add(r, name, value) {
			return pseudo.hasPath
		}
	}
	pseudo.reconcile(r)
	return pseudo.hasPath
}

// fieldValue returns the value of a header_map entry: its raw bytes, which is what
// Envoy fills when it is told to encode raw headers.
func fieldValue(field *corev3.HeaderValue) string {
	if raw := field.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return field.GetValue()
}

// pseudoHeaders are those that Envoy sends among the headers, next to attributes of
// their own that say the same.
type pseudoHeaders struct {
	path, method       string
	hasPath, hasMethod bool
}

// add files one header. It returns false after it has set r.Fault.
func (p *pseudoHeaders) add(r *authz.Request, name, value string) bool {
	if name == "" || hasUpper(name) {
		r.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldHeaders}
		return false
	}
	if name[0] != ':' {
		r.Headers = append(r.Headers, authz.Header{Name: name, Value: value})
		return true
	}
	repeated := false
	switch name {
	case ":path":
		repeated = p.hasPath
		p.path, p.hasPath = value, true
	case ":method":
		repeated = p.hasMethod
		p.method, p.hasMethod = value, true
	}
	if repeated {
		r.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldHeaders}
		return false
	}
	return true
}

// reconcile holds the pseudo-headers against the attributes. The header has the bytes
// that Envoy forwards; in the attribute every byte that is not UTF-8 became "!". So the
// header is what is judged, and the two must agree wherever "!" can not be the reason.
func (p *pseudoHeaders) reconcile(r *authz.Request) {
	if p.hasMethod && p.method != r.Method {
		r.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldMethod}
		return
	}
	if !p.hasPath {
		return
	}
	raw, _, _ := strings.Cut(p.path, "?")
	attribute, _, _ := strings.Cut(r.Target, "?")
	if isASCII(raw) && raw != attribute {
		r.Fault = &authz.Fault{Reason: authz.RequestMalformed, Field: authz.FieldPath}
		return
	}
	r.Target = p.path
}

func hasUpper(s string) bool {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return true
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// header returns the first value of a header, "" if it did not come.
func header(r *authz.Request, name string) string {
	for i := range r.Headers {
		if r.Headers[i].Name == name {
			return r.Headers[i].Value
		}
	}
	return ""
}
