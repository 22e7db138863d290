package load

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// A Phase is the account of what was sent while one thing was the matter.
type Phase struct {
	Name     string
	Requests int // all of the following together
	Answered int
	Denied   int // by design
	Old      int // answered as before the change
	Failed   int
	Wrong    int

	LongestGap time.Duration // for which nobody was answered
	Recovery   time.Duration // until the last request that failed, or was answered wrongly or as before the change; 0: there was none
	Details    []string      // of the first that failed or were answered wrongly

	began time.Time
}

// A Report is the account of all phases, in their order.
type Report []Phase

// String returns the table.
func (r Report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\trequests\tanswered\tdenied by design\tas before\tfailed\twrong\tlongest gap\ttime to recover\t")
	for _, p := range r {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%v\t\n", p.Name, p.Requests, p.Answered, p.Denied, p.Old, p.Failed, p.Wrong,
			p.LongestGap.Round(time.Millisecond), p.Recovery.Round(time.Millisecond))
	}
	w.Flush()
	return b.String()
}
