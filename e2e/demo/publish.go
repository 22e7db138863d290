package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
)

// A change is what somebody publishes while a system makes from.
type change struct {
	story string
	args  []string     // of asid-authz map; files are in the mesh's directory
	file  string       // of the case that is sent meanwhile
	want  authz.Reason // why it is denied afterwards; undecided: it is allowed
}

// taken is a call that everybody takes for granted until it is taken away: GP One reads.
const taken = "allow-read"

var changes = []change{
	{"GP One may delete, says a map that somebody applies.",
		[]string{"apply", "granted.yaml", "--yes", "--by", "alice", "--reason", "CHG0012345"}, refused, authz.Undecided},
	{"That was a mistake: the grant is taken away.",
		[]string{"apply", "map.yaml", "--yes", "--by", "alice", "--reason", "CHG0012345 was wrong"}, refused, authz.InteractionNotGranted},
	{"GP One has lost its key, and is suspended while it reads.",
		[]string{"suspend", gpOne, "--by", "alice", "--reason", "key lost, INC0777"}, taken, authz.SystemSuspended},
	{"It has a new certificate, and goes on.",
		[]string{"resume", gpOne, "--by", "alice", "--reason", "new certificate"}, taken, authz.Undecided},
}

// playPublished changes the map in Redis by the commands that an operator has, and shows when
// the calls that go on meanwhile come out otherwise.
func (d *demo) playPublished(ctx context.Context) error {
	_, granted, err := d.maps()
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.mesh.Path("granted.yaml"), []byte(granted), 0o600); err != nil {
		return err
	}
	for _, change := range changes {
		if err := d.publish(ctx, &change); err != nil {
			return fmt.Errorf("asid-authz map %s: %w", change.args[0], err)
		}
	}
	fmt.Fprint(d.w, `A command ends later than its effect, because it asks the server how many of its replicas
have the change.

`)
	for _, args := range [][]string{{"verify"}, {"history"}} {
		out, err := d.mesh.Map(ctx, args...)
		if err != nil {
			return err
		}
		d.showCommand(args, out)
		fmt.Fprintln(d.w)
	}
	return nil
}

// An event is something that happened while a change was made.
type event struct {
	at   time.Time
	what string
}

// publish makes a change while calls go on, and shows what came of them, and when.
func (d *demo) publish(ctx context.Context, change *change) error {
	c, err := d.find(change.file)
	if err != nil {
		return err
	}
	from, err := d.caller(ctx, c)
	if err != nil {
		return err
	}
	defer from.conn.Close()
	allowed := change.want == authz.Undecided
	if from.last, err = from.send(); err != nil {
		return err
	}
	if from.last.allowed() == allowed {
		return fmt.Errorf("%s has the outcome already that the change shall bring: %v", change.file, from.last.answer)
	}
	args := slices.Clone(change.args)
	for i, arg := range args {
		if filepath.Ext(arg) == ".yaml" {
			args[i] = d.mesh.Path(arg)
		}
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := make(chan error, 1)
	go func() { sent <- from.until(ctx, allowed) }()
	began := time.Now()
	out, err := d.mesh.Map(ctx, args...)
	ended := time.Now()
	if err != nil {
		cancel()
		<-sent
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	before, err := d.judge(from.last.answer)
	if err != nil {
		return err
	}
	after, err := d.judge(from.turned.answer)
	if err != nil {
		return err
	}

	otherwise := fmt.Sprintf("first call otherwise: %s %s, by version %d", after.status, after.why, after.mapVersion)
	if want := change.wanted(); after.got.Kind != want.Kind || after.got.Reason != want.Reason {
		otherwise += d.surprise(want.String())
	} else if !strings.Contains(string(out), fmt.Sprintf("published version %d;", after.mapVersion)) {
		otherwise += d.surprise("decided by the version that was published")
	}
	events := []event{
		{began, "the command begins"},
		{time.UnixMilli(int64(after.mapVersion)), "it makes the version, whose number is this moment"},
		{from.last.at, fmt.Sprintf("last call as before:  %s %s, by version %d", before.status, before.why, before.mapVersion)},
		{from.turned.at, otherwise},
		{ended, "the command ends"},
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })

	fmt.Fprintf(d.w, "%s Meanwhile: %s, again and again.\n\n", change.story, request(c))
	d.showCommand(change.args, out)
	fmt.Fprintln(d.w)
	for _, e := range events {
		fmt.Fprintf(d.w, "    %5d ms  %s\n", e.at.Sub(began).Milliseconds(), e.what)
	}
	_, err = fmt.Fprintln(d.w)
	return err
}

// wanted returns what the calls shall come to.
func (c *change) wanted() authztest.Want {
	if c.want == authz.Undecided {
		return authztest.Want{Kind: authztest.WantAllow}
	}
	return authztest.Want{Kind: authztest.WantDeny, Reason: c.want}
}

// showCommand shows a command as somebody in the mesh's directory types it, and what it
// printed.
func (d *demo) showCommand(args []string, out []byte) {
	line := "asid-authz map"
	for _, arg := range args {
		if strings.Contains(arg, " ") {
			arg = `"` + arg + `"`
		}
		line += " " + arg
	}
	fmt.Fprintf(d.w, "    $ %s --redis %s\n", line, filepath.Base(d.mesh.Publisher()))
	for text := range strings.Lines(string(out)) {
		fmt.Fprintln(d.w, strings.TrimRight("    "+text, " \n"))
	}
}

// A caller makes the same call again and again, on one connection, as a busy system does.
type caller struct {
	conn    mesh.Conn
	request mesh.Request

	last, turned reply // the last of the old outcome, and the first of the new one
}

// A reply is an answer and when it came.
type reply struct {
	answer *mesh.Answer
	at     time.Time
}

func (r *reply) allowed() bool { return r.answer.Status == 200 }

func (d *demo) caller(ctx context.Context, c *authztest.Case) (*caller, error) {
	certificate, err := d.mesh.World.Certificate(c)
	if err != nil {
		return nil, err
	}
	fields, body, err := d.mesh.World.HTTP2(c, time.Now())
	if err != nil {
		return nil, err
	}
	conn, refused, err := d.edge.Client(certificate).Open(ctx, mesh.HTTP2)
	if err == nil && refused != nil {
		err = fmt.Errorf("no connection: %v", refused)
	}
	return &caller{conn: conn, request: mesh.NewRequest(fields, body)}, err
}

// send makes one call.
func (c *caller) send() (r reply, err error) {
	r.answer, err = c.conn.Do(c.request)
	r.at = time.Now()
	return r, err
}

// until makes calls until one is allowed, or denied, as it shall be.
func (c *caller) until(ctx context.Context, allowed bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		next, err := c.send()
		if err != nil {
			return err
		}
		if next.allowed() == allowed {
			c.turned = next
			return nil
		}
		c.last = next
		select {
		case <-ctx.Done():
			return fmt.Errorf("the calls come out as before: %w", ctx.Err())
		case <-tick.C:
		}
	}
}
