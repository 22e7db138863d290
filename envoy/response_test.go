package envoy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"asid-authz/authz"
)

// TestOneMaker reads the source: a CheckResponse made anywhere but in respond could
// lack its status, which Envoy takes for an allow.
func TestOneMaker(t *testing.T) {
	literals := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != "..":
			return fs.SkipDir
		case entry.IsDir() && (entry.Name() == "e2e" || entry.Name() == "testdata"): // tests, which also play a service that is broken
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			var made ast.Expr
			switch n := n.(type) {
			case *ast.CompositeLit:
				made = n.Type
			case *ast.CallExpr:
				if f, is := n.Fun.(*ast.Ident); is && f.Name == "new" && len(n.Args) == 1 {
					made = n.Args[0]
				}
			case *ast.ValueSpec:
				made = n.Type
			}
			if selector, is := made.(*ast.SelectorExpr); is && selector.Sel.Name == "CheckResponse" {
				literals++
				if filepath.Base(path) != "response.go" {
					t.Errorf("%s makes a CheckResponse: only respond, in response.go, may", path)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if literals != 1 {
		t.Errorf("%d places make a CheckResponse, want the one in respond", literals)
	}
}

// TestZeroDecision: a Decision that nobody made is a complete denial.
func TestZeroDecision(t *testing.T) {
	response := respond(nil, &authz.Request{}, &Record{DecisionID: goldenID})
	if response.GetStatus() == nil || response.GetStatus().GetCode() == int32(codes.OK) || response.GetOkResponse() != nil {
		t.Fatalf("the zero Decision is answered with %v", response)
	}
	if status := response.GetDeniedResponse().GetStatus().GetCode(); status != 503 {
		t.Errorf("status %d, want 503", status)
	}
	if got := response.GetDynamicMetadata().AsMap()["decision"]; got != "deny" {
		t.Errorf("the lock would read %v", got)
	}
}
