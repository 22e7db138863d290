package authz_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"asid-authz/authz"
)

// TestWithWhileAsked derives maps with new interactions from one that is being asked:
// look-ups take no lock, so nothing that they read may ever be written again.
func TestWithWhileAsked(t *testing.T) {
	const id = "urn:nhs:names:services:probe:0"
	p := newProber(t, []string{id})
	m := build(t, 1, entry(t, 1, id))
	p.m = m
	a := asid(t, "000000000001")
	if !p.may(m, a, id) {
		t.Fatal("denied before anything happened")
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			r := p.request // its own; the headers are only read
			for {
				select {
				case <-stop:
					return
				default:
				}
				if d := p.authorizer.Check(context.Background(), &r); !d.Allowed() {
					t.Errorf("denied as %v", d.Reason())
					return
				}
			}
		})
	}
	next := m
	for i := range 200 {
		var err error
		s := entry(t, 2+i%3, fmt.Sprintf("urn:new:%d", i), id)
		if next, err = next.With(uint64(2+i), []authz.AccreditedSystem{s}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := m.With(uint64(2+i), []authz.AccreditedSystem{s}, nil); err != nil { // and from the first one, each time
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
	if next.Len() != 4 || m.Len() != 1 {
		t.Errorf("%d and %d systems", next.Len(), m.Len())
	}
}

// TestCheckWhileTrustChanges: the verdict that a certificate remembers is shared by all
// requests of a connection.
func TestCheckWhileTrustChanges(t *testing.T) {
	s := newScenario(t)
	ours := s.trust.Trust
	other := parseTrust(t, s.minted.CAs())
	var mu sync.Mutex
	n := 0
	s.config.Trust = trustFunc(func() (*authz.Trust, time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n%2 == 0 {
			return other, s.request.Now
		}
		return ours, s.request.Now
	})
	a := s.authorizer()
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 200 {
				if d := a.Check(s.ctx, s.request); !d.Allowed() {
					t.Errorf("denied as %v", d.Reason())
					return
				}
			}
		})
	}
	callers.Wait()
}

type trustFunc func() (*authz.Trust, time.Time)

func (f trustFunc) Current() (*authz.Trust, time.Time) { return f() }

// TestCredential: a verifier is handed one word of a bounded size, or nothing.
func TestCredential(t *testing.T) {
	for _, test := range []struct {
		header string
		want   string // the credential; "" if the verifier must not be asked
	}{
		{"Bearer abc", "abc"},
		{"BEARER abc", "abc"},
		{"Bearer aA0-._~+/=", "aA0-._~+/="},
		{"Bearer " + strings.Repeat("a", authz.MaxCredential), strings.Repeat("a", authz.MaxCredential)},
		{"Bearer " + strings.Repeat("a", authz.MaxCredential+1), ""},
		{"Bearer", ""},
		{"Bearer ", ""},
		{"Bearer  a", ""},
		{"Bearer a b", ""},
		{"Bearer\ta", ""},
		{"Basic abc", ""},
		{"Bearerabc", ""},
		{"abc", ""},
		{"", ""},
		{" Bearer abc", ""},
	} {
		s := newScenario(t)
		got := ""
		s.config.Tokens = verifier(func(_ context.Context, credential string, _ time.Time) (*authz.Claims, error) {
			got = credential
			return nil, &authz.Fault{Reason: authz.TokenExpired, Field: authz.FieldToken}
		})
		s.header("authorization", "")
		s.request.Headers = append(s.request.Headers, authz.Header{Name: "authorization", Value: test.header})
		d := s.check()
		reason := authz.TokenExpired
		if test.want == "" {
			reason = authz.TokenMalformed
		}
		if got != test.want || d.Reason() != reason {
			t.Errorf("%.20q: %v, and the verifier was asked about %.20q", test.header, d.Reason(), got)
		}
	}
	// Bytes are looked at eight at a time: every byte in every place of a short word.
	s := newScenario(t)
	asked := false
	s.config.Tokens = verifier(func(context.Context, string, time.Time) (*authz.Claims, error) {
		asked = true
		return nil, &authz.Fault{Reason: authz.TokenExpired, Field: authz.FieldToken}
	})
	a := s.authorizer()
	s.header("authorization", "")
	headers := s.request.Headers
	for b := range 256 {
		want := b > ' ' && b < 0x7f && b != ','
		for length := 1; length <= 18; length++ {
			for i := range length {
				word := []byte(strings.Repeat("a", length))
				word[i] = byte(b)
				s.request.Headers = append(headers[:len(headers):len(headers)], authz.Header{Name: "authorization", Value: "Bearer " + string(word)})
				asked = false
				a.Check(s.ctx, s.request)
				if asked != want {
					t.Fatalf("byte %#x at %d of %d: asked=%v", b, i, length, asked)
				}
			}
		}
	}
}
