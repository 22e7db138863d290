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
