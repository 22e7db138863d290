package main

import (
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

const (
	// memoryShare of what the control group allows is what Go may use: the rest is for
	// what Go does not count, and for the moment that the collector needs.
	memoryShare = 0.9

	// gcPercent lets the heap grow further between two collections than Go's 100: beside the
	// map there is little that lives, so that a heap of some megabytes would be collected
	// many times a second, for a quarter of what the service spends on a question.
	gcPercent = 400

	// unlimited is what version 1 says for "no limit", or nearly: it is rounded to pages.
	unlimited = 1 << 60
)

// limitMemory makes the Go runtime heed the memory limit of the control group, so that it
// collects instead of being killed. What the environment says (GOMEMLIMIT, GOGC) is left
// alone: the runtime has read it.
func limitMemory(root fs.FS, getenv func(string) string, log *zap.Logger) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if text := getenv("GOMEMLIMIT"); text != "" {
		log.Info("memory limit", zap.String("from", "GOMEMLIMIT"), zap.Int64("bytes", debug.SetMemoryLimit(-1)))
		return
	}
	group, file := groupMemoryLimit(root)
	if group == 0 {
		log.Info("memory limit", zap.String("from", "none"))
		return
	}
	limit := int64(float64(group) * memoryShare)
	debug.SetMemoryLimit(limit)
	log.Info("memory limit", zap.String("from", "/"+file), zap.Int64("bytes", limit), zap.Int64("of", group))
}

// groupMemoryLimit returns the memory limit of the control group that the process is in,
// and the file that says so; 0 if there is none. root is the root of the file system.
//
// A limit of a group that is above counts too: the smallest one is looked for. In a
// container the path that the kernel reports may be one of the host, which is not
// mounted: then the group's files are at the mount itself.
func groupMemoryLimit(root fs.FS) (limit int64, file string) {
	limit = math.MaxInt64
	smallest := func(mount, group, name string) {
		for at := path.Clean("/" + group); ; at = path.Dir(at) {
			candidate := path.Join(mount, at, name)
			if n := readLimit(root, candidate); n > 0 && n < limit {
				limit, file = n, candidate
			}
			if at == "/" {
				return
			}
		}
	}
	for line := range strings.Lines(readSmall(root, "proc/self/cgroup")) {
		// hierarchy:controllers:path, where version 2 is hierarchy 0 without controllers.
		hierarchy, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, group, found := strings.Cut(rest, ":")
		switch {
		case !found:
		case hierarchy == "0" && controllers == "":
			smallest("sys/fs/cgroup", group, "memory.max")
		case strings.Contains(","+controllers+",", ",memory,"):
			smallest("sys/fs/cgroup/memory", group, "memory.limit_in_bytes")
		}
	}
	if file == "" {
		return 0, ""
	}
	return limit, file
}

// readLimit returns the limit in a file, 0 if there is none.
func readLimit(root fs.FS, file string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(readSmall(root, file)), 10, 64)
	if err != nil || n >= unlimited { // "max" is no number
		return 0
	}
	return n
}

// readSmall returns the beginning of a file, "" if it cannot be read.
func readSmall(root fs.FS, file string) string {
	f, err := root.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return ""
	}
	return string(text)
}

// hostRoot is the file system that the process sees.
func hostRoot() fs.FS { return os.DirFS("/") }
