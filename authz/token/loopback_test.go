package token

import (
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLoopback fetches over a real connection: whom the CA pool trusts, and what the
// client does with a redirect, is not to be seen without one.
func TestLoopback(t *testing.T) {
	text := allKeys()
	var redirected atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(text)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/target", http.StatusFound) })
	mux.HandleFunc("/target", func(w http.ResponseWriter, _ *http.Request) {
		redirected.Store(true)
		_, _ = w.Write(text)
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // that a handshake fails is meant
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	plain := httptest.NewServer(mux)
	t.Cleanup(plain.Close)

	for _, test := range []struct {
		name   string
		remote Remote
		want   string
	}{
		{"with its CA", Remote{KeySet: server.URL + "/jwks", CA: pool}, ""},
		{"with another CA", Remote{KeySet: server.URL + "/jwks", CA: x509.NewCertPool()}, "certificate signed by unknown authority"},
		{"with the CAs of the system", Remote{KeySet: server.URL + "/jwks"}, "certificate"},
		{"by http, written out", Remote{KeySet: plain.URL + "/jwks", PlainHTTP: true}, ""},
		{"redirect", Remote{KeySet: server.URL + "/moved", CA: pool}, "redirects are not followed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.remote.Log = nop
			keys, err := NewRemoteKeys(test.remote)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time with a condition
				err = keys.Refresh(t.Context())
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got %v, want %q", err, test.want)
				}
			}
			if test.want == "" {
				wantOutcome(t, verifierOf(t, issuerOf(keys)), lasting("rsa"), time.Now(), "")
			}
		})
	}
	if redirected.Load() {
		t.Error("the redirect was followed")
	}
}
