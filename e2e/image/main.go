// Command image builds the image that ships and says how large it is and how long it takes
// to be ready. `make image` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/e2e/docker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var b docker.Build
	var standIn bool
	flag.StringVar(&b.Name, "name", "asid-authz", "`name` of the image")
	flag.StringVar(&b.Go, "go", "", "`image` with Go (default: the Dockerfile's)")
	flag.StringVar(&b.Runtime, "runtime", "", "`image` that the binary is put into (default: the Dockerfile's)")
	flag.BoolVar(&standIn, "standin", false, "build with this machine's Go instead of a public image")
	flag.Parse()
	if err := docker.Available(ctx); err != nil {
		return err
	}
	if standIn {
		image, err := docker.StandInGo(ctx)
		if err != nil {
			return err
		}
		b.Go = image.Name
	}
	b.Version, b.Revision = docker.Describe(ctx)
	if err := b.Run(ctx, os.Stderr); err != nil {
		return err
	}
	size, err := docker.Size(ctx, b.Name)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "asid-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := docker.Repository(ctx)
	if err != nil {
		return err
	}
	corpus, err := authztest.Load(filepath.Join(root, "authz", "testdata"))
	if err != nil {
		return err
	}
	world, err := corpus.Worlds[authztest.Usual].Mint(time.Now())
	if err != nil {
		return err
	}
	start, err := docker.MeasureStart(ctx, b.Name, dir, world)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %.1f MB, version %s\n", b.Name, float64(size)/1e6, b.Version)
	fmt.Printf("ready %d ms after docker run with a map file of %d bytes, %d ms of which the engine takes for any program\n",
		start.Ready.Milliseconds(), start.MapBytes, start.Engine.Milliseconds())
	return nil
}
