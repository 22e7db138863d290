package mesh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The log is read while it is written: half a line is none yet.
func TestAuditFollows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	a := newAudit(path)
	if all, err := a.since(0); err != nil || len(all) != 0 {
		t.Fatalf("before there is a file: %v, %v", all, err)
	}
	write := func(text string) {
		t.Helper()
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"decision_id":"a","decision":"allow"}` + "\n" + `{"decision_id":"b","deci`)
	if all, err := a.since(0); err != nil || len(all) != 1 || all[0].Decision != "allow" {
		t.Errorf("one line and a half: %v, %v", all, err)
	}
	write(`sion":"deny","reason":"map-stale"}` + "\n" + `{"suppressed":3}` + "\n")
	if r, err := a.find("b"); err != nil || r.Reason != "map-stale" {
		t.Errorf("the second line: %v, %v", r, err)
	}
	if all, err := a.since(1); err != nil || len(all) != 1 || all[0].DecisionID != "b" {
		t.Errorf("after the first: %v, %v", all, err)
	}
	write(`{"decision_id":"a"}` + "\n")
	if _, err := a.find("a"); err == nil || !strings.Contains(err.Error(), "two records") {
		t.Errorf("a second record of a decision: %v", err)
	}
	write("no JSON\n")
	if _, err := a.since(0); err == nil || !strings.Contains(err.Error(), "no JSON") {
		t.Errorf("no JSON: %v", err)
	}
}
