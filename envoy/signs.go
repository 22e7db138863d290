package envoy

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"asid-authz/authz"
)

// A Sign is something in the questions that only a wrongly configured Envoy explains. A
// single question shows it too, when its client is wrong; so it is judged by what none of
// many questions has.
type Sign struct {
	Name    string // kebab-case; an operator's interface, as Reasons are
	Meaning string // what is seen, and what follows
	Setting string // what to change

	seen uint32 // bit of what a question shows
	bad  bool   // showing it is the sign; else never showing it is
}

const (
	sawCertificate uint32 = 1 << iota
	sawSender
	sawToken
	sawPath
	sawSeparate
	sawRoute
	sawBody
)

var signs = []Sign{
	{"no-certificate", "No question has a client certificate: everything is certificate-missing.",
		"include_peer_certificate: true of ext_authz; trusted_ca and require_client_certificate of the listener", sawCertificate, false},
	{"no-claim-headers", "No question has the profile's sender header: everything is header-missing.",
		"allowed_headers of ext_authz: names are compared in lower case, so `exact: fromASID` fits nothing and `exact: fromasid` is meant", sawSender, false},
	{"no-token", "No question has an authorization header: everything is token-missing.",
		"allowed_headers of ext_authz: authorization; forward: true of a jwt_authn filter before it, which else takes the token away", sawToken, false},
	{"no-path-header", "No question has the :path header: a path whose bytes are not UTF-8 is judged as another one than the API gets.",
		"allowed_headers of ext_authz: `exact: \":path\"`", sawPath, false},
	{"headers-joined", "Repeated headers come joined with a comma, and bytes that are not UTF-8 replaced.",
		"encode_raw_headers: true of ext_authz", sawSeparate, false},
	{"no-route", "No route names its endpoint: that Envoy and asid-authz mean the same endpoint is not checked twice.",
		"context_extensions of each route: " + RouteKey + ", as asid-authz envoy-config writes it. Where Envoy cannot have it (Istio), the sign stays", sawRoute, false},
	{"request-body", "Bodies of requests are sent along. They can hold anything about a patient, and nothing here reads them.",
		"with_request_body of ext_authz: leave it out, also for each route", sawBody, true},
}

// Signs returns every Sign there is.
func Signs() []Sign { return append([]Sign(nil), signs...) }

const (
	// enoughQuestions of several clients make a judgement. One client that is wrong, or
	// means harm, cannot bring about a sign alone; nor hide one, because what Envoy does
	// not send he cannot make it send.
	enoughQuestions = 100
)

// A watch collects what the questions show. A question costs it a few loads and one
// addition: what was shown once is not written again.
type watch struct {
	questions atomic.Uint64
	seen      atomic.Uint32
	client    atomic.Uint64 // hash of the first; 0: none yet
	several   atomic.Bool   // another one came

	present uint32 // bits of the signs as they were judged last, for whoever judges
}

// see takes one question; sender is the lower-case name of the profile's header, "" if it
// has none, and hasPath whether the header :path came. It keeps nothing of them.
func (w *watch) see(message *authv3.CheckRequest, r *authz.Request, sender string, hasPath bool) {
	http := message.GetAttributes().GetRequest().GetHttp()
	if http == nil {
		return
	}
	var seen uint32
	if message.GetAttributes().GetSource().GetCertificate() != "" {
		seen |= sawCertificate
	}
	if sender == "" {
		seen |= sawSender
	}
	for i := range r.Headers {
		switch name := r.Headers[i].Name; {
		case len(name) == len(sender) && name == sender:
			seen |= sawSender
		case name == "authorization":
			seen |= sawToken
		}
	}
	if hasPath {
		seen |= sawPath
	}
	if len(http.GetHeaders()) == 0 {
		seen |= sawSeparate
	}
	if r.Route != "" {
		seen |= sawRoute
	}
	if http.GetBody() != "" || len(http.GetRawBody()) > 0 {
		seen |= sawBody
	}
	if w.seen.Load()|seen != w.seen.Load() {
		w.seen.Or(seen)
	}
	if !w.several.Load() {
		if c := client(message, r); !w.client.CompareAndSwap(0, c) && w.client.Load() != c {
			w.several.Store(true)
		}
	}
	w.questions.Add(1)
}

var clientSeed = maphash.MakeSeed()

// client returns a number that two clients do not share: of the certificate, or of the
// address if there is none. Ports are no part of it: one client has many.
func client(message *authv3.CheckRequest, r *authz.Request) uint64 {
	if r.Certificate != nil {
		if sum := r.Certificate.SHA256(); sum != [32]byte{} {
			return binary.BigEndian.Uint64(sum[:]) | 1
		}
	}
	address := message.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress()
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() && !ip.Is4In6() {
		if prefix, err := ip.Prefix(64); err == nil { // who has one address of it has all
			return maphash.Comparable(clientSeed, prefix) | 1
		}
	}
	return maphash.String(clientSeed, address) | 1
}

// Judge returns for each of [Signs] whether it is there. It is called by one goroutine,
// now and then. A sign appears with enough questions of enough clients since it was judged
// last, and goes away with the first question that speaks against it.
func (s *Server) Judge() []bool {
	w := &s.watch
	seen := w.seen.Load()
	enough := w.questions.Load() >= enoughQuestions && w.several.Load()
	present := make([]bool, len(signs))
	for i, sign := range signs {
		switch shown := seen&sign.seen != 0; {
		case shown:
			present[i] = sign.bad
		case enough:
			present[i] = !sign.bad
		default:
			present[i] = w.present&(1<<i) != 0
		}
		w.present &^= 1 << i
		if present[i] {
			w.present |= 1 << i
		}
	}
	if enough {
		// What is seen in between belongs to one of the two windows; it does not matter which.
		w.questions.Store(0)
		w.client.Store(0)
		w.several.Store(false)
		w.seen.Store(0)
	}
	return present
}
