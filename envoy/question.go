package envoy

import (
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

// A question is the part of a CheckRequest that is looked at, in one piece of memory.
type question struct {
	attributes authv3.AttributeContext
	source     authv3.AttributeContext_Peer
	request    authv3.AttributeContext_Request
	http       authv3.AttributeContext_HttpRequest
	headerMap  corev3.HeaderMap
	headers    [usualHeaders]corev3.HeaderValue
	pointers   [usualHeaders]*corev3.HeaderValue
}

// usualHeaders are more than Envoy hands on of the requests that clients usually send.
const usualHeaders = 12

// readQuestion fills message with what is looked at of a question that is as Envoy writes
// it: nothing twice that is single, headers in the header map, a certificate, no body, and no
// field that this release does not know. Of any other it returns false: read it in the
// standard way.
//
// Messages that are not looked at are stepped over, whatever is in them. A header is in Value
// also where it came as raw_value, and need not be UTF-8 then.
func readQuestion(message *authv3.CheckRequest, wire []byte) bool {
	r := questionReader{wire: wire, text: string(wire), q: &question{}}
	message.Attributes = &r.q.attributes
	return eachField(wire, 0, func(n protowire.Number, value []byte) bool { return n == 1 && r.attributes(value) }) &&
		r.q.source.Certificate != "" && r.q.request.Http != nil
}

// A questionReader reads one question.
type questionReader struct {
	wire []byte
	text string // the same, so that what is read is no copy of its own
	q    *question
}

func (r *questionReader) attributes(message []byte) bool {
	a := &r.q.attributes
	return eachField(message, 10, func(n protowire.Number, value []byte) bool {
		switch n {
		case 1:
			a.Source = &r.q.source
			return r.source(value)
		case 4:
			a.Request = &r.q.request
			return eachField(value, 0, func(n protowire.Number, value []byte) bool {
				switch n {
				case 1: // the time
					return value != nil
				case 2:
					r.q.request.Http = &r.q.http
					return r.http(value)
				}
				return false
			})
		case 10:
			return r.extension(value)
		case 2, 11, 12, 13: // the destination, metadata, the TLS session
			return value != nil
		}
		return false
	})
}

func (r *questionReader) source(message []byte) bool {
	return eachField(message, 3, func(n protowire.Number, value []byte) bool {
		switch n {
		case 5:
			return r.string(&r.q.source.Certificate, value)
		case 2, 4: // the service, the principal
			return utf8.Valid(value) && value != nil
		case 1, 3: // the address, labels
			return value != nil
		}
		return false
	})
}

func (r *questionReader) extension(message []byte) bool {
	var key, extension string
	if !eachField(message, 0, func(n protowire.Number, value []byte) bool {
		switch n {
		case 1:
			return r.string(&key, value)
		case 2:
			return r.string(&extension, value)
		}
		return false
	}) {
		return false
	}
	if key == RouteKey {
		r.q.attributes.ContextExtensions = map[string]string{key: extension}
	}
	return true
}

func (r *questionReader) http(message []byte) bool {
	h := &r.q.http
	return eachField(message, 0, func(n protowire.Number, value []byte) bool {
		switch n {
		case 2:
			return r.string(&h.Method, value)
		case 4:
			return r.string(&h.Path, value)
		case 1, 5, 6, 7, 8, 10: // the stream's number, host, scheme, query, fragment, protocol
			return utf8.Valid(value) && value != nil
		case 9: // the size
			return value == nil
		case 13:
			h.HeaderMap = &r.q.headerMap
			r.q.headerMap.Headers = r.q.pointers[:0]
			return eachField(value, 1, func(n protowire.Number, value []byte) bool { return n == 1 && r.header(value) })
		}
		return false // headers that were joined, and a body
	})
}

func (r *questionReader) header(message []byte) bool {
	all := r.q.headerMap.Headers
	var h *corev3.HeaderValue
	if n := len(all); n < usualHeaders {
		h = &r.q.headers[n]
	} else {
		h = &corev3.HeaderValue{}
	}
	r.q.headerMap.Headers = append(all, h)
	var raw string
	if !eachField(message, 0, func(n protowire.Number, value []byte) bool {
		switch n {
		case 1:
			return r.string(&h.Key, value)
		case 2:
			return r.string(&h.Value, value)
		case 3:
			raw = r.part(value)
			return value != nil
		}
		return false
	}) {
		return false
	}
	if raw != "" {
		h.Value = raw
	}
	return true
}

// string sets *to to value, which must be text.
func (r *questionReader) string(to *string, value []byte) bool {
	*to = r.part(value)
	return value != nil && utf8.ValidString(*to)
}

// part returns value, a part of r.wire, as the same part of r.text.
func (r *questionReader) part(value []byte) string {
	if len(value) == 0 {
		return ""
	}
	begin := cap(r.wire) - cap(value)
	return r.text[begin : begin+len(value)]
}

// eachField hands take every field of a message: its bytes, nil if it is a number. It returns
// false as soon as take does, when the message is broken, and when a field stands twice that
// is not the repeated one.
func eachField(message []byte, repeated protowire.Number, take func(n protowire.Number, value []byte) bool) bool {
	var seen uint64
	for len(message) > 0 {
		n, kind, length := protowire.ConsumeTag(message)
		if length < 0 || n >= 64 || seen&(1<<n) != 0 && n != repeated {
			return false
		}
		seen |= 1 << n
		message = message[length:]
		var value []byte
		switch kind {
		case protowire.VarintType:
			_, length = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			value, length = protowire.ConsumeBytes(message)
		default: // of no field that is known
			return false
		}
		if length < 0 || !take(n, value) {
			return false
		}
		message = message[length:]
	}
	return true
}
