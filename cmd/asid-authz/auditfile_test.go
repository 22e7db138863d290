package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A fileTest is an audit file in a directory of its own, whose lines are numbered.
type fileTest struct {
	*testing.T
	*auditFile
	log  *observer.ObservedLogs
	next int
}

func newFileTest(t *testing.T, maxSize int64, keep int) *fileTest {
	f := &fileTest{T: t}
	f.open(filepath.Join(t.TempDir(), "audit.jsonl"), maxSize, keep)
	return f
}

func (f *fileTest) open(path string, maxSize int64, keep int) {
	f.Helper()
	core, log := observer.New(zapcore.InfoLevel)
	file, err := openAuditFile(path, maxSize, keep, zap.New(core))
	if err != nil {
		f.Fatal(err)
	}
	f.auditFile, f.log = file, log
	f.Cleanup(func() { file.Close() })
}

// line writes the next line, of 20 bytes.
func (f *fileTest) line() {
	f.Helper()
	if _, err := fmt.Fprintf(f.auditFile, "{\"number\":%8d}\n", f.next); err != nil {
		f.Error(err)
	}
	f.next++
}

// numbers returns the lines of files, and -1 for what is no whole line.
func (f *fileTest) numbers(files ...string) (all []int) {
	f.Helper()
	for _, file := range files {
		text := fileText(f, file)
		for line := range strings.Lines(text) {
			var l struct{ Number int }
			if err := json.Unmarshal([]byte(line), &l); err != nil || !strings.HasSuffix(line, "\n") {
				l.Number = -1
			}
			all = append(all, l.Number)
		}
	}
	return all
}

// files returns the files of the directory, the oldest first.
func (f *fileTest) files() []string {
	f.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(f.path), "*"))
	if err != nil {
		f.Fatal(err)
	}
	return files // "audit-…" comes before "audit."
}

func (f *fileTest) expect(got []int, from, to int, without ...int) {
	f.Helper()
	var want []int
	for n := from; n < to; n++ {
		if !slices.Contains(without, n) {
			want = append(want, n)
		}
	}
	if !slices.Equal(got, want) {
		f.Errorf("the lines are %v, want those from %d to %d", got, from, to)
	}
}

func TestAuditFileRotates(t *testing.T) {
	f := newFileTest(t, 100, 3)
	dir := filepath.Dir(f.path)
	others := []string{"audit-notes.jsonl", "audit-20261124T090000,000000000Z.jsonl", "audit-20261124T090000.000000000Z.jsonl.gz"}
	for _, name := range others { // somebody else's
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 33 { // five to a file
		f.line()
	}
	var mine []string
	for _, file := range f.files() {
		if slices.Contains(others, filepath.Base(file)) {
			continue
		}
		mine = append(mine, file)
		info, err := os.Stat(file)
		if err != nil || info.Size() > 100 || info.Mode().Perm()&0o027 != 0 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if len(mine) != 4 || len(f.files()) != 4+len(others) {
		t.Errorf("there are %v", f.files())
	}
	f.expect(f.numbers(mine...), 15, 33)
	if n := f.log.FilterMessage("audit file removed").Len(); n != 3 {
		t.Errorf("the log says of %d files that they were removed, want 3", n)
	}
}

// TestAuditFileClock: a clock that is set back must not make the newest file the first
// to be removed, nor one take the name of another.
func TestAuditFileClock(t *testing.T) {
	f := newFileTest(t, 100, 2)
	later := f.nameAt(time.Now().UTC().Add(time.Hour))
	if err := os.WriteFile(later, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		f.line()
	}
	if _, err := os.Stat(later); !os.IsNotExist(err) {
		t.Errorf("the oldest is still there: %v", err)
	}
	f.expect(f.numbers(f.files()...), 5, 16)
}

// TestAuditFileMoved: others may rotate, too.
func TestAuditFileMoved(t *testing.T) {
	f := newFileTest(t, 1000, 3)
	f.line()
	moved := f.path + ".1"
	if err := os.Rename(f.path, moved); err != nil {
		t.Fatal(err)
	}
	f.line()
	f.expect(f.numbers(moved), 0, 1)
	f.expect(f.numbers(f.path), 1, 2)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.line()
	f.expect(f.numbers(f.path), 2, 3)
	if err := os.Truncate(f.path, 0); err != nil { // copytruncate
		t.Fatal(err)
	}
	f.line()
	f.expect(f.numbers(f.path), 3, 4)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(f.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("{}\n")); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a line was written where nobody finds it: %v", err)
	}
}

// TestAuditFileShared: two processes should not have one file, but while one follows the
// other they may, and lose nothing.
func TestAuditFileShared(t *testing.T) {
	f := newFileTest(t, 100, 100)
	one := f.auditFile
	f.open(one.path, 100, 100)
	two := f.auditFile
	for i := range 40 {
		f.auditFile = []*auditFile{one, two}[i/3%2]
		f.line()
	}
	got := f.numbers(f.files()...)
	slices.Sort(got)
	f.expect(got, 0, 40)
}

// TestAuditFileTorn: a crash or a full disk may tear a line, but none after it.
func TestAuditFileTorn(t *testing.T) {
	f := newFileTest(t, 1000, 3)
	f.line()
	if err := f.file.Truncate(15); err != nil {
		t.Fatal(err)
	}
	f.open(f.path, 1000, 3)
	f.line()
	f.line()
	if got := f.numbers(f.path); !slices.Equal(got, []int{-1, 1, 2}) {
		t.Errorf("the lines are %v", got)
	}
	f.open(f.path, 1000, 3)
	f.line()
	if got := f.numbers(f.path); !slices.Equal(got, []int{-1, 1, 2, 3}) {
		t.Errorf("the lines are %v", got)
	}
}

// TestAuditFileCrash: a crash in the middle of a rotation leaves no file of that name.
func TestAuditFileCrash(t *testing.T) {
	f := newFileTest(t, 100, 3)
	for range 4 {
		f.line()
	}
	if err := os.WriteFile(f.path+".next", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.path, f.nameAt(time.Now().UTC())); err != nil {
		t.Fatal(err)
	}
	f.open(f.path, 100, 3)
	for range 8 {
		f.line()
	}
	f.expect(f.numbers(f.files()...), 0, 12)
	if len(f.files()) != 3 {
		t.Errorf("there are %v", f.files())
	}
}

// TestAuditFileGrows: where no other file can be made the one there is grows on, and the
// log says so once in a while.
func TestAuditFileGrows(t *testing.T) {
	f := newFileTest(t, 100, 3)
	if err := os.Mkdir(f.path+".next", 0o700); err != nil { // stands for a directory that is not ours
		t.Fatal(err)
	}
	for range 20 {
		f.line()
	}
	f.expect(f.numbers(f.path), 0, 20)
	if n := f.log.FilterMessage("audit file cannot be rotated").Len(); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	if err := os.Remove(f.path + ".next"); err != nil {
		t.Fatal(err)
	}
	f.notBefore = time.Now() // rotateAgain later
	f.line()
	f.expect(f.numbers(f.path), 20, 21)
}

func TestAuditFileOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := openAuditFile(dir, 100, 3, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := openAuditFile(filepath.Join(dir, "none", "audit.jsonl"), 100, 3, zap.NewNop()); !os.IsNotExist(err) {
		t.Errorf("a directory that is not there: %v", err)
	}
	// Through a link, the file is rotated where it is.
	link, real := filepath.Join(t.TempDir(), "link.jsonl"), filepath.Join(dir, "real.jsonl")
	if err := os.WriteFile(real, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	f := &fileTest{T: t}
	f.open(link, 100, 3)
	for range 6 {
		f.line()
	}
	f.expect(f.numbers(link), 5, 6)
	if len(f.files()) != 2 {
		t.Errorf("there are %v", f.files())
	}
}
