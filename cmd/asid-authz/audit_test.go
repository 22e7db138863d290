package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/envoy"
)

func denial() *envoy.Record {
	return &envoy.Record{
		Time:       time.Date(2026, 11, 24, 10, 0, 0, 123456789, time.FixedZone("", 3600)),
		DecisionID: "00000000-0000-4000-8000-000000000000",
		Decision:   authz.Deny(authz.Fault{Reason: authz.HeaderMissing, Field: authz.HeaderField("fromASID"), Value: "not for the log"}),
		Profile:    "nrl",
		Duration:   1500 * time.Nanosecond,
	}
}

func TestAuditLine(t *testing.T) {
	var out bytes.Buffer
	a, err := openAudit(&Config{Audit: AuditConfig{Output: "stdout"}}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.write(denial()); err != nil {
		t.Fatal(err)
	}
	const want = `{"time":"2026-11-24T09:00:00.123456789Z","schema":1,"decision_id":"00000000-0000-4000-8000-000000000000",` +
		`"decision":"deny","reason":"header-missing","field":"header.fromASID","profile":"nrl","duration_us":1}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// TestAuditFailure: who cannot write says so, or an allow would go unrecorded.
func TestAuditFailure(t *testing.T) {
	a, err := openAudit(&Config{Audit: AuditConfig{Output: "stdout"}}, brokenWriter{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.write(denial()); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("a lost record is no error: %v", err)
	}
}

func TestAuditFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for range 2 { // a restart appends
		a, err := openAudit(&Config{Audit: AuditConfig{Output: "file", File: PathValue(path)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.write(denial()); err != nil {
			t.Fatal(err)
		}
		if err := a.close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 2 || !json.Valid([]byte(lines[0])) || !json.Valid([]byte(lines[1])) {
		t.Errorf("%d lines: %s", len(lines), text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("others can read the audit log: %v, %v", info.Mode(), err)
	}
}
