package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"asid-authz/e2e/mesh"
)

// Without an answer from asid-authz nobody gets in: a dead, a hanging and a restarted one.
func TestNoAnswerIsNoEntry(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{})
	expect(t, s.ask(t, s.edge, s.read), 200, "")
	passed := s.Upstream.Count()

	if err := s.Replica().Hold(); err != nil {
		t.Fatal(err)
	}
	expect(t, s.ask(t, s.edge, s.read), 503, "")
	if err := s.Replica().Release(); err != nil {
		t.Fatal(err)
	}
	s.untilAllowed(t)
	passed++

	s.Replica().Kill()
	expect(t, s.ask(t, s.edge, s.read), 503, "")
	if err := s.Replica().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.untilAllowed(t)
	passed++
	if got := s.Upstream.Count(); got != passed {
		t.Errorf("%d requests reached the API, %d were allowed", got, passed)
	}
}

// untilAllowed waits until the read is allowed: Envoy leaves a replica alone for a while
// after it has failed. Until then nothing but 503 is an answer.
func (s *scene) untilAllowed(t *testing.T) {
	t.Helper()
	client := s.client(t, s.edge, s.read)
	eventually(t, "the read is allowed again", func() bool {
		answer, err := client.Do(t.Context(), mesh.HTTP1, s.request(t, s.read))
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != 200 {
			expect(t, []*mesh.Answer{answer}, 503, "")
		}
		return answer.Status == 200
	})
}

// The lock holds whatever mistake Envoy is configured with. Each mistake is made a second
// time with the lock taken away: there the request gets through, or the test would prove
// nothing.
func TestLock(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{})
	open := map[string]*mesh.Edge{}
	locked := map[string]*mesh.Edge{}
	mistakes := []mesh.Change{mesh.Disabled, mesh.Shadowed, mesh.FailingOpen}
	for _, mistake := range mistakes {
		locked[mistake.Name] = startEdge(t, s.Mesh, mistake)
		open[mistake.Name] = startEdge(t, s.Mesh, mistake, mesh.Unlocked)
	}
	for _, mistake := range mistakes {
		t.Run(mistake.Name, func(t *testing.T) {
			if mistake.Name == mesh.FailingOpen.Name { // the last of them
				expect(t, s.ask(t, locked[mistake.Name], s.remove), 403, "interaction-not-granted")
				s.Replica().Kill()
			}
			passed := s.Upstream.Count()
			expect(t, s.ask(t, locked[mistake.Name], s.remove), 403, "")
			if got := s.Upstream.Count(); got != passed {
				t.Errorf("%d requests reached the API past the lock", got-passed)
			}
			for _, a := range s.ask(t, open[mistake.Name], s.remove) {
				if a.Status != 200 {
					t.Errorf("without the lock: got %v, want it to get through", a)
				}
			}
		})
	}
}

// A wrongAnswer is what something else says in the place of asid-authz: bytes that are put
// on the wire as they are, or an error.
type wrongAnswer struct {
	message []byte
	err     error
}

// An impostor answers every call alike, with the certificate of asid-authz.
type impostor struct {
	answer atomic.Pointer[wrongAnswer]
	asked  atomic.Int64
}

// rawCodec takes and gives bytes for messages.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// startImpostor returns an impostor and its address.
func startImpostor(t *testing.T, m *mesh.Mesh) (*impostor, string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(m.Path("authz.pem"), m.Path("authz.key"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{}
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}})),
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			var message []byte
			if err := stream.RecvMsg(&message); err != nil {
				return err
			}
			if method, _ := grpc.MethodFromServerStream(stream); method == "/envoy.service.auth.v3.Authorization/Check" {
				i.asked.Add(1)
			}
			answer := i.answer.Load()
			if answer.err != nil {
				return answer.err
			}
			return stream.SendMsg(&answer.message)
		}))
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return i, listener.Addr().String()
}

// What is no whole answer lets nobody in, and neither does an OK without the mark that the
// lock asks for: an empty CheckResponse, for one, is an OK to ext_authz.
func TestGarbageIsNoEntry(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{})
	i, address := startImpostor(t, s.Mesh)
	i.answer.Store(&wrongAnswer{})
	e := startEdge(t, s.Mesh, mesh.Asking(address))
	encode := func(r *authv3.CheckResponse) []byte {
		text, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	marked := func(decision string) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{"decision": structpb.NewStringValue(decision)}}
	}
	ok := &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}
	for name, test := range map[string]struct {
		answer wrongAnswer
		status int
	}{
		"empty message":     {wrongAnswer{}, 403},
		"no protobuf":       {wrongAnswer{message: []byte("HTTP/1.1 200 OK\r\n\r\n")}, 503},
		"cut off":           {wrongAnswer{message: encode(&authv3.CheckResponse{HttpResponse: ok, DynamicMetadata: marked("allow")})[:9]}, 503},
		"grpc error":        {wrongAnswer{err: grpcstatus.Error(codes.Internal, "broken")}, 503},
		"grpc denied":       {wrongAnswer{err: grpcstatus.Error(codes.PermissionDenied, "no")}, 503},
		"ok without a mark": {wrongAnswer{message: encode(&authv3.CheckResponse{Status: &status.Status{}, HttpResponse: ok})}, 403},
		"ok marked deny":    {wrongAnswer{message: encode(&authv3.CheckResponse{HttpResponse: ok, DynamicMetadata: marked("deny")})}, 403},
		"too large": {wrongAnswer{message: encode(&authv3.CheckResponse{DynamicMetadata: marked("allow"), HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-asid", Value: string(make([]byte, 1<<20))}}}}}})}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			before, passed := i.asked.Load(), s.Upstream.Count()
			i.answer.Store(&test.answer)
			expect(t, s.ask(t, e, s.read), test.status, "")
			if i.asked.Load() == before {
				t.Error("nobody was asked")
			}
			if got := s.Upstream.Count(); got != passed {
				t.Errorf("%d requests reached the API", got-passed)
			}
		})
	}
	// The impostor is believed when it says what asid-authz would: what failed above is what it said.
	i.answer.Store(&wrongAnswer{message: encode(&authv3.CheckResponse{HttpResponse: ok, DynamicMetadata: marked("allow")})})
	expect(t, s.ask(t, e, s.read), 200, "")
}

// Only Envoy may ask: the port decides who gets in, and whoever can ask can learn.
func TestOnlyEnvoyMayAsk(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{})
	stranger, err := s.World.Certificate(s.read)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.PrivateCA().Certificate)
	check := func(certificates ...tls.Certificate) error {
		conn, err := grpc.NewClient(s.Replica().Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: roots, ServerName: "authz.internal",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certificates) == 0 {
					return &tls.Certificate{}, nil
				}
				return &certificates[0], nil
			},
		})))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err = authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{})
		return err
	}
	if err := check(issued(t, s.PrivateCA(), "edge.internal")); err != nil {
		t.Errorf("Envoy: %v", err)
	}
	if err := check(issued(t, s.PrivateCA(), "other.internal")); grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("another of the same authority: %v, want it refused", err)
	}
	if err := check(stranger.TLS()); grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("a client of the API: %v, want it refused", err)
	}
	if err := check(); grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("nobody: %v, want it refused", err)
	}
}

// Over a Unix socket everything is as over TCP, and only the owner and his group may ask.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{Unix: true})
	expect(t, s.ask(t, s.edge, s.read), 200, "")
	expect(t, s.ask(t, s.edge, s.remove), 403, "interaction-not-granted")
	info, err := os.Stat(s.Replica().Address[len("unix:"):])
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o660 {
		t.Errorf("the socket's mode is %o", got)
	}
}
