package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"asid-authz/authz/profile"
)

// runProfile runs the profile command alone and returns what it wrote, and its error.
func runProfile(args ...string) (stdout, stderr string, err error) {
	var out, diagnostics bytes.Buffer
	command := newProfileCommand()
	command.SilenceErrors, command.SilenceUsage = true, true
	command.SetOut(&out)
	command.SetErr(&diagnostics)
	command.SetArgs(args)
	err = command.Execute()
	return out.String(), diagnostics.String(), err
}

func codeOf(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return exitOK
	}
	if exit, is := err.(exitError); is {
		return exit.code
	}
	return exitFailed
}

func TestProfileShow(t *testing.T) {
	source, err := profile.Source("nrl")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := runProfile("show", "nrl")
	if err != nil || stderr != "" || stdout != string(source) {
		t.Errorf("show nrl: %v, %q, %d bytes, want the %d bytes of the source", err, stderr, len(stdout), len(source))
	}
	stdout, _, err = runProfile("show", "nlr")
	if codeOf(t, err) != exitUsage || stdout != "" || !strings.Contains(err.Error(), "did you mean nrl?") {
		t.Errorf("show nlr: %v, code %d, %q", err, codeOf(t, err), stdout)
	}
	for _, args := range [][]string{{"show"}, {"show", "nrl", "nrl"}, {"list", "nrl"}, {"check"}, {"shwo", "nrl"}} {
		if stdout, _, err := runProfile(args...); codeOf(t, err) != exitUsage || stdout != "" {
			t.Errorf("%q: %v, code %d, %q", args, err, codeOf(t, err), stdout)
		}
	}
}

func TestProfileList(t *testing.T) {
	stdout, stderr, err := runProfile("list")
	if err != nil || stderr != "" || stdout != "nrl\n" {
		t.Errorf("list: %v, %q, %q", err, stdout, stderr)
	}
}

func TestProfileCheck(t *testing.T) {
	source, err := profile.Source("nrl")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mine.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	write(string(source)) // what show prints is where a profile of one's own begins
	stdout, stderr, err := runProfile("check", file)
	if want := file + ": profile nrl, 7 endpoints, 6 claim rules\n"; err != nil || stderr != "" || stdout != want {
		t.Errorf("check of what show prints: %v, %q, %q, want %q", err, stdout, stderr, want)
	}

	write("format: 1\nname: mine\ndialekt: nrl-2.8\nendpoints: [{name: read, path: Slot}]\n")
	stdout, stderr, err = runProfile("check", file)
	want := file + ":3: unknown key \"dialekt\"; did you mean dialect?\n" +
		file + ":4: endpoint \"read\": a path template is empty or begins with /\n"
	if codeOf(t, err) != exitFailed || err.(exitError).err != nil || stdout != "" || stderr != want {
		t.Errorf("check of a bad file: %v, %q, %q, want %q", err, stdout, stderr, want)
	}

	_, _, err = runProfile("check", file+".not-there")
	if codeOf(t, err) != exitFailed || !strings.Contains(err.Error(), "mine.yaml.not-there") {
		t.Errorf("check of a file that is not there: %v", err)
	}
}

// A shell completes the names of the built-in profiles.
func TestProfileCompletion(t *testing.T) {
	stdout, _, err := runProfile(cobra.ShellCompNoDescRequestCmd, "show", "n")
	if err != nil || !strings.HasPrefix(stdout, "nrl\n") {
		t.Errorf("completion of show n: %v, %q", err, stdout)
	}
}
