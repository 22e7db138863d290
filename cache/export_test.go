package cache

import (
	"context"
	"time"

	"go.uber.org/zap"

	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// NewHastyReplica returns a Replica that looks twenty times as often as others do, for
// tests that wait for a look.
func NewHastyReplica(log *zap.Logger, options conn.Options, namespace layout.Namespace) *Replica {
	hasty := defaultPace
	hasty.block /= 20
	hasty.spread /= 20
	hasty.reload /= 20
	hasty.verify = 20 * time.Millisecond
	return newReplica(log, func(ctx context.Context) (server, error) { return dial(ctx, options, namespace) }, hasty)
}

// A Loaded is what a load yields, for benchmarks.
type Loaded struct{ h *held }

// Load loads the map once over a connection of its own.
func Load(ctx context.Context, options conn.Options, namespace layout.Namespace) (*Loaded, error) {
	s, err := dial(ctx, options, namespace)
	if err != nil {
		return nil, err
	}
	defer s.close()
	h, _, err := load(ctx, s, defaultPace, func(string, error) {})
	return &Loaded{h}, err
}

// Change applies the next entry of the log, which puts a system, and leaves l as it was.
func (l *Loaded) Change(field, value string) error {
	c := layout.Change{Kind: layout.Edit, Generation: l.h.head.Generation, First: len(l.h.ids), Put: []layout.Pair{{Field: field, Value: value}}}
	e := logEntry{version: l.h.head.Version + 1, change: c.Encode()}
	e.digest = l.h.head.Tip.Next(e.version, e.change).String()
	_, err := l.h.follow(e, func(string, error) {})
	return err
}
