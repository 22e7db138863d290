// Command tools fetches the programs that the tests and the demo need and that are not on
// this machine, into the folder .tools, and says where they are: `make tools`.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"asid-authz/cache/redistest"
	"asid-authz/e2e/mesh"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tools:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	envoy, err := mesh.FindEnvoy(ctx)
	if err != nil {
		return err
	}
	version, err := mesh.EnvoyVersion(ctx, envoy)
	if err != nil {
		return err
	}
	fmt.Printf("Envoy %s: %s\n", version, envoy)
	redis, err := redistest.Find(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", redis, redis.Path)
	return nil
}
