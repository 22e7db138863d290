package mesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"asid-authz/authz"
)

// Protocol is what a client speaks to the edge.
type Protocol string

const (
	HTTP1 Protocol = "http/1.1"
	HTTP2 Protocol = "h2"
)

// Protocols are both of them.
var Protocols = []Protocol{HTTP1, HTTP2}

// A Client opens connections to an edge. It is no HTTP client as programs use one: it sends
// what it is told to, byte by byte or frame by frame, because half of what an edge has to
// refuse is what a well-behaved client never says.
type Client struct {
	Address     string           // host:port
	ServerName  string           // in SNI, and what the server's certificate must be for
	Roots       *x509.CertPool   // that the server's certificate must lead to
	Certificate *tls.Certificate // nil: none is shown
	Sessions    tls.ClientSessionCache
	MaxTLS      uint16 // 0: the newest
}

// wait bounds everything that a client waits for. It is far above what anything takes: to
// reach it is an error, never an answer.
const wait = 20 * time.Second

// An Answer is what came back. Either Refused says why there is no HTTP answer, or there is one.
type Answer struct {
	Refused string
	Status  int
	Header  http.Header
	Body    []byte
	Last    bool // the server closes the connection, as Envoy does on HTTP/1.1 after each 400
	TLS     tls.ConnectionState
}

// String returns the answer in one line, for messages.
func (a *Answer) String() string {
	if a.Refused != "" {
		return "refused (" + a.Refused + ")"
	}
	return fmt.Sprintf("%d %v %q", a.Status, a.Header, a.Body)
}

// dial opens a TLS connection for that protocol. A *refusal is an answer, every other error
// is none.
func (c *Client) dial(ctx context.Context, protocol Protocol) (*tls.Conn, error) {
	config := &tls.Config{
		ServerName:         c.ServerName,
		RootCAs:            c.Roots,
		NextProtos:         []string{string(protocol)},
		ClientSessionCache: c.Sessions,
		MaxVersion:         c.MaxTLS,
	}
	if c.Certificate != nil {
		// Not Certificates: Go would show none of them to a server that asks for other issuers.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Certificate, nil }
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var dialer net.Dialer
	plain, err := dialer.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	plain.SetDeadline(deadline)
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted || isTimeout(err) {
			return nil, err
		}
		return nil, &refusal{err}
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != string(protocol) {
		conn.Close()
		return nil, fmt.Errorf("the server speaks %q, not %q", got, protocol)
	}
	return conn, nil
}

// A refusal is an error that says no: the connection or the stream was closed or reset
// before there was an HTTP answer.
type refusal struct{ error }

// closed tells a refusal from an error of our own, such as having waited too long.
func closed(err error) error {
	if err == nil || isTimeout(err) {
		return err
	}
	return &refusal{err}
}

func isTimeout(err error) bool {
	timeout, is := errors.AsType[net.Error](err)
	return is && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// answered turns a refusal into an Answer.
func answered(a *Answer, err error) (*Answer, error) {
	if r, is := errors.AsType[*refusal](err); is {
		return &Answer{Refused: r.Error()}, nil
	}
	return a, err
}

// A Request is what a client says. On HTTP/1.1 it becomes a request line and header lines, on
// HTTP/2 pseudo-headers and fields with names in lower case.
type Request struct {
	Method, Target, Host string
	Headers              []authz.Header // in the order in which they are sent
	Body                 []byte
}

// NewRequest returns the request that those HTTP/2 fields say.
func NewRequest(fields []authz.Header, body []byte) Request {
	r := Request{Body: body}
	for _, f := range fields {
		switch f.Name {
		case ":method":
			r.Method = f.Value
		case ":path":
			r.Target = f.Value
		case ":authority":
			r.Host = f.Value
		case ":scheme":
		default:
			r.Headers = append(r.Headers, f)
		}
	}
	return r
}

// With returns the request with one more header.
func (r Request) With(name, value string) Request {
	r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)], authz.Header{Name: name, Value: value})
	return r
}

// Without returns the request without the headers of that name.
func (r Request) Without(name string) Request {
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h authz.Header) bool { return strings.EqualFold(h.Name, name) })
	return r
}

// bytes returns the request as HTTP/1.1 writes it.
func (r *Request) bytes() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.Target, r.Host)
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	if len(r.Body) > 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.Body))
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	return []byte(b.String())
}

// fields returns the request as HTTP/2 sends it.
func (r *Request) fields() []authz.Header {
	all := []authz.Header{{Name: ":method", Value: r.Method}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: r.Target}, {Name: ":authority", Value: r.Host}}
	for _, h := range r.Headers {
		all = append(all, authz.Header{Name: strings.ToLower(h.Name), Value: h.Value})
	}
	return all
}

// A Conn is one open connection to the edge. It is not safe for concurrent use.
type Conn interface {
	// Do sends a request and waits for its answer.
	Do(Request) (*Answer, error)
	Close() error
}

// Open opens a connection. A nil Conn with a nil error means refused.
func (c *Client) Open(ctx context.Context, protocol Protocol) (Conn, *Answer, error) {
	conn, err := c.dial(ctx, protocol)
	if err == nil && protocol == HTTP2 {
		var h2 *h2Conn
		if h2, err = newH2Conn(conn); err == nil {
			return h2, nil, nil
		}
	} else if err == nil {
		return newH1Conn(conn), nil, nil
	}
	refused, err := answered(nil, err)
	return nil, refused, err
}

// Do sends one request on a connection of its own.
func (c *Client) Do(ctx context.Context, protocol Protocol, r Request) (*Answer, error) {
	conn, refused, err := c.Open(ctx, protocol)
	if conn == nil {
		return refused, err
	}
	defer conn.Close()
	return conn.Do(r)
}

// Raw sends those bytes on an HTTP/1.1 connection of their own, as they are, and reads one
// answer. method tells whether the answer to it has a body (HEAD has none).
func (c *Client) Raw(ctx context.Context, method string, message []byte) (*Answer, error) {
	conn, err := c.dial(ctx, HTTP1)
	if err != nil {
		return answered(nil, err)
	}
	defer conn.Close()
	return newH1Conn(conn).raw(method, message)
}

// Frames sends those fields, pseudo-headers included, on an HTTP/2 connection of their own,
// and reads one answer.
func (c *Client) Frames(ctx context.Context, fields []authz.Header, body []byte) (*Answer, error) {
	conn, err := c.dial(ctx, HTTP2)
	if err != nil {
		return answered(nil, err)
	}
	h2, err := newH2Conn(conn)
	if err != nil {
		return answered(nil, err)
	}
	defer h2.Close()
	return h2.frames(fields, body)
}
