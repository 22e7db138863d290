package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"asid-authz/e2e/mesh"
)

// allowedBy returns how many requests asid-authz has allowed, by its own count.
func allowedBy(ctx context.Context, a *mesh.Authz) (uint64, error) {
	text, err := a.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	return count(text, func(name string) bool {
		return strings.HasPrefix(name, "asid_authz_decisions_total{") && strings.Contains(name, `decision="allow"`)
	})
}

// askedBy returns how many times an Envoy has asked and was told OK, by its own count.
func askedBy(ctx context.Context, e *mesh.Edge) (uint64, error) {
	text, err := e.Stats(ctx)
	if err != nil {
		return 0, err
	}
	return count(strings.ReplaceAll(text, ": ", " "), func(name string) bool { return strings.HasSuffix(name, "ext_authz.asid_authz.ok") })
}

// count adds up the counters of those names, in lines of a name and a number.
func count(text string, is func(name string) bool) (total uint64, err error) {
	for line := range strings.Lines(text) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !is(name) {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, fmt.Errorf("counter %s: %w", name, err)
		}
		total += uint64(n)
	}
	return total, nil
}
