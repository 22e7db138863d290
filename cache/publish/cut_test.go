package publish

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

// A cutter stands between a publisher and the server, and ends the publisher: after a
// number of commands, all its connections break, and it gets no new one.
type cutter struct {
	listener net.Listener
	upstream string

	mu          sync.Mutex
	left        int  // commands that still go through; below 0: all do
	answer      bool // the reply to the last of them comes back
	commands    int  // that went through
	transaction int  // bytes since MULTI
	largest     int  // of all transactions
	conns       []net.Conn
}

func newCutter(t *testing.T, upstream string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, upstream: upstream, left: -1}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", upstream)
			if err != nil || !c.keep(client, server) {
				client.Close()
				if server != nil {
					server.Close()
				}
				continue
			}
			running.Go(func() { io.Copy(client, server); client.Close() })
			running.Go(func() { c.forward(client, server) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.cut()
		running.Wait()
	})
	return c
}

// keep takes a connection in, unless the publisher is dead.
func (c *cutter) keep(all ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return false
	}
	c.conns = append(c.conns, all...)
	return true
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// arm lets n more commands through. With answer the last one is answered before the cut.
func (c *cutter) arm(n int, answer bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.answer, c.commands, c.largest = n, answer, 0, 0
}

// forward passes commands on, one by one.
func (c *cutter) forward(client, server net.Conn) {
	defer server.Close()
	defer client.Close()
	r := bufio.NewReader(client)
	for {
		raw, name, err := readCommand(r)
		if err != nil {
			return
		}
		silent, dead := c.count(name, len(raw))
		if dead {
			c.cut()
			return
		}
		if silent { // nobody hears what comes back
			client.(*net.TCPConn).CloseWrite()
		}
		if _, err := io.WriteString(server, raw); err != nil {
			return
		}
	}
}

// count counts a command. Those that only ask how long a bucket is are let through uncounted:
// there are hundreds, and they change nothing.
func (c *cutter) count(name string, bytes int) (silent, dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.left == 0:
		return false, true
	case name == "HLEN":
		return false, false
	case name == "MULTI":
		c.transaction = 0
	}
	c.transaction += bytes
	if name == "EXEC" {
		c.largest = max(c.largest, c.transaction)
	}
	c.commands++
	if c.left > 0 {
		c.left--
	}
	return c.left == 0 && !c.answer, false
}

// sofar returns what went through since arm: commands, and the bytes of the largest transaction.
func (c *cutter) sofar() (commands, largest int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commands, c.largest
}

// readCommand reads a command as a client sends it, and returns its bytes and its name.
func readCommand(r *bufio.Reader) (raw, name string, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", "", err
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "*")))
	if err != nil {
		return "", "", err
	}
	raw = line
	for i := range n {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", "", err
		}
		size, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "$")))
		if err != nil {
			return "", "", err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return "", "", err
		}
		if i == 0 {
			name = strings.ToUpper(string(text[:size]))
		}
		raw += line + string(text)
	}
	return raw, name, nil
}

// A publisher that dies after any command leaves the map that was there or the one that it
// was to publish, whole, and a later publisher can go on and removes what was left behind.
func TestPublisherDies(t *testing.T) {
	before := mapOf(t, entry(t, 1, "AAA", 1, 2), entry(t, 2, "BBB", 2), entry(t, 3, "CCC", 3))
	after := mapOf(t, entry(t, 1, "AAA", 1, 4), entry(t, 3, "ZZZ", 3), entry(t, 4, "DDD", 5))
	one := parseASID(t, "000000000001")
	change := func(target *authz.InteractionMap) func(t *testing.T, p *Publisher) error {
		return func(t *testing.T, p *Publisher) error {
			s, err := p.Read(t.Context())
			if err != nil {
				return err
			}
			plan := NewPlan(s, target)
			plan.Repair = len(s.Damage) > 0
			_, err = p.Apply(t.Context(), plan, by)
			return err
		}
	}
	layer := func(t *testing.T, p *Publisher) error {
		_, err := p.Suspend(t.Context(), one, by)
		return err
	}
	for name, test := range map[string]struct {
		base, after *authz.InteractionMap
		do          func(t *testing.T, p *Publisher) error
		damage      bool // the log ends elsewhere than the manifest says, which does not matter to the map
	}{
		"edit":              {base: before, after: after, do: change(after)},
		"first publication": {after: after, do: change(after)},
		"suspend":           {base: before, after: before, do: layer},
		"generation":        {base: before, after: after, do: change(after), damage: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, direct := server(t)
			c := newCutter(t, s.Address())
			dead := options(s)
			dead.Addresses = []string{c.listener.Addr().String()}
			for _, answer := range []bool{true, false} {
				for n, done := 1, false; !done; n++ {
					clear(t, s)
					if test.base != nil {
						apply(t, direct, test.base)
					}
					if test.damage {
						version := read(t, direct).Version
						foreign(t, s, version)
					}
					c.arm(-1, answer)
					p, err := Open(t.Context(), dead, ns)
					if err != nil {
						t.Fatal(err)
					}
					p.settling = 1
					c.arm(n, answer)
					err = test.do(t, p)
					commands, _ := c.sofar()
					done = err == nil && commands < n
					c.arm(0, answer)
					c.cut()
					p.Close()
					survives(t, s, direct, fmt.Sprintf("cut after %d commands, error %v", n, err), err == nil, test.base, test.after)
					if t.Failed() {
						return
					}
				}
			}
		})
	}
}

// foreign adds an entry to the log that no publisher wrote.
func foreign(t *testing.T, s *redistest.Server, version uint64) {
	t.Helper()
	if err := s.Admin().Do(t.Context(), "XADD", ns.Log(), layout.LogID(version+1), "change", "x", "digest", "y").Err(); err != nil {
		t.Fatal(err)
	}
}

func survives(t *testing.T, s *redistest.Server, p *Publisher, when string, published bool, base, after *authz.InteractionMap) {
	t.Helper()
	state, err := p.Read(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for _, d := range state.Damage {
		if d.Key != ns.Log() {
			t.Fatalf("%s: %v", when, d)
		}
	}
	got := describe(state.Map)
	switch {
	case got == describe(after):
	case !published && base != nil && got == describe(base):
	case !published && base == nil && state.Version == 0:
	default:
		t.Fatalf("%s: the map is\n%s", when, got)
	}
	// The next publisher, after an hour.
	if err := p.removeDead(t.Context(), time.Now().Add(2*abandonedAfter)); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	plan := NewPlan(state, after)
	plan.Repair = true
	if _, err := p.Apply(t.Context(), plan, by); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	expectKeys(t, s, expect(t, p, after))
}

// No transaction is larger than one may be, whatever the change is.
func TestTransactionsAreBounded(t *testing.T) {
	s, _ := server(t)
	c := newCutter(t, s.Address())
	o := options(s)
	o.Addresses = []string{c.listener.Addr().String()}
	p := open(t, o)
	edits, generations, largest := 0, 0, 0
	for i, n := range []int{10, 100, 1000, 1500, 2000, 2500, 3000, 4000, 0} {
		systems := make([]authz.AccreditedSystem, n)
		for j := range systems {
			systems[j] = entry(t, j, fmt.Sprint("O", i), i, j%200, 300+i, 400+j%50)
			systems[j].Name = strings.Repeat("x", 100)
		}
		m := mapOf(t, systems...)
		c.arm(-1, true)
		if r := apply(t, p, m); r.Generation {
			generations++
		} else {
			edits++
		}
		_, bytes := c.sofar()
		if largest = max(largest, bytes); bytes > layout.MaxTransaction {
			t.Errorf("%d systems: a transaction of %d bytes", n, bytes)
		}
	}
	expect(t, p, mapOf(t))
	if edits < 3 || generations < 3 || largest < layout.MaxTransaction/4 {
		t.Errorf("%d edits, %d generations, and the largest transaction has %d bytes: this tests nothing", edits, generations, largest)
	}
}

// A broken connection after EXEC is settled: the change was made, and is reported as made.
func TestSettle(t *testing.T) {
	s, direct := server(t)
	c := newCutter(t, s.Address())
	o := options(s)
	m := mapOf(t, entry(t, 1, "AAA", 1))
	apply(t, direct, mapOf(t))
	state := read(t, direct)
	p := open(t, o)
	standing, err := p.watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	step := p.step(standing, standing.top+1, standing.manifest, &layout.Change{Kind: layout.Edit, Generation: state.Generation}, layout.Record{}, nil)
	broken := errors.New("broken")
	if err := p.settle(t.Context(), step, broken); !errors.Is(err, broken) || !strings.Contains(err.Error(), "before anything was written") {
		t.Errorf("nothing was written: %v", err)
	}
	if err := direct.commit(t.Context(), &step.batch); err != nil {
		t.Fatal(err)
	}
	if err := p.settle(t.Context(), step, broken); err != nil {
		t.Errorf("it was written: %v", err)
	}
	apply(t, direct, m)
	if err := p.settle(t.Context(), step, broken); err != nil {
		t.Errorf("it was written, and another after it: %v", err)
	}
	p.options.Addresses, p.settling = []string{c.listener.Addr().String()}, 1
	c.arm(0, true)
	var unknown UnknownError
	if err := p.settle(t.Context(), step, broken); !errors.As(err, &unknown) || unknown.Version != step.manifest.Version {
		t.Errorf("nobody can be asked: %v", err)
	}
}
