package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"asid-authz/cache"
	"asid-authz/cache/layout"
)

const read = "urn:nhs:names:services:nrl:DocumentReference.read"

// mapText returns a map file of n systems.
func mapText(n int) string {
	var b strings.Builder
	b.WriteString("format: 1\nsystems:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {asid: \"2%011d\", name: \"N \\u202e %d\", ods: \"1E5\", fqdns: [s%d.example], state: active, interactions: [%s]}\n", i, i, i, read)
	}
	if n == 0 {
		return "format: 1\nsystems: []\n"
	}
	return b.String()
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMapNewerLayout: what a newer release published, an older one refuses to read and to
// change, and says why; a map in a namespace of its own is the way back.
func TestMapNewerLayout(t *testing.T) {
	dir := t.TempDir()
	redis, server := redisFile(t, dir, "asid-authz-back")
	file := writeFile(t, dir, "map.yaml", mapText(3))
	if code, _, stderr := command(t, "map", "apply", file, "--yes", "--redis", redis); code != exitOK {
		t.Fatal(stderr)
	}
	if err := server.Admin().HSet(t.Context(), layout.DefaultNamespace.Manifest(), "layout", "2").Err(); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"show", "verify", "apply " + file + " --yes", "apply " + file + " --yes --repair", "suspend 200000000001 --reason x"} {
		code, _, stderr := command(t, append(append([]string{"map"}, strings.Fields(args)...), "--redis", redis)...)
		if want := `the map has layout "2", and this release reads layout 1: upgrade it`; code != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("map %s: exit code %d, %s; want %d, %s", args, code, stderr, exitFailed, want)
		}
	}
	for _, args := range []string{"apply " + file + " --yes", "suspend 200000000001 --reason x", "verify"} {
		if code, _, stderr := command(t, append(append([]string{"map"}, strings.Fields(args)...), "--redis", redis, "--namespace", "asid-authz-back")...); code != exitOK {
			t.Errorf("map %s in a namespace of its own: exit code %d, %s", args, code, stderr)
		}
	}
}

// TestMapRedis goes through exit codes, refusals and JSON of the commands.
func TestMapRedis(t *testing.T) {
	dir := t.TempDir()
	redis, server := redisFile(t, dir)
	twenty, ten, none := writeFile(t, dir, "20.yaml", mapText(20)), writeFile(t, dir, "10.yaml", mapText(10)), writeFile(t, dir, "0.yaml", mapText(0))
	eighteen := writeFile(t, dir, "18.yaml", mapText(18))
	bad := writeFile(t, dir, "bad.yaml", "format: 1\nsystems:\n  - {asid: 2, ods: X, state: active, interactions: []}\n")
	for _, test := range []struct {
		args           string
		code           int
		stdout, stderr string // parts of them
	}{
		{"show", 2, "", `required flag(s) "redis" not set`},
		{"get 200000000001 --redis " + redis, 1, "", "has no system 200000000001"},
		{"get 2 --redis " + redis, 2, "", "exactly twelve digits"},
		{"export --redis " + redis, 1, "", "nothing is published in namespace asid-authz"},
		{"suspend 200000000001 --reason x --redis " + redis, 1, "", "nothing is published"},
		{"suspend 200000000001 --redis " + redis, 2, "", `required flag(s) "reason" not set`},
		{"apply --redis " + redis, 2, "", "accepts 1 arg(s)"},
		{"apply " + bad + " --yes --redis " + redis, 1, "", bad + ":3: an ASID is exactly twelve digits"},
		{"apply " + twenty + " --redis " + redis, 2, "20 systems added", "nobody can be asked here"},
		{"show --redis " + redis, 0, "none: nothing is published", ""},
		{"apply " + twenty + " --dry-run --redis " + redis, 3, "20 systems added", ""},
		{"apply " + twenty + " --yes --redis " + redis, 0, "published version 1", ""},
		{"apply " + twenty + " --dry-run --redis " + redis, 0, "no difference", ""},
		{"apply " + twenty + " --yes --again --redis " + redis, 0, "published version 1", ""},
		{"diff " + twenty + " --redis " + redis, 0, "no difference to version 1", ""},
		{"diff " + ten + " --redis " + redis, 3, "- 200000000019  1E5  \"N \\u202e 19\"  active, 1 interaction\n", ""},
		{"apply " + ten + " --yes --redis " + redis, 1, "", "it would remove 10 of 20 systems, and at most 3 may go at once"},
		{"apply " + ten + " --yes --max-removals 9 --redis " + redis, 1, "", "at most 9"},
		{"apply " + ten + " --yes --max-removals 49% --redis " + redis, 1, "", "at most 9"},
		{"apply " + eighteen + " --yes --max-removals 5% --redis " + redis, 1, "", "at most 1"},
		{"apply " + ten + " --yes --max-removals x --redis " + redis, 2, "", "a number of systems"},
		{"apply " + ten + " --yes --max-removals 101% --redis " + redis, 2, "", "a number of systems"},
		{"apply " + eighteen + " --yes --redis " + redis, 0, "0 systems added, 2 removed", ""},
		{"apply " + ten + " --yes --max-removals 50% --redis " + redis, 0, "0 systems added, 8 removed", ""},
		{"apply " + none + " --yes --max-removals 100% --redis " + redis, 0, "0 systems added, 10 removed", ""},
		{"rollback x --yes --redis " + redis, 2, "", "a version is a number"},
		{"rollback 5 --yes --redis " + redis, 1, "", "is not kept"},
		{"promote asid-authz --yes --redis " + redis, 2, "", "is the one that would be changed"},
		{"promote A --yes --redis " + redis, 2, "", "a namespace is"},
		{"promote other --yes --redis " + redis, 1, "", "NOPERM"},
		{"suspend 200000000001 --redis " + redis + " --reason a\nb", 2, "", "--reason is one line"},
		{"suspend 200000000001 --redis " + redis + " --reason x", 0, "200000000001 is suspended: published version 1", "warning: the map has no system"},
		{"suspend 200000000001 --redis " + redis + " --reason x", 0, "suspended already", ""},
		{"resume 200000000001 --redis " + redis + " --reason x", 0, "is not suspended: published version 1", ""},
		{"verify --redis " + redis, 0, "all of it is as the manifest says", ""},
	} {
		args := strings.Split(test.args, " ")
		code, stdout, stderr := command(t, append([]string{"map"}, args...)...)
		if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) || test.stderr == "" && stderr != "" && !strings.Contains(stderr, "warning") {
			t.Errorf("map %s: exit %d, stdout\n%sstderr\n%swant %d, %q, %q", test.args, code, stdout, stderr, test.code, test.stdout, test.stderr)
		}
		if strings.ContainsAny(stdout+stderr, "\x1b\u202e") {
			t.Errorf("map %s lets a control character through, or colours what nobody looks at: %q", test.args, stdout+stderr)
		}
	}

	// Damage: found, refused, repaired.
	if err := server.Admin().HSet(t.Context(), layout.DefaultNamespace.Manifest(), "ids", "x").Err(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args, want string
		code       int
	}{
		{"verify", "damaged: {asid-authz}:1:manifest: manifest: ids", 3},
		{"show", "damaged: {asid-authz}:1:manifest: manifest: ids", 3},
		{"diff " + ten, "`map apply --repair FILE` writes the map anew", 1},
		{"export", "the map in Redis is damaged", 1},
		{"apply --yes " + ten, "`map verify` says everything", 1},
		{"apply --yes --repair " + ten, "published version 1", 0},
		{"verify", "10 systems, 0 suspensions, 1 changes in the log", 0},
	} {
		code, stdout, stderr := command(t, strings.Split("map "+test.args+" --redis "+redis, " ")...)
		if code != test.code || !strings.Contains(stdout+stderr, test.want) {
			t.Errorf("map %s: exit %d, %s%swant %d, %q", test.args, code, stdout, stderr, test.code, test.want)
		}
	}
}

// TestMapJSON decodes what every command prints for programs.
func TestMapJSON(t *testing.T) {
	dir := t.TempDir()
	redis, _ := redisFile(t, dir, "canary")
	two, three := writeFile(t, dir, "2.yaml", mapText(2)), writeFile(t, dir, "3.yaml", strings.Replace(mapText(3), "state: active", "state: suspended", 1))
	print := func(code int, v any, args ...string) {
		t.Helper()
		got, stdout, stderr := command(t, append(append([]string{"map"}, args...), "--json", "--redis", redis)...)
		d := json.NewDecoder(strings.NewReader(stdout))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil || d.More() || got != code || strings.Contains(strings.ReplaceAll(stdout, `"acknowledged": null`, ""), ": null") && args[0] != "get" {
			t.Fatalf("%q: exit %d, %v\n%s%s", args, got, err, stdout, stderr)
		}
	}
	var show showJSON
	print(0, &show, "show")
	if show.Version != 0 || show.Suspensions == nil || show.Damage == nil {
		t.Errorf("show: %+v", show)
	}
	var result resultJSON
	print(0, &result, "apply", two, "--yes")
	if !result.Generation || result.Added != 2 || result.Before != 0 || result.Acknowledged == nil || *result.Acknowledged != 0 {
		t.Errorf("apply: %+v", result)
	}
	first := result.Version
	var diff diffJSON
	print(3, &diff, "diff", three)
	if diff.FromVersion != first || len(diff.Added) != 1 || diff.Added[0].ASID != "200000000002" || len(diff.Removed) != 0 || len(diff.Given) != 1 || len(diff.Taken) != 1 ||
		len(diff.Changed) != 1 || *diff.Changed[0].Fields[0].Before != "active" || *diff.Changed[0].Fields[0].After != "suspended" {
		t.Errorf("diff: %+v", diff)
	}
	print(0, &result, "apply", three, "--yes")
	if result.Changed != 1 || result.Before != first || result.Generation {
		t.Errorf("apply: %+v", result)
	}
	print(0, &result, "apply", three, "--yes")
	if !result.Unchanged {
		t.Errorf("apply once more: %+v", result)
	}
	var layer layerJSON
	print(0, &layer, "suspend", "200000000001", "--reason", "lost", "--by", "eve")
	if layer.ASID != "200000000001" || !layer.InMap || layer.Before == 0 {
		t.Errorf("suspend: %+v", layer)
	}
	var get getJSON
	print(0, &get, "get", "200000000001")
	if get.System == nil || get.Suspension == nil || get.Suspension.By != "eve" || get.Suspension.Reason != "lost" || get.System.Interactions[0] != read {
		t.Errorf("get: %+v", get)
	}
	print(0, &show, "show", "--systems")
	if show.Systems != 3 || show.Active != 1 || len(show.List) != 3 || len(show.Suspensions) != 1 || show.Interactions != 1 {
		t.Errorf("show: %+v", show)
	}
	var history []layout.Record
	print(0, &history, "history", "--limit", "2")
	if len(history) != 2 || history[0].Action != "suspend" || history[0].ASID != "200000000001" || history[1].Action != "apply" {
		t.Errorf("history: %+v", history)
	}
	print(3, &diff, "rollback", fmt.Sprint(first), "--dry-run")
	if len(diff.Given) != 1 || diff.Given[0].ASID != "200000000000" {
		t.Errorf("rollback --dry-run: %+v", diff)
	}
	print(0, &result, "rollback", fmt.Sprint(first), "--yes")
	if result.Removed != 1 || result.Changed != 1 {
		t.Errorf("rollback: %+v", result)
	}
	print(0, &result, "apply", three, "--yes", "--namespace", "canary")
	print(0, &result, "promote", "canary", "--yes")
	if result.Namespace != "asid-authz" || result.Added != 1 {
		t.Errorf("promote: %+v", result)
	}
	var verify verifyJSON
	print(0, &verify, "verify")
	if verify.Systems != 3 || verify.Suspensions != 1 || verify.LogEntries != 5 || verify.Records != 5 || len(verify.Notes) != 0 {
		t.Errorf("verify: %+v", verify)
	}
	// JSON and YAML of an export are the same map, and the one that was applied.
	for _, args := range [][]string{{"--json"}, nil} {
		_, stdout, _ := command(t, append([]string{"map", "export", "--redis", redis}, args...)...)
		if code, out, stderr := command(t, "map", "diff", writeFile(t, dir, "export.yaml", stdout), "--redis", redis); code != 0 {
			t.Errorf("export %v: exit %d, %s%s%s", args, code, out, stderr, stdout)
		}
	}
}

// TestExportText: whatever a text holds, the file says it again.
func TestExportText(t *testing.T) {
	name := "N\u00e4me \"x\" \\ # : \U0001f600 \u2028 'y'"
	file := exportJSON{Format: 1, Sets: map[string][]string{"set-1": {"urn:x:a", "urn:x:b:"}}, Systems: []systemJSON{
		{ASID: "200000000205", Name: name, ODS: "1E5", PartyKey: "NO", FQDNs: []string{"a.example", "0x1f"}, TokenClients: []string{"{}", "#", "- x", "true", "~"},
			State: "active", Interactions: []string{"set-1"}},
		{ASID: "000000000001", ODS: "null", State: "suspended", Interactions: []string{}},
	}}
	file.Systems[0].TokenClients[2] = "-x" // visible ASCII, without blanks
	var b bytes.Buffer
	file.write(&b)
	f, err := cache.DecodeMap("export.yaml", b.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	m, err := f.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	var got []systemJSON
	for s := range m.Systems() {
		got = append(got, jsonSystem(&s))
	}
	if len(got) != 2 || got[1].Name != name || got[1].PartyKey != "NO" || strings.Join(got[1].TokenClients, " ") != "{} # -x true ~" ||
		strings.Join(got[1].Interactions, " ") != "urn:x:a urn:x:b:" || got[0].ODS != "null" || got[0].State != "suspended" {
		t.Errorf("%+v\n%s", got, b.String())
	}
}

// TestConfirm: only a yes is one.
func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "yes": true, "\n": false, "": false, "n\n": false, "yess\n": false} {
		c := newMapApplyCommand()
		c.SetContext(t.Context())
		c.SetIn(strings.NewReader(answer))
		var stderr bytes.Buffer
		c.SetErr(&stderr)
		if err := c.confirm("Change it?"); (err == nil) != want || stderr.String() != "Change it? [y/N] " {
			t.Errorf("%q: %v, %q", answer, err, stderr.String())
		}
	}
	c := newMapApplyCommand()
	if err := c.Flags().Set("yes", "true"); err != nil {
		t.Fatal(err)
	}
	if err := c.confirm("Change it?"); err != nil {
		t.Error(err)
	}
}

func TestPainter(t *testing.T) {
	if got := painter(true).red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("%q", got)
	}
	if got := painter(false).red("x"); got != "x" {
		t.Errorf("%q", got)
	}
	for text, want := range map[string]string{"RXA": "RXA", "": `""`, "a b": `"a b"`, "\x1b[1m": `"\x1b[1m"`, `a"b`: `"a\"b"`} {
		if got := word(text); got != want {
			t.Errorf("%q is printed as %s, want %s", text, got, want)
		}
	}
}
