package authz_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "asid-authz"

// A listed is a package as go list describes it.
type listed struct {
	ImportPath string
	Dir        string
	Name       string
	GoFiles    []string
	Imports    []string // of the code that ships
	Deps       []string // of it, all the way down
}

// packages returns every package of the module, by its path.
func packages(t *testing.T) map[string]*listed {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var list = sync.OnceValues(func() (map[string]*listed, error) {
	command := exec.Command("go", "list", "-json=ImportPath,Dir,Name,GoFiles,Imports,Deps", module+"/...")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, err
	}
	all := map[string]*listed{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(listed)
		if err := d.Decode(p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all[p.ImportPath] = p
	}
})

// parse returns the files of p that ship.
func (p *listed) parse(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	return files
}

// within reports whether path is the package root of the module or below it.
func within(path, root string) bool {
	root = module + "/" + root
	return path == root || strings.HasPrefix(path, root+"/")
}

// testOnly are the packages that nothing that ships may hold: whatever they can do,
// mint a certificate or start a process, a server must not be able to.
var testOnly = []string{"e2e", "authz/authztest", "cache/cachetest", "cache/redistest"}

func TestArrows(t *testing.T) {
	all := packages(t)
	for _, must := range []string{"authz", "authz/token", "authz/profile", "authz/authztest", "cache", "envoy", "cmd/asid-authz"} {
		if all[module+"/"+must] == nil {
			t.Fatalf("package %s is gone: this test would hold for nothing", must)
		}
	}
	for path, p := range all {
		for _, dep := range p.Deps {
			switch {
			case within(path, "envoy") && within(dep, "cache"), within(path, "cache") && within(dep, "envoy"):
				t.Errorf("%s depends on %s: the edge and the cache have never heard of each other", path, dep)
			case path == module+"/authz" && strings.HasPrefix(dep, module):
				t.Errorf("the rules depend on %s: everything points at them, they point at nothing", dep)
			}
		}
		if slices.ContainsFunc(testOnly, func(root string) bool { return within(path, root) }) {
			continue
		}
		for _, dep := range p.Deps {
			if dep == "testing" || strings.HasPrefix(dep, "testing/") || slices.ContainsFunc(testOnly, func(root string) bool { return within(dep, root) }) {
				t.Errorf("%s ships and depends on %s", path, dep)
			}
		}
		if slices.Contains(p.Imports, "unsafe") {
			t.Errorf("%s imports unsafe, with which anybody can write an allow", path)
		}
	}
}

func TestOnlyTokenKnowsJOSE(t *testing.T) {
	for path, p := range packages(t) {
		if path == module+"/authz/token" || within(path, "authz/authztest") {
			continue
		}
		for _, dep := range p.Imports {
			if strings.Contains(dep, "golang-jwt") || strings.Contains(dep, "jwkset") {
				t.Errorf("%s imports %s: a token is judged in one place", path, dep)
			}
		}
	}
}

func TestEdgeKnowsNoLogAndNoMetrics(t *testing.T) {
	for _, dep := range packages(t)[module+"/envoy"].Imports {
		if strings.Contains(dep, "zap") || strings.Contains(dep, "prometheus") {
			t.Errorf("package envoy imports %s: the command decides what is written where", dep)
		}
	}
}

// pure is all that the rules may import: no clock but the time that a request brings,
// no goroutine, no log, no file, no network.
var pure = []string{
	"bytes", "cmp", "context", "crypto/sha256", "crypto/x509", "encoding/asn1", "encoding/binary", "encoding/hex", "encoding/pem", "errors",
	"fmt", "iter", "maps", "math/bits", "slices", "strconv", "strings", "sync", "sync/atomic", "time", "unicode/utf8",
}

func TestRulesArePure(t *testing.T) {
	p := packages(t)[module+"/authz"]
	for _, dep := range p.Imports {
		if !slices.Contains(pure, dep) {
			t.Errorf("the rules import %s", dep)
		}
	}
	impure := map[string][]string{
		"time":    {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
		"fmt":     {"Print", "Printf", "Println", "Fprint", "Fprintln", "Scan", "Scanf", "Scanln"},
		"context": {"TODO", "WithTimeout", "WithDeadline", "AfterFunc"},
		"x509":    {"SystemCertPool"},
	}
	for name, file := range p.parse(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", name)
			case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
				t.Errorf("%s uses a channel", name)
			case *ast.SelectorExpr:
				if x, is := n.X.(*ast.Ident); is && slices.Contains(impure[x.Name], n.Sel.Name) {
					t.Errorf("%s uses %s.%s", name, x.Name, n.Sel.Name)
				}
			case *ast.CallExpr:
				if f, is := n.Fun.(*ast.Ident); is && (f.Name == "print" || f.Name == "println") {
					t.Errorf("%s prints", name)
				}
			}
			return true
		})
	}
}

// TestOneAllow looks at the source: the field allow is set to something else than false
// in one place, which is the end of the decision, and no door but Check and Explain
// hands out a Decision that it could be in.
func TestOneAllow(t *testing.T) {
	var allows, doors []string
	for name, file := range packages(t)[module+"/authz"].parse(t) {
		for _, declaration := range file.Decls {
			f, is := declaration.(*ast.FuncDecl)
			if !is {
				continue
			}
			where := name + ": " + f.Name.Name
			if f.Type.Results != nil {
				for _, result := range f.Type.Results.List {
					if id, is := result.Type.(*ast.Ident); is && id.Name == "Decision" {
						doors = append(doors, where)
					}
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if key, is := n.Key.(*ast.Ident); is && key.Name == "allow" {
						allows = append(allows, where)
					}
				case *ast.AssignStmt:
					for _, left := range n.Lhs {
						if s, is := left.(*ast.SelectorExpr); is && s.Sel.Name == "allow" {
							allows = append(allows, where)
						}
					}
				}
				return true
			})
		}
	}
	slices.Sort(allows)
	slices.Sort(doors)
	// Denied sets it to false.
	if want := []string{"decision.go: Denied", "steps.go: allowed"}; !slices.Equal(allows, want) {
		t.Errorf("the field allow is set in %q, not in %q", allows, want)
	}
	want := []string{"authorizer.go: Check", "decision.go: Denied", "decision.go: Deny", "explain.go: Explain", "steps.go: allowed", "steps.go: denied"}
	if !slices.Equal(doors, want) {
		t.Errorf("a Decision comes out of %q, not of %q", doors, want)
	}
}
