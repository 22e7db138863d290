package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A lookout watches what the demo says and ends it when it has said everything.
type lookout struct {
	bytes.Buffer
	said   func(text string) // is called then, while everything still runs
	enough context.CancelFunc
}

func (l *lookout) Write(text []byte) (int, error) {
	n, err := l.Buffer.Write(text)
	if strings.Contains(l.String(), "Ctrl-C") {
		l.said(l.String())
		l.enough()
	}
	return n, err
}

// watch plays the demo until it waits for its user, and returns what it said. It fails the test unless
// everything came out as it should and nothing is left behind, processes included.
func watch(t *testing.T, p play, programs []string, meanwhile func(text string)) string {
	t.Helper()
	tmp, err := os.MkdirTemp("/tmp", "demo-") // short, for Unix sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	t.Setenv("TMPDIR", tmp)
	t.Chdir("../..")
	ctx, cancel := context.WithCancel(t.Context())
	w := &lookout{enough: cancel, said: func(text string) {
		running := strings.Join(children(t), " ")
		for _, name := range programs {
			if !strings.Contains(running, name) {
				t.Errorf("no %s among the processes that were started: %s", name, running)
			}
		}
		meanwhile(text)
	}}
	if err := run(ctx, w, p); err != nil {
		t.Fatalf("%v\n%s", err, w)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w)
		}
	})
	said := w.String()
	if strings.Contains(said, "should have been") {
		t.Error("not everything came out as it should have")
	}
	for _, k := range calls {
		if !strings.Contains(said, "\n"+k.story+"  ") {
			t.Errorf("no row of %q", k.story)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := children(t)
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("still run: %s", left)
			break
		}
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("left behind: %s", entry.Name())
	}
	return said
}

// children returns the names of the processes that this one started and that run, or have
// ended and were not waited for.
func children(t *testing.T) (names []string) {
	t.Helper()
	ps := exec.Command("ps", "-A", "-o", "pid=,ppid=,comm=")
	out, err := ps.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[1] == strconv.Itoa(os.Getpid()) && fields[0] != strconv.Itoa(ps.Process.Pid) {
			names = append(names, filepath.Base(strings.Join(fields[2:], " ")))
		}
	}
	return names
}

func expect(t *testing.T, said string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q", want)
		}
	}
}

// The demo shows what it says it does, and leaves nothing behind when it is ended.
func TestDemo(t *testing.T) {
	said := watch(t, play{}, []string{"envoy", "asid-authz"}, func(string) {})
	expect(t, said,
		"Envoy 1.",
		"200 allowed: read", "403 interaction-not-granted", "400 asid-unknown", "-   refused in the TLS handshake",
		"DELETE /DocumentReference/{id}: allowed: delete",
		"DELETE /DocumentReference/{id}: interaction-not-granted",
		"FAILED         permission",
		"curl -i --resolve nrl.example.nhs.uk:",
		"and it holds a second later",
	)
}

// With Redis it also shows when each published change took effect, in the order in which that
// happens, and the commands that it offers work as they stand there.
func TestDemoOnRedis(t *testing.T) {
	said := watch(t, play{redis: true}, []string{"envoy", "asid-authz", "-server"}, func(text string) { paste(t, text) })
	expect(t, said,
		"The interaction map is in ",
		"200 allowed: read", "403 interaction-not-granted", "400 asid-unknown", "-   refused in the TLS handshake",
		"all of it is as the manifest says",
		`alice  "key lost, INC0777"`,
		"FAILED         permission",
		"curl -i --resolve nrl.example.nhs.uk:",
		"change it and apply it",
	)
	// What is published is what the first call that comes out otherwise is decided by.
	published := regexp.MustCompile(`published version ([0-9]+)`).FindAllStringSubmatch(said, -1)
	if len(published) != len(changes) {
		t.Fatalf("%d changes were published, want %d", len(published), len(changes))
	}
	rest := said
	for i, outcomes := range [][2]string{
		{"403 interaction-not-granted", "200 allowed: delete"},
		{"200 allowed: delete", "403 interaction-not-granted"},
		{"200 allowed: read", "403 system-suspended"},
		{"403 system-suspended", "200 allowed: read"},
	} {
		for _, want := range []string{
			changes[i].story,
			" ms  last call as before:  " + outcomes[0] + ", by version ",
			" ms  first call otherwise: " + outcomes[1] + ", by version " + published[i][1] + "\n",
		} {
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Fatalf("it did not say, in its place, %q", want)
			}
			rest = after
		}
	}
}

// paste does what the demo offers: it types the commands, in a shell of its own.
func paste(t *testing.T, text string) {
	t.Helper()
	_, block, _ := strings.Cut(text, "Changes of your own")
	var script strings.Builder
	commands := 0
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "cd ") || strings.HasPrefix(line, "PATH=") {
			fmt.Fprintln(&script, line)
		}
		if strings.HasPrefix(line, "asid-authz ") {
			commands++
			if strings.HasPrefix(line, "asid-authz map apply ") {
				line += " --yes" // nobody can be asked here
			}
			fmt.Fprintln(&script, line)
		}
	}
	if commands != 6 {
		t.Errorf("%d commands are offered, want 6", commands)
	}
	out, err := exec.Command("/bin/sh", "-e", "-c", script.String()).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", script.String(), err, out)
	}
	for _, want := range []string{gpOne + " is suspended: published version ", gpOne + " is not suspended: published version ", "no difference to version ", "as the manifest says"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands did not print %q:\n%s", want, out)
		}
	}
}

// Without a server there is one line that says what is missing, and nothing is left behind.
func TestDemoWithoutRedis(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("REDIS_SERVER", filepath.Join(tmp, "no-such-server"))
	t.Chdir("../..")
	var w bytes.Buffer
	err := run(t.Context(), &w, play{once: true, redis: true})
	if err == nil || !strings.Contains(err.Error(), "$REDIS_SERVER names no program") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 || w.Len() > 0 {
		t.Errorf("left behind: %v, %v; said: %q", left, err, w.String())
	}
}
