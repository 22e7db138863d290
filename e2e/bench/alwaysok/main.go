// Command alwaysok is an ext_authz server that says OK without looking, written as anybody
// would with grpc-go and go-control-plane. What asid-authz costs more than this is what its
// decisions cost; whoever asks any server at all pays the rest.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"log"
	"net"
	"os"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

type server struct {
	authv3.UnimplementedAuthorizationServer
}

func (server) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

func main() {
	listen := flag.String("listen", "", "host:port, or unix:PATH")
	certificate := flag.String("certificate", "", "PEM `file`; none: no TLS")
	key := flag.String("key", "", "PEM `file`")
	clientCA := flag.String("client-ca", "", "PEM `file` that clients are verified against")
	flag.Parse()

	// Envoy pings a connection that is idle every ten seconds, and grpc-go would hang up.
	options := []grpc.ServerOption{grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true})}
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			log.Fatal(err)
		}
		bundle, err := os.ReadFile(*clientCA)
		if err != nil {
			log.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(bundle)
		options = append(options, grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		})))
	}
	network, address := "tcp", *listen
	if path, is := strings.CutPrefix(*listen, "unix:"); is {
		network, address = "unix", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer(options...)
	authv3.RegisterAuthorizationServer(s, server{})
	states := health.NewServer()
	states.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(s, states)
	log.Fatal(s.Serve(listener))
}
