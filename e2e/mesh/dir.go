package mesh

import (
	"fmt"
	"os"
	"path/filepath"
)

// maxDir leaves room for a socket's name in the 104 bytes that macOS gives to its path.
const maxDir = 80

// newDir makes a directory whose path is short enough for Unix sockets.
func newDir() (string, error) {
	parent := os.TempDir()
	if len(parent) > maxDir-len("/asid-0123456789") {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "asid-")
	if err == nil && len(dir) > maxDir {
		os.Remove(dir)
		return "", fmt.Errorf("%s is too long a path for a Unix socket; set TMPDIR", dir)
	}
	return dir, err
}

// writeFiles writes files, by their names in dir, for this user alone.
func writeFiles(dir string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile replaces a file as deployments do: by a rename, so that nobody ever reads half of it.
func replaceFile(path string, content []byte) error {
	next := path + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
