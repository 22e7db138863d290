package main

import (
	"fmt"

	"asid-authz/authz"
	"asid-authz/cache/publish"
)

func newMapApplyCommand() *mapCommand {
	var dryRun, repair, again, full bool
	removals := share{"10%", 10, true}
	c := newRedisCommand("apply FILE --redis FILE", "Make a map file the map in Redis",
		`The difference is printed first. On a terminal the command then asks; where nobody can
answer, it wants --yes. A difference that removes more than a tenth of the systems (and
more than three) is refused unless --max-removals says otherwise: a file that was cut
short looks like that.

If somebody else changes the map meanwhile, nothing is written, and the command fails.
Suspensions stay: only "map resume" lifts them.

If nothing differs, nothing is written, unless --again says so: after Redis was restored
from an old dump, replicas hold a newer map and wait for a version that rises above it.

Exit 0 if the map is what the file says, 1 if it was not published, 2 if it needs --yes;
with --dry-run 3 if something differs.`,
		exactly(1), func(c *mapCommand, args []string) error {
			target, err := mapOf(c, args[0])
			if err != nil {
				return err
			}
			p, err := c.open("")
			if err != nil {
				return err
			}
			defer p.Close()
			s, err := p.Read(c.Context())
			if err != nil {
				return err
			}
			for _, d := range s.Damage {
				fmt.Fprintln(c.ErrOrStderr(), "damaged:", d)
			}
			plan := publish.NewPlan(s, target)
			action := "apply"
			if len(s.Damage) > 0 {
				if !repair {
					return fail(publish.DamageError{Damage: s.Damage})
				}
				plan.Repair, action = true, "repair"
			}
			change := pending{plan: plan, action: action, full: full, write: again || plan.Repair || s.Version == 0}
			if change.removals = &removals; c.Flags().Changed("max-removals") {
				change.said = true
			}
			return c.make(p, &change, dryRun)
		}).asks()
	c.Flags().BoolVar(&dryRun, "dry-run", false, "print the difference and stop")
	c.Flags().Var(&removals, "max-removals", "refuse to remove more systems than that")
	c.Flags().BoolVar(&repair, "repair", false, "write the map anew as a whole if what is in Redis does not match its manifest")
	c.Flags().BoolVar(&again, "again", false, "publish a new version even if nothing differs")
	c.Flags().BoolVar(&full, "full", false, "list every system, however many there are")
	return c
}

// A pending change is one that was planned and not made yet.
type pending struct {
	plan     *publish.Plan
	action   string
	full     bool
	write    bool   // even if nothing differs
	removals *share // nil: as many as there are
	said     bool   // the removals were named
	show     func() // what is shown besides, or nil
}

// make shows a change, asks, and makes it.
func (c *mapCommand) make(p *publish.Publisher, change *pending, dryRun bool) error {
	meta, err := c.meta(change.action)
	if err != nil {
		return err
	}
	plan := change.plan
	if dryRun || !c.json {
		if err := c.printPlan(p, plan, change.full); err != nil {
			return err
		}
		if change.show != nil && !c.json {
			change.show()
		}
	}
	if change.removals != nil {
		if err := change.removals.check(plan, change.said); err != nil {
			return err
		}
	}
	if dryRun {
		if plan.Empty() && !change.write {
			return nil
		}
		return exitError{code: exitDifferences}
	}
	if plan.Empty() && !change.write {
		if c.json {
			r := publish.Result{Version: plan.From.Version, Before: plan.From.Version, Unchanged: true, Acknowledged: -1}
			return c.printJSON(jsonOf(p, r, &plan.Diff))
		}
		return nil
	}
	if err := c.confirm(fmt.Sprintf("Change the map in namespace %s?", p.Namespace())); err != nil {
		return err
	}
	result, err := p.Apply(c.Context(), plan, meta)
	if err != nil {
		return fail(err)
	}
	if c.json {
		return c.printJSON(jsonOf(p, result, &plan.Diff))
	}
	fmt.Fprintln(c.OutOrStdout(), published(result))
	return nil
}

func newMapRollbackCommand() *mapCommand {
	var dryRun, full bool
	c := newRedisCommand("rollback VERSION --redis FILE", "Make the map in Redis what it was at an older version",
		`What changes since then replaced is taken back, as a new version. The difference is
printed first, and every interaction that an active system could do again: something was
taken away for a reason. Then the command asks, or wants --yes. Suspensions stay.

"map history" lists the versions. How far back they reach is bounded by --keep-history of
the commands that changed the map.

Exit 0 if the map is what it was, 1 if it was not changed, 2 if it needs --yes; with
--dry-run 3 if something differs.`,
		exactly(1), func(c *mapCommand, args []string) error {
			version, err := parseVersion(args[0])
			if err != nil {
				return err
			}
			p, err := c.open("")
			if err != nil {
				return err
			}
			defer p.Close()
			plan, err := p.RollbackTo(c.Context(), version)
			if err != nil {
				return fail(err)
			}
			return c.make(p, &pending{plan: plan, action: "rollback", full: full, show: func() { c.printGiven(plan, full) }}, dryRun)
		}).asks()
	c.Flags().BoolVar(&dryRun, "dry-run", false, "print the difference and stop")
	c.Flags().BoolVar(&full, "full", false, "list every system, however many there are")
	return c
}

func parseVersion(text string) (version uint64, err error) {
	if _, err := fmt.Sscanf(text, "%d", &version); err != nil || fmt.Sprint(version) != text {
		return 0, exitError{exitUsage, fmt.Errorf("a version is a number as `map history` lists them, not %s", authz.Excerpt(text))}
	}
	return version, nil
}

// printGiven prints the grants that a plan would bring back.
func (c *mapCommand) printGiven(plan *publish.Plan, full bool) {
	given, _ := plan.Grants()
	if len(given) == 0 {
		return
	}
	w, paint := c.OutOrStdout(), c.painter()
	fmt.Fprintln(w, "Grants that it would bring back:")
	for i, g := range given {
		if i == listed && !full {
			andMore(w, len(given)-listed)
			break
		}
		note := ""
		if _, suspended := plan.From.Suspended[g.ASID]; suspended {
			note = " (suspended)"
		}
		fmt.Fprintln(w, paint.green(fmt.Sprint("  ", g.ASID, "  ", g.Interaction, note)))
	}
}

func newMapPromoteCommand() *mapCommand {
	var dryRun, full bool
	removals := share{"10%", 10, true}
	c := newRedisCommand("promote NAMESPACE --redis FILE", "Make the map of another namespace the map in Redis",
		`A map that was tried in a namespace of its own, by a few replicas, becomes the one that
all the others read, with the same questions as "map apply". Suspensions stay on both
sides: they are no part of it. The user needs the right to read the other namespace.

Exit 0 if the maps are the same, 1 if nothing was published, 2 if it needs --yes; with
--dry-run 3 if something differs.`,
		exactly(1), func(c *mapCommand, args []string) error {
			other, from, err := c.state(args[0])
			if err != nil {
				return fail(err)
			}
			defer other.Close()
			if from.Version == 0 {
				return fmt.Errorf("nothing is published in namespace %s", other.Namespace())
			}
			p, s, err := c.state("")
			if err != nil {
				return fail(err)
			}
			defer p.Close()
			if p.Namespace() == other.Namespace() {
				return exitError{exitUsage, fmt.Errorf("namespace %s is the one that would be changed", p.Namespace())}
			}
			change := pending{plan: publish.NewPlan(s, from.Map), action: "promote", full: full, write: s.Version == 0,
				removals: &removals, said: c.Flags().Changed("max-removals")}
			return c.make(p, &change, dryRun)
		}).asks()
	c.Flags().BoolVar(&dryRun, "dry-run", false, "print the difference and stop")
	c.Flags().BoolVar(&full, "full", false, "list every system, however many there are")
	c.Flags().Var(&removals, "max-removals", "refuse to remove more systems than that")
	return c
}
