package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// command runs the program and returns its exit code and what it printed.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, diagnostics bytes.Buffer
	code = run(ctx, args, &out, &diagnostics)
	return code, out.String(), diagnostics.String()
}

// TestExitCodes: 0 ok, 1 failed, 2 usage; what is wrong is on standard error.
func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"--help"}, exitOK, ""},
		{[]string{"--version"}, exitOK, ""},
		{[]string{"serve"}, exitUsage, `required flag(s) "config" not set`},
		{[]string{"serve", "--config"}, exitUsage, "flag needs an argument"},
		{[]string{"serve", "--confg", "x"}, exitUsage, "unknown flag"},
		{[]string{"serve", "--config", "x", "y"}, exitUsage, "accepts 0 arg(s)"},
		{[]string{"sevre"}, exitUsage, "unknown command"},
		{[]string{"serve", "--config", "testdata/nothing.yaml"}, exitFailed, "no such file"},
		{[]string{"serve", "--config", "testdata/config/bad-missing.yaml", "--check-config"}, exitFailed, "binding.mode is missing"},
		{[]string{"serve", "--config", "testdata/config/good-least.yaml", "--check-config"}, exitFailed, "no such file"},
		{[]string{"explain", "--config", "testdata/config/good-least.yaml"}, exitUsage, "record"},
		{[]string{"health", "--admin", "127.0.0.1:1"}, exitFailed, "refused"},
	} {
		code, _, stderr := command(t, test.args...)
		if code != test.code || !strings.Contains(stderr, test.stderr) || test.code == exitOK && stderr != "" {
			t.Errorf("asid-authz %s: exit %d, %q; want %d, %q", strings.Join(test.args, " "), code, stderr, test.code, test.stderr)
		}
	}
}
