// Package e2e runs the real asid-authz behind a real Envoy.
//
// Every case of the corpus is sent through them, over HTTP/1.1 and HTTP/2; what needs more
// than one request, a fault or a clock is a test of its own here. Package mesh starts the
// processes, and fetches Envoy if there is none.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
)

// programs are started by every test of the package.
var programs *mesh.Programs

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var err error
	if programs, err = mesh.FindPrograms(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer programs.Remove()
	return m.Run()
}

// loadCorpus reads the cases and worlds that every layer is tested with.
func loadCorpus(t *testing.T) *authztest.Corpus {
	t.Helper()
	corpus, err := authztest.Load("../authz/testdata")
	if err != nil {
		t.Fatal(err)
	}
	return corpus
}

// A scene is a mesh in the world that most deployments are like, with one edge, and two
// requests to play with: a read that is allowed and a delete that is not.
type scene struct {
	*mesh.Mesh
	edge         *mesh.Edge
	read, remove *authztest.Case
}

// scenes have these cases of the corpus in common.
const (
	readCase   = "allow-read"
	removeCase = "permission-delete-of-consumer"
)

// play starts a scene, which ends with the test.
func play(t *testing.T, options mesh.Options, changes ...mesh.Change) *scene {
	t.Helper()
	s := &scene{}
	s.Mesh = startMesh(t, s.choose(t), options)
	s.edge = startEdge(t, s.Mesh, changes...)
	return s
}

// choose finds the two requests, and returns the world that they are of.
func (s *scene) choose(t *testing.T) *authztest.Minted {
	t.Helper()
	corpus := loadCorpus(t)
	for _, c := range corpus.Cases {
		switch c.File {
		case readCase:
			s.read = c
		case removeCase:
			s.remove = c
		}
	}
	if s.read == nil || s.remove == nil || s.read.World != s.remove.World {
		t.Fatalf("the corpus has no cases %s and %s of one world", readCase, removeCase)
	}
	world, err := corpus.Worlds[s.read.World].Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return world
}

// startMesh starts a mesh that ends with the test; what its processes wrote is shown if the
// test failed.
func startMesh(t *testing.T, world *authztest.Minted, options mesh.Options) *mesh.Mesh {
	t.Helper()
	m, err := programs.Start(t.Context(), world, options)
	if err != nil {
		t.Fatal(err)
	}
	passwords := map[string]string{}
	if options.Redis != nil {
		passwords = options.Redis.Passwords()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.Log())
		}
		err := m.Stop()
		outputs, unread := m.Outputs()
		for name, text := range outputs {
			expectNothingPrivate(t, name, text, passwords)
		}
		if err := errors.Join(err, unread, m.Close()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func startEdge(t *testing.T, m *mesh.Mesh, changes ...mesh.Change) *mesh.Edge {
	t.Helper()
	e, err := m.Edge(t.Context(), changes...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// request returns what a case says, with a token of now.
func (s *scene) request(t *testing.T, c *authztest.Case) mesh.Request {
	t.Helper()
	fields, body, err := s.World.HTTP2(c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return mesh.NewRequest(fields, body)
}

// client returns a client of the edge with the case's certificate.
func (s *scene) client(t *testing.T, e *mesh.Edge, c *authztest.Case) *mesh.Client {
	t.Helper()
	certificate, err := s.World.Certificate(c)
	if err != nil {
		t.Fatal(err)
	}
	return e.Client(certificate)
}

// ask sends a case over each protocol and returns the answers.
func (s *scene) ask(t *testing.T, e *mesh.Edge, c *authztest.Case) (answers []*mesh.Answer) {
	t.Helper()
	for _, protocol := range mesh.Protocols {
		answer, err := s.client(t, e, c).Do(t.Context(), protocol, s.request(t, c))
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		answers = append(answers, answer)
	}
	return answers
}

// expect fails the test unless every answer has that status and, if it is ours, that public
// Reason, and says no unless it is 200.
func expect(t *testing.T, answers []*mesh.Answer, status int, reason string) {
	t.Helper()
	for _, a := range answers {
		if a.Refused != "" || a.Status != status || a.Header.Get("X-Asid-Reason") != reason {
			t.Errorf("got %v\nwant %d, reason %q", a, status, reason)
			continue
		}
		if status != 200 {
			checkOutcome(t, a, false)
		}
	}
}
