package main

import (
	"context"
	"fmt"

	"asid-authz/authz"
	"asid-authz/cache/publish"
)

// layerJSON is what suspend and resume print for programs.
type layerJSON struct {
	resultJSON
	ASID  string `json:"asid"`
	InMap bool   `json:"in_map"`
}

func newMapSuspendCommand() *mapCommand {
	return newLayerCommand("suspend", "Suspend a system at once, whatever the map says of it",
		`Replicas deny the system within milliseconds. Neither "map apply" nor "map rollback" lifts
the suspension, only "map resume" does. A system that the map does not have may be
suspended too: it is when it comes.

Exit 0 if the system is suspended, also if it was before.`,
		"suspended", (*publish.Publisher).Suspend)
}

func newMapResumeCommand() *mapCommand {
	return newLayerCommand("resume", "Lift the suspension of a system",
		`The system may do again what its entry in the map says, if that says active.

Exit 0 if the system is not suspended, also if it was not before.`,
		"not suspended", (*publish.Publisher).Resume)
}

func newLayerCommand(name, short, long, now string, do func(*publish.Publisher, context.Context, authz.ASID, publish.Meta) (publish.Result, error)) *mapCommand {
	c := newRedisCommand(name+" ASID --redis FILE --reason TEXT", short, long, exactly(1), func(c *mapCommand, args []string) error {
		asid, err := authz.ParseASID(args[0])
		if err != nil {
			return exitError{exitUsage, err}
		}
		meta, err := c.meta(name)
		if err != nil {
			return err
		}
		p, err := c.open("")
		if err != nil {
			return err
		}
		defer p.Close()
		result, err := do(p, c.Context(), asid, meta)
		if err != nil {
			return fail(err)
		}
		if !result.InMap {
			fmt.Fprintf(c.ErrOrStderr(), "warning: the map has no system %s\n", asid)
		}
		if c.json {
			return c.printJSON(layerJSON{jsonOf(p, result, &publish.Diff{}), asid.String(), result.InMap})
		}
		if result.Unchanged {
			fmt.Fprintf(c.OutOrStdout(), "%s is %s already: nothing was changed\n", asid, now)
			return nil
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is %s: %s\n", asid, now, published(result))
		return nil
	}).changes()
	if err := c.MarkFlagRequired("reason"); err != nil {
		panic(err) // the flag is there
	}
	return c
}
