package envoy

import (
	"encoding/hex"
	"time"

	"asid-authz/authz"
)

// A Record says what was decided about one request: what an auditor needs, and nothing
// that could hurt a patient or a client in a log. It holds no path, query, token,
// certificate or subject.
//
// Its strings alias the request; whoever keeps one beyond the call clones it.
type Record struct {
	Time       time.Time
	DecisionID string // UUID: also in the answer's header, its OperationOutcome and Envoy's metadata
	Decision   authz.Decision
	Profile    string // name of the profile that was decided by, "" if there was none
	RequestID  string // Envoy's x-request-id
	TraceID    string // of traceparent, 32 hexadecimal digits
	Duration   time.Duration

	// Waited is how long the question waited for its turn, which is what overload is told
	// by, and Marked whether that is known: whether [Server.Arrive] saw it come. They are
	// no fields of the record: the metrics have them.
	Waited time.Duration
	Marked bool

	// Panic is what a Check that panicked left behind, with its stack; nil otherwise. It
	// is no field of the record: it belongs in the service's own log.
	Panic []byte
}

// Outcome returns "allow" or "deny".
func (r *Record) Outcome() string {
	if r.Decision.Allowed() {
		return "allow"
	}
	return "deny"
}

// Reason returns the name of the exact Reason, "" for an allow.
func (r *Record) Reason() string {
	if r.Decision.Allowed() {
		return ""
	}
	return r.Decision.Reason().String()
}

// A RecordField is a field of a Record under its published name: Text, or where that is
// "", Number.
type RecordField struct {
	Name   string
	Text   string
	Number uint64
}

// Fields yields what r says, but for the time, in the published order. A field that says
// nothing is left out. Whoever writes a record writes these, so that the log and Envoy's
// metadata cannot drift apart.
func (r *Record) Fields(yield func(RecordField) bool) {
	facts := r.Decision.Facts()
	text := func(name, value string) bool { return value == "" || yield(RecordField{Name: name, Text: value}) }
	number := func(name string, value int64) bool {
		return yield(RecordField{Name: name, Number: uint64(max(value, 0))}) // below 0: the clock was set back
	}
	fingerprint := ""
	if facts.CertificateSHA256 != [32]byte{} {
		var digits [64]byte
		hex.Encode(digits[:], facts.CertificateSHA256[:])
		fingerprint = string(digits[:])
	}
	_ = text("decision_id", r.DecisionID) &&
		text("decision", r.Outcome()) &&
		text("reason", r.Reason()) &&
		text("field", string(r.Decision.Fault().Field)) &&
		text("profile", r.Profile) &&
		text("asid", facts.ASID.String()) &&
		text("claimed_asid", facts.ClaimedASID.String()) &&
		text("ods_code", facts.ODSCode) &&
		text("receiver", facts.Receiver.String()) &&
		text("endpoint", facts.Endpoint) &&
		text("interaction", facts.Interaction.String()) &&
		(!facts.HasMap || yield(RecordField{Name: "map_version", Number: facts.MapVersion}) && number("map_age_ms", facts.MapAge.Milliseconds())) &&
		text("certificate_sha256", fingerprint) &&
		text("break_glass", facts.BreakGlass) &&
		text("request_id", r.RequestID) &&
		text("trace_id", r.TraceID) &&
		number("duration_us", r.Duration.Microseconds())
}

// requestID accepts what Envoy generates, and nothing that a client might have put in
// its place if Envoy is told to keep it.
func requestID(s string) string {
	if len(s) > 64 {
		return ""
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		default:
			return ""
		}
	}
	return s
}

// traceID returns the trace-id of a W3C traceparent, "" if it is none.
func traceID(traceparent string) string {
	if len(traceparent) < 55 || traceparent[2] != '-' || traceparent[35] != '-' {
		return ""
	}
	id := traceparent[3:35]
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'f', '0' <= c && c <= '9':
		default:
			return ""
		}
	}
	return id
}
