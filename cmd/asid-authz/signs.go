package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"asid-authz/envoy"
)

// judgeEvery is how often the questions of Envoy, and our certificate towards it, are
// looked at for what somebody should change.
const judgeEvery = 10 * time.Second

// A lookout names once what is wrong between Envoy and this process, and once that it is
// over.
type lookout struct {
	log      *zap.Logger
	metrics  *metrics
	identity *serverIdentity

	was     []bool // by sign
	expired bool
}

// run looks until ctx is done.
func (l *lookout) run(ctx context.Context, checks *envoy.Server) {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			l.signs(checks.Judge())
			l.certificate(now)
		}
	}
}

// signs takes what was judged.
func (l *lookout) signs(present []bool) {
	if l.was == nil {
		l.was = make([]bool, len(present))
	}
	for i, sign := range envoy.Signs() {
		if present[i] == l.was[i] {
			continue
		}
		l.was[i] = present[i]
		if present[i] {
			l.metrics.misconfigured[i].Set(1)
			l.log.Warn("Envoy looks misconfigured", zap.String("sign", sign.Name), zap.String("meaning", sign.Meaning), zap.String("change", sign.Setting))
			continue
		}
		l.metrics.misconfigured[i].Set(0)
		l.log.Info("Envoy does not look misconfigured any more", zap.String("sign", sign.Name))
	}
}

// certificate says when the certificate that Envoy verifies has expired. The health stays
// what it is: connections that are open go on, and over a new one nobody could ask for it.
func (l *lookout) certificate(now time.Time) {
	held := l.identity.certificate.Load()
	if held == nil {
		return
	}
	expired := now.After(held.Leaf.NotAfter)
	if expired && !l.expired {
		l.log.Error("the server certificate has expired: Envoy cannot connect any more; connections that are open go on",
			zap.Time("expired", held.Leaf.NotAfter))
	}
	l.expired = expired
}
