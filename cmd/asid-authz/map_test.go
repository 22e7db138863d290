package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
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
		{"refused", []string{bad}, 1, bad + ":3: an ASID is exactly twelve digits, not \"20000000020\"\n" +
			bad + ":3: state is active or suspended, not \"\\x1b[1mon\"\n" +
			bad + ":3: set \"two\" is not defined\n" +
			bad + ": refused\n", ""},
		{"no such file", []string{dir + "/none.yaml"}, 1, "", "asid-authz map check: open " + dir + "/none.yaml: no such file or directory\n"},
		{"no such profile", []string{good, "--profile", "nlr"}, 1, "", "asid-authz map check: no profile is built in under the name \"nlr\"; did you mean nrl?\n"},
		{"a profile file that is none", []string{good, "--profile", bad}, 1, "", ""},
		{"no file", nil, 2, "", "asid-authz map check: accepts 1 arg(s), received 0\nSee 'asid-authz map check --help'.\n"},
		{"an unknown flag", []string{good, "--strict"}, 2, "", "asid-authz map check: unknown flag: --strict\nSee 'asid-authz map check --help'.\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"map", "check"}, test.args...), &stdout, &stderr)
			if code != test.code || stdout.String() != test.stdout || test.stderr != "" && stderr.String() != test.stderr {
				t.Errorf("exit %d, want %d\nstdout\n%swant\n%s\nstderr\n%swant\n%s", code, test.code, stdout.String(), test.stdout, stderr.String(), test.stderr)
			}
			if code == 0 && stderr.Len() != 0 {
				t.Errorf("stderr: %s", stderr.String())
			}
		})
	}
}

// TestMapExample: the example in the documentation is one that nobody is warned about.
func TestMapExample(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"map", "check", "../../docs/map.example.yaml", "--profile", "nrl"}, &stdout, &stderr); code != 0 {
		t.Errorf("exit %d: %s%s", code, stdout.String(), stderr.String())
	}
}
