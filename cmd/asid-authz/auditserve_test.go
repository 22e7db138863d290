package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary the program itself, for tests that need a process:
// standard output is a file descriptor, and only there a broken pipe kills.
const asProgram = "ASID_AUTHZ_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// decided reads every line of the audit files and returns the decisions by id.
func decided(t *testing.T, pattern string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	decisions := map[string]string{}
	for _, file := range files {
		for line := range strings.Lines(fileText(t, file)) {
			var r struct {
				ID       string `json:"decision_id"`
				Decision string
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil || decisions[r.ID] != "" {
				t.Fatalf("%s: %v in %q", file, err, line)
			}
			decisions[r.ID] = r.Decision
		}
	}
	return decisions
}

// TestAuditWhole: what was answered until the process ended is in the files, once, while
// they are rotated.
func TestAuditWhole(t *testing.T) {
	for _, onFull := range []string{"drop", "deny"} {
		t.Run(onFull, func(t *testing.T) {
			d := newDeployment(t)
			d.write("asid-authz.yaml", d.files["asid-authz.yaml"]+
				"audit: {output: file, file: audit.jsonl, max_size: 8KiB, keep: 1000, on_full: "+onFull+"}\n")
			d.start()
			var mu sync.Mutex
			answered := map[string]string{}
			var asking sync.WaitGroup
			for range 8 {
				asking.Go(func() {
					for range 100 {
						response, err := d.checks.Check(t.Context(), d.message)
						if err != nil { // the service is gone
							return
						}
						fields := response.GetDynamicMetadata().AsMap()
						mu.Lock()
						answered[fields["decision_id"].(string)] = fields["decision"].(string)
						enough := len(answered) == 400
						mu.Unlock()
						if enough {
							d.stop()
						}
					}
				})
			}
			asking.Wait()
			if code := d.end(); code != exitOK {
				t.Fatalf("exit %d: %s", code, d.stderr)
			}
			decisions := decided(t, d.path("audit*.jsonl"))
			if len(answered) < 400 {
				t.Fatalf("only %d were answered", len(answered))
			}
			for id, decision := range answered {
				if decision != "allow" || decisions[id] != decision {
					t.Fatalf("%s was answered with %s, and recorded as %q", id, decision, decisions[id])
				}
			}
			files, err := filepath.Glob(d.path("audit-*.jsonl"))
			if err != nil || len(files) == 0 {
				t.Errorf("rotated to %v, %v", files, err)
			}
		})
	}
}

// TestAuditPipe: whoever reads standard output may go away or fall asleep. The service
// goes on, and answers as it was told to.
func TestAuditPipe(t *testing.T) {
	for _, test := range []struct {
		name, audit string
		gone        bool // nobody reads any more; else somebody has it open and does not read
		want        string
	}{
		{"gone, drop", "{on_full: drop}", true, "allow"},
		{"gone, deny", "{on_full: deny}", true, "deny audit-unavailable"},
		{"asleep, drop", "{on_full: drop, buffer: 64KiB}", false, "allow"},
		{"asleep, deny", "{on_full: deny, buffer: 64KiB}", false, "deny audit-unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t)
			d.write("asid-authz.yaml", d.files["asid-authz.yaml"]+"audit: "+test.audit+"\n")
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			process := exec.Command(os.Args[0], "serve", "--config", d.path("asid-authz.yaml"))
			process.Env = append(os.Environ(), asProgram+"=1")
			process.Stdout, process.Stderr = writer, d.stderr
			err = process.Start()
			writer.Close() // the process has its own
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { process.Process.Kill() }) // if it has not ended
			d.dial()
			if got := d.ask(); got != "allow" {
				t.Fatalf("while somebody reads: %s\n%s", got, d.stderr)
			}
			line, err := bufio.NewReader(reader).ReadString('\n')
			if err != nil || !strings.Contains(line, `"decision":"allow"`) {
				t.Fatalf("read %q, %v", line, err)
			}
			if test.gone {
				reader.Close()
			}
			for deadline := time.Now().Add(20 * time.Second); ; {
				got := d.ask()
				if test.want == "allow" && got != "allow" {
					t.Fatalf("answered with %s", got)
				}
				if (got == test.want) && (test.want != "allow" || d.metric("asid_authz_audit_dropped_total") > 0) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("nothing was lost, and %s is the answer\n%s", got, d.stderr)
				}
			}
			process.Process.Signal(syscall.SIGTERM)
			err = process.Wait()
			if asleep := !test.gone; asleep != (err != nil) {
				t.Errorf("the end of the process: %v\n%s", err, d.stderr)
			}
		})
	}
}

// metric returns the value of a metric without labels.
func (d *deployment) metric(name string) float64 {
	d.t.Helper()
	_, body := d.get("/metrics")
	for line := range strings.Lines(body) {
		if text, is := strings.CutPrefix(line, name+" "); is {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				d.t.Fatal(err)
			}
			return value
		}
	}
	d.t.Fatalf("there is no metric %s", name)
	return 0
}
