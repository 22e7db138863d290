// Command asid-authz decides for Envoy whether an accredited system may perform an
// interaction. `asid-authz serve` is the service; the other commands look at what it
// decides by.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, of every command.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDifferences = 3 // it worked, and there is something to look at
)

// An exitError ends the program with a code of its own. err may be nil when what there
// is to say has been said.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "asid-authz",
		Short:         "Decides for Envoy whether an NHS accredited system may perform an interaction",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(args)
	root.AddCommand(newServeCommand(), newMapCommand(), newProfileCommand(), newEnvoyConfigCommand(), newExplainCommand(), newHealthCommand())
	started := false
	notice(root, &started)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	exit := exitError{code: exitFailed, err: err}
	if !errors.As(err, &exit) && !started { // the command line itself was off
		exit.code = exitUsage
	}
	switch {
	case exit.err == nil: // what there was to say has been said
	case exit.code == exitUsage:
		fmt.Fprintf(stderr, "%s: %v\nSee '%s --help'.\n", command.CommandPath(), err, command.CommandPath())
	default:
		fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), err)
	}
	return exit.code
}

// notice sets started when a command's own work begins.
func notice(command *cobra.Command, started *bool) {
	if work := command.RunE; work != nil {
		command.RunE = func(command *cobra.Command, args []string) error {
			*started = true
			return work(command, args)
		}
	}
	for _, c := range command.Commands() {
		notice(c, started)
	}
}

// noArguments and exactly refuse words that a command does not take, as a matter of usage.
func noArguments(command *cobra.Command, args []string) error { return exactly(0)(command, args) }

func exactly(n int) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(command, args); err != nil {
			return exitError{exitUsage, err}
		}
		return nil
	}
}

// release is the version that the linker was told (-X), where there is no repository for
// the toolchain to read it from: in the build of an image.
var release string

// version is release, or else the module's, as the toolchain stamped it into the binary.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
