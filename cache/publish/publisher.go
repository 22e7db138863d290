package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// A Publisher changes the map of one namespace. It has one connection, and one goroutine
// at a time may use it.
type Publisher struct {
	// KeepHistory is how many bytes of what changes replaced are kept, so that they can
	// be rolled back. Open sets it to DefaultKeepHistory.
	KeepHistory int

	// Progress, if not nil, is called while a new generation is written.
	Progress func(written, systems int)

	options   conn.Options
	namespace layout.Namespace
	c         *conn.Conn

	settling time.Duration // how long settle tries to find out
}

// DefaultKeepHistory is some tens of thousands of changes of single systems.
const DefaultKeepHistory = 64 << 20

// Meta is what the history keeps of who changed the map.
type Meta struct {
	By     string // who
	Reason string // why
	Action string // apply, repair, rollback or promote; Suspend and Resume set it themselves
}

// A Result is what came of a change.
type Result struct {
	Version    uint64 // that the map has now
	Before     uint64 // that it had; 0: nothing was published
	Unchanged  bool   // there was nothing to do, and nothing was written
	Generation bool   // the map was written anew as a whole

	// Acknowledged is how many replicas of the server said within a moment that they
	// have the change; -1: the user may not ask (WAIT).
	Acknowledged int

	InMap bool // of Suspend and Resume: the map has such a system
}

// ErrConflict says that the map is not the one any more that the change was meant for.
var ErrConflict = errors.New("another publisher was faster: nothing was written; look at the map again")

// A DamageError says that what is in Redis does not match its manifest, and why.
type DamageError struct{ Damage []Damage }

func (e DamageError) Error() string {
	return fmt.Sprintf("the map in Redis is damaged, and only writing it anew as a whole repairs it: %s", e.Damage[0]) + andMore(len(e.Damage)-1)
}

func andMore(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}

// An UnknownError says that the connection broke while a change was being made, and that
// nobody could be asked whether it was made.
type UnknownError struct {
	Version uint64 // that it would have made
	Err     error
}

func (e UnknownError) Error() string {
	return fmt.Sprintf("the connection broke, and whether version %d was published is not known: look at the map before you try again: %v", e.Version, e.Err)
}

func (e UnknownError) Unwrap() error { return e.Err }

// Open connects to the server, which must be a master.
func Open(ctx context.Context, o conn.Options, n layout.Namespace) (*Publisher, error) {
	p := &Publisher{KeepHistory: DefaultKeepHistory, options: o, namespace: n, settling: 5 * time.Second}
	if err := p.dial(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// Namespace returns where the map lies.
func (p *Publisher) Namespace() layout.Namespace { return p.namespace }

// Close ends the connection.
func (p *Publisher) Close() error {
	if p.c == nil {
		return nil
	}
	return p.c.Close()
}

func (p *Publisher) dial(ctx context.Context) error {
	p.Close()
	p.c = nil
	c, err := conn.Open(ctx, p.options, p.namespace.Manifest())
	if err != nil {
		return err
	}
	if err := master(ctx, c); err != nil {
		c.Close()
		return err
	}
	p.c = c
	return nil
}

// ready makes sure of a connection that works and whose end is a master. A server closes
// one that was silent for long, as while somebody read a difference and thought about it.
func (p *Publisher) ready(ctx context.Context) error {
	if p.c != nil {
		err := master(ctx, p.c)
		if err == nil || conn.IsAnswer(err) || ctx.Err() != nil {
			return err
		}
	}
	return p.dial(ctx)
}

func master(ctx context.Context, c *conn.Conn) error {
	var hello *redis.MapStringInterfaceCmd
	if _, err := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		hello = conn.Hello(ctx, pipe)
		return nil
	}); err != nil {
		return err
	}
	return conn.IsMaster(hello)
}

// acknowledged asks how many replicas have what was written. It waits until no more of
// them says so within a moment.
func (p *Publisher) acknowledged(ctx context.Context) int {
	const most, moment = 10, 100 * time.Millisecond // servers look at what is waited for every 100 ms
	n := 0
	for n < most {
		got, err := p.c.Do(ctx, "WAIT", n+1, moment.Milliseconds()).Int()
		if err != nil {
			if n == 0 {
				return -1
			}
			return n
		}
		if got <= n {
			return n
		}
		n = got
	}
	return n
}
