package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// machine says in one line what the figures were measured on.
func machine(ctx context.Context) string {
	return fmt.Sprintf("%d cores, %s, %s, %s", runtime.NumCPU(), processor(ctx), said(ctx, "uname", "-sr"), runtime.Version())
}

func processor(ctx context.Context) string {
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(value)
			}
		}
		return runtime.GOARCH
	}
	return said(ctx, "sysctl", "-n", "machdep.cpu.brand_string") // macOS
}

// loadAverage returns that of the last 1, 5 and 15 minutes.
func loadAverage(ctx context.Context) string {
	// "… load average: 0.00, 0.10, 0.57" or, on macOS, "… load averages: 1.20 1.30 1.40"
	_, averages, _ := strings.Cut(said(ctx, "uptime"), "load average")
	if _, figures, found := strings.Cut(averages, ": "); found {
		return strings.ReplaceAll(figures, ",", "")
	}
	return "unknown"
}

// said returns what a command prints, "unknown" if it cannot be run: a report without its
// machine is still one.
func said(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
