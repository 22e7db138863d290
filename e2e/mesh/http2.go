package mesh

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"asid-authz/authz"
)

// An h2Conn speaks HTTP/2 in frames of its own making, one stream after the other. It
// checks nothing of what it sends.
type h2Conn struct {
	conn    *tls.Conn
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
	stream  uint32 // of the next request
}

// frameSize is the largest payload that a peer must accept without having said so.
const frameSize = 16384

func newH2Conn(conn *tls.Conn) (*h2Conn, error) {
	c := &h2Conn{conn: conn, framer: http2.NewFramer(conn, conn), stream: 1}
	c.framer.AllowIllegalWrites = true
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = maxBody
	c.encoder = hpack.NewEncoder(&c.block)
	conn.SetDeadline(time.Now().Add(wait))
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		conn.Close()
		return nil, closed(err)
	}
	// The window is as large as a body may be, so that nothing has to be granted while reading.
	err := c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxBody})
	if err != nil {
		conn.Close()
		return nil, closed(err)
	}
	return c, nil
}

func (c *h2Conn) Close() error { return c.conn.Close() }

func (c *h2Conn) Do(r Request) (*Answer, error) { return c.frames(r.fields(), r.Body) }

func (c *h2Conn) frames(fields []authz.Header, body []byte) (*Answer, error) {
	c.conn.SetDeadline(time.Now().Add(wait))
	id := c.stream
	c.stream += 2
	if err := c.write(id, fields, body); isTimeout(err) {
		return nil, err
	}
	// What could not be written says less than what the server sent before it closed.
	return answered(c.read(id))
}

func (c *h2Conn) write(id uint32, fields []authz.Header, body []byte) error {
	c.block.Reset()
	for _, f := range fields {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value}); err != nil {
			return err
		}
	}
	block := c.block.Bytes()
	first := block[:min(len(block), frameSize)]
	block = block[len(first):]
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(block) == 0, EndStream: len(body) == 0})
	for err == nil && len(block) > 0 {
		next := block[:min(len(block), frameSize)]
		block = block[len(next):]
		err = c.framer.WriteContinuation(id, len(block) == 0, next)
	}
	for err == nil && len(body) > 0 {
		next := body[:min(len(body), frameSize)]
		body = body[len(next):]
		err = c.framer.WriteData(id, len(body) == 0, next)
	}
	return err
}

// read reads frames until the stream has its answer.
func (c *h2Conn) read(id uint32) (*Answer, error) {
	var a *Answer
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return nil, closed(err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				continue
			}
			f.ForeachSetting(func(s http2.Setting) error {
				if s.ID == http2.SettingHeaderTableSize {
					c.encoder.SetMaxDynamicTableSizeLimit(s.Val)
				}
				return nil
			})
			c.framer.WriteSettingsAck() // if it cannot be written, the next read says why
		case *http2.PingFrame:
			if !f.IsAck() {
				c.framer.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			if f.LastStreamID < id {
				return nil, &refusal{fmt.Errorf("GOAWAY %v", f.ErrCode)}
			}
		case *http2.RSTStreamFrame:
			if f.StreamID != id {
				continue
			}
			if a != nil && f.ErrCode == http2.ErrCodeNo { // the server does not want the rest of our body
				return a, nil
			}
			return nil, &refusal{fmt.Errorf("RST_STREAM %v", f.ErrCode)}
		case *http2.MetaHeadersFrame:
			if f.StreamID != id {
				continue
			}
			switch {
			case a == nil:
				if a, err = c.answer(f); err != nil {
					return nil, err
				}
			default: // trailers
				for _, field := range f.RegularFields() {
					a.Header.Add(field.Name, field.Value)
				}
			}
			if a != nil && f.StreamEnded() {
				return a, nil
			}
		case *http2.DataFrame:
			if f.StreamID != id {
				continue
			}
			if n := uint32(len(f.Data())); n > 0 { // of the connection; a stream's own window suffices
				c.framer.WriteWindowUpdate(0, n)
			}
			if a == nil {
				return nil, errors.New("DATA before HEADERS")
			}
			if a.Body = append(a.Body, f.Data()...); len(a.Body) > maxBody {
				return nil, errors.New("the body is too long")
			}
			if f.StreamEnded() {
				return a, nil
			}
		}
	}
}

// answer returns the answer that begins with f, nil if it is an interim one.
func (c *h2Conn) answer(f *http2.MetaHeadersFrame) (*Answer, error) {
	status, err := strconv.Atoi(f.PseudoValue("status"))
	if err != nil {
		return nil, fmt.Errorf("no :status in %v", f.Fields)
	}
	if status < 200 {
		return nil, nil
	}
	a := &Answer{Status: status, Header: http.Header{}, TLS: c.conn.ConnectionState()}
	for _, field := range f.RegularFields() {
		a.Header.Add(field.Name, field.Value)
	}
	return a, nil
}
