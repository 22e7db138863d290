package cache_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"asid-authz/cache"
)

// BenchmarkFleetReload is a fleet in one process whose replicas all load at once, as after a
// repair, and what a decision takes meanwhile and, as the baseline, before. The baseline of
// the time is half a second: the one over which the replicas spread themselves. Of the largest
// map there are fewer replicas, because all of them are in this process.
func BenchmarkFleetReload(b *testing.B) {
	for _, fleet := range []struct{ systems, replicas int }{{1_000, 200}, {10_000, 200}, {100_000, 50}} {
		b.Run(fmt.Sprintf("systems=%d/replicas=%d", fleet.systems, fleet.replicas), func(b *testing.B) {
			minted, request, systems := world(b)
			s := newBenchServer(b, fleet.systems, systems)
			all, stop := s.replicas(fleet.replicas)
			defer stop()
			d := newDecider(b, minted, request, all[0])
			steady := d.steady()
			var during, last []time.Duration
			var cpu time.Duration
			for b.Loop() {
				loads := make(map[*cache.Replica]uint64, len(all))
				for _, r := range all {
					loads[r] = r.Status().Loads
				}
				ctx, cancel := context.WithCancel(b.Context())
				decided := make(chan []time.Duration)
				go func() { decided <- d.decide(ctx) }()
				used, began := s.CPU(), time.Now()
				s.publish(true)
				for _, r := range all {
					s.all([]*cache.Replica{r}, func(st cache.ReplicaStatus) bool { return st.Loads > loads[r] })
				}
				last, cpu = append(last, time.Since(began)), cpu+s.CPU()-used
				cancel()
				during = append(during, <-decided...)
			}
			report(b, steady, "us-baseline", time.Microsecond)
			report(b, during, "us-during", time.Microsecond)
			b.ReportMetric(slices.Max(last).Seconds(), "s-to-the-last")
			b.ReportMetric(cpu.Seconds()/float64(b.N), "redis-cpu-s")
		})
	}
}
