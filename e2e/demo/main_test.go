package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
)

// A lookout watches what the demo says and ends it when it has said everything.
type lookout struct {
	bytes.Buffer
	enough context.CancelFunc
}

func (l *lookout) Write(text []byte) (int, error) {
	n, err := l.Buffer.Write(text)
	if strings.Contains(l.String(), "Ctrl-C") {
		l.enough()
	}
	return n, err
}

// The demo shows what it says it does, and leaves nothing behind when it is ended.
func TestDemo(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "demo-") // short, for Unix sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	t.Setenv("TMPDIR", tmp)
	t.Chdir("../..")
	ctx, cancel := context.WithCancel(t.Context())
	w := &lookout{enough: cancel}
	if err := run(ctx, w, false); err != nil {
		t.Fatalf("%v\n%s", err, w)
	}
	said := w.String()
	for _, want := range []string{
		"Envoy 1.",
		"200 allowed: read", "403 interaction-not-granted", "400 asid-unknown", "-   refused in the TLS handshake",
		"DELETE /DocumentReference/{id}: allowed: delete",
		"DELETE /DocumentReference/{id}: interaction-not-granted",
		"FAILED         permission",
		"curl -i --resolve nrl.example.nhs.uk:",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q", want)
		}
	}
	if strings.Contains(said, "should have been") {
		t.Error("not every call had the outcome that it should have had")
	}
	for _, k := range calls {
		if !strings.Contains(said, "\n"+k.story+"  ") {
			t.Errorf("no row of %q", k.story)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("left behind: %s", entry.Name())
	}
}
