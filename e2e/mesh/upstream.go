package mesh

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// An Upstream is the API behind Envoy. It answers every request alike and remembers what it
// saw: what reached it is the proof of what was let through.
type Upstream struct {
	Address string

	server *http.Server
	done   chan struct{}

	mu   sync.Mutex
	seen []Seen
}

// Seen is one request as it reached the API.
type Seen struct {
	Method, Target, Host string
	Header               http.Header // repetitions kept
	Body                 []byte
}

// seenHeader tells the client which of the requests that the API saw was its own.
const seenHeader = "X-Upstream-Request"

// upstreamBody is what the API answers: a FHIR resource that a client would expect.
const upstreamBody = `{"resourceType":"Bundle","type":"searchset","total":0}` + "\n"

func startUpstream() (*Upstream, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &Upstream{Address: listener.Addr().String(), done: make(chan struct{})}
	u.server = &http.Server{Handler: u}
	go func() {
		defer close(u.done)
		u.server.Serve(listener) // until it is closed
	}()
	return u, nil
}

func (u *Upstream) close() {
	u.server.Close()
	<-u.done
}

// ServeHTTP remembers the request and answers 200.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	u.mu.Lock()
	u.seen = append(u.seen, Seen{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header.Clone(), Body: body})
	n := len(u.seen)
	u.mu.Unlock()
	w.Header().Set("Content-Type", "application/fhir+json")
	w.Header().Set(seenHeader, strconv.Itoa(n))
	io.WriteString(w, upstreamBody)
}

// Count returns how many requests reached the API.
func (u *Upstream) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.seen)
}

// Of returns the request that the API answered with a, and whether it answered it at all.
func (u *Upstream) Of(a *Answer) (Seen, bool) {
	n, err := strconv.Atoi(a.Header.Get(seenHeader))
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil || n < 1 || n > len(u.seen) {
		return Seen{}, false
	}
	return u.seen[n-1], true
}

// All returns every request that reached the API, in their order.
func (u *Upstream) All() []Seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]Seen(nil), u.seen...)
}
