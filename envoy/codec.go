package envoy

import (
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Codec returns what a gRPC server with a [Server] reads questions and writes answers with
// (grpc.ForceServerCodecV2). It is the standard one but for two messages: of a question as
// Envoy is configured to write it, only what is looked at is read, and an allow is written
// without reflection. Reading everything costs more than deciding. Whatever looks different
// goes the standard way.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(grpcproto.Name)} }

type codec struct{ encoding.CodecV2 }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	message, is := v.(*authv3.CheckRequest)
	if !is {
		return c.CodecV2.Unmarshal(data, v)
	}
	wire := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer wire.Free() // nothing of it is kept
	if readQuestion(message, wire.ReadOnlyData()) {
		return nil
	}
	return proto.Unmarshal(wire.ReadOnlyData(), message) // resets what was read
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	response, is := v.(*authv3.CheckResponse)
	if !is {
		return c.CodecV2.Marshal(v)
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(usualAnswer)
	wire, is := appendAllow((*buffer)[:0], response)
	if !is {
		pool.Put(buffer)
		return c.CodecV2.Marshal(v)
	}
	*buffer = wire
	return mem.BufferSlice{mem.NewBuffer(buffer, pool)}, nil
}

// usualAnswer is above the size of an allow, in bytes.
const usualAnswer = 2048
