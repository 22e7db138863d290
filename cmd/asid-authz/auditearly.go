package main

import (
	"sync"
	"time"

	"asid-authz/authz"
)

// earlyDenials bounds how many denials of those who proved no identity are written:
// anybody can cause them, and must not be able to fill a disk. Each Reason has a bound of
// its own, so that a flood of one does not hide the others.
type earlyDenials struct {
	perSecond float64

	mu sync.Mutex
	by []earlyDenialsOf // by Reason
}

// earlyDenialsOf is what is known of one Reason: a bucket that fills with a second's
// worth of records, and what found it empty.
type earlyDenialsOf struct {
	left       float64
	at         time.Time // when left was reckoned
	suppressed uint64
	since      time.Time // of the first that was suppressed
}

func newEarlyDenials(perSecond int) *earlyDenials {
	return &earlyDenials{perSecond: float64(perSecond), by: make([]earlyDenialsOf, len(authz.Reasons()))}
}

// take reports whether a denial of that Reason may be written; if not, it is counted.
func (e *earlyDenials) take(reason authz.Reason, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := &e.by[reason]
	if of.at.IsZero() {
		of.left, of.at = e.perSecond, now
	}
	if passed := now.Sub(of.at); passed > 0 { // requests overtake each other
		of.left, of.at = min(e.perSecond, of.left+passed.Seconds()*e.perSecond), now
	}
	if of.left >= 1 {
		of.left--
		return true
	}
	if of.suppressed == 0 {
		of.since = now
	}
	of.suppressed++
	return false
}

// summarize hands every count to write. What could not be written is counted on.
func (e *earlyDenials) summarize(write func(reason authz.Reason, suppressed uint64, since time.Time) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for reason := range e.by {
		of := &e.by[reason]
		if of.suppressed > 0 && write(authz.Reason(reason), of.suppressed, of.since) {
			of.suppressed = 0
		}
	}
}
