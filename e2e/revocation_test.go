package e2e

import (
	"encoding/hex"
	"fmt"
	"testing"

	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
)

// An open is a connection of each protocol with the certificate of a case, which is kept.
type open struct {
	*scene
	c     *authztest.Case
	conns []mesh.Conn
}

func (s *scene) open(t *testing.T, c *authztest.Case) *open {
	t.Helper()
	o := &open{scene: s, c: c}
	for _, protocol := range mesh.Protocols {
		conn, refused, err := s.client(t, s.edge, c).Open(t.Context(), protocol)
		if err != nil || refused != nil {
			t.Fatal(refused, err)
		}
		t.Cleanup(func() { conn.Close() })
		o.conns = append(o.conns, conn)
	}
	return o
}

// until waits until the request is answered with that public Reason on every one of the
// connections, and returns the records of these answers.
func (o *open) until(t *testing.T, status int, reason string) (records []mesh.Record) {
	t.Helper()
	for _, conn := range o.conns {
		var answer *mesh.Answer
		eventually(t, fmt.Sprintf("the open connection is answered with %d %s", status, reason), func() (done bool) {
			var err error
			if answer, err = conn.Do(o.request(t, o.c)); err != nil {
				t.Fatal(err)
			}
			return answer.Status == status && answer.Header.Get("X-Asid-Reason") == reason
		})
		expect(t, []*mesh.Answer{answer}, status, reason)
		id := answer.Header.Get("X-Asid-Decision-Id")
		if seen, reached := o.Upstream.Of(answer); reached {
			id = seen.Header.Get("X-Asid-Decision-Id")
		}
		record, err := o.Record(id)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
	return records
}

// A connection outlives the good standing of the certificate that it was opened with, and
// Envoy never looks again. Nor does a new connection help: Envoy knows nothing of the list.
func TestRevocationOnOpenConnection(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{CRLs: true})
	o := s.open(t, s.read)
	o.until(t, 200, "")
	certificate, err := s.World.Certificate(s.read)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetCRLs(2, certificate); err != nil {
		t.Fatal(err)
	}
	o.until(t, 403, "certificate-revoked")
	expect(t, s.ask(t, s.edge, s.read), 403, "certificate-revoked")
	if err := s.SetCRLs(3); err != nil {
		t.Fatal(err)
	}
	o.until(t, 200, "")
}

// What an operator orders in an emergency takes effect on connections that are open, and
// is in the records for as long as it does.
func TestBreakGlassOnOpenConnection(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{})
	o := s.open(t, s.read)
	certificate, err := s.World.Certificate(s.read)
	if err != nil {
		t.Fatal(err)
	}
	sum := certificate.SHA256()
	for _, step := range []struct {
		orders, inForce string
		status          int
		reason          string
	}{
		{"{}", "", 200, ""},
		{`deny: {asids: ["` + headerOf(s.read, "fromASID") + `"]}`, "deny", 403, "system-suspended"},
		{"deny: {certificates: [" + hex.EncodeToString(sum[:]) + "]}", "deny", 403, "certificate-revoked"},
		{"{}", "", 200, ""},
	} {
		if err := s.SetBreakGlass(step.orders); err != nil {
			t.Fatal(err)
		}
		for _, record := range o.until(t, step.status, step.reason) {
			if record.BreakGlass != step.inForce {
				t.Errorf("with %s the record says that %q is in force", step.orders, record.BreakGlass)
			}
		}
	}
}
