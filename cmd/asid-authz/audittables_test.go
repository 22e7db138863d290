package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"asid-authz/authz"
	"asid-authz/envoy"
)

// notesTable lists the fields of the lines of the audit log that are of no decision.
func notesTable(t *testing.T) *docTable {
	t.Helper()
	lines := newAuditLines()
	now := time.Now()
	fields := func(line []byte) (names []string) {
		decoder := json.NewDecoder(bytes.NewReader(line))
		if _, err := decoder.Token(); err != nil { // the brace
			t.Fatal(err)
		}
		for decoder.More() {
			name, err := decoder.Token()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decoder.Token(); err != nil {
				t.Fatal(err)
			}
			names = append(names, name.(string))
		}
		return names
	}
	table := &docTable{head: []string{"Line and field", "Meaning"}, hand: 1}
	for _, line := range []struct {
		of   string
		text []byte
	}{
		{"suppressed", lines.summary(authz.ASIDUnknown, 1, now, now).Bytes()},
		{"dropped", lines.gap(1, now, now).Bytes()},
	} {
		for _, name := range fields(line.text) {
			table.rows = append(table.rows, []string{line.of + ": " + code(name)})
		}
	}
	return table
}

// volumeTable reckons what the audit log grows by, from the sizes of lines of real
// decisions.
func volumeTable(t *testing.T, rules *envoy.Rules, allowed *authv3.CheckRequest) *docTable {
	t.Helper()
	lines := newAuditLines()
	size := func(change func(*authv3.AttributeContext_HttpRequest)) (bytes int, outcome string) {
		server := envoy.NewServer(func() *envoy.Rules { return rules }, func(r *envoy.Record) error {
			// What differs from one run to the next, as it is in a service that has run for a while.
			r.Time, r.Duration = time.Date(2026, 11, 24, 9, 0, 0, 123456789, time.UTC), 250*time.Microsecond
			facts := r.Decision.Facts()
			facts.BreakGlass = ""
			if facts.HasMap {
				facts.MapVersion, facts.MapAge = 1795530594, 3500*time.Millisecond
			}
			line := lines.record(r)
			bytes, outcome = line.Len(), r.Outcome()+" "+r.Reason()
			return nil
		})
		message := proto.Clone(allowed).(*authv3.CheckRequest)
		request := message.Attributes.Request.Http
		request.HeaderMap.Headers = append(request.HeaderMap.Headers,
			&corev3.HeaderValue{Key: "x-request-id", RawValue: []byte("3c9085a5-a3bd-461a-8030-38adce5b2271")})
		change(request)
		if _, err := server.Check(t.Context(), message); err != nil {
			t.Fatal(err)
		}
		return bytes, outcome
	}
	allow, outcome := size(func(*authv3.AttributeContext_HttpRequest) {})
	if outcome != "allow " {
		t.Fatal(outcome)
	}
	denial, outcome := size(func(r *authv3.AttributeContext_HttpRequest) {
		r.Method = "DELETE"
		for _, h := range r.HeaderMap.Headers {
			if h.Key == ":method" {
				h.RawValue = []byte("DELETE")
			}
		}
	})
	if outcome != "deny scope-insufficient" {
		t.Fatal(outcome)
	}
	early, outcome := size(func(r *authv3.AttributeContext_HttpRequest) {
		for _, h := range r.HeaderMap.Headers {
			if h.Key == "fromasid" {
				h.RawValue = []byte("200000000118")
			}
		}
	})
	if outcome != "deny certificate-not-of-asid" {
		t.Fatal(outcome)
	}
	defaults := Config{}
	defaults.setDefaults()
	perDay := func(bytesPerSecond float64) string {
		gb, err := strconv.ParseFloat(fmt.Sprintf("%.2g", bytesPerSecond*86400/1e9), 64)
		if err != nil {
			t.Fatal(err)
		}
		return strconv.FormatFloat(gb, 'f', -1, 64)
	}
	table := &docTable{head: []string{"GB a day", "`allows: all`", fmt.Sprintf("`allows: sampled`, 1 in %d", defaults.Audit.Sample.N), "`allows: none`"}}
	const denied = 0.01
	for _, rate := range []int{100, 1000, 10000} {
		row := []string{fmt.Sprintf("%d requests/s, 1 %% denied", rate)}
		for _, written := range []float64{1, 1 / float64(defaults.Audit.Sample.N), 0} {
			row = append(row, perDay(float64(rate)*((1-denied)*written*float64(allow)+denied*float64(denial))))
		}
		table.rows = append(table.rows, row)
	}
	flood := perDay(float64(defaults.Audit.EarlyDenials.N) * float64(early))
	table.rows = append(table.rows,
		[]string{fmt.Sprintf("a flood of strangers, one Reason, `early_denials: %d`", defaults.Audit.EarlyDenials.N), flood, flood, flood},
		[]string{"bytes of a record: allow, denial, denial of a stranger", strconv.Itoa(allow), strconv.Itoa(denial), strconv.Itoa(early)})
	return table
}
