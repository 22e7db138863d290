package redistest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"

	"asid-authz/e2e/program"
)

// A Proxy stands between clients and a server and does to their connections what networks do.
// What was asked for last applies to connections that are open as to those that come.
type Proxy struct {
	proxy *toxiproxy.Proxy
	t     testing.TB
}

// NewProxy starts a proxy in front of an address, which ends with the test.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	server := &toxiproxy.ApiServer{Metrics: toxiproxy.NewMetricsContainer(nil)}
	server.Logger = newOf(server.Logger) // without a writer: it says nothing
	const attempts = 3                   // somebody else may take a port between our choice and its use
	for attempt := 1; ; attempt++ {
		address, err := program.FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		p := &Proxy{t: t, proxy: toxiproxy.NewProxy(server, "redis", address, upstream)}
		err = p.proxy.Start()
		if err == nil {
			t.Cleanup(p.proxy.Stop)
			return p
		}
		if attempt == attempts || !strings.Contains(err.Error(), "address already in use") {
			t.Fatal(err)
		}
	}
}

// newOf returns a new zero value of the type that the pointer points to: the logger is of a
// module that nothing else here needs.
func newOf[T any](*T) *T { return new(T) }

// Address returns host:port, which stays the same.
func (p *Proxy) Address() string { return p.proxy.Listen }

// Disable closes all connections, and refuses new ones until Enable.
func (p *Proxy) Disable() { p.proxy.Stop() }

// Enable ends Disable.
func (p *Proxy) Enable() {
	p.t.Helper()
	p.listen(p.proxy.Start)
}

// listen calls start, and again as long as somebody listens still: between fork and exec a
// process that is being started has what was open then.
func (p *Proxy) listen(start func() error) {
	p.t.Helper()
	if err := until(p.t.Context(), "the proxy listens", func() error {
		err := start()
		if err == nil || strings.Contains(err.Error(), "address already in use") {
			return err
		}
		p.t.Error(err)
		return nil
	}); err != nil {
		p.t.Error(err)
	}
}

// Partition loses all bytes of both directions and keeps the connections open, which is how a
// partition looks from both of its sides; new connections are taken and hear nothing.
func (p *Proxy) Partition() {
	p.t.Helper()
	p.toxic("upstream", "timeout", map[string]any{"timeout": 0})
	p.toxic("downstream", "timeout", map[string]any{"timeout": 0})
}

// Delay holds back every reply by d.
func (p *Proxy) Delay(d time.Duration) {
	p.t.Helper()
	p.toxic("downstream", "latency", map[string]any{"latency": d.Milliseconds()})
}

// Drip lets replies through in pieces of about n bytes, one each d.
func (p *Proxy) Drip(n int, d time.Duration) {
	p.t.Helper()
	p.toxic("downstream", "slicer", map[string]any{"average_size": n, "size_variation": 0, "delay": d.Microseconds()})
}

// CutAfter closes each connection, and each new one, when it has brought n more bytes of
// replies.
func (p *Proxy) CutAfter(n int) {
	p.t.Helper()
	p.toxic("downstream", "limit_data", map[string]any{"bytes": n})
}

// CutAfterSent closes each connection, and each new one, when it has brought n more bytes of
// commands: whoever sends them dies in the middle of one, or between two.
func (p *Proxy) CutAfterSent(n int) {
	p.t.Helper()
	p.toxic("upstream", "limit_data", map[string]any{"bytes": n})
}

// To closes all connections, and leads new ones to another server, unless it is disabled.
func (p *Proxy) To(upstream string) {
	p.t.Helper()
	next := &toxiproxy.Proxy{Listen: p.proxy.Listen, Upstream: upstream, Enabled: p.proxy.Enabled}
	p.listen(func() error { return p.proxy.Update(next) })
}

// Heal ends everything but Disable. Connections that were partitioned are closed, because
// bytes of them are missing.
func (p *Proxy) Heal() { p.proxy.Toxics.ResetToxics(p.t.Context()) }

// toxic adds one. Only their JSON can be added.
func (p *Proxy) toxic(stream, kind string, attributes map[string]any) {
	p.t.Helper()
	text, err := json.Marshal(map[string]any{"type": kind, "stream": stream, "attributes": attributes})
	if err == nil {
		_, err = p.proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	}
	if err != nil {
		p.t.Error(fmt.Errorf("%s: %w", kind, err))
	}
}
