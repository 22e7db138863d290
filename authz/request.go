package authz

import (
	"context"
	"time"
)

// A Request is the question: what the edge found, unjudged. Its faults become Reasons
// of [Authorizer.Check], never errors of the edge.
//
// Its strings may alias the transport's buffer; whoever keeps one beyond Check clones it.
type Request struct {
	Now    time.Time // the only clock that the rules know
	Method string
	Target string // :path with its query, undecoded, as Envoy forwards it
	Route  string // the endpoint that Envoy's route names in context_extensions, or ""

	// Headers in the order in which they came, repetitions kept, names in lower case.
	// Pseudo-headers are not among them.
	Headers []Header

	// Certificate is the client's leaf; nil: none was sent. A bad one carries its Fault.
	Certificate *PeerCertificate

	// Fault is set when the message that brought the request cannot be trusted to
	// describe it (no HTTP attributes, contradicting ones). Check denies with it first.
	Fault *Fault
}

// A Header is one header field.
type Header struct{ Name, Value string }

// A TokenVerifier turns a bearer credential into Claims.
//
// It is called with a credential that is one visible ASCII word of at most
// [MaxCredential] bytes. It never blocks on a network: what it does not have, it has
// not. A *Fault means that the token is refused (or, of class unavailable, why it
// could not be judged); any other error is an InternalError. It must be safe for
// concurrent use. The Claims that it returns are shared and must not be changed.
type TokenVerifier interface {
	VerifyToken(ctx context.Context, credential string, now time.Time) (*Claims, error)
}

// A MapSource holds the current interaction map.
//
// m is nil when there is none; absent then says why (MapUnavailable, MapIncomplete).
// confirmed is when it was last known that m is the newest there is: the moment of the
// question, not of the answer. It must be safe for concurrent use and never block.
type MapSource interface {
	Current() (m *InteractionMap, confirmed time.Time, absent Reason)
}

// A TrustSource holds the CA bundle that client certificates are verified against. t
// is nil when there is none. confirmed is when the bundle was last read.
type TrustSource interface {
	Current() (t *Trust, confirmed time.Time)
}
