package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"asid-authz/authz"
	"asid-authz/cache/layout"
	"asid-authz/cache/publish"
)

// A mapCommand is what the commands that work on the map in Redis have in common.
type mapCommand struct {
	*cobra.Command
	redis, space string
	json         bool
	by, reason   string
	yes          bool
	keep         int
}

const redisHelp = `

--redis names a file with the settings that the service has under map.redis.`

// newRedisCommand returns a command that works on the map in Redis.
func newRedisCommand(use, short, long string, args cobra.PositionalArgs, work func(c *mapCommand, args []string) error) *mapCommand {
	c := &mapCommand{}
	c.Command = &cobra.Command{Use: use, Short: short, Long: short + ".\n\n" + long + redisHelp, Args: args,
		RunE: func(_ *cobra.Command, args []string) error { return work(c, args) }}
	c.Flags().StringVar(&c.redis, "redis", "", "file that says where the map lies in Redis")
	c.Flags().StringVar(&c.space, "namespace", "", "namespace of the map, instead of the one that the file says")
	c.Flags().BoolVar(&c.json, "json", false, "print JSON")
	if err := c.MarkFlagRequired("redis"); err != nil {
		panic(err) // the flag is there
	}
	return c
}

// changes adds the flags of a command that changes the map.
func (c *mapCommand) changes() *mapCommand {
	c.Flags().StringVar(&c.by, "by", whoAmI(), "who changes the map, for the history")
	c.Flags().StringVar(&c.reason, "reason", "", "why, for the history")
	return c
}

// asks adds the flags of a command that changes systems, and asks before.
func (c *mapCommand) asks() *mapCommand {
	c.Flags().BoolVar(&c.yes, "yes", false, "do not ask")
	c.Flags().IntVar(&c.keep, "keep-history", publish.DefaultKeepHistory, "bytes of what changes replaced that are kept for rollback")
	return c.changes()
}

// whoAmI returns user@host.
func whoAmI() string {
	user := os.Getenv("USER")
	if user == "" {
		user = fmt.Sprint("uid-", os.Getuid())
	}
	host, err := os.Hostname()
	if err != nil {
		return user
	}
	return user + "@" + host
}

func (c *mapCommand) meta(action string) (publish.Meta, error) {
	for _, flag := range []struct{ name, text string }{{"by", c.by}, {"reason", c.reason}} {
		if len(flag.text) > 1000 || !utf8.ValidString(flag.text) || strings.ContainsFunc(flag.text, unicode.IsControl) {
			return publish.Meta{}, exitError{exitUsage, fmt.Errorf("--%s is one line of at most 1000 bytes", flag.name)}
		}
	}
	return publish.Meta{By: c.by, Reason: c.reason, Action: action}, nil
}

// open connects to Redis. other is a namespace instead of the one of file and flag, or "".
func (c *mapCommand) open(other string) (*publish.Publisher, error) {
	config, path, err := loadRedis(c.redis)
	if err != nil {
		return nil, err
	}
	n := config.Namespace.orDefault()
	if name := firstOf(other, c.space); name != "" {
		if n, err = layout.ParseNamespace(name); err != nil {
			return nil, exitError{exitUsage, err}
		}
	}
	p, err := publish.Open(c.Context(), config.options(path, "asid-authz-map"), n)
	if err != nil {
		return nil, err
	}
	p.Progress, p.KeepHistory = c.progress(), c.keep
	return p, nil
}

func firstOf(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// progress returns what shows on a terminal how far a large change has got.
func (c *mapCommand) progress() func(written, systems int) {
	stderr := c.ErrOrStderr()
	if !isTerminal(stderr) {
		return nil
	}
	return func(written, systems int) {
		fmt.Fprintf(stderr, "\rwriting: %d of %d systems", written, systems)
		if written == systems {
			fmt.Fprintln(stderr)
		}
	}
}

// state opens a connection and reads the map, which must be whole.
func (c *mapCommand) state(other string) (*publish.Publisher, *publish.State, error) {
	p, err := c.open(other)
	if err != nil {
		return nil, nil, err
	}
	s, err := p.Read(c.Context())
	if err == nil && len(s.Damage) > 0 {
		err = publish.DamageError{Damage: s.Damage}
	}
	if err != nil {
		p.Close()
		return nil, nil, err
	}
	return p, s, nil
}

// confirm asks on a terminal. Where nobody can answer, as in a CI job, --yes must say so:
// a job that hangs, and one that changes the map because a flag was forgotten, are worse.
func (c *mapCommand) confirm(question string) error {
	if c.yes {
		return nil
	}
	if file, is := c.InOrStdin().(*os.File); is && !isTerminal(file) || c.json {
		return exitError{exitUsage, errors.New("nobody can be asked here: look at it with --dry-run or diff, and say --yes")}
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s [y/N] ", question)
	answers := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(io.LimitReader(c.InOrStdin(), 100)).ReadString('\n')
		answers <- line
	}()
	select {
	case <-c.Context().Done():
		return c.Context().Err()
	case line := <-answers:
		if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
			return nil
		}
	}
	return errors.New("nothing was changed")
}

// printJSON prints a value for programs.
func (c *mapCommand) printJSON(v any) error {
	e := json.NewEncoder(c.OutOrStdout())
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// isTerminal reports whether w is a file that somebody looks at.
func isTerminal(w any) bool {
	file, is := w.(*os.File)
	if !is {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a character device that nobody sits at
	return err == nil && !os.SameFile(info, null)
}

// A painter colours words on a terminal, unless NO_COLOR is set.
type painter bool

func (c *mapCommand) painter() painter {
	return painter(isTerminal(c.OutOrStdout()) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func (p painter) paint(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p painter) green(text string) string  { return p.paint("32", text) }
func (p painter) red(text string) string    { return p.paint("31", text) }
func (p painter) yellow(text string) string { return p.paint("33", text) }

// word returns what somebody else wrote as it may stand on a terminal: as it is if it is
// one visible word, else quoted and escaped.
func word(s string) string {
	plain := s != "" && len(s) <= 255
	for i := range len(s) {
		plain = plain && s[i] > ' ' && s[i] <= '~' && s[i] != '"' && s[i] != '\\'
	}
	if plain {
		return s
	}
	return authz.Excerpt(s)
}

// resultJSON is what a change prints for programs.
type resultJSON struct {
	Namespace    string `json:"namespace"`
	Version      uint64 `json:"version"`
	Before       uint64 `json:"before"`
	Unchanged    bool   `json:"unchanged"`
	Generation   bool   `json:"generation"`
	Acknowledged *int   `json:"acknowledged"` // null: the user may not ask
	Added        int    `json:"added"`
	Removed      int    `json:"removed"`
	Changed      int    `json:"changed"`
}

func jsonOf(p *publish.Publisher, r publish.Result, d *publish.Diff) resultJSON {
	out := resultJSON{Namespace: p.Namespace().String(), Version: r.Version, Before: r.Before, Unchanged: r.Unchanged, Generation: r.Generation,
		Added: len(d.Added), Removed: len(d.Removed), Changed: len(d.Changed)}
	if r.Acknowledged >= 0 {
		out.Acknowledged = &r.Acknowledged
	}
	return out
}

// published returns what a change came to, for people.
func published(r publish.Result) string {
	text := fmt.Sprintf("published version %d", r.Version)
	switch {
	case r.Acknowledged > 0:
		text += fmt.Sprintf("; %s of the server acknowledged it", count(r.Acknowledged, "replica"))
	case r.Acknowledged == 0:
		text += "; no replica of the server acknowledged it"
	}
	return text
}

// fail makes of an error of a change one that says what to do.
func fail(err error) error {
	var damage publish.DamageError
	if errors.As(err, &damage) {
		return fmt.Errorf("%w\n`map verify` says everything that is wrong; `map apply --repair FILE` writes the map anew", err)
	}
	return err
}
