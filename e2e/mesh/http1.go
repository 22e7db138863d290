package mesh

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"time"
)

// An h1Conn writes bytes as they are given and reads answers.
type h1Conn struct {
	conn   *tls.Conn
	reader *bufio.Reader
}

func newH1Conn(conn *tls.Conn) *h1Conn { return &h1Conn{conn, bufio.NewReader(conn)} }

func (c *h1Conn) Close() error { return c.conn.Close() }

func (c *h1Conn) Do(r Request) (*Answer, error) { return c.raw(r.Method, r.bytes()) }

func (c *h1Conn) raw(method string, message []byte) (*Answer, error) {
	c.conn.SetDeadline(time.Now().Add(wait))
	// A server that has seen enough answers and closes while we still write: its answer
	// counts, not that the rest could not be written.
	_, writeErr := c.conn.Write(message)
	if isTimeout(writeErr) {
		return nil, writeErr
	}
	return answered(c.read(method))
}

func (c *h1Conn) read(method string) (*Answer, error) {
	for {
		response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
		if err != nil {
			return nil, closed(err)
		}
		if response.StatusCode < 200 { // 100 Continue and the like come before the answer
			continue
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
		if err != nil {
			return nil, closed(err)
		}
		return &Answer{Status: response.StatusCode, Header: response.Header, Body: body, Last: response.Close, TLS: c.conn.ConnectionState()}, nil
	}
}

// maxBody is the most that is read of a body.
const maxBody = 1 << 20
