package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"asid-authz/authz"
)

// The identity headers: what we assert to the API. They share a prefix, so that one
// rule in Envoy strips whatever a client sends under it.
const (
	headerASID        = "x-asid"
	headerODSCode     = "x-asid-ods-code"
	headerInteraction = "x-asid-interaction-id"
	headerEndpoint    = "x-asid-endpoint"
	headerSubject     = "x-asid-subject"
	headerDecisionID  = "x-asid-decision-id"
	headerReason      = "x-asid-reason" // to the client, on a denial
)

// metadataOmits are the fields of a record that Envoy's metadata does not repeat: what
// was claimed and never proved has no business in somebody's access log.
var metadataOmits = map[string]bool{"field": true, "claimed_asid": true}

// respond makes every CheckResponse there is. It starts from a denial that is complete
// and turns it into an OK in one place, on one condition: Envoy takes a missing status
// for an allow, so there must be no path on which one is not set yet.
//
// rules is nil only when there are none to decide by, or none that can be trusted.
func respond(rules *Rules, r *authz.Request, record *Record) *authv3.CheckResponse {
	response := &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.Unavailable)},
		HttpResponse:    &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable}}},
		DynamicMetadata: metadata(record),
	}
	if record.Decision.Allowed() && rules != nil {
		response.Status = &rpcstatus.Status{Code: int32(codes.OK)}
		response.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: identify(rules, record)}
		return response
	}
	d := &nrl28
	if rules != nil {
		d = rules.dialect
	}
	status, outcome := d.answer(&record.Decision, record.DecisionID)
	f := negotiateFor(r)
	response.Status.Code = int32(grpcCode(record.Decision.Reason().Class()))
	denial := response.GetDeniedResponse()
	denial.Status.Code = typev3.StatusCode(status)
	denial.Headers = []*corev3.HeaderValueOption{
		set("content-type", contentTypes[f]),
		set("cache-control", "no-store"),
		set(headerDecisionID, record.DecisionID),
		set(headerReason, record.Decision.Reason().Public().String()),
	}
	denial.Body = string(outcome.body(f))
	return response
}

// identify sets every identity header or removes it: one that the answer does not
// mention would reach the API as the client sent it.
func identify(rules *Rules, record *Record) *authv3.OkHttpResponse {
	facts := record.Decision.Facts()
	headers := [...]struct{ name, value string }{
		{headerASID, facts.ASID.String()},
		{headerODSCode, facts.ODSCode},
		{headerInteraction, facts.Interaction.String()},
		{headerEndpoint, facts.Endpoint},
		{headerSubject, facts.Subject},
		{headerDecisionID, record.DecisionID},
	}
	ok := &authv3.OkHttpResponse{HeadersToRemove: rules.remove, Headers: make([]*corev3.HeaderValueOption, 0, len(headers))}
	for _, h := range headers {
		if h.value == "" { // Envoy does not keep empty values
			ok.HeadersToRemove = append(ok.HeadersToRemove[:len(ok.HeadersToRemove):len(ok.HeadersToRemove)], h.name)
			continue
		}
		ok.Headers = append(ok.Headers, set(h.name, h.value))
	}
	return ok
}

// set overwrites whatever is there. The deprecated append flag stays unset and the
// action is written out: its zero value appends to what the client sent.
func set(name, value string) *corev3.HeaderValueOption {
	h := &struct { // in one piece of memory
		option corev3.HeaderValueOption
		header corev3.HeaderValue
	}{}
	h.header.Key, h.header.Value = name, value
	h.option.Header, h.option.AppendAction = &h.header, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	return &h.option
}

// metadata is what the lock reads (decision) and the access log can show.
func metadata(record *Record) *structpb.Struct {
	fields := make(map[string]*structpb.Value, usualFields)
	values := make([]metadataValue, usualFields)
	for field := range record.Fields {
		if metadataOmits[field.Name] {
			continue
		}
		var value *metadataValue
		if n := len(fields); n < usualFields {
			value = &values[n]
		} else {
			value = &metadataValue{}
		}
		if field.Text != "" {
			value.text.StringValue = field.Text
			value.Kind = &value.text
		} else {
			value.number.NumberValue = float64(field.Number)
			value.Kind = &value.number
		}
		fields[field.Name] = &value.Value
	}
	return &structpb.Struct{Fields: fields}
}

// usualFields are as many as a record of an allow has.
const usualFields = 16

// A metadataValue is a value with whichever of its kinds it has: one piece of memory for
// all of a record's, where structpb would take two for each.
type metadataValue struct {
	structpb.Value
	text   structpb.Value_StringValue
	number structpb.Value_NumberValue
}

func grpcCode(class authz.Class) codes.Code {
	switch class {
	case authz.Malformed:
		return codes.InvalidArgument
	case authz.Unauthenticated:
		return codes.Unauthenticated
	case authz.Forbidden:
		return codes.PermissionDenied
	}
	return codes.Unavailable
}
