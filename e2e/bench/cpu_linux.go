package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of /proc, on every platform that Go runs on.
const tick = 10 * time.Millisecond

// cpuTime returns the processor time that a process has used, all of its threads together.
func cpuTime(pid int) (used time.Duration, known bool, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false, err
	}
	// The second field, the name, may hold anything. Behind it comes the third.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, false, fmt.Errorf("/proc/%d/stat has only %d fields", pid, len(fields)+2)
	}
	for _, field := range fields[11:13] { // utime and stime
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, false, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		used += time.Duration(ticks) * tick
	}
	return used, true, nil
}
