package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// queries checks the alert rules, runs their unit tests, and parses what the dashboard asks.
func queries(ctx context.Context, tools, promtool string) error {
	for _, part := range []struct{ pattern, command string }{
		{"*.rules.yaml", "check"},
		{"*.test.yaml", "test"},
	} {
		files, err := filepath.Glob(filepath.Join("deploy", "prometheus", part.pattern))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("no %s", part.pattern)
		}
		said, err := output(ctx, promtool, nil, append([]string{part.command, "rules"}, files...)...)
		if err != nil {
			return err
		}
		fmt.Print(strings.TrimSpace(string(said)) + "\n")
	}
	dashboards, err := filepath.Glob(filepath.Join("deploy", "grafana", "*.json"))
	if err != nil {
		return err
	}
	if len(dashboards) == 0 {
		return fmt.Errorf("no dashboard")
	}
	for _, dashboard := range dashboards {
		n, err := parse(ctx, tools, promtool, dashboard)
		if err != nil {
			return fmt.Errorf("%s: %w", dashboard, err)
		}
		fmt.Printf("%s: %d queries\n", filepath.Base(dashboard), n)
	}
	return nil
}

// grafanaVariable is what Grafana replaces before Prometheus sees a query.
var grafanaVariable = regexp.MustCompile(`\$(__rate_interval|[a-z_]+)`)

// parse lets promtool parse every query of a dashboard, each as a recording rule, and
// returns how many there are.
func parse(ctx context.Context, tools, promtool, dashboard string) (int, error) {
	text, err := os.ReadFile(dashboard)
	if err != nil {
		return 0, err
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		return 0, err
	}
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			expr := grafanaVariable.ReplaceAllStringFunc(target.Expr, func(name string) string {
				if name == "$__rate_interval" {
					return "5m"
				}
				return "x"
			})
			rules = append(rules, rule{Record: fmt.Sprintf("query_%d", len(rules)), Expr: expr})
		}
	}
	if len(rules) == 0 {
		return 0, fmt.Errorf("it asks nothing")
	}
	text, err = yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(tools, "check-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "dashboard.rules.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return 0, err
	}
	_, err = output(ctx, promtool, nil, "check", "rules", "--lint=none", file)
	return len(rules), err
}
