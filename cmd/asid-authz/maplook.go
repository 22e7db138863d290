package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"asid-authz/authz"
	"asid-authz/cache/layout"
	"asid-authz/cache/publish"
)

// showJSON is what show prints for programs.
type showJSON struct {
	Namespace    string           `json:"namespace"`
	Version      uint64           `json:"version"` // 0: nothing is published
	Generation   uint64           `json:"generation"`
	Systems      int              `json:"systems"`
	Active       int              `json:"active"` // of the systems: neither their entry nor a suspension says otherwise
	Interactions int              `json:"interactions"`
	Suspensions  []suspensionJSON `json:"suspensions"`
	Damage       []damageJSON     `json:"damage"`
	List         []systemJSON     `json:"list,omitempty"` // with --systems
}

type suspensionJSON struct {
	ASID   string    `json:"asid"`
	By     string    `json:"by"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	InMap  bool      `json:"in_map"`
}

type damageJSON struct {
	Key  string `json:"key"`
	ASID string `json:"asid,omitempty"`
	Text string `json:"text"`
}

func jsonDamage(all []publish.Damage) []damageJSON {
	out := make([]damageJSON, len(all))
	for i, d := range all {
		out[i] = damageJSON{d.Key, d.ASID, d.Text}
	}
	return out
}

func newMapShowCommand() *mapCommand {
	var systems bool
	c := newRedisCommand("show --redis FILE", "Say what map is in Redis",
		`With --systems it lists every system.

Exit 0, or 3 if what is in Redis does not match its manifest.`,
		noArguments, func(c *mapCommand, _ []string) error {
			p, err := c.open("")
			if err != nil {
				return err
			}
			defer p.Close()
			s, err := p.Read(c.Context())
			if err != nil {
				return err
			}
			if err := c.printState(p, s, systems); err != nil || len(s.Damage) == 0 {
				return err
			}
			return exitError{code: exitDifferences}
		})
	c.Flags().BoolVar(&systems, "systems", false, "list every system")
	return c
}

func (c *mapCommand) printState(p *publish.Publisher, s *publish.State, systems bool) error {
	out := showJSON{Namespace: p.Namespace().String(), Version: s.Version, Generation: s.Generation, Systems: s.Map.Len(),
		Suspensions: suspensionsOf(s), Damage: jsonDamage(s.Damage)}
	ids := map[authz.InteractionID]bool{}
	for system := range s.Map.Systems() {
		if _, suspended := s.Suspended[system.ASID]; system.State == authz.Active && !suspended {
			out.Active++
		}
		for _, id := range system.Interactions {
			ids[id] = true
		}
		if systems && c.json {
			out.List = append(out.List, jsonSystem(&system))
		}
	}
	out.Interactions = len(ids)
	if c.json {
		return c.printJSON(out)
	}
	w, paint := c.OutOrStdout(), c.painter()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "namespace\t%s\n", out.Namespace)
	if s.Version == 0 && len(s.Damage) == 0 {
		fmt.Fprintf(t, "version\tnone: nothing is published\n")
		return t.Flush()
	}
	fmt.Fprintf(t, "version\t%d\t%s\n", s.Version, versionTime(s.Version))
	fmt.Fprintf(t, "systems\t%d\t%d active\n", out.Systems, out.Active)
	fmt.Fprintf(t, "interactions\t%d\n", out.Interactions)
	fmt.Fprintf(t, "suspensions\t%d\n", len(out.Suspensions))
	t.Flush()
	for _, x := range out.Suspensions {
		fmt.Fprintln(w, paint.yellow("  "+x.text()))
	}
	for _, d := range s.Damage {
		fmt.Fprintln(w, paint.red("damaged: "+d.String()))
	}
	if systems {
		fmt.Fprintln(w)
		c.printSystems(w, s)
	}
	return nil
}

// versionTime returns when a version was published, by the clock of its publisher.
func versionTime(version uint64) string {
	return time.UnixMilli(int64(version)).UTC().Format(time.RFC3339)
}

func suspensionsOf(s *publish.State) []suspensionJSON {
	all := []suspensionJSON{}
	for asid, x := range s.Suspended {
		_, inMap := s.Map.System(asid)
		all = append(all, suspensionJSON{asid.String(), x.By, x.Time, x.Reason, inMap})
	}
	slices.SortFunc(all, func(a, b suspensionJSON) int { return strings.Compare(a.ASID, b.ASID) })
	return all
}

func (x *suspensionJSON) text() string {
	text := fmt.Sprintf("%s  suspended %s by %s: %s", x.ASID, x.Time.UTC().Format(time.RFC3339), word(x.By), authz.Excerpt(x.Reason))
	if !x.InMap {
		text += " (not in the map)"
	}
	return text
}

func (c *mapCommand) printSystems(w io.Writer, s *publish.State) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ASID\tODS\tSTATE\tINTERACTIONS\tNAME")
	for system := range s.Map.Systems() {
		state := system.State.String()
		if _, suspended := s.Suspended[system.ASID]; suspended {
			state = "suspended"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", system.ASID, word(system.ODSCode), state, len(system.Interactions), authz.Excerpt(system.Name))
	}
	t.Flush()
}

// getJSON is what get prints for programs.
type getJSON struct {
	Namespace  string          `json:"namespace"`
	Version    uint64          `json:"version"`
	System     *systemJSON     `json:"system"`     // null: the map has none
	Suspension *suspensionJSON `json:"suspension"` // null: there is none
}

func newMapGetCommand() *mapCommand {
	return newRedisCommand("get ASID --redis FILE", "Say what the map in Redis has of one system",
		`It says both what the entry says and whether the system is suspended by the layer above
it: a system is active when both let it be.

Exit 0, or 1 if the map has no such system.`,
		exactly(1), func(c *mapCommand, args []string) error {
			asid, err := authz.ParseASID(args[0])
			if err != nil {
				return exitError{exitUsage, err}
			}
			p, s, err := c.state("")
			if err != nil {
				return fail(err)
			}
			defer p.Close()
			system, known := s.Map.System(asid)
			out := getJSON{Namespace: p.Namespace().String(), Version: s.Version}
			if x, suspended := s.Suspended[asid]; suspended {
				out.Suspension = &suspensionJSON{asid.String(), x.By, x.Time, x.Reason, known}
			}
			if known {
				entry := jsonSystem(&system)
				out.System = &entry
			}
			if c.json {
				err = c.printJSON(out)
			} else {
				c.printSystem(&out)
			}
			if err == nil && !known {
				err = fmt.Errorf("version %d has no system %s", s.Version, asid)
			}
			return err
		})
}

func (c *mapCommand) printSystem(out *getJSON) {
	w, paint := c.OutOrStdout(), c.painter()
	if s := out.System; s != nil {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		field := func(name string, texts ...string) {
			for _, text := range texts {
				fmt.Fprintf(t, "%s\t%s\n", name, text)
				name = ""
			}
		}
		words := func(texts []string) (all []string) {
			for _, text := range texts {
				all = append(all, word(text))
			}
			return all
		}
		field("asid", s.ASID)
		field("name", authz.Excerpt(s.Name))
		field("ods", word(s.ODS))
		if s.PartyKey != "" {
			field("party_key", word(s.PartyKey))
		}
		field("fqdns", words(s.FQDNs)...)
		field("certificates", s.Certificates...)
		field("token_clients", words(s.TokenClients)...)
		field("state", s.State)
		field("interactions", s.Interactions...)
		t.Flush()
	}
	if out.Suspension != nil {
		fmt.Fprintln(w, paint.yellow(out.Suspension.text()))
	}
}

func newMapHistoryCommand() *mapCommand {
	var limit int
	c := newRedisCommand("history --redis FILE", "Say who changed the map in Redis, when and why",
		`The newest change is first. UNDO says whether "map rollback" can take it back; no is
where the way back ends.`,
		noArguments, func(c *mapCommand, _ []string) error {
			p, err := c.open("")
			if err != nil {
				return err
			}
			defer p.Close()
			records, err := p.History(c.Context(), limit)
			if len(records) == 0 && err != nil {
				return err
			}
			if c.json {
				return errors.Join(c.printJSON(append([]layout.Record{}, records...)), err)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "VERSION\tTIME\tACTION\tSYSTEMS\tCHANGE\tUNDO\tBY\tREASON")
			for _, r := range records {
				change, undo := fmt.Sprintf("+%d -%d ~%d", r.Added, r.Removed, r.Changed), "yes"
				if r.ASID != "" {
					change = word(r.ASID)
				}
				switch {
				case r.Added+r.Removed+r.Changed == 0:
					undo = "-"
				case r.UndoBytes == 0:
					undo = "no"
				}
				fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.Version, r.Time.UTC().Format(time.RFC3339), word(r.Action), r.Systems, change, undo,
					word(r.By), authz.Excerpt(r.Reason))
			}
			return errors.Join(t.Flush(), err)
		})
	c.Flags().IntVar(&limit, "limit", 50, "at most so many changes")
	return c
}

// verifyJSON is what verify prints for programs.
type verifyJSON struct {
	Namespace   string       `json:"namespace"`
	Version     uint64       `json:"version"`
	Systems     int          `json:"systems"`
	Suspensions int          `json:"suspensions"`
	LogEntries  int          `json:"log_entries"`
	Records     int          `json:"history_records"`
	Damage      []damageJSON `json:"damage"`
	Notes       []string     `json:"notes"`
}

func newMapVerifyCommand() *mapCommand {
	return newRedisCommand("verify --redis FILE", "Read everything in Redis as a replica does, and compare it with the manifest",
		`Every bucket, the dictionary and the suspension layer are compared with the manifest, every
entry is decoded, and the chain of the log is followed.

Exit 0 if all of it is as it should be, 3 if something is damaged, 1 if it could not be
found out.`,
		noArguments, func(c *mapCommand, _ []string) error {
			p, err := c.open("")
			if err != nil {
				return err
			}
			defer p.Close()
			v, err := p.Verify(c.Context())
			if err != nil {
				return err
			}
			if err := c.printVerification(p, v); err != nil || len(v.Damage) == 0 {
				return err
			}
			return exitError{code: exitDifferences}
		})
}

func (c *mapCommand) printVerification(p *publish.Publisher, v *publish.Verification) error {
	if c.json {
		return c.printJSON(verifyJSON{p.Namespace().String(), v.State.Version, v.State.Map.Len(), len(v.State.Suspended), v.Entries, v.Records,
			jsonDamage(v.Damage), append([]string{}, v.Notes...)})
	}
	w, paint := c.OutOrStdout(), c.painter()
	fmt.Fprintf(w, "namespace %s, version %d: %s, %s, %d changes in the log, %d in the history\n", p.Namespace(), v.State.Version,
		count(v.State.Map.Len(), "system"), count(len(v.State.Suspended), "suspension"), v.Entries, v.Records)
	for _, note := range v.Notes {
		fmt.Fprintln(w, paint.yellow("note: "+note))
	}
	for _, d := range v.Damage {
		fmt.Fprintln(w, paint.red("damaged: "+d.String()))
	}
	if len(v.Damage) == 0 {
		fmt.Fprintln(w, paint.green("all of it is as the manifest says"))
	}
	return nil
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
