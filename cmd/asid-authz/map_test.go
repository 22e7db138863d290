package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"asid-authz/authz/profile"
)

func TestMapCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", "format: 1\nsystems:\n  - {asid: 200000000205, ods: X, fqdns: [a.example], state: active, interactions: [urn:nhs:names:services:nrl:DocumentReference.read]}\n")
	odd := write("odd.yaml", "format: 1\nsets:\n  two: [urn:nhs:names:services:nrl:DocumentReference.raed]\nsystems:\n  - {asid: 200000000205, ods: X, state: suspended, interactions: [two]}\n")
	bad := write("bad.yaml", "format: 1\nsystems:\n  - {asid: 20000000020, ods: X, state: \"\\e[1mon\", interactions: [two]}\n")
	own := write("own.yaml", ownProfile(t))
	none := filepath.Join(dir, "none.yaml")
	for _, test := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"good", []string{good}, 0, good + ": accepted, 1 system (0 suspended), 0 sets, 1 interaction, 0 warnings\n", ""},
		{"good for the profile", []string{good, "--profile", "nrl"}, 0, good + ": accepted, 1 system (0 suspended), 0 sets, 1 interaction, 0 warnings\n", ""},
		{"warnings", []string{odd}, 3, odd + ":5: warning: system 200000000205 lists no fqdns and no certificates: in binding mode registered it is bound to no certificate\n" +
			odd + ": accepted, 1 system (1 suspended), 1 set, 1 interaction, 1 warning\n", ""},
		{"warnings for the profile", []string{"--profile=nrl", odd}, 3,
			odd + ":3: warning: interaction \"urn:nhs:names:services:nrl:DocumentReference.raed\" is used by no endpoint of profile nrl; did you mean urn:nhs:names:services:nrl:DocumentReference.read?\n" +
				odd + ":5: warning: system 200000000205 lists no fqdns and no certificates: in binding mode registered it is bound to no certificate\n" +
				odd + ": accepted, 1 system (1 suspended), 1 set, 1 interaction, 2 warnings\n", ""},
		{"refused", []string{bad}, 1, bad + ": refused, 3 problems\n",
			bad + ":3: an ASID is exactly twelve digits, not \"20000000020\"\n" +
				bad + ":3: state is active or suspended, not \"\\x1b[1mon\"\n" +
				bad + ":3: set \"two\" is not defined\n"},
		{"no such file", []string{none}, 1, "", "asid-authz map check: open " + none + ": no such file or directory\n"},
		{"no such profile", []string{good, "--profile", "nlr"}, 2, "", "asid-authz map check: no profile is built in under the name \"nlr\"; did you mean nrl?\nSee 'asid-authz map check --help'.\n"},
		{"no such profile file", []string{good, "--profile", none}, 1, "", "asid-authz map check: open " + none + ": no such file or directory\n"},
		{"a profile file", []string{odd, "--profile", own}, 3,
			odd + ":3: warning: interaction \"urn:nhs:names:services:nrl:DocumentReference.raed\" is used by no endpoint of profile own\n" +
				odd + ":5: warning: system 200000000205 lists no fqdns and no certificates: in binding mode registered it is bound to no certificate\n" +
				odd + ": accepted, 1 system (1 suspended), 1 set, 1 interaction, 2 warnings\n", ""},
		{"no file", nil, 2, "", "asid-authz map check: accepts 1 arg(s), received 0\nSee 'asid-authz map check --help'.\n"},
		{"an unknown flag", []string{good, "--strict"}, 2, "", "asid-authz map check: unknown flag: --strict\nSee 'asid-authz map check --help'.\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"map", "check"}, test.args...), &stdout, &stderr)
			if code != test.code || stdout.String() != test.stdout || stderr.String() != test.stderr {
				t.Errorf("exit %d, want %d\nstdout\n%swant\n%s\nstderr\n%swant\n%s", code, test.code, stdout.String(), test.stdout, stderr.String(), test.stderr)
			}
		})
	}
}

// ownProfile is the built-in one under another name, with other interactions.
func ownProfile(t *testing.T) string {
	t.Helper()
	source, err := profile.Source("nrl")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("name: nrl\n", "name: own\n", "urn:nhs:names:services:nrl", "urn:own").Replace(string(source))
}

func TestMapWithoutCommand(t *testing.T) {
	for _, args := range [][]string{{"map"}, {"map", "chekc"}} {
		var stdout, stderr bytes.Buffer
		want := exitOK // help
		if len(args) > 1 {
			want = exitUsage
		}
		if code := run(t.Context(), args, &stdout, &stderr); code != want {
			t.Errorf("%q: exit %d, want %d: %s%s", args, code, want, stdout.String(), stderr.String())
		}
	}
}

// TestMapExample: the example in the documentation is one that nobody is warned about.
func TestMapExample(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"map", "check", "../../docs/map.example.yaml", "--profile", "nrl"}, &stdout, &stderr); code != 0 {
		t.Errorf("exit %d: %s%s", code, stdout.String(), stderr.String())
	}
}
