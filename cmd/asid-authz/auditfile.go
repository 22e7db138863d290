package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	auditFileMode  = 0o640
	auditFileFlags = os.O_APPEND | os.O_CREATE | os.O_WRONLY

	// rotatedStamp is what stands in the name of a rotated file: in the order of the
	// names they were written.
	rotatedStamp = "20060102T150405.000000000Z"

	// rotateAgain is how long a rotation that failed is left alone.
	rotateAgain = 10 * time.Second
)

// A lineWriter writes whole lines, so that what a failure tore off does not run into the
// next one.
type lineWriter struct {
	out  io.Writer
	torn bool // the last line has no end
}

func (w *lineWriter) Write(lines []byte) (int, error) {
	if w.torn {
		if _, err := w.out.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		w.torn = false
	}
	n, err := w.out.Write(lines)
	w.torn = n > 0 && lines[n-1] != '\n'
	return n, err
}

// An auditFile is a file that grows to a size, gets a name with the time, and is
// followed by a new one. It is no harm if somebody else moves or removes it: it is
// looked for before each write. The oldest beyond those to keep are removed.
type auditFile struct {
	lineWriter
	path    string
	maxSize int64
	keep    int
	log     *zap.Logger

	file      *os.File
	notBefore time.Time // no rotation is tried before
}

func openAuditFile(path string, maxSize int64, keep int, log *zap.Logger) (*auditFile, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil { // a rename would move the link
		path = target
	}
	f := &auditFile{path: filepath.Clean(path), maxSize: maxSize, keep: keep, log: log}
	return f, f.open()
}

// open takes up the file of that name in the place of the one it has, if it can.
func (f *auditFile) open() error {
	// A pipe would block here until somebody reads, and cannot be rotated.
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", f.path)
	}
	torn, err := endsTorn(f.path)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(f.path, auditFileFlags, auditFileMode)
	if err != nil {
		return err
	}
	f.use(file, torn)
	return nil
}

func (f *auditFile) use(file *os.File, torn bool) {
	if f.file != nil {
		f.file.Close() // nothing is buffered in it
	}
	f.file, f.lineWriter = file, lineWriter{out: file, torn: torn}
}

// endsTorn reports whether a crash has left a line without its end. What may only be
// written is taken to be whole.
func endsTorn(path string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	var last [1]byte
	if _, err := file.ReadAt(last[:], info.Size()-1); err != nil {
		return false, err
	}
	return last[0] != '\n', nil
}

// Write appends whole lines.
func (f *auditFile) Write(lines []byte) (int, error) {
	held, err := f.file.Stat()
	if err != nil {
		return 0, err
	}
	there, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(held, there):
		if err := f.open(); err != nil { // what is held may have no name any more: nobody would find the lines
			return 0, err
		}
	case err == nil && there.Size() > 0 && there.Size()+int64(len(lines)) > f.maxSize:
		f.rotate(time.Now())
	}
	return f.lineWriter.Write(lines)
}

// rotate gives the file its final name and begins a new one. If that fails the old one
// grows on: lines are worth more than a bound.
func (f *auditFile) rotate(now time.Time) {
	if now.Before(f.notBefore) {
		return
	}
	f.notBefore = time.Time{}
	name, err := f.moveAway(now)
	if err == nil {
		f.log.Info("audit file rotated", zap.String("file", name))
		err = f.prune()
	}
	if err != nil {
		f.notBefore = now.Add(rotateAgain)
		f.log.Error("audit file cannot be rotated", zap.Error(err))
	}
}

// moveAway makes the next file before it gives up the name, so that at each moment there
// is one to write to, and so that a crash leaves nothing that is not found again.
func (f *auditFile) moveAway(now time.Time) (name string, err error) {
	rotated, err := f.rotated()
	if err != nil {
		return "", err
	}
	now = now.UTC()
	if n := len(rotated); n > 0 && !now.After(rotated[n-1]) { // the clock was set back: the newest must stay the last
		now = rotated[n-1].Add(1)
	}
	name = f.nameAt(now)
	next, err := os.OpenFile(f.path+".next", auditFileFlags, auditFileMode)
	if err != nil {
		return "", err
	}
	err = os.Rename(f.path, name)
	if err == nil {
		err = os.Rename(f.path+".next", f.path)
	}
	if err != nil { // if the name is free now, the next write finds that and opens one
		return "", errors.Join(err, next.Close())
	}
	f.use(next, false)
	return name, nil
}

// nameAt returns the name of a file that is rotated then: audit-20261124T090000.000000000Z.jsonl.
func (f *auditFile) nameAt(t time.Time) string {
	begin, end := f.nameParts()
	return begin + t.Format(rotatedStamp) + end
}

func (f *auditFile) nameParts() (begin, end string) {
	end = filepath.Ext(f.path)
	return strings.TrimSuffix(f.path, end) + "-", end
}

// rotated returns the times in the names of the rotated files that are there, in order.
func (f *auditFile) rotated() (times []time.Time, err error) {
	entries, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		t, is := f.timeOf(filepath.Join(filepath.Dir(f.path), entry.Name()))
		if is && entry.Type().IsRegular() {
			times = append(times, t)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times, nil
}

// timeOf takes a name apart. Only what nameAt has made is one: other files in the
// directory are somebody else's.
func (f *auditFile) timeOf(name string) (time.Time, bool) {
	begin, end := f.nameParts()
	stamp, is := strings.CutPrefix(name, begin)
	if !is {
		return time.Time{}, false
	}
	stamp, is = strings.CutSuffix(stamp, end)
	t, err := time.Parse(rotatedStamp, stamp)
	return t, is && err == nil && f.nameAt(t) == name
}

func (f *auditFile) prune() error {
	rotated, err := f.rotated()
	if err != nil {
		return err
	}
	for _, t := range rotated[:max(0, len(rotated)-f.keep)] {
		name := f.nameAt(t)
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f.log.Info("audit file removed", zap.String("file", name))
	}
	return nil
}

func (f *auditFile) Close() error { return f.file.Close() }
