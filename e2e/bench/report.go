package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"asid-authz/e2e/mesh"
)

// A report is everything that was measured.
type report struct {
	machine  string
	variants []*variant
	options  options
	results  map[cell][]*result // in the order of the rounds
	rates    map[mesh.Protocol]float64
}

// cells returns how many measurements a round has, both loads together.
func (r *report) cells() int { return 2 * len(mesh.Protocols) * len(r.variants) }

func (r *report) rate(p mesh.Protocol, l load) float64 {
	if l == half {
		return r.rates[p]
	}
	return 0
}

// halve sets the fixed rate: half of what the slowest that asks anybody can do, for all of
// them, so that their latencies are those of the same load.
func (r *report) halve() {
	for _, p := range mesh.Protocols {
		for i, v := range r.variants {
			if v.service == 0 {
				continue
			}
			rate := median(r.each(cell{p, saturation, i}, perSecond)) / 2
			if r.rates[p] == 0 || rate < r.rates[p] {
				r.rates[p] = rate
			}
		}
	}
}

func perSecond(r *result) float64 { return r.perSecond }
func milliseconds(of func(*result) time.Duration) func(*result) float64 {
	return func(r *result) float64 { return float64(of(r)) / float64(time.Millisecond) }
}
func microseconds(of func(cpu) time.Duration) func(*result) float64 {
	return func(r *result) float64 { return float64(of(r.cpu)) / float64(time.Microsecond) }
}

// each returns a figure of every round.
func (r *report) each(c cell, figure func(*result) float64) (all []float64) {
	for _, result := range r.results[c] {
		all = append(all, figure(result))
	}
	return all
}

// times returns a figure of every round as a multiple of the baseline's in that round.
func (r *report) times(c cell, figure func(*result) float64) (all []float64) {
	b := c
	b.variant = slices.Index(r.variants, r.variants[c.variant].baseline)
	for i, result := range r.results[c] {
		all = append(all, figure(result)/figure(r.results[b][i]))
	}
	return all
}

// A column of a table. known is false for what this platform does not tell.
type column struct {
	title  string
	figure func(*result) float64
	times  bool // as a multiple of the baseline's
	digits int
	known  bool
}

func (r *report) columns(l load) []column {
	known := r.results[cell{mesh.HTTP1, l, 0}][0].cpuKnown
	both := microseconds(func(c cpu) time.Duration { return c.envoy + c.server })
	columns := []column{{title: "requests/s", figure: perSecond, known: true}}
	if l == saturation {
		columns = append(columns, column{"× always OK", perSecond, true, 3, true})
	}
	return append(columns,
		column{"p50, ms", milliseconds(func(r *result) time.Duration { return r.p50 }), false, 2, true},
		column{"p99, ms", milliseconds(func(r *result) time.Duration { return r.p99 }), false, 2, true},
		column{"CPU of Envoy, µs", microseconds(func(c cpu) time.Duration { return c.envoy }), false, 0, known},
		column{"of the server, µs", microseconds(func(c cpu) time.Duration { return c.server }), false, 0, known},
		column{"of both × always OK", both, true, 3, known},
		column{"of the client, µs", microseconds(func(c cpu) time.Duration { return c.client }), false, 0, known},
		column{"of all three, µs", microseconds(func(c cpu) time.Duration { return c.envoy + c.server + c.client }), false, 0, known},
	)
}

// print writes the report in Markdown.
func (r *report) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n", r.machine)
	fmt.Fprintf(&b, "%d rounds of %v each, after %v that are not counted; median, and lowest to highest of the rounds.", r.options.rounds, r.options.length, r.options.warm)
	for _, name := range []string{"GOGC", "GOMEMLIMIT", "GOMAXPROCS"} {
		if value, set := os.LookupEnv(name); set {
			fmt.Fprintf(&b, " %s=%s for all.", name, value)
		}
	}
	b.WriteString("\n")
	for _, p := range mesh.Protocols {
		for _, l := range []load{saturation, half} {
			fmt.Fprintf(&b, "\n**%s, %s**\n\n", title(p), r.describe(p, l))
			r.table(&b, p, l)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func title(p mesh.Protocol) string {
	return map[mesh.Protocol]string{mesh.HTTP1: "HTTP/1.1", mesh.HTTP2: "HTTP/2"}[p]
}

func (r *report) describe(p mesh.Protocol, l load) string {
	if l == half {
		return fmt.Sprintf("%.0f requests/s", r.rates[p])
	}
	return fmt.Sprintf("saturation: %d requests on their way over %d connections", inFlight, connections[p])
}

func (r *report) table(b *strings.Builder, p mesh.Protocol, l load) {
	columns := r.columns(l)
	b.WriteString("| |")
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for i, v := range r.variants {
		fmt.Fprintf(b, "| %s |", v.name)
		for _, c := range columns {
			at := cell{p, l, i}
			switch {
			case !c.known:
				b.WriteString(" n/a |")
			case c.times && v.baseline == nil:
				b.WriteString(" |")
			case c.times:
				fmt.Fprintf(b, " %s |", spread(r.times(at, c.figure), c.digits))
			default:
				fmt.Fprintf(b, " %s |", spread(r.each(at, c.figure), c.digits))
			}
		}
		b.WriteString("\n")
	}
}

// spread returns the median, and the lowest and the highest of several.
func spread(all []float64, digits int) string {
	number := func(f float64) string { return grouped(fmt.Sprintf("%.*f", digits, f)) }
	if len(all) == 1 {
		return number(all[0])
	}
	return fmt.Sprintf("%s (%s to %s)", number(median(all)), number(slices.Min(all)), number(slices.Max(all)))
}

// grouped puts a comma before the last three digits of thousands.
func grouped(number string) string {
	if n := len(number); !strings.Contains(number, ".") && n > 3 {
		return grouped(number[:n-3]) + "," + number[n-3:]
	}
	return number
}

// median returns the middle one, the mean of both if there are two.
func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
