package docker

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/cache/redistest"
)

func newTestStage(t *testing.T) *Stage {
	t.Helper()
	corpus, err := authztest.Load("../../authz/testdata")
	if err != nil {
		t.Fatal(err)
	}
	world, err := corpus.Worlds[authztest.Usual].Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewStage(t.TempDir(), world, Addresses{"10.213.9"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns every file of the stage by its path in it.
func (s *Stage) read(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(s.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(s.Dir, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A container that is taken over must not give away another's key or password.
func TestStageKeepsSecretsApart(t *testing.T) {
	s := newTestStage(t)
	files := s.read(t)
	keys := map[string]string{}
	for name, content := range files {
		if !bytes.Contains(content, []byte("PRIVATE KEY")) {
			continue
		}
		if other, twice := keys[string(content)]; twice {
			t.Errorf("%s and %s are one key", name, other)
		}
		keys[string(content)] = name
	}
	if len(keys) != 8 {
		t.Errorf("%d keys: %v", len(keys), keys)
	}
	for name, content := range files {
		service, _, _ := strings.Cut(name, "/")
		for user, holders := range map[string]string{
			redistest.Reader: "authz", redistest.Publisher: "publisher", redistest.Discovery: "authz publisher", probeUser: redisTLS,
			redistest.ReplicaUser: "redis-1 redis-2", redistest.SentinelUser: "sentinel-1 sentinel-2 sentinel-3",
		} {
			if bytes.Contains(content, []byte(s.Redis[user])) && !slices.Contains(strings.Fields(holders), service) {
				t.Errorf("%s holds the password of %s", name, user)
			}
		}
	}
}

// Containers run as a user of another number, and must be able to read their files whatever
// the umask of whoever made them.
func TestStageModes(t *testing.T) {
	s := newTestStage(t)
	for name := range s.read(t) {
		info, err := os.Stat(filepath.Join(s.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o644)
		if service, _, _ := strings.Cut(name, "/"); writable(service) {
			want = 0o666
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
}

func TestStageReplace(t *testing.T) {
	s := newTestStage(t)
	if err := s.Replace("issuer", "jwks.json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	files := s.read(t)
	if got := string(files["issuer/jwks.json"]); got != "{}" {
		t.Errorf("the file holds %q", got)
	}
	if _, left := files["issuer/jwks.json.next"]; left {
		t.Error("a half-way file is left")
	}
}
