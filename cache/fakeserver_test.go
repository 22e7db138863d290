package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// A fakeServer stands for Redis in tests that need thousands of histories or hours of
// time. It keeps the bytes of the layout, written by code of its own: the replica must
// understand a publisher that shares nothing with it but the documentation. The same
// tests of behaviour run against real servers.
//
// Whoever looks at it or changes it holds turn: the test, except while it waits, and a
// connection, except while that waits.
type fakeServer struct {
	turn sync.Mutex

	data   fakeData
	role   string
	frozen bool
	slow   time.Duration // before every answer
	down   bool

	starting func()          // called when a load begins
	reading  func(first int) // called when buckets are about to be read

	news  chan struct{} // closed and replaced when something was written
	heads []fakeHead    // what was published when, by the server's own account
	conns []*fakeConn

	oracle *Oracle
}

type fakeHead struct {
	since time.Time
	head  layout.Head // zero: nothing is published
}

// fakeData is what is lost and restored together.
type fakeData struct {
	manifest  map[string]string
	suspended map[string]string
	ids       map[uint64][]string
	buckets   map[uint64]map[int]map[string]string
	log       []logEntry
}

func (d fakeData) clone() fakeData {
	c := fakeData{manifest: maps.Clone(d.manifest), suspended: maps.Clone(d.suspended), log: slices.Clone(d.log),
		ids: map[uint64][]string{}, buckets: map[uint64]map[int]map[string]string{}}
	for g, ids := range d.ids {
		c.ids[g] = slices.Clone(ids)
	}
	for g, buckets := range d.buckets {
		c.buckets[g] = map[int]map[string]string{}
		for b, bucket := range buckets {
			c.buckets[g][b] = maps.Clone(bucket)
		}
	}
	return c
}

func newFakeServer() *fakeServer {
	return &fakeServer{data: fakeData{}.clone(), role: "master", news: make(chan struct{}), oracle: NewOracle()}
}

// A fakeSystem is an entry as the fake's publisher is told it.
type fakeSystem struct {
	asid         string
	ods          string
	state        authz.State
	interactions []string
}

func (s fakeSystem) describe(suspended bool) string {
	state := s.state
	if suspended {
		state = authz.Suspended
	}
	return fmt.Sprint(s.ods, " ", state, " ", s.interactions)
}

// fakeEdit is what one change does.
type fakeEdit struct {
	put     []fakeSystem
	drop    []string
	suspend []string
	resume  []string
	anew    bool // write a new generation of all of it
}

// content is the map that the fake's publisher works on: what it published last.
type fakeContent struct {
	systems   map[string]fakeSystem
	suspended map[string]bool
}

func (c fakeContent) clone() fakeContent {
	return fakeContent{maps.Clone(c.systems), maps.Clone(c.suspended)}
}

// publish writes a change on top of what the server has, and returns what content becomes.
func (f *fakeServer) publish(version uint64, before fakeContent, e fakeEdit) fakeContent {
	after := before.after(e)
	m, err := layout.ParseManifest(f.data.manifest)
	if err != nil {
		m, e.anew = &layout.Manifest{}, true
	}
	var change layout.Change
	for _, asid := range e.suspend {
		change.Suspend = append(change.Suspend, layout.Pair{Field: asid, Value: "{}"})
	}
	for _, asid := range e.resume {
		change.Resume = append(change.Resume, asid)
		if s, held := after.systems[asid]; held && !slices.ContainsFunc(e.put, func(p fakeSystem) bool { return p.asid == asid }) {
			e.put = append(e.put, s)
		}
	}
	change.Drop = e.drop
	m.Version = version
	if e.anew {
		delete(f.data.ids, m.Generation)
		delete(f.data.buckets, m.Generation)
		m.Generation = version
		m.IDs, m.Buckets = layout.Tally{}, [layout.Buckets]layout.Tally{}
		f.data.ids[version], f.data.buckets[version] = nil, map[int]map[string]string{}
		e.put = slices.Collect(maps.Values(after.systems))
		e.drop = nil
	}
	g := m.Generation
	change.Kind, change.Generation, change.First = layout.Edit, g, len(f.data.ids[g])
	write := func(asid, value string) {
		b := int(layout.BucketOf(asid))
		bucket := f.data.buckets[g][b]
		if bucket == nil {
			bucket = map[string]string{}
			f.data.buckets[g][b] = bucket
		}
		if old, there := bucket[asid]; there {
			m.Buckets[b].Remove(asid, old)
			delete(bucket, asid)
		}
		if value != "" {
			m.Buckets[b].Add(asid, value)
			bucket[asid] = value
		}
	}
	for _, asid := range e.drop {
		write(asid, "")
	}
	slices.SortFunc(e.put, func(a, b fakeSystem) int { return compare(a.asid, b.asid) })
	for _, s := range e.put {
		var numbers []int
		for _, id := range s.interactions {
			n := slices.Index(f.data.ids[g], id)
			if n < 0 {
				n = len(f.data.ids[g])
				f.data.ids[g] = append(f.data.ids[g], id)
				m.IDs.Add(strconv.Itoa(n), id)
				change.IDs = append(change.IDs, id)
			}
			numbers = append(numbers, n)
		}
		slices.Sort(numbers)
		value := string(layout.AppendEntry(nil, &authz.AccreditedSystem{ODSCode: s.ods, State: s.state}, slices.Compact(numbers)))
		write(s.asid, value)
		change.Put = append(change.Put, layout.Pair{Field: s.asid, Value: value})
	}
	if e.anew {
		change = layout.Change{Kind: layout.Generation, Generation: g}
	}
	f.data.suspended = map[string]string{}
	m.Suspended = layout.Tally{}
	for asid := range after.suspended {
		f.data.suspended[asid] = "{}"
		m.Suspended.Add(asid, "{}")
	}
	text := change.Encode()
	m.Tip = m.Tip.Next(version, text)
	f.data.manifest = m.Fields()
	f.data.log = append(f.data.log, logEntry{version, text, m.Tip.String()})

	f.oracle.Published(version, after)
	f.written()
	return after
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// written wakes whoever waits, and notes what is published now.
func (f *fakeServer) written() {
	m, err := layout.ParseManifest(f.data.manifest)
	if err != nil {
		m = &layout.Manifest{}
	}
	f.heads = append(f.heads, fakeHead{time.Now(), m.Head})
	close(f.news)
	f.news = make(chan struct{})
}

// newest reports whether that version was what was published at that moment, or came
// later on top of what was.
func (f *fakeServer) newest(version uint64, at time.Time) bool {
	known := false
	for i, h := range f.heads {
		if h.head.Version != version {
			continue
		}
		ended := i+1 < len(f.heads) && f.heads[i+1].since.Before(at)
		if h.since.Before(at) && !ended || !known && !h.since.Before(at) {
			return true
		}
		known = true
	}
	return false
}

func (f *fakeServer) open(context.Context) (server, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.down {
		return nil, errors.New("connection refused")
	}
	c := &fakeConn{f: f, cut: make(chan struct{})}
	f.conns = append(f.conns, c)
	return c, nil
}

// stop ends the server; its data stays.
func (f *fakeServer) stop() {
	f.down = true
	f.cutAll()
}

// cutAll breaks every connection.
func (f *fakeServer) cutAll() {
	for _, c := range f.conns {
		close(c.cut)
	}
	f.conns = nil
}

// A fakeConn is one connection.
type fakeConn struct {
	f   *fakeServer
	cut chan struct{}
}

func (c *fakeConn) close() {}

// answers waits as long as the server takes to answer. It is called without the turn, and
// returns with it if there is no error.
func (c *fakeConn) answers(ctx context.Context) error {
	for {
		c.f.turn.Lock()
		pause := c.f.slow
		if c.f.frozen {
			pause = 100 * time.Millisecond
		}
		c.f.turn.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-c.cut:
			timer.Stop()
			return errors.New("connection reset")
		case <-timer.C:
		}
		c.f.turn.Lock()
		if !c.f.frozen && c.whole() {
			return nil
		}
		c.f.turn.Unlock()
	}
}

// whole reports whether the connection is not cut.
func (c *fakeConn) whole() bool {
	select {
	case <-c.cut:
		return false
	default:
		return true
	}
}

func (c *fakeConn) follow(ctx context.Context, after uint64, wait time.Duration) (a answer, err error) {
	if err := c.answers(ctx); err != nil {
		return a, err
	}
	defer c.f.turn.Unlock()
	if c.f.role != "master" {
		return a, conn.NotMasterError{Role: c.f.role}
	}
	values := make([]any, 0, 4)
	for _, field := range layout.HeadFields() {
		if text, there := c.f.data.manifest[field]; there {
			values = append(values, text)
		} else {
			values = append(values, nil)
		}
	}
	a.head, a.headErr = layout.ParseHead(values)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		for _, e := range c.f.data.log {
			if e.version > after && len(a.entries) < entriesAtOnce {
				a.entries = append(a.entries, e)
			}
		}
		if len(a.entries) > 0 || wait == 0 {
			return a, nil
		}
		news := c.f.news
		c.f.turn.Unlock()
		over := false
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-c.cut:
			err = errors.New("connection reset")
		case <-timer.C:
			over = true
		case <-news:
		}
		if c.f.turn.Lock(); !c.whole() {
			err = errors.New("connection reset")
		}
		if over || err != nil {
			return a, err
		}
	}
}

func (c *fakeConn) start(ctx context.Context) (start, error) {
	if err := c.answers(ctx); err != nil {
		return start{}, err
	}
	defer c.f.turn.Unlock()
	if c.f.starting != nil {
		c.f.starting()
	}
	return start{maps.Clone(c.f.data.manifest), maps.Clone(c.f.data.suspended)}, nil
}

func (c *fakeConn) buckets(ctx context.Context, generation uint64, first, n, known int) (part, error) {
	if err := c.answers(ctx); err != nil {
		return part{}, err
	}
	defer c.f.turn.Unlock()
	if c.f.reading != nil {
		c.f.reading(first)
	}
	d := c.f.data
	p := part{idTally: d.manifest[layout.FieldIDs]}
	values := make([]any, 0, 4)
	for _, field := range layout.HeadFields() {
		if text, there := d.manifest[field]; there {
			values = append(values, text)
		} else {
			values = append(values, nil)
		}
	}
	p.head, p.headErr = layout.ParseHead(values)
	if ids := d.ids[generation]; known <= len(ids) {
		p.ids = slices.Clone(ids[known:])
	}
	for b := first; b < first+n; b++ {
		p.buckets = append(p.buckets, maps.Clone(d.buckets[generation][b]))
		p.tallies = append(p.tallies, d.manifest[layout.BucketName(byte(b))])
	}
	return p, nil
}

// described returns a map as the fake describes what it published.
func described(m *authz.InteractionMap) map[string]string {
	all := map[string]string{}
	for s := range m.Systems() {
		all[s.ASID.String()] = describeSystem(&s)
	}
	return all
}

func describeSystem(s *authz.AccreditedSystem) string {
	ids := make([]string, len(s.Interactions))
	for i, id := range s.Interactions {
		ids[i] = id.String()
	}
	return fmt.Sprint(s.ODSCode, " ", s.State, " ", ids)
}

func equalMaps(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Fatalf("%s:\n got %v\nwant %v", what, got, want)
	}
}
