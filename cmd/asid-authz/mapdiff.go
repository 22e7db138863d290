package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"asid-authz/authz"
	"asid-authz/authz/strictyaml"
	"asid-authz/cache"
	"asid-authz/cache/publish"
)

func newMapDiffCommand() *mapCommand {
	var full bool
	c := newRedisCommand("diff FILE --redis FILE", "Say how the map in Redis would change if a map file were applied",
		`Suspensions are a layer of their own, which no file changes, and are left out.

Exit 0 if nothing differs, 3 if something does.`,
		exactly(1), func(c *mapCommand, args []string) error {
			target, err := mapOf(c, args[0])
			if err != nil {
				return err
			}
			p, s, err := c.state("")
			if err != nil {
				return fail(err)
			}
			defer p.Close()
			plan := publish.NewPlan(s, target)
			if err := c.printPlan(p, plan, full); err != nil || plan.Empty() {
				return err
			}
			return exitError{code: exitDifferences}
		})
	c.Flags().BoolVar(&full, "full", false, "list every system, however many there are")
	return c
}

// mapOf reads a map file. What is wrong with it is printed.
func mapOf(c *mapCommand, file string) (*authz.InteractionMap, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	f, err := cache.DecodeMap(file, text)
	var problems strictyaml.Problems
	if errors.As(err, &problems) {
		fmt.Fprintln(c.ErrOrStderr(), err)
		return nil, fmt.Errorf("%s: refused, %s", file, count(len(problems), "problem"))
	}
	if err != nil {
		return nil, err
	}
	return f.Build(1)
}

// listed is how many systems of a kind are listed where nobody asked for all of them.
const listed = 50

// printPlan prints the difference.
func (c *mapCommand) printPlan(p *publish.Publisher, plan *publish.Plan, full bool) error {
	if c.json {
		return c.printJSON(planJSON(p, plan))
	}
	most := listed
	if full {
		most = plan.Target.Len() + plan.From.Map.Len()
	}
	w, paint := c.OutOrStdout(), c.painter()
	for _, kind := range []struct {
		sign    string
		paint   func(string) string
		systems []authz.AccreditedSystem
	}{{"-", paint.red, plan.Removed}, {"+", paint.green, plan.Added}} {
		for _, s := range kind.systems[:min(most, len(kind.systems))] {
			fmt.Fprintln(w, kind.paint(kind.sign+" "+headline(&s)+fmt.Sprintf("  %s, %s", s.State, count(len(s.Interactions), "interaction"))))
		}
		andMore(w, len(kind.systems)-most)
	}
	for i := range plan.Changed[:min(most, len(plan.Changed))] {
		printChange(w, paint, &plan.Changed[i])
	}
	andMore(w, len(plan.Changed)-most)
	if plan.Empty() {
		fmt.Fprintf(w, "no difference to version %d\n", plan.From.Version)
		return nil
	}
	given, taken := plan.Grants()
	fmt.Fprintf(w, "%s added, %d removed, %d changed; %s given, %d taken away\n",
		count(len(plan.Added), "system"), len(plan.Removed), len(plan.Changed), count(len(given), "grant"), len(taken))
	return nil
}

func andMore(w io.Writer, n int) {
	if n > 0 {
		fmt.Fprintf(w, "  … and %d more (--full lists them)\n", n)
	}
}

// headline returns who a system is, in one line.
func headline(s *authz.AccreditedSystem) string {
	text := fmt.Sprint(s.ASID, "  ", word(s.ODSCode))
	if s.Name != "" {
		text += "  " + authz.Excerpt(s.Name)
	}
	return text
}

func printChange(w io.Writer, paint painter, change *publish.Change) {
	fmt.Fprintln(w, paint.yellow("~ "+headline(&change.After)))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range change.Fields() {
		if f.Removed == nil && f.Added == nil {
			fmt.Fprintf(t, "    %s\t%s -> %s\n", f.Name, word(f.Before), word(f.After))
			continue
		}
		name := f.Name
		for _, text := range f.Removed {
			fmt.Fprintf(t, "    %s\t%s\n", name, paint.red("- "+word(text)))
			name = ""
		}
		for _, text := range f.Added {
			fmt.Fprintf(t, "    %s\t%s\n", name, paint.green("+ "+word(text)))
			name = ""
		}
	}
	t.Flush()
}

// diffJSON is what diff prints for programs, and every command that shows a difference.
type diffJSON struct {
	Namespace   string        `json:"namespace"`
	FromVersion uint64        `json:"from_version"` // 0: nothing is published
	Added       []systemJSON  `json:"added"`
	Removed     []systemJSON  `json:"removed"`
	Changed     []changedJSON `json:"changed"`
	Given       []grantJSON   `json:"grants_given"` // to active systems that could not do that before
	Taken       []grantJSON   `json:"grants_taken"`
}

// systemJSON is a system in the words of a map file.
type systemJSON struct {
	ASID         string   `json:"asid"`
	Name         string   `json:"name,omitempty"`
	ODS          string   `json:"ods"`
	PartyKey     string   `json:"party_key,omitempty"`
	FQDNs        []string `json:"fqdns,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	TokenClients []string `json:"token_clients,omitempty"`
	State        string   `json:"state"`
	Interactions []string `json:"interactions"`
}

type changedJSON struct {
	ASID   string      `json:"asid"`
	Fields []fieldJSON `json:"fields"`
}

// fieldJSON has before and after if the field is a text, and removed and added if it is a list.
type fieldJSON struct {
	Field   string   `json:"field"`
	Before  *string  `json:"before,omitempty"`
	After   *string  `json:"after,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Added   []string `json:"added,omitempty"`
}

type grantJSON struct {
	ASID        string `json:"asid"`
	Interaction string `json:"interaction"`
}

func jsonSystem(s *authz.AccreditedSystem) systemJSON {
	return systemJSON{ASID: s.ASID.String(), Name: s.Name, ODS: s.ODSCode, PartyKey: s.PartyKey, FQDNs: s.FQDNs,
		Certificates: publish.Certificates(s), TokenClients: s.TokenClients, State: s.State.String(), Interactions: publish.Interactions(s)}
}

func jsonSystems(all []authz.AccreditedSystem) []systemJSON {
	out := make([]systemJSON, len(all))
	for i := range all {
		out[i] = jsonSystem(&all[i])
	}
	return out
}

func jsonGrants(all []publish.Grant) []grantJSON {
	out := make([]grantJSON, len(all))
	for i, g := range all {
		out[i] = grantJSON{g.ASID.String(), g.Interaction.String()}
	}
	return out
}

func planJSON(p *publish.Publisher, plan *publish.Plan) diffJSON {
	given, taken := plan.Grants()
	out := diffJSON{Namespace: p.Namespace().String(), FromVersion: plan.From.Version, Added: jsonSystems(plan.Added), Removed: jsonSystems(plan.Removed),
		Changed: []changedJSON{}, Given: jsonGrants(given), Taken: jsonGrants(taken)}
	for i := range plan.Changed {
		changed := changedJSON{ASID: plan.Changed[i].After.ASID.String()}
		for _, f := range plan.Changed[i].Fields() {
			field := fieldJSON{Field: f.Name, Removed: f.Removed, Added: f.Added}
			if f.Removed == nil && f.Added == nil {
				field.Before, field.After = &f.Before, &f.After
			}
			changed.Fields = append(changed.Fields, field)
		}
		out.Changed = append(out.Changed, changed)
	}
	return out
}

// A share is how many systems a change may remove: so many, or so many of a hundred.
type share struct {
	text    string
	n       int
	percent bool
}

// fewRemovals may always be removed where nothing else is said: a tenth of a small map is
// less than one system.
const fewRemovals = 3

func (s *share) String() string { return s.text }
func (s *share) Type() string   { return "N|N%" }

func (s *share) Set(text string) error {
	digits, percent := strings.CutSuffix(text, "%")
	n := 0
	if _, err := fmt.Sscanf(digits, "%d", &n); err != nil || n < 0 || fmt.Sprint(n) != digits || percent && n > 100 {
		return fmt.Errorf("this is a number of systems, or a share of them as 10%%, not %s", authz.Excerpt(text))
	}
	*s = share{text, n, percent}
	return nil
}

// check refuses a change that removes more than that.
func (s *share) check(plan *publish.Plan, said bool) error {
	most := s.n
	if s.percent {
		most = plan.From.Map.Len() * s.n / 100
		if !said {
			most = max(most, fewRemovals)
		}
	}
	if len(plan.Removed) > most {
		return fmt.Errorf("it would remove %d of %s, and at most %d may go at once: is the file whole? Say --max-removals %d if it is",
			len(plan.Removed), count(plan.From.Map.Len(), "system"), most, len(plan.Removed))
	}
	return nil
}
