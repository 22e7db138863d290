package main

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/tap"
	"google.golang.org/grpc/test/bufconn"
)

// TestConnectionAge: a client that is content with its connection, as Envoy is, comes to a
// replica that was added later, and loses no call on the way.
func TestConnectionAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Config{}
		c.setDefaults()
		type replica struct {
			listener *bufconn.Listener
			asked    atomic.Int64
		}
		var replicas []*replica
		add := func() *replica {
			r := &replica{listener: bufconn.Listen(1 << 16)}
			server := grpc.NewServer(serverOptions(c, func(ctx context.Context, _ *tap.Info) (context.Context, error) {
				r.asked.Add(1)
				return ctx, nil
			})...)
			healthv1.RegisterHealthServer(server, health.NewServer())
			go server.Serve(r.listener)
			t.Cleanup(server.Stop)
			replicas = append(replicas, r)
			return r
		}
		first := add()
		conn, err := grpc.NewClient("passthrough:replicas", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return replicas[len(replicas)-1].listener.DialContext(ctx) // the one that has the fewest connections
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		ask := func() {
			t.Helper()
			if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
				t.Fatalf("a call was lost: %v", err)
			}
		}
		began := time.Now()
		ask()
		second := add()
		for second.asked.Load() == 0 {
			if time.Since(began) > time.Hour {
				t.Fatal("the new replica is never asked")
			}
			time.Sleep(time.Second)
			ask()
		}
		// Ten minutes, a tenth more or less, and a moment.
		if after := time.Since(began); after < 9*time.Minute || after > 11*time.Minute+2*time.Second {
			t.Errorf("the connection lasted %v, want about %v", after, c.Limits.MaxConnectionAge)
		}
		if first.asked.Load() < 500 {
			t.Errorf("the first replica was asked %d times", first.asked.Load())
		}
	})
}
