package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// newHealthCommand asks a running service over its admin port, for health checks in
// images that hold no other program.
func newHealthCommand() *cobra.Command {
	var address string
	var live bool
	command := &cobra.Command{
		Use:   "health",
		Short: "Ask a running service whether it is ready; exit 0 if it is",
		Args:  noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			path := "/readyz"
			if live {
				path = "/healthz"
			}
			ctx, cancel := context.WithTimeout(command.Context(), 2*time.Second)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
			if err != nil {
				return exitError{exitUsage, err}
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answers %s", path, response.Status)
			}
			fmt.Fprintln(command.OutOrStdout(), "ok")
			return nil
		},
	}
	command.Flags().StringVar(&address, "admin", "127.0.0.1:9902", "admin address of the service")
	command.Flags().BoolVar(&live, "live", false, "ask only whether the process lives")
	return command
}
