package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
)

// build returns what the service would decide by.
func (d *deployment) build() *generation {
	d.t.Helper()
	c, err := loadConfig(d.path("asid-authz.yaml"))
	if err != nil {
		d.t.Fatal(err)
	}
	g, err := build(c, nil, zap.NewNop())
	if err != nil {
		d.t.Fatal(err)
	}
	return g
}

// lastRecord waits for the record of what was last asked: it is written beside the answer.
func (d *deployment) lastRecord() (record map[string]any) {
	d.t.Helper()
	var line string
	d.await("the record is written", func() bool {
		text := d.stdout.String()
		at := strings.Index(text, d.asked)
		if at < 0 {
			return false
		}
		begin := strings.LastIndexByte(text[:at], '\n') + 1
		var complete bool
		line, _, complete = strings.Cut(text[begin:], "\n")
		return complete
	})
	if err := json.Unmarshal([]byte(line), &record); err != nil {
		d.t.Fatal(err)
	}
	return record
}

// TestBreakGlass: an operator denies a system and a certificate while the service runs,
// everybody can see it, and only a file that says so lifts it.
func TestBreakGlass(t *testing.T) {
	d := newDeployment(t)
	d.write("break-glass.yaml", "{}")
	d.replace("asid-authz.yaml", "file: map.yaml", "file: map.yaml, break_glass: break-glass.yaml")
	d.start()
	if got, record := d.ask(), d.lastRecord(); got != "allow" || record["break_glass"] != nil {
		t.Fatalf("%s, %v\n%s", got, record, d.stderr)
	}
	if !d.hasMetric(`asid_authz_break_glass{order="deny"} 0`) || !d.hasMetric(`asid_authz_break_glass{order="max_staleness"} 0`) {
		t.Error("the metrics say that it is in force")
	}

	d.write("break-glass.yaml", `{deny: {asids: ["200000000117"]}, reason: INC-4711}`)
	d.await("the system is denied", func() bool { return d.ask() == "deny system-suspended" })
	if record := d.lastRecord(); record["break_glass"] != "deny" || record["field"] != "break_glass" {
		t.Errorf("the record is %v", record)
	}
	if !d.hasMetric(`asid_authz_break_glass{order="deny"} 1`) {
		t.Error("the metrics do not say that it is in force")
	}
	d.await("it is told", func() bool {
		log := d.stderr.String()
		return strings.Contains(log, "BREAK-GLASS is in force") && strings.Contains(log, `"reason":"INC-4711","denied_asids":["200000000117"]`)
	})
	code, out, _ := command(t, "explain", "--config", d.path("asid-authz.yaml"), "--path", "/STU3/DocumentReference/1", "--cert", d.path("client.pem"),
		"--header", "fromASID: 200000000117", "--header", "toASID: 999999999999")
	if code != exitDifferences || !strings.Contains(out, "FAILED         state               system-suspended: break_glass") {
		t.Errorf("explain: exit %d:\n%s", code, out)
	}
	if code, _, stderr := command(t, "serve", "--config", d.path("asid-authz.yaml"), "--check-config"); code != exitOK || !strings.Contains(stderr, "BREAK-GLASS is in force") {
		t.Errorf("--check-config: exit %d, %q", code, stderr)
	}

	// Neither a broken file, nor an empty one, nor none lifts what was ordered.
	refused := 0
	stays := func(what string) {
		t.Helper()
		refused++
		d.await(what+" is refused", func() bool {
			return d.hasMetric(`asid_authz_reloads_total{result="refused",what="break-glass"} ` + string(rune('0'+refused)))
		})
		if got := d.ask(); got != "deny system-suspended" {
			t.Errorf("%s: %s", what, got)
		}
	}
	d.write("break-glass.yaml", "deny: {asids: [all]}")
	stays("a broken file")
	d.write("break-glass.yaml", "")
	stays("an empty file")
	if err := os.Remove(d.path("break-glass.yaml")); err != nil {
		t.Fatal(err)
	}
	stays("no file")
	if strings.Contains(d.stderr.String(), "break-glass is over") {
		t.Error("the log says that it is over")
	}

	sum := d.client.SHA256()
	d.write("break-glass.yaml", "deny: {certificates: ["+hex.EncodeToString(sum[:])+"]}\nmax_staleness: {value: 6h, until: "+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+"}")
	d.await("the certificate is denied", func() bool { return d.ask() == "deny certificate-revoked" })
	if record := d.lastRecord(); record["break_glass"] != "deny,max_staleness" || record["asid"] != nil {
		t.Errorf("the record is %v", record)
	}
	d.write("break-glass.yaml", "{}")
	d.await("it is lifted", func() bool { return d.ask() == "allow" })
	d.await("that is told", func() bool { return strings.Contains(d.stderr.String(), "break-glass is over") })
	if record := d.lastRecord(); record["break_glass"] != nil {
		t.Errorf("the record is %v", record)
	}
	if d.end() != exitOK {
		t.Error(d.stderr)
	}
}

// TestBreakGlassRefusesStart: whom an operator has denied would get in through a replica
// that starts without the file.
func TestBreakGlassRefusesStart(t *testing.T) {
	d := newDeployment(t)
	d.replace("asid-authz.yaml", "file: map.yaml", "file: map.yaml, break_glass: break-glass.yaml")
	for _, test := range []struct{ text, want string }{
		{"-", "break-glass: "}, {"", "break-glass.yaml: the file is empty"}, {"deny: [x]", "break-glass.yaml:1"},
	} {
		if test.text != "-" {
			d.write("break-glass.yaml", test.text)
		}
		if code, _, stderr := command(t, "serve", "--config", d.path("asid-authz.yaml")); code != exitFailed || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit %d, %q", test.text, code, stderr)
		}
	}
}

// TestBreakGlassHealth: health has the bound that decisions have, and an order that is
// past its end is told as over, once, though its file stays.
func TestBreakGlassHealth(t *testing.T) {
	d := newDeployment(t)
	d.replace("asid-authz.yaml", "file: map.yaml", "file: map.yaml, max_staleness: 30m, break_glass: break-glass.yaml")
	d.replace("asid-authz.yaml", "client_ca: clients.pem", "client_ca: clients.pem, max_age: 48h")
	until := time.Now().Add(50 * time.Minute)
	text := []byte("max_staleness: {value: 2h, until: " + until.UTC().Format(time.RFC3339Nano) + "}")
	d.write("break-glass.yaml", string(text))
	g := d.build()
	now := time.Now()
	log := &lines{}
	var said announcements
	for _, test := range []struct {
		after time.Duration
		read  bool // the file of the orders
		want  string
		told  int // lines of the log by then
	}{
		{0, true, "ready", 1},
		{29 * time.Minute, false, "ready", 1},
		{31 * time.Minute, false, authz.MapStale.String(), 2}, // the order itself was not seen for longer than a map may be
		{31 * time.Minute, true, "ready", 3},
		{49 * time.Minute, true, "ready", 3},
		{51 * time.Minute, true, authz.MapStale.String(), 4},
		{55 * time.Minute, true, authz.MapStale.String(), 4},
	} {
		at := now.Add(test.after)
		if test.read {
			if _, err := g.breakGlass.load(text, at); err != nil {
				t.Fatal(err)
			}
		}
		if is, why := g.fresh(at); why != test.want || is != (why == "ready") {
			t.Errorf("after %v: %v, %s; want %s", test.after, is, why, test.want)
		}
		said.announce(g, at, newLog(log))
		if got := strings.Count(log.String(), "\n"); got != test.told {
			t.Errorf("after %v: %d lines, want %d:\n%s", test.after, got, test.told, log)
		}
	}
}
