package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/envoy"
)

const (
	// auditPatience is how long an allow waits for its record where none may go without
	// (audit.on_full: deny). It has to fit into the 250 ms that Envoy waits.
	auditPatience = 100 * time.Millisecond

	// auditTell is how often there is a look at what was not written, to say so.
	auditTell = 10 * time.Second

	// auditFlush bounds how long the end of the process waits for an output that takes
	// nothing any more.
	auditFlush = 5 * time.Second
)

// An auditLog writes one JSON object a line for each decision, apart from the service
// log: who reads it has other questions and other rights. Nothing but its writer touches
// the output, so that one that takes nothing (a full disk, a pipe that nobody reads)
// never holds up a decision.
type auditLog struct {
	lines  auditLines
	queue  *auditQueue
	early  *earlyDenials
	sample uint32 // one allow in so many is written; 0: none
	strict bool   // an allow without a record is denied
	log    *zap.Logger

	output  io.Closer // nil: not ours to close
	running sync.WaitGroup
	ending  chan struct{}
}

// openAudit opens the audit log that the configuration names. What it loses is counted
// in lost, and told to log.
func openAudit(c *Config, stdout io.Writer, lost func(records int), log *zap.Logger) (*auditLog, error) {
	a := &auditLog{
		lines:  newAuditLines(),
		early:  newEarlyDenials(c.Audit.EarlyDenials.N),
		strict: c.Audit.OnFull == "deny",
		log:    log,
		ending: make(chan struct{}),
	}
	switch c.Audit.Allows {
	case "all":
		a.sample = 1
	case "sampled":
		a.sample = uint32(c.Audit.Sample.N)
	}
	var out io.Writer = &lineWriter{out: stdout}
	if c.Audit.Output == "file" {
		file, err := openAuditFile(c.path(c.Audit.File), c.Audit.MaxSize.Bytes, c.Audit.Keep.N, log)
		if err != nil {
			return nil, err
		}
		a.output, out = file, file
	}
	a.queue = newAuditQueue(out, int(c.Audit.Buffer.Bytes), a.lines.gap, lost)
	a.running.Go(a.queue.run)
	a.running.Go(a.tell)
	return a, nil
}

// write writes the record down if it is one to be written. An error means that an allow
// must not be answered; of a denial, and where records may be lost, there is none.
func (a *auditLog) write(r *envoy.Record) error {
	allowed := r.Decision.Allowed()
	switch {
	case allowed && !a.sampled(r.DecisionID):
		return nil
	case !allowed && r.Decision.Facts().ASID.IsZero() && !a.early.take(r.Decision.Reason(), r.Time):
		return nil
	}
	line := a.lines.record(r)
	defer line.Free()
	if !allowed || !a.strict {
		a.queue.put(line.Bytes())
		return nil
	}
	err := a.queue.putAndWait(line.Bytes())
	if errors.Is(err, errAuditStalled) {
		// The line may get out later, and would say that it was allowed. So another one of
		// the same decision follows it.
		denied := *r
		denied.Decision = r.Decision.Denied(authz.Fault{Reason: authz.AuditUnavailable, Field: authz.FieldRequest})
		correction := a.lines.record(&denied)
		defer correction.Free()
		a.queue.put(correction.Bytes())
	}
	return err
}

// sampled reports whether an allow is written. The decision id alone says so, and not
// when it came or who wrote it: whoever has Envoy's access log can tell a record that is
// missing from one that was never due.
func (a *auditLog) sampled(decisionID string) bool {
	if a.sample <= 1 {
		return a.sample == 1
	}
	n, err := strconv.ParseUint(decisionID[:min(8, len(decisionID))], 16, 32)
	return err != nil || uint32(n)%a.sample == 0
}

// tell writes now and then what was counted instead of written, and says in the service
// log what was lost: once for many, because a disk is full for thousands of records.
func (a *auditLog) tell() {
	tick := time.NewTicker(auditTell)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.tellNow(time.Now())
		case <-a.ending:
			a.tellNow(time.Now())
			a.queue.end()
			return
		}
	}
}

func (a *auditLog) tellNow(now time.Time) {
	a.early.summarize(func(reason authz.Reason, suppressed uint64, since time.Time) bool {
		line := a.lines.summary(reason, suppressed, since, now)
		defer line.Free()
		return a.queue.offer(line.Bytes())
	})
	if lost, err := a.queue.losses(); lost > 0 {
		a.log.Error("audit records were lost", zap.Int("records", lost), zap.Error(err))
	}
}

// close writes what was handed in, and returns when that is done. Nothing may be handed
// in any more.
func (a *auditLog) close() error {
	close(a.ending)
	done := make(chan struct{})
	go func() {
		a.running.Wait()
		close(done)
	}()
	late := time.NewTimer(auditFlush)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		return fmt.Errorf("the audit log takes nothing: %d bytes of records are lost", a.queue.size())
	}
	if lost, err := a.queue.losses(); lost > 0 { // in the very end
		a.log.Error("audit records were lost", zap.Int("records", lost), zap.Error(err))
	}
	if a.output == nil {
		return nil
	}
	return a.output.Close()
}
