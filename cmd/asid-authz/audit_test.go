package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
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

// allowance returns the record of a request that is allowed.
func allowance(t testing.TB) *envoy.Record {
	t.Helper()
	corpus, minted, config := authztest.Setup(t, "../../authz/testdata")
	authorizer, err := authz.New(config)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := authztest.AllowedRead(t, corpus, minted, &config.Profile)
	record := denial()
	if record.Decision = authorizer.Check(t.Context(), r); !record.Decision.Allowed() {
		t.Fatalf("denied: %v", record.Decision.Reason())
	}
	return record
}

// An auditor is an audit log with what a test looks at.
type auditor struct {
	*auditLog
	lost atomic.Int64
}

func newAuditor(t testing.TB, out *output, settings string) *auditor {
	t.Helper()
	text := fileText(t, "testdata/config/good-least.yaml") + "\naudit: {" + settings + "}\n"
	c, err := decodeConfig("config.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a := &auditor{}
	if a.auditLog, err = openAudit(c, out, func(n int) { a.lost.Add(int64(n)) }, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *auditor) lostRecords() int { return int(a.lost.Load()) }

// An output takes everything, nothing (block), or fails.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	err   error
	some  int           // how much is taken of what fails
	next  []error       // of the next writes, before err
	block chan struct{} // nil: not
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	block := o.block
	o.mu.Unlock()
	if block != nil {
		<-block
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.err
	if len(o.next) > 0 {
		err, o.next = o.next[0], o.next[1:]
	}
	if err != nil {
		n, _ := o.text.Write(b[:min(o.some, len(b))])
		return n, err
	}
	return o.text.Write(b)
}

func (o *output) set(change func(*output)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

// lines returns what each line that is JSON says, in the words of words.
func (o *output) lines(t *testing.T) (all []string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range strings.Lines(o.text.String()) {
		var l struct {
			ID         string `json:"decision_id"`
			Decision   string
			Reason     string
			Suppressed int
			Dropped    int
		}
		switch err := json.Unmarshal([]byte(line), &l); {
		case err != nil:
			all = append(all, "torn")
		case l.Dropped > 0:
			all = append(all, fmt.Sprint("dropped ", l.Dropped))
		case l.Suppressed > 0:
			all = append(all, fmt.Sprint("suppressed ", l.Suppressed, " ", l.Reason))
		default:
			all = append(all, strings.TrimSpace(l.ID+" "+l.Decision+" "+l.Reason))
		}
	}
	return all
}

func expectLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the lines are not those wanted (-want +got):\n%s", diff)
	}
}

func named(r *envoy.Record, id string) *envoy.Record {
	copied := *r
	copied.DecisionID = id
	return &copied
}

func TestAuditLine(t *testing.T) {
	line := newAuditLines().record(denial())
	const want = `{"time":"2026-11-24T09:00:00.123456789Z","schema":1,"decision_id":"00000000-0000-4000-8000-000000000000",` +
		`"decision":"deny","reason":"header-missing","field":"header.fromASID","profile":"nrl","duration_us":1}` + "\n"
	if line.String() != want {
		t.Errorf("got  %swant %s", line, want)
	}
}

// FuzzAuditLine: whatever the texts of a record hold, it is one line of JSON, with the
// texts in it.
func FuzzAuditLine(f *testing.F) {
	f.Add("id", "read", "A20047")
	f.Add("a\nb", "\x00\"}", "\u2028\x7f\\")
	lines := newAuditLines()
	f.Fuzz(func(t *testing.T, id, endpoint, ods string) {
		r := named(denial(), id)
		*r.Decision.Facts() = authz.Facts{Endpoint: endpoint, ODSCode: ods}
		line := lines.record(r)
		defer line.Free()
		var got map[string]any
		if err := json.Unmarshal(line.Bytes(), &got); err != nil || bytes.IndexByte(line.Bytes(), '\n') != line.Len()-1 {
			t.Fatalf("%v in %q", err, line)
		}
		for name, want := range map[string]string{"decision_id": id, "endpoint": endpoint, "ods_code": ods} {
			if want = strings.ToValidUTF8(want, "\ufffd"); len(want) > 0 && !strings.Contains(want, "\ufffd") && got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
	})
}

// TestAuditAllows: denials are always written; of the allows those that were asked for.
func TestAuditAllows(t *testing.T) {
	allowed := allowance(t)
	ids := []string{"00000000-1", "00000009-2", "0000000a-3", "00000014-4", "0000001f-5"}
	for settings, want := range map[string][]string{
		"":                             {"00000000-1 allow", "00000009-2 allow", "0000000a-3 allow", "00000014-4 allow", "0000001f-5 allow", "0 deny header-missing"},
		"allows: all, on_full: deny":   {"00000000-1 allow", "00000009-2 allow", "0000000a-3 allow", "00000014-4 allow", "0000001f-5 allow", "0 deny header-missing"},
		"allows: sampled, sample: 10":  {"00000000-1 allow", "0000000a-3 allow", "00000014-4 allow", "0 deny header-missing"},
		"allows: none, buffer: 100KiB": {"0 deny header-missing"},
	} {
		t.Run(settings, func(t *testing.T) {
			out := &output{}
			a := newAuditor(t, out, settings)
			for _, id := range ids {
				if err := a.write(named(allowed, id)); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.write(named(denial(), "0")); err != nil {
				t.Fatal(err)
			}
			if err := a.close(); err != nil {
				t.Fatal(err)
			}
			expectLines(t, out.lines(t), want...)
		})
	}
}

var errDiskFull = errors.New("no space left on device")

// TestAuditFailing: who cannot write says so. Where no allow may go unrecorded it is
// denied; else the answer stands. Either way the loss is counted, and the log itself
// says later how much is missing; what was torn off does not run into the next line.
func TestAuditFailing(t *testing.T) {
	allowed := allowance(t)
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprint("strict ", strict), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &output{err: errDiskFull, some: 40}
				settings := "on_full: drop"
				if strict {
					settings = "on_full: deny"
				}
				a := newAuditor(t, out, settings)
				if err := a.write(named(allowed, "a")); (err != nil) != strict || strict && !errors.Is(err, errDiskFull) {
					t.Errorf("a lost allow: %v", err)
				}
				synctest.Wait()
				if err := a.write(named(denial(), "b")); err != nil {
					t.Errorf("a lost denial: %v", err)
				}
				synctest.Wait()
				if n := a.lostRecords(); n != 2 {
					t.Errorf("%d are counted as lost, want 2", n)
				}
				out.set(func(o *output) { o.err = nil })
				if err := a.write(named(allowed, "c")); err != nil {
					t.Errorf("after there was room: %v", err)
				}
				if err := a.close(); err != nil {
					t.Fatal(err)
				}
				// The second did no more than end the line of the first: an empty line.
				expectLines(t, out.lines(t), "torn", "torn", "c allow", "dropped 2")
			})
		})
	}
}

// TestAuditPieces: when a part of what waited cannot be written, the rest is, and each
// allow is told about its own record.
func TestAuditPieces(t *testing.T) {
	allowed := allowance(t)
	synctest.Test(t, func(t *testing.T) {
		out := &output{block: make(chan struct{}), next: []error{nil, errDiskFull, nil}}
		a := newAuditor(t, out, "on_full: deny")
		lost := make(chan string, 400)
		ask := func(id string) {
			if err := a.write(named(allowed, id)); err != nil {
				lost <- id
			}
		}
		go ask("the first")
		synctest.Wait()
		for i := range 300 { // more than one piece
			go ask(fmt.Sprint(i))
		}
		synctest.Wait()
		out.set(func(o *output) { close(o.block); o.block = nil })
		if err := a.close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		written := map[string]bool{}
		for _, line := range out.lines(t) {
			written[line] = true
		}
		if len(lost) == 0 || len(lost) != a.lostRecords() || !written[fmt.Sprint("dropped ", len(lost))] || len(written) != 301-len(lost)+1 {
			t.Errorf("%d allows were denied, %d records are counted as lost, and there are %d lines", len(lost), a.lostRecords(), len(written))
		}
		for range len(lost) {
			if id := <-lost; written[id+" allow"] {
				t.Errorf("%s was denied, and the log says that it was allowed", id)
			}
		}
	})
}

// TestAuditStalled: an output that takes nothing holds up nobody. Where records may be
// lost they wait in a buffer that has a bound; where they may not, an allow is denied
// after a while, the next ones at once, and the log says in the end what was answered.
func TestAuditStalled(t *testing.T) {
	allowed := allowance(t)
	t.Run("drop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			out := &output{block: make(chan struct{})}
			a := newAuditor(t, out, "buffer: 64KiB")
			start, n := time.Now(), 1000
			for i := range n {
				if err := a.write(named(allowed, fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
			}
			if waited := time.Since(start); waited != 0 {
				t.Errorf("the decisions have waited for %s", waited)
			}
			lost := a.lostRecords()
			if lost == 0 || a.queue.size() > 64<<10 {
				t.Errorf("%d are lost, and %d bytes held", lost, a.queue.size())
			}
			out.set(func(o *output) { close(o.block); o.block = nil })
			if err := a.close(); err != nil {
				t.Fatal(err)
			}
			if held := a.queue.size(); held != 0 {
				t.Errorf("%d bytes are held when all is written", held)
			}
			lines := out.lines(t)
			if a.lostRecords() != lost || len(lines) != n-lost+1 {
				t.Fatalf("%d are lost of %d, and there are %d lines", a.lostRecords(), n, len(lines))
			}
			next := 0 // whoever had room came first
			for _, line := range lines {
				if !strings.HasSuffix(line, "allow") {
					continue
				}
				if line != fmt.Sprint(next, " allow") {
					t.Fatalf("%s is in the place of record %d", line, next)
				}
				next++
			}
			if got := strings.Count(strings.Join(lines, "\n"), fmt.Sprint("dropped ", lost)); got != 1 {
				t.Errorf("the gap is said %d times", got)
			}
		})
	})
	t.Run("deny", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			out := &output{block: make(chan struct{})}
			a := newAuditor(t, out, "on_full: deny")
			for i, wait := range []time.Duration{auditPatience, 0} {
				start := time.Now()
				if err := a.write(named(allowed, fmt.Sprint("a", i))); err == nil {
					t.Error("an allow that was not written")
				}
				if waited := time.Since(start); waited != wait {
					t.Errorf("allow %d has waited for %s, want %s", i, waited, wait)
				}
			}
			start := time.Now()
			if err := a.write(named(denial(), "b")); err != nil || time.Since(start) != 0 {
				t.Errorf("a denial has waited for %s: %v", time.Since(start), err)
			}
			out.set(func(o *output) { close(o.block); o.block = nil })
			synctest.Wait()
			if err := a.write(named(allowed, "c")); err != nil {
				t.Errorf("once it is taken again: %v", err)
			}
			if err := a.close(); err != nil {
				t.Fatal(err)
			}
			expectLines(t, out.lines(t), "a0 allow", "a0 deny audit-unavailable", "a1 deny audit-unavailable", "b deny header-missing", "c allow")
			if n := a.lostRecords(); n != 0 {
				t.Errorf("%d are counted as lost", n)
			}
		})
	})
	t.Run("full", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			out := &output{block: make(chan struct{})}
			a := newAuditor(t, out, "on_full: deny, buffer: 64KiB, early_denials: 1000000")
			for a.lostRecords() == 0 {
				if err := a.write(denial()); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.write(allowed); !errors.Is(err, errAuditFull) {
				t.Errorf("an allow that has no room: %v", err)
			}
			out.set(func(o *output) { close(o.block); o.block = nil })
			if err := a.close(); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// TestAuditEnd: the end of the process waits for what was handed in, but not for ever.
func TestAuditEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &output{block: make(chan struct{})}
		a := newAuditor(t, out, "")
		a.write(denial())
		start := time.Now()
		if err := a.close(); err == nil || !strings.Contains(err.Error(), "takes nothing") || time.Since(start) != auditFlush {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		close(out.block)
	})
	synctest.Test(t, func(t *testing.T) {
		a := newAuditor(t, &output{}, "on_full: deny")
		if err := a.close(); err != nil {
			t.Fatal(err)
		}
		if err := a.write(allowance(t)); !errors.Is(err, errAuditEnded) {
			t.Errorf("an allow after the end: %v", err)
		}
	})
}

// TestAuditEarlyDenials: a flood of strangers is counted instead of written, by Reason.
// Who has proved an identity is always written.
func TestAuditEarlyDenials(t *testing.T) {
	allowed := allowance(t)
	synctest.Test(t, func(t *testing.T) {
		out := &output{}
		a := newAuditor(t, out, "early_denials: 2")
		write := func(id string, reason authz.Reason, facts authz.Facts) {
			t.Helper()
			r := named(denial(), id)
			r.Time, r.Decision = time.Now(), authz.Deny(authz.Fault{Reason: reason})
			*r.Decision.Facts() = facts
			if err := a.write(r); err != nil {
				t.Fatal(err)
			}
		}
		known := *allowed.Decision.Facts()
		claimed := authz.Facts{ClaimedASID: known.ASID}
		for i := range 5 {
			write(fmt.Sprint("early", i), authz.CertificateUntrusted, authz.Facts{})
			write(fmt.Sprint("late", i), authz.CertificateUntrusted, known)
		}
		write("other", authz.ASIDUnknown, claimed)
		time.Sleep(500 * time.Millisecond) // half a second's worth
		write("early5", authz.CertificateUntrusted, authz.Facts{})
		write("early6", authz.CertificateUntrusted, authz.Facts{})
		time.Sleep(auditTell)
		synctest.Wait()
		expectLines(t, out.lines(t), "early0 deny certificate-untrusted", "late0 deny certificate-untrusted",
			"early1 deny certificate-untrusted", "late1 deny certificate-untrusted", "late2 deny certificate-untrusted",
			"late3 deny certificate-untrusted", "late4 deny certificate-untrusted", "other deny asid-unknown",
			"early5 deny certificate-untrusted", "suppressed 4 certificate-untrusted")
		for i := range 4 {
			write(fmt.Sprint("again", i), authz.TokenMissing, authz.Facts{})
		}
		out.set(func(o *output) { o.text.Reset() })
		if err := a.close(); err != nil {
			t.Fatal(err)
		}
		lines := out.lines(t)
		expectLines(t, lines[len(lines)-1:], "suppressed 2 token-missing")
	})
}

func BenchmarkAudit(b *testing.B) {
	allowed := allowance(b)
	for _, settings := range []string{"on_full: drop, buffer: 1GiB", "on_full: deny"} {
		b.Run(settings[:len("on_full: drop")], func(b *testing.B) {
			a := newAuditor(b, nil, settings+", output: file, file: "+b.TempDir()+"/audit.jsonl")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := a.write(allowed); err != nil {
						b.Error(err)
					}
				}
			})
			if err := a.close(); err != nil {
				b.Fatal(err)
			}
			if n := a.lostRecords(); n > 0 {
				b.Errorf("%d are lost", n)
			}
		})
	}
}

func BenchmarkAuditLine(b *testing.B) {
	allowed, lines := allowance(b), newAuditLines()
	b.ReportAllocs()
	for b.Loop() {
		line := lines.record(allowed)
		b.SetBytes(int64(line.Len()))
		line.Free()
	}
}
