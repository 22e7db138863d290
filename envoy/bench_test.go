package envoy_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"asid-authz/envoy"
)

// alwaysOK is the baseline: a stock ext_authz server that lets everything through
// without looking. What a Check of ours costs more than this is what deciding costs.
type alwaysOK struct {
	authv3.UnimplementedAuthorizationServer
}

func (alwaysOK) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

// BenchmarkGRPC is a whole warm Check over a real gRPC connection on the loopback,
// client included, beside the baseline.
func BenchmarkGRPC(b *testing.B) {
	rules, message := allowed(b)
	ours := serverOf(rules, unrecorded)
	for name, server := range map[string]authv3.AuthorizationServer{"asid-authz": ours, "always-ok": alwaysOK{}} {
		b.Run(name, func(b *testing.B) {
			listener, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
			if err != nil {
				b.Fatal(err)
			}
			var options []grpc.ServerOption
			if server == ours {
				options = append(options, grpc.InTapHandle(ours.Arrive), grpc.ForceServerCodecV2(envoy.Codec()))
			}
			s := grpc.NewServer(options...)
			authv3.RegisterAuthorizationServer(s, server)
			go s.Serve(listener)
			b.Cleanup(s.Stop)
			conn, err := grpc.NewClient("unix:"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { conn.Close() })
			client := authv3.NewAuthorizationClient(conn)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ctx, cancel := context.WithTimeout(b.Context(), time.Minute) // as Envoy has one
					response, err := client.Check(ctx, message)
					cancel()
					if err != nil || response.GetStatus().GetCode() != int32(codes.OK) {
						b.Fatal(response, err)
					}
				}
			})
		})
	}
}

// BenchmarkServer is the edge without the wire: reading the message, deciding with a
// verified token and a parsed certificate in the caches, and making the answer. The
// context is as the gRPC server makes it, with a deadline and the mark of the arrival.
func BenchmarkServer(b *testing.B) {
	rules, message := allowed(b)
	s := serverOf(rules, unrecorded)
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	ctx, err := s.Arrive(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if response, err := s.Check(ctx, message); err != nil || response.GetStatus().GetCode() != int32(codes.OK) {
			b.Fatal(response, err)
		}
	}
}
