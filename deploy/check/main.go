// Command check holds what is in deploy/ against the programs that will read it: `make
// deploy-check`.
//
// The manifests are rendered and held against the schemas of Kubernetes, the alert rules are
// checked and their unit tests run, and the queries of the dashboard are parsed. What needs
// no foreign program (every metric is one that is exported, every runbook link leads
// somewhere) is a test of the service.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	all := flag.Bool("all", false, "fail if a program is missing and cannot be fetched, instead of saying what was not checked")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *all); err != nil {
		fmt.Fprintln(os.Stderr, "deploy-check:", err)
		os.Exit(1)
	}
}

// run makes every check that there is a program for. It runs in the repository's root.
func run(ctx context.Context, all bool) error {
	tools, err := filepath.Abs(".tools")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	for _, check := range []struct {
		what string
		need func(context.Context, string) (string, error)
		run  func(ctx context.Context, tools, found string) error
	}{
		{"the manifests", schemas, manifests},
		{"the alert rules and the dashboard", promtool, queries},
	} {
		found, err := check.need(ctx, tools)
		if err != nil && all {
			return err
		}
		if err != nil {
			fmt.Printf("NOT CHECKED: %s: %v\n", check.what, err)
			continue
		}
		if err := check.run(ctx, tools, found); err != nil {
			return fmt.Errorf("%s: %w", check.what, err)
		}
	}
	return nil
}
