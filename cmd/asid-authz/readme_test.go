package main

import (
	"os"
	"regexp"
	"testing"

	"asid-authz/authz/profile"
	"asid-authz/cache"
)

// TestReadme: the configuration and the map of the README are accepted as they stand
// there, and the map without a warning.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d YAML blocks, want the configuration and the map", len(blocks))
	}
	if _, err := decodeConfig("README.md", blocks[0][1]); err != nil {
		t.Errorf("the configuration: %v", err)
	}
	file, err := cache.DecodeMap("README.md", blocks[1][1])
	if err != nil {
		t.Fatalf("the map: %v", err)
	}
	nrl, err := profile.Builtin("nrl")
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range file.Warnings(nrl) {
		t.Errorf("the map: %v", warning)
	}
}
