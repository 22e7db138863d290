package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"asid-authz/authz/profile"
)

// newProfileCommand shows what the service decides by, and checks what an operator
// would have it decide by.
func newProfileCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "profile",
		Short: "Show the built-in profiles and check profile files",
		Args:  noArguments,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(newProfileListCommand(), newProfileShowCommand(), newProfileCheckCommand())
	return command
}

func newProfileListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the built-in profiles, a name a line",
		Args:  noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(command.OutOrStdout(), strings.Join(profile.Names(), "\n"))
			return err
		},
	}
}

func newProfileShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "show NAME",
		Short:     "Print a built-in profile as the commented file that one of your own begins with",
		Args:      exactly(1),
		ValidArgs: profile.Names(),
		RunE: func(command *cobra.Command, args []string) error {
			text, err := profile.Source(args[0])
			if err != nil {
				return exitError{exitUsage, err}
			}
			_, err = command.OutOrStdout().Write(text)
			return err
		},
	}
}

func newProfileCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say everything that is wrong with a profile file, by line; exit 1 if something is",
		Args:  exactly(1),
		RunE: func(command *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			p, err := profile.Decode(args[0], text)
			if err != nil {
				// A problem a line and nothing else, so that editors can jump to them.
				fmt.Fprintln(command.ErrOrStderr(), err)
				return exitError{code: exitFailed}
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "%s: profile %s, %d endpoints, %d claim rules\n", args[0], p.Name, len(p.Endpoints), len(p.Token.Rules))
			return err
		},
	}
}
