package envoy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"asid-authz/authz"
)

// Rules is what one generation of the configuration decides and answers by.
type Rules struct {
	authorizer *authz.Authorizer
	dialect    *dialect
	remove     []string // headers that the API must not see
	sender     string   // lower-case name of the header in which a client claims its ASID
}

// NewRules returns the Rules of an Authorizer, whose profile names the dialect.
func NewRules(authorizer *authz.Authorizer) (*Rules, error) {
	d, err := dialectNamed(authorizer.Profile.Dialect)
	if err != nil {
		return nil, err
	}
	return &Rules{
		authorizer: authorizer,
		dialect:    d,
		remove:     append([]string{headerReason}, authorizer.Profile.UnusedHeaders...),
		sender:     strings.ToLower(authorizer.Profile.Sender.Name),
	}, nil
}

// Answer returns the status and the body with which d, a denial, is answered under that
// decision id: for commands that explain one.
func (r *Rules) Answer(d *authz.Decision, id string) (status int, o Outcome) {
	return r.dialect.answer(d, id)
}

// A Server answers Envoy's Check calls. It is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	current      func() *Rules
	record       func(*Record) error
	certificates *certificates
	queue        queue
	watch        watch
	panics       atomic.Uint64
}

// NewServer returns a Server that asks current for the Rules once per Check, and hands
// one Record per Check to record, before it answers. An error of record turns an allow
// into a denial (audit-unavailable); a denial stays what it is. Both are called
// concurrently; record must not keep the Record or its strings, and must not wait: an
// answer that comes after Envoy's time-out is none.
func NewServer(current func() *Rules, record func(*Record) error) *Server {
	return &Server{current: current, record: record, certificates: newCertificates(), queue: queue{began: time.Now()}}
}

// Panics returns how many Checks ended in a panic, each of which was answered with a denial.
func (s *Server) Panics() uint64 { return s.panics.Load() }

// Check always answers with a CheckResponse and never with a gRPC error, which would
// hand the outcome to Envoy's failure_mode_allow: what could not be found out is a
// denial with status 503.
func (s *Server) Check(ctx context.Context, message *authv3.CheckRequest) (response *authv3.CheckResponse, err error) {
	now := time.Now()
	r := &authz.Request{Now: now}
	record := &Record{Time: now, DecisionID: newDecisionID()}
	mark := markOf(ctx)
	if mark != nil {
		record.Waited, record.Marked = now.Sub(mark.at), true
	}
	var rules *Rules
	s.queue.running.Add(1)
	defer func() {
		s.queue.running.Add(-1)
		// Envoy would take a nil answer, or one without a status, for an allow.
		if panicked := recover(); panicked != nil || response == nil || response.GetStatus() == nil {
			s.panics.Add(1)
			record.Panic = fmt.Appendf(nil, "%v\n%s", panicked, debug.Stack())
			response, err = s.broken(record), nil
		}
	}()
	rules = s.current()
	hasPath := read(r, message)
	record.RequestID, record.TraceID = requestID(header(r, "x-request-id")), traceID(header(r, "traceparent"))
	if rules != nil {
		record.Profile = rules.authorizer.Profile.Name
		record.Decision = s.decide(ctx, mark, rules, r, message)
		s.watch.see(message, r, rules.sender, hasPath)
	}
	record.Duration = time.Since(now)
	if err := s.record(record); err != nil && record.Decision.Allowed() {
		record.Decision = record.Decision.Denied(authz.Fault{Reason: authz.AuditUnavailable, Field: authz.FieldRequest})
	}
	return respond(rules, r, record), nil
}

// decide refuses a question that there is no time for, and lets the rules decide about
// all others, in the time that leaves some for the answer.
func (s *Server) decide(ctx context.Context, mark *arrival, rules *Rules, r *authz.Request, message *authv3.CheckRequest) authz.Decision {
	until, admitted := s.queue.turn(ctx, mark, r.Now)
	if !admitted {
		return authz.Deny(authz.Fault{Reason: authz.Overloaded, Field: authz.FieldRequest})
	}
	r.Certificate = s.certificates.parse(message.GetAttributes().GetSource().GetCertificate())
	if until.IsZero() {
		return rules.authorizer.Check(ctx, r)
	}
	e := &earlier{Context: ctx, until: until}
	defer e.end()
	return rules.authorizer.Check(e, r)
}

// broken answers a Check that panicked. It uses as little as possible of what may be
// the cause: not the rules, and what was recorded so far only where it is whole.
func (s *Server) broken(record *Record) *authv3.CheckResponse {
	record.Decision = authz.Deny(authz.Fault{Reason: authz.InternalError, Field: authz.FieldRequest})
	func() {
		defer func() { _ = recover() }() // the record itself may be what panics
		_ = s.record(record)             // a denial stands, recorded or not
	}()
	return respond(nil, &authz.Request{}, record)
}

// newDecisionID returns a random UUID (RFC 9562, version 4).
func newDecisionID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails: the program ends instead
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
