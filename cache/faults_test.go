package cache_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of faults in docs/caching.md")

// A fault is a row of the table in docs/caching.md, and what proves it.
type fault struct {
	name   string
	on     topologies
	how    how
	served string
	age    string
	ends   string
	try    func(s *stage)
}

// how a fault is tried, if not by every test and on servers that nothing stands before.
type how uint8

const (
	seldom  how = 1 << iota // by make faults only: it takes long, and a shorter one is like it
	proxied                 // with a proxy before each server
)

// topologies are those that a fault is tried on. Where make faults tries all of them, make
// test tries the first.
type topologies []string

var (
	everywhere     = topologies{"standalone", "Sentinel", "Cluster"}
	outsideCluster = topologies{"standalone", "Sentinel"}
	bySentinels    = topologies{"Sentinel"}
	inCluster      = topologies{"Cluster"}
	withReplicas   = topologies{"Sentinel", "Cluster"}
)

const (
	same    = "the map that is held"
	rises   = "rises"
	stays   = "stays below two looks"
	itself  = "by itself, without a load"
	loading = "by itself, with a load"
	again   = "when something is published again"
)

// faults are all of them, in the order of the table.
var faults = slices.Concat(serverFaults, dataFaults, publisherFaults, failoverFaults)

// exhaustive reports whether everything is to be tried that is worth trying: make faults.
func exhaustive() bool { return os.Getenv("ASID_AUTHZ_FAULTS") == "all" }

// TestFaults does to Redis what life does, while decisions are made all the time. Without
// ASID_AUTHZ_FAULTS=all (make faults) it leaves out what takes long, and tries each fault on
// one topology.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		for i, topology := range f.on {
			if !exhaustive() && (f.how&seldom != 0 || i > 0) {
				continue
			}
			t.Run(topology+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, topology, f.how&proxied != 0, slices.Contains(f.on, "standalone"))
				f.try(s)
				s.agree()
			})
		}
	}
}

// TestFaultsTable holds the table in docs/caching.md against the faults that are tried.
func TestFaultsTable(t *testing.T) {
	const file = "../docs/caching.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "-update) -->\n", "<!-- faults:end -->"
	before, rest, found := strings.Cut(string(text), begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatal("the table has lost its markers")
	}
	var b strings.Builder
	b.WriteString("| Fault | Served | Age | It ends | Tried on |\n|---|---|---|---|---|\n")
	for _, f := range faults {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", f.name, f.served, f.age, f.ends, strings.Join(f.on, ", "))
	}
	next := before + begin + b.String() + end + after
	if *update {
		if err := os.WriteFile(file, []byte(next), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if next != string(text) {
		t.Error("the table of faults says otherwise than the tests (go test ./cache -run TestFaultsTable -update rewrites it)")
	}
}
