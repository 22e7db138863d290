package envoy

import (
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// asked is a question as Envoy writes it, with everything that is stepped over.
func asked() *authv3.CheckRequest {
	address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1}}}}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:      &authv3.AttributeContext_Peer{Address: address, Service: "s", Labels: map[string]string{"a": "b"}, Principal: "CN=gp-one", Certificate: "-----BEGIN"},
		Destination: &authv3.AttributeContext_Peer{Address: address, Certificate: "of Envoy"},
		Request: &authv3.AttributeContext_Request{
			Time: timestamppb.Now(),
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "7", Method: "GET", Path: "/a?b=c", Host: "h", Scheme: "https", Query: "q", Fragment: "f", Size: -1, Protocol: "HTTP/2",
				HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
					{Key: ":path", RawValue: []byte("/a?b=c")}, {Key: "fromasid", Value: "200000000117"}, {Key: "raw", RawValue: []byte("\xff")}, {Key: "empty"},
				}},
			},
		},
		ContextExtensions:    map[string]string{RouteKey: "read", "vhost": "api"},
		MetadataContext:      &corev3.Metadata{},
		RouteMetadataContext: &corev3.Metadata{},
		TlsSession:           &authv3.AttributeContext_TLSSession{Sni: "h"},
	}}
}

func marshalled(t testing.TB, message proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// seen is everything that is looked at of a question.
func seen(message *authv3.CheckRequest) (r authz.Request, hasPath bool, certificate string, body bool, w *watch) {
	hasPath = read(&r, message)
	http := message.GetAttributes().GetRequest().GetHttp()
	if len(http.GetHeaders()) > 0 { // a map has no order
		slices.SortFunc(r.Headers, func(a, b authz.Header) int { return strings.Compare(a.Name+"\x00"+a.Value, b.Name+"\x00"+b.Value) })
	}
	w = &watch{}
	w.see(message, &r, "fromasid", hasPath)
	return r, hasPath, message.GetAttributes().GetSource().GetCertificate(), http.GetBody() != "" || len(http.GetRawBody()) > 0, w
}

func same(t *testing.T, got, want *authv3.CheckRequest) {
	t.Helper()
	r, path, certificate, body, w := seen(got)
	r2, path2, certificate2, body2, w2 := seen(want)
	if r.Method != r2.Method || r.Target != r2.Target || r.Route != r2.Route || !slices.Equal(r.Headers, r2.Headers) ||
		(r.Fault == nil) != (r2.Fault == nil) || r.Fault != nil && *r.Fault != *r2.Fault {
		t.Errorf("read %+v, want %+v", r, r2)
	}
	if path != path2 || certificate != certificate2 || body != body2 || w.seen.Load() != w2.seen.Load() {
		t.Errorf("path %v %v, certificate %q %q, body %v %v, signs %b %b", path, path2, certificate, certificate2, body, body2, w.seen.Load(), w2.seen.Load())
	}
}

// What is read fast is what is read in the standard way, and what looks like nothing that
// Envoy is told to write is not read fast.
func TestQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*authv3.CheckRequest)
		fast   bool
	}{
		"as Envoy writes it": {func(*authv3.CheckRequest) {}, true},
		"many headers": {func(m *authv3.CheckRequest) {
			h := m.Attributes.Request.Http.HeaderMap
			for range 40 {
				h.Headers = append(h.Headers, &corev3.HeaderValue{Key: "k", RawValue: []byte("v")})
			}
		}, true},
		"no headers": {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.HeaderMap = nil }, true},
		"no route":   {func(m *authv3.CheckRequest) { m.Attributes.ContextExtensions = nil }, true},
		"raw value beside value": {func(m *authv3.CheckRequest) {
			h := m.Attributes.Request.Http.HeaderMap.Headers[1]
			h.RawValue = []byte("other")
		}, true},
		"no certificate":  {func(m *authv3.CheckRequest) { m.Attributes.Source.Certificate = "" }, false},
		"no source":       {func(m *authv3.CheckRequest) { m.Attributes.Source = nil }, false},
		"no request":      {func(m *authv3.CheckRequest) { m.Attributes.Request = nil }, false},
		"nothing of HTTP": {func(m *authv3.CheckRequest) { m.Attributes.Request.Http = nil }, false},
		"nothing":         {func(m *authv3.CheckRequest) { m.Attributes = nil }, false},
		"joined headers":  {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.Headers = map[string]string{"a": "b"} }, false},
		"a body":          {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.Body = "b" }, false},
		"a raw body":      {func(m *authv3.CheckRequest) { m.Attributes.Request.Http.RawBody = []byte("b") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			want, got := asked(), &authv3.CheckRequest{}
			c.change(want)
			wire := marshalled(t, want)
			if fast := readQuestion(&authv3.CheckRequest{}, wire); fast != c.fast {
				t.Errorf("fast: %v, want %v", fast, c.fast)
			}
			if err := Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire[:len(wire)/2]), mem.SliceBuffer(wire[len(wire)/2:])}, got); err != nil {
				t.Fatal(err)
			}
			same(t, got, want)
		})
	}
}

// A message in which a field stands twice, or has another type than it should have, or is
// not known or not text, is for the standard way to judge.
func TestQuestionStrange(t *testing.T) {
	good := marshalled(t, asked())
	message := func(tag byte, content ...byte) []byte { return append([]byte{tag, byte(len(content))}, content...) }
	http := func(fields ...byte) []byte { // whole, but for what else there is
		return message(0x0a, slices.Concat(message(0x0a, message(0x2a, 'c')...), message(0x22, message(0x12, fields...)...))...)
	}
	if !readQuestion(&authv3.CheckRequest{}, http(0x12, 1, 'A')) {
		t.Fatal("what is strange below is not strange")
	}
	for name, wire := range map[string][]byte{
		"merged":          slices.Concat(good, http(0x12, 1, 'P')),
		"header no text":  http(message(0x6a, message(0x0a, message(0x12, 0xff)...)...)...),
		"header twice":    http(message(0x6a, message(0x0a, 0x12, 1, 'a', 0x12, 1, 'b')...)...),
		"headers twice":   http(0x6a, 0, 0x6a, 0),
		"group":           http(0x13, 0x14),
		"unknown field":   slices.Concat(good, []byte{0x12, 1, 'x'}),
		"a number":        {0x08, 1},
		"cut":             good[:len(good)-1],
		"a fixed number":  slices.Concat(good, []byte{0x0d, 0, 0, 0, 0}),
		"a large number":  slices.Concat(good, []byte{0x82, 0x7d, 0}),
		"empty":           {},
		"method no text":  http(0x12, 1, 0xff),
		"host no text":    http(0x2a, 1, 0xff),
		"method a number": http(0x10, 1),
		"size as bytes":   http(0x4a, 1, '1'),
		"method twice":    http(0x12, 1, 'A', 0x12, 1, 'B'),
	} {
		if readQuestion(&authv3.CheckRequest{}, wire) {
			t.Errorf("%s: read fast", name)
		}
		var got, want authv3.CheckRequest
		err := Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, &got)
		if wanted := proto.Unmarshal(wire, &want); (err == nil) != (wanted == nil) || err == nil && !proto.Equal(&got, &want) {
			t.Errorf("%s: got %v, %v\nwant %v, %v", name, &got, err, &want, wanted)
		}
	}
}

// FuzzQuestion: whatever is read fast, and is a CheckRequest at all, is read as the standard
// way reads it.
func FuzzQuestion(f *testing.F) {
	f.Add(marshalled(f, asked()))
	f.Add(slices.Concat(marshalled(f, asked()), marshalled(f, asked())))
	f.Add([]byte{0x0a, 0x02, 0x52, 0x00})
	f.Fuzz(func(t *testing.T, wire []byte) {
		var got, want authv3.CheckRequest
		if !readQuestion(&got, wire) || proto.Unmarshal(wire, &want) != nil {
			return
		}
		same(t, &got, &want)
	})
}

// allowance is an allow with everything that respond writes.
func allowance() *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers:         []*corev3.HeaderValueOption{set("x-asid", "200000000117"), set("x-asid-subject", "")},
			HeadersToRemove: []string{"ssp-from", strings.Repeat("n", 300)},
		}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"decision": structpb.NewStringValue("allow"), "empty": structpb.NewStringValue(""), "map_age_ms": structpb.NewNumberValue(0), "duration_us": structpb.NewNumberValue(12.5),
		}},
	}
}

// What is written fast is what would be written in the standard way, and an answer that is
// no plain allow is not written fast.
func TestAllow(t *testing.T) {
	ok := func(m *authv3.CheckResponse) *authv3.OkHttpResponse { return m.GetOkResponse() }
	for name, c := range map[string]struct {
		change func(*authv3.CheckResponse)
		fast   bool
	}{
		"as respond makes it": {func(*authv3.CheckResponse) {}, true},
		"no metadata":         {func(m *authv3.CheckResponse) { m.DynamicMetadata = nil }, true},
		"a large one":         {func(m *authv3.CheckResponse) { ok(m).Headers[0].Header.Value = strings.Repeat("v", 20000) }, true},
		"another code":        {func(m *authv3.CheckResponse) { m.Status.Code = 7 }, false},
		"a message":           {func(m *authv3.CheckResponse) { m.Status.Message = "m" }, false},
		"no status":           {func(m *authv3.CheckResponse) { m.Status = nil }, false},
		"a denial": {func(m *authv3.CheckResponse) {
			m.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Body: "no"}}
		}, false},
		"neither":         {func(m *authv3.CheckResponse) { m.HttpResponse = nil }, false},
		"an append":       {func(m *authv3.CheckResponse) { ok(m).Headers[0].Append = wrapperspb.Bool(true) }, false}, //lint:ignore SA1019 it must not get lost
		"kept empty":      {func(m *authv3.CheckResponse) { ok(m).Headers[1].KeepEmptyValue = true }, false},
		"a raw header":    {func(m *authv3.CheckResponse) { ok(m).Headers[0].Header.RawValue = []byte("r") }, false},
		"no header":       {func(m *authv3.CheckResponse) { ok(m).Headers[0].Header = nil }, false},
		"other metadata":  {func(m *authv3.CheckResponse) { m.DynamicMetadata.Fields["n"] = structpb.NewNullValue() }, false},
		"answer headers":  {func(m *authv3.CheckResponse) { ok(m).ResponseHeadersToAdd = []*corev3.HeaderValueOption{set("a", "b")} }, false},
		"query to set":    {func(m *authv3.CheckResponse) { ok(m).QueryParametersToSet = []*corev3.QueryParameter{{Key: "a"}} }, false},
		"query to remove": {func(m *authv3.CheckResponse) { ok(m).QueryParametersToRemove = []string{"a"} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			want := allowance()
			c.change(want)
			if _, fast := appendAllow(nil, want); fast != c.fast {
				t.Errorf("fast: %v, want %v", fast, c.fast)
			}
			data, err := Codec().Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			var got authv3.CheckResponse
			if err := proto.Unmarshal(data.Materialize(), &got); err != nil || !proto.Equal(&got, want) {
				t.Errorf("got %v, %v\nwant %v", &got, err, want)
			}
		})
	}
	broken := allowance()
	ok(broken).HeadersToRemove[0] = "\xff"
	if _, err := Codec().Marshal(broken); err == nil {
		t.Error("text that is none was written")
	}
}

// FuzzAllow: whatever answer is written fast reads as what it was.
func FuzzAllow(f *testing.F) {
	f.Add(marshalled(f, allowance()))
	denied := allowance()
	denied.Status.Code = 7
	f.Add(marshalled(f, denied))
	f.Fuzz(func(t *testing.T, wire []byte) {
		var want, got authv3.CheckResponse
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(wire, &want) != nil {
			return
		}
		fast, is := appendAllow(nil, &want)
		if !is {
			return
		}
		if err := proto.Unmarshal(fast, &got); err != nil || !proto.Equal(&got, &want) {
			t.Errorf("got %v, %v\nwant %v", &got, err, &want)
		}
		if len(fast) != proto.Size(&want) {
			t.Errorf("%d bytes, want %d", len(fast), proto.Size(&want))
		}
	})
}

// What Envoy usually asks and what it is usually told go the fast way, whatever else may.
func TestUsualIsFast(t *testing.T) {
	corpus, minted, config := authztest.Setup(t, "../authz/testdata")
	authorizer, err := authz.New(config)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := NewRules(authorizer)
	if err != nil {
		t.Fatal(err)
	}
	var message authv3.CheckRequest
	if !readQuestion(&message, marshalled(t, authztest.CheckRequest(authztest.AllowedRead(t, corpus, minted, &config.Profile)))) {
		t.Fatal("a usual question was not read fast")
	}
	response, err := NewServer(func() *Rules { return rules }, func(*Record) error { return nil }).Check(t.Context(), &message)
	if err != nil || response.GetOkResponse() == nil {
		t.Fatalf("not allowed: %v, %v", response, err)
	}
	if wire, fast := appendAllow(nil, response); !fast || len(wire) > usualAnswer {
		t.Errorf("an allow was written fast: %v, in %d bytes", fast, len(wire))
	}
	if n := len(response.DynamicMetadata.Fields); n > usualFields {
		t.Errorf("%d fields of metadata, more than is usual", n)
	}
}
