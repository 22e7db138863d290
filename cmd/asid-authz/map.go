package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"asid-authz/authz"
	"asid-authz/authz/profile"
	"asid-authz/authz/strictyaml"
	"asid-authz/cache"
)

func newMapCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "map",
		Short: "Check interaction maps, and look at the one in Redis and change it",
		Args:  noArguments,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(newMapCheckCommand())
	for _, c := range []*mapCommand{newMapShowCommand(), newMapGetCommand(), newMapDiffCommand(), newMapApplyCommand(),
		newMapSuspendCommand(), newMapResumeCommand(), newMapHistoryCommand(), newMapRollbackCommand(), newMapExportCommand(),
		newMapVerifyCommand(), newMapPromoteCommand()} {
		command.AddCommand(c.Command)
	}
	return command
}

func newMapCheckCommand() *cobra.Command {
	var named string
	command := &cobra.Command{
		Use:   "check FILE [--profile NAME|FILE]",
		Short: "Say what is wrong with a map file, and what in it is probably not meant",
		Long: `Say what is wrong with a map file, and what in it is probably not meant.

A file that is refused here is refused by the service too, with the same words. An
accepted one may still be warned about: a system that no certificate is bound to, a
name or a certificate that several parties share, a set that nobody uses and, with
--profile, an interaction that no endpoint of that API uses.

Exit 0 if the file is accepted without a warning, 1 if it is refused (or cannot be
read), 3 if it is accepted with warnings.`,
		Args: exactly(1),
		RunE: func(command *cobra.Command, args []string) error {
			return checkMap(command.OutOrStdout(), command.ErrOrStderr(), args[0], named)
		},
	}
	command.Flags().StringVar(&named, "profile", "", "compare the interactions with a built-in profile, by name, or with a profile file")
	return command
}

// checkMap prints what is wrong with the file to stderr, or the warnings to stdout, and
// in both cases a summary to stdout.
func checkMap(stdout, stderr io.Writer, file, named string) error {
	p, err := profileOf(named)
	if err != nil {
		return err
	}
	text, err := readFile(file)
	if err != nil {
		return err
	}
	f, err := cache.DecodeMap(file, text)
	var problems strictyaml.Problems
	if errors.As(err, &problems) {
		fmt.Fprintln(stderr, err)
		fmt.Fprintf(stdout, "%s: refused, %s\n", file, count(len(problems), "problem"))
		return exitError{code: exitFailed}
	}
	warnings := f.Warnings(p)
	for _, w := range warnings {
		fmt.Fprintf(stdout, "%s:%d: warning: %s\n", file, w.Line, w.Text)
	}
	s := f.Summary()
	fmt.Fprintf(stdout, "%s: accepted, %s (%d suspended), %s, %s, %s\n", file,
		count(s.Systems, "system"), s.Suspended, count(s.Sets, "set"), count(s.Interactions, "interaction"), count(len(warnings), "warning"))
	if len(warnings) > 0 {
		return exitError{code: exitDifferences}
	}
	return nil
}

// profileOf returns the profile that a flag names: a built-in one, whose name is letters,
// digits and dashes, or a file, whose path holds a dot or a slash.
func profileOf(flag string) (authz.Profile, error) {
	switch {
	case flag == "":
		return authz.Profile{}, nil
	case strings.ContainsAny(flag, `./\`):
		return loadProfile(ProfileConfig{File: PathValue(flag)}, func(p PathValue) string { return string(p) })
	}
	p, err := profile.Builtin(flag)
	if err != nil {
		return p, exitError{exitUsage, err}
	}
	return p, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
