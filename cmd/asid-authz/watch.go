package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz/strictyaml"
)

// A watchedFile is a file whose content has an owner: the map, the CA bundle, a key
// set, the server certificate, the configuration itself.
type watchedFile struct {
	what string // of watchedKinds; for the log and the metric
	path string
	// load takes the content. It is called with every content that was read, also an
	// equal one, because reading is what confirms that what we hold is the newest.
	// changed says that the owner now holds something else than before.
	load func(text []byte, now time.Time) (changed bool, err error)
	// shared says that the owner holds something already: it need not be read first.
	shared bool
	// ownerLogs says that the owner tells of its content itself, in more detail.
	ownerLogs bool

	seen    fs.FileInfo
	readAt  time.Time
	lastErr string
}

// watchedKinds are what watched files can hold.
var watchedKinds = []string{"configuration", "profile", "map", "break-glass", "client ca", "crl", "keys", "issuer ca", "server certificate", "server key", "envoy ca"}

// A watcher polls files: once a second it looks at each one's metadata, and reads it if
// that changed, or if it was not read for a while. A rename, the symlink swap of a
// Kubernetes volume, a bind mount and a network disk all look the same to it, which is
// why it does not wait for the kernel to tell.
type watcher struct {
	log     *zap.Logger
	reloads func(what, result string) // counts

	mu    sync.Mutex
	files map[string]*watchedFile // by what and path
}

const (
	pollEvery = time.Second
	// rereadEvery bounds the age of what was read: metadata that did not change is a
	// reason not to read now, but no proof, and only a read confirms.
	rereadEvery = 10 * time.Second
)

func newWatcher(log *zap.Logger, reloads func(what, result string)) *watcher {
	return &watcher{log: log, reloads: reloads, files: map[string]*watchedFile{}}
}

// set replaces the files that are watched. A file that was watched before and has the
// same owner stays as it is.
func (w *watcher) set(files []*watchedFile) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := map[string]*watchedFile{}
	for _, f := range files {
		next[f.what+"\x00"+f.path] = f
	}
	w.files = next
}

// run polls until ctx ends.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, f := range w.current() {
				w.poll(f)
			}
		}
	}
}

func (w *watcher) current() []*watchedFile {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := make([]*watchedFile, 0, len(w.files))
	for _, f := range w.files {
		files = append(files, f)
	}
	return files
}

func (w *watcher) poll(f *watchedFile) {
	info, err := os.Stat(f.path)
	now := time.Now()
	if err == nil && f.seen != nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime()) &&
		info.Size() == f.seen.Size() && now.Sub(f.readAt) < rereadEvery {
		return
	}
	changed, err := f.read()
	log := w.log.With(zap.String("what", f.what), zap.String("file", f.path))
	reached := !f.readAt.Before(now) // it could be read, so the owner has seen it
	if f.ownerLogs && reached && (err != nil || changed) {
		log = zap.NewNop()
	}
	switch {
	case err != nil && err.Error() != f.lastErr: // once for each new trouble, not once a second
		f.lastErr = err.Error()
		w.reloads(f.what, "refused")
		log.Error("file refused; what was there before is kept while it ages", zap.Error(err))
	case err == nil && (changed || f.lastErr != ""):
		f.lastErr = ""
		w.reloads(f.what, "loaded")
		log.Info("file loaded", zap.Bool("changed", changed))
	}
}

// read reads the file and hands its content to the owner.
func (f *watchedFile) read() (changed bool, err error) {
	// Before the read, in both cases: a change that comes while it goes on is then seen
	// as one, and what is confirmed is confirmed as of when the question was asked.
	info, err := os.Stat(f.path)
	if err != nil {
		f.seen = nil
		return false, err
	}
	now := time.Now()
	text, err := readFile(f.path)
	if err != nil {
		f.seen = nil
		return false, err
	}
	f.seen, f.readAt = info, now
	return f.load(text, now)
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, strictyaml.MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > strictyaml.MaxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, strictyaml.MaxSize)
	}
	return text, nil
}

// readAll reads every file whose owner holds nothing yet, or says what is wrong with all
// of them. A file that is broken at the moment is no reason to refuse a generation that
// goes on with what is held of it.
func readAll(files []*watchedFile) error {
	var all []error
	for _, f := range files {
		if f.shared {
			continue
		}
		if _, err := f.read(); err != nil {
			all = append(all, fmt.Errorf("%s: %w", f.what, err))
		}
	}
	return errors.Join(all...)
}
