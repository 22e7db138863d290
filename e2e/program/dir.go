package program

import (
	"fmt"
	"os"
)

// maxDir leaves room for a socket's name in the 104 bytes that macOS gives to its path.
const maxDir = 80

// TempDir makes a directory whose path is short enough for Unix sockets. Who asked for it
// removes it.
func TempDir() (string, error) {
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
