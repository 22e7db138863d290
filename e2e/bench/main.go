// Command bench says how fast asid-authz is where it is used: behind a real Envoy that
// terminates mutual TLS, over each transport, beside an ext_authz server that says OK
// without looking and beside an Envoy that asks nobody. `make bench-mesh` runs it.
//
// It prints the tables of docs/performance.md. It fails only when a request was not
// answered with 200, or when there were more or fewer decisions than requests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"asid-authz/e2e/mesh"
)

func main() {
	var o options
	seconds := flag.Float64("seconds", 4, "how long each measurement takes")
	flag.IntVar(&o.rounds, "rounds", 5, "how many measurements of each")
	flag.Parse()
	o.length = time.Duration(*seconds * float64(time.Second))
	o.warm = o.length / 4
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := bench(ctx, os.Stdout, os.Stderr, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options say how much is measured.
type options struct {
	rounds       int
	warm, length time.Duration // of each measurement: not counted, and counted
}

// longest keeps a measurement within the life of its token.
const longest = 120 * time.Second

// workers are the threads of an Envoy.
const workers = 2

// A load is one way to send requests.
type load int

const (
	saturation load = iota
	half            // of what the slowest that asks can do
)

// A cell is what is measured once in each round.
type cell struct {
	protocol mesh.Protocol
	load     load
	variant  int // of the stage
}

// bench measures everything and prints the report on out, and what it is doing on progress.
func bench(ctx context.Context, out, progress io.Writer, o options) (err error) {
	if o.rounds < 1 || o.length <= 0 || o.warm+o.length > longest {
		return fmt.Errorf("at least one round, and each measurement at most %v with its warm-up", longest)
	}
	loadAverage := loadAverage(ctx) // before we are the load
	s, err := newStage(ctx, workers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := &report{variants: s.variants, options: o, results: map[cell][]*result{}, rates: map[mesh.Protocol]float64{}}
	fmt.Fprintf(progress, "%d measurements, about %v\n", r.cells()*o.rounds, (time.Duration(r.cells()*o.rounds) * (o.warm + o.length)).Round(time.Second))
	for _, l := range []load{saturation, half} {
		if l == half {
			r.halve()
		}
		for round := range o.rounds {
			for _, protocol := range mesh.Protocols {
				for _, i := range order(len(s.variants), round) {
					result, err := s.measure(ctx, s.variants[i], protocol, pace{rate: r.rate(protocol, l), warm: o.warm, length: o.length})
					if err != nil {
						return err
					}
					c := cell{protocol, l, i}
					r.results[c] = append(r.results[c], result)
					fmt.Fprintf(progress, "%s, %s, round %d: %s: %.0f/s\n", protocol, l, round+1, s.variants[i].name, result.perSecond)
				}
			}
		}
	}
	r.machine = fmt.Sprintf("%s; Envoy %s with %d workers; load average before the run %s", machine(ctx), s.programs.EnvoyVersion, workers, loadAverage)
	return r.print(out)
}

// order returns the order of a round. Every other one goes backwards, so that what changes
// on the machine meanwhile does not always hit the same.
func order(n, round int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	if round%2 == 1 {
		slices.Reverse(all)
	}
	return all
}

func (l load) String() string { return [...]string{"saturation", "half"}[l] }
