package main

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"go.uber.org/zap/buffer"
)

var (
	errAuditFull    = errors.New("the buffer of the audit log is full")
	errAuditStalled = errors.New("the audit log takes nothing at present")
	errAuditEnded   = errors.New("the audit log is closed")
)

// auditPiece bounds what is written at once, and so what a failure loses. It is also
// what a pipe holds on most systems.
const auditPiece = 64 << 10

// An auditQueue is lines on their way to an output, in their order, at most bound bytes
// of them. One goroutine writes; everybody else only adds to a buffer.
type auditQueue struct {
	out   io.Writer
	bound int
	gap   func(dropped int, since, now time.Time) *buffer.Buffer
	lost  func(records int)
	wake  chan struct{} // holds one: there is something to do

	mu      sync.Mutex
	pending *auditBatch
	spare   []byte    // for the text of the next batch
	held    int       // bytes that are pending or being written
	stalled bool      // somebody has waited in vain, and nothing was written since
	ended   bool      // nothing is taken any more
	dropped int       // lines that were lost since the last gap was written
	since   time.Time // the first of them
	untold  int       // lines that were lost since losses was asked
	reason  error     // of the last of them
}

// A batch is lines that are written together.
type auditBatch struct {
	text []byte
	done chan struct{} // closed when all was tried; nil while nobody waits

	// Of the lines, when done: from and to in text.
	failed []auditFailure
}

type auditFailure struct {
	from, to int
	err      error
}

func newAuditQueue(out io.Writer, bound int, gap func(dropped int, since, now time.Time) *buffer.Buffer, lost func(records int)) *auditQueue {
	return &auditQueue{out: out, bound: bound, gap: gap, lost: lost, wake: make(chan struct{}, 1), pending: &auditBatch{}}
}

// put adds a line, or loses it.
func (q *auditQueue) put(line []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.add(line); err != nil {
		q.lose(1, err)
	}
}

// offer adds a line, or reports that it could not.
func (q *auditQueue) offer(line []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.add(line) == nil
}

// putAndWait adds a line and returns when the operating system has it. After
// auditPatience it is errAuditStalled: the line may get out later, or not at all.
func (q *auditQueue) putAndWait(line []byte) error {
	q.mu.Lock()
	if q.stalled { // or each would wait as long as the first
		q.mu.Unlock()
		return errAuditStalled
	}
	batch, at := q.pending, len(q.pending.text)
	if err := q.add(line); err != nil {
		q.lose(1, err)
		q.mu.Unlock()
		return err
	}
	if batch.done == nil {
		batch.done = make(chan struct{})
	}
	q.mu.Unlock()

	patience := time.NewTimer(auditPatience)
	defer patience.Stop()
	select {
	case <-batch.done:
		return batch.failure(at)
	case <-patience.C:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-batch.done:
		return batch.failure(at)
	default:
		q.stalled = true
		return errAuditStalled
	}
}

// failure returns why the line that begins there could not be written.
func (b *auditBatch) failure(at int) error {
	for _, f := range b.failed {
		if f.from <= at && at < f.to {
			return f.err
		}
	}
	return nil
}

// add appends a line. q.mu is held.
func (q *auditQueue) add(line []byte) error {
	switch {
	case q.ended:
		return errAuditEnded
	case q.held+len(line) > q.bound:
		return errAuditFull
	}
	q.pending.text = append(q.pending.text, line...)
	q.held += len(line)
	q.signal()
	return nil
}

func (q *auditQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// lose counts lines that nobody will read. q.mu is held.
func (q *auditQueue) lose(lines int, err error) {
	if q.dropped == 0 {
		q.since = time.Now()
	}
	q.dropped += lines
	q.untold += lines
	q.reason = err
	q.lost(lines)
}

// losses returns how many lines were lost since it was last asked, and why the last was.
func (q *auditQueue) losses() (lines int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, q.untold = q.untold, 0
	return lines, q.reason
}

// size returns how many bytes have not been written.
func (q *auditQueue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

// end lets run write what there is and return.
func (q *auditQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.signal()
}

// run writes until end.
func (q *auditQueue) run() {
	for range q.wake {
		for {
			batch, ended := q.next()
			if batch == nil && ended {
				q.writeGap()
				return
			}
			if batch == nil {
				break
			}
			q.write(batch)
		}
	}
}

// next takes what is pending; nil: nothing is.
func (q *auditQueue) next() (batch *auditBatch, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending.text) == 0 {
		return nil, q.ended
	}
	batch, q.pending, q.spare = q.pending, &auditBatch{text: q.spare}, nil
	return batch, q.ended
}

// write tries to write each piece of the batch: what is lost of one does not take the
// others with it.
func (q *auditQueue) write(batch *auditBatch) {
	for at := 0; at < len(batch.text); {
		end := pieceEnd(batch.text, at)
		piece := batch.text[at:end]
		n, err := q.out.Write(piece)
		q.mu.Lock()
		q.held -= len(piece)
		q.stalled = false
		if err != nil {
			whole := bytes.LastIndexByte(piece[:n], '\n') + 1
			batch.failed = append(batch.failed, auditFailure{at + whole, end, err})
			q.lose(bytes.Count(piece[whole:], []byte{'\n'}), err)
		}
		q.mu.Unlock()
		if err == nil {
			q.writeGap()
		}
		at = end
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if batch.done != nil {
		q.stalled = false
		close(batch.done)
	}
	if cap(batch.text) <= 4*auditPiece { // what a flood needed is not kept
		q.spare = batch.text[:0]
	}
}

// pieceEnd returns where the whole lines from at on end that may be written at once: one
// at least.
func pieceEnd(text []byte, at int) int {
	if len(text)-at <= auditPiece {
		return len(text)
	}
	if last := bytes.LastIndexByte(text[at:at+auditPiece], '\n'); last >= 0 {
		return at + last + 1
	}
	return at + bytes.IndexByte(text[at:], '\n') + 1
}

// writeGap writes how many lines were lost, so that the log itself says that it is not
// whole.
func (q *auditQueue) writeGap() {
	q.mu.Lock()
	dropped, since := q.dropped, q.since
	q.mu.Unlock()
	if dropped == 0 {
		return
	}
	line := q.gap(dropped, since, time.Now())
	defer line.Free()
	if _, err := q.out.Write(line.Bytes()); err != nil {
		return // the next one says it
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped -= dropped
	q.since = time.Now()
}
