package envoy

import (
	"math"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"
)

// appendAllow appends an allow as respond makes it, as proto.Marshal would but for the order
// of the metadata, which has none. Of any other answer it returns false: write it in the
// standard way.
func appendAllow(wire []byte, response *authv3.CheckResponse) ([]byte, bool) {
	status, ok := response.GetStatus(), response.GetOkResponse()
	if status == nil || status.Code != 0 || status.Message != "" || len(status.Details) > 0 || ok == nil {
		return nil, false
	}
	//lint:ignore SA1019 whoever set the deprecated field would have it written
	if ok.DynamicMetadata != nil || len(ok.ResponseHeadersToAdd) > 0 || len(ok.QueryParametersToSet) > 0 || len(ok.QueryParametersToRemove) > 0 {
		return nil, false
	}
	a := allowWriter{wire: wire, good: true}
	a.message(1, func() {}) // the status, whose code is zero
	a.message(3, func() {
		for _, h := range ok.Headers {
			a.message(2, func() { a.header(h) })
		}
		for _, name := range ok.HeadersToRemove {
			a.string(5, name)
		}
	})
	if response.DynamicMetadata != nil {
		a.message(4, func() {
			for name, value := range response.DynamicMetadata.Fields {
				a.message(1, func() {
					a.string(1, name)
					a.message(2, func() { a.value(value) })
				})
			}
		})
	}
	return a.wire, a.good
}

// An allowWriter writes one allow.
type allowWriter struct {
	wire []byte
	good bool
}

func (a *allowWriter) header(h *corev3.HeaderValueOption) {
	//lint:ignore SA1019 whoever set the deprecated field would have it written
	if h.GetHeader() == nil || h.Append != nil || h.KeepEmptyValue || len(h.Header.RawValue) > 0 {
		a.good = false
		return
	}
	a.message(1, func() {
		a.text(1, h.Header.Key)
		a.text(2, h.Header.Value)
	})
	if h.AppendAction != 0 {
		a.wire = protowire.AppendTag(a.wire, 3, protowire.VarintType)
		a.wire = protowire.AppendVarint(a.wire, uint64(h.AppendAction))
	}
}

func (a *allowWriter) value(v *structpb.Value) {
	switch kind := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		a.string(3, kind.StringValue)
	case *structpb.Value_NumberValue:
		a.wire = protowire.AppendTag(a.wire, 2, protowire.Fixed64Type)
		a.wire = protowire.AppendFixed64(a.wire, math.Float64bits(kind.NumberValue))
	default:
		a.good = false
	}
}

// text writes a field that is left out when it is empty.
func (a *allowWriter) text(n protowire.Number, s string) {
	if s != "" {
		a.string(n, s)
	}
}

func (a *allowWriter) string(n protowire.Number, s string) {
	a.good = a.good && utf8.ValidString(s)
	a.wire = protowire.AppendTag(a.wire, n, protowire.BytesType)
	a.wire = protowire.AppendString(a.wire, s)
}

// message writes what content writes, with its length before it.
func (a *allowWriter) message(n protowire.Number, content func()) {
	a.wire = protowire.AppendTag(a.wire, n, protowire.BytesType)
	begin := len(a.wire)
	content()
	length := len(a.wire) - begin
	size := protowire.SizeVarint(uint64(length))
	a.wire = append(a.wire, make([]byte, size)...)
	copy(a.wire[begin+size:], a.wire[begin:begin+length])
	protowire.AppendVarint(a.wire[:begin], uint64(length))
}
