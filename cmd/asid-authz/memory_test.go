package main

import (
	"io/fs"
	"math"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func files(of map[string]string) fs.FS {
	root := fstest.MapFS{}
	for name, text := range of {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func TestGroupMemoryLimit(t *testing.T) {
	const none = "9223372036854771712\n" // how version 1 says it
	for name, test := range map[string]struct {
		files map[string]string
		limit int64
		file  string
	}{
		"no control groups": {nil, 0, ""},
		"v2, in a container": {map[string]string{
			"proc/self/cgroup":         "0::/\n",
			"sys/fs/cgroup/memory.max": "268435456\n",
		}, 268435456, "sys/fs/cgroup/memory.max"},
		"v2, no limit": {map[string]string{
			"proc/self/cgroup":         "0::/\n",
			"sys/fs/cgroup/memory.max": "max\n",
		}, 0, ""},
		"v2, a service of systemd": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/asid-authz.service\n",
			"sys/fs/cgroup/system.slice/asid-authz.service/memory.max": "536870912\n",
			"sys/fs/cgroup/system.slice/memory.max":                    "max\n",
		}, 536870912, "sys/fs/cgroup/system.slice/asid-authz.service/memory.max"},
		"v2, the group above has less": {map[string]string{
			"proc/self/cgroup": "0::/kubepods/pod1/container1\n",
			"sys/fs/cgroup/kubepods/pod1/container1/memory.max": "max\n",
			"sys/fs/cgroup/kubepods/pod1/memory.max":            "134217728\n",
			"sys/fs/cgroup/kubepods/memory.max":                 "4294967296\n",
		}, 134217728, "sys/fs/cgroup/kubepods/pod1/memory.max"},
		"v2, a path outside of the namespace": {map[string]string{
			"proc/self/cgroup":         "0::/../../other\n",
			"sys/fs/cgroup/memory.max": "268435456\n",
		}, 268435456, "sys/fs/cgroup/memory.max"},
		"v1, in a container, with the host's path": {map[string]string{
			"proc/self/cgroup":                           "11:cpu,cpuacct:/docker/0a1b\n7:memory:/docker/0a1b\n1:name=systemd:/docker/0a1b\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n",
		}, 268435456, "sys/fs/cgroup/memory/memory.limit_in_bytes"},
		"v1, on the host": {map[string]string{
			"proc/self/cgroup":                                        "7:memory:/system.slice\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":              none,
			"sys/fs/cgroup/memory/system.slice/memory.limit_in_bytes": "1073741824\n",
		}, 1073741824, "sys/fs/cgroup/memory/system.slice/memory.limit_in_bytes"},
		"v1, with another controller beside it": {map[string]string{
			"proc/self/cgroup":                           "7:hugetlb,memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
		}, 1073741824, "sys/fs/cgroup/memory/memory.limit_in_bytes"},
		"v1, no limit": {map[string]string{
			"proc/self/cgroup":                           "7:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": none,
		}, 0, ""},
		"hybrid: memory is in v1": {map[string]string{
			"proc/self/cgroup": "7:memory:/a\n0::/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "268435456\n",
		}, 268435456, "sys/fs/cgroup/memory/a/memory.limit_in_bytes"},
		"another controller's name": {map[string]string{
			"proc/self/cgroup":                           "7:memoryx:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n",
		}, 0, ""},
		"nonsense": {map[string]string{
			"proc/self/cgroup":         "0::/\nx\n::\n0:\n",
			"sys/fs/cgroup/memory.max": "-1\n",
		}, 0, ""},
	} {
		if limit, file := groupMemoryLimit(files(test.files)); limit != test.limit || file != test.file {
			t.Errorf("%s: %d of %q, want %d of %q", name, limit, file, test.limit, test.file)
		}
	}
}

// TestLimitMemory: what the group allows is heeded, and what the environment says goes first.
func TestLimitMemory(t *testing.T) {
	wasLimit, wasPercent := debug.SetMemoryLimit(math.MaxInt64), debug.SetGCPercent(100)
	defer func() { debug.SetMemoryLimit(wasLimit); debug.SetGCPercent(wasPercent) }()
	group := files(map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "10000000000\n"})
	for name, test := range map[string]struct {
		root        fs.FS
		environment map[string]string
		limit       int64
		percent     int
		says        string
	}{
		"a group":                {group, nil, 9_000_000_000, 400, "/sys/fs/cgroup/memory.max"},
		"a group, and GOGC":      {group, map[string]string{"GOGC": "50"}, 9_000_000_000, 100, "/sys/fs/cgroup/memory.max"},
		"a group and GOMEMLIMIT": {group, map[string]string{"GOMEMLIMIT": "1GiB"}, math.MaxInt64, 400, "GOMEMLIMIT"},
		"no limit":               {files(nil), nil, math.MaxInt64, 400, "none"},
	} {
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(100)
		core, logs := observer.New(zap.InfoLevel)
		limitMemory(test.root, func(name string) string { return test.environment[name] }, zap.New(core))
		percent := debug.SetGCPercent(100)
		if limit := debug.SetMemoryLimit(-1); limit != test.limit || percent != test.percent {
			t.Errorf("%s: limit %d, GC percent %d, want %d and %d", name, limit, percent, test.limit, test.percent)
		}
		if all := logs.All(); len(all) != 1 || !strings.Contains(all[0].ContextMap()["from"].(string), test.says) {
			t.Errorf("%s: the log says %v", name, all)
		}
	}
}
