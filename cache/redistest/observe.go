package redistest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// stat returns the fields of /proc/PID/stat that follow the name of the program, which is in
// brackets and may hold anything.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return nil, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	return fields, nil
}

// processState returns the state of a process as ps has it: T is held.
func processState(pid int) (string, error) {
	if fields, err := stat(pid); err == nil {
		return fields[0], nil
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return strings.TrimSpace(string(out)), err
}

// CPU returns the processor time that the running process has used, in steps of 10 ms. Where
// there is no /proc it is 0.
func (s *Server) CPU() time.Duration {
	fields, err := stat(s.Pid())
	if err != nil {
		return 0
	}
	user, _ := strconv.Atoi(fields[11]) // in 1/100 s on every Linux
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Connections returns how many connections the server has whose client name begins so.
func (s *Server) Connections(ctx context.Context, prefix string) (int, error) {
	list, err := s.admin.ClientList(ctx).Result()
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(list) {
		for _, field := range strings.Fields(line) {
			if name, is := strings.CutPrefix(field, "name="); is && strings.HasPrefix(name, prefix) {
				n++
			}
		}
	}
	return n, nil
}

// info returns the fields of a section of INFO.
func (s *Server) info(ctx context.Context, section string) (map[string]string, error) {
	text, err := s.admin.Info(ctx, section).Result()
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, is := strings.Cut(strings.TrimSpace(line), ":"); is {
			fields[name] = value
		}
	}
	return fields, nil
}
