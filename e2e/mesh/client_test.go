package mesh

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// echo is an HTTPS server that answers with what it saw.
func echo(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	i, err := newIdentities("api.example")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{i.server.TLS()}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return &Client{Address: server.Listener.Addr().String(), ServerName: "api.example", Roots: i.roots()}
}

func TestClientSaysWhatItIsTold(t *testing.T) {
	client := echo(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s %q %q %s", r.Proto, r.Method, r.RequestURI, r.Host, r.Header["X-Twice"], r.TLS.PeerCertificates[0].Subject.CommonName, body)
	})
	certificate, err := authztest.SelfSigned(authztest.CertificateSpec{CommonNames: []string{"me"}})
	if err != nil {
		t.Fatal(err)
	}
	shown := certificate.TLS()
	client.Certificate = &shown
	r := Request{Method: "PATCH", Target: "/a//b?c", Host: "api.example", Body: []byte("text")}.With("x-twice", "1").With("X-Twice", "2")
	for _, protocol := range Protocols {
		conn, refused, err := client.Open(t.Context(), protocol)
		if err != nil || refused != nil {
			t.Fatalf("%s: %v, %v", protocol, refused, err)
		}
		for range 2 { // the connection stays open
			answer, err := conn.Do(r)
			if err != nil || answer.Status != http.StatusTeapot {
				t.Fatalf("%s: %v, %v", protocol, answer, err)
			}
			want := map[Protocol]string{HTTP1: "HTTP/1.1", HTTP2: "HTTP/2.0"}[protocol] + ` PATCH /a//b?c api.example ["1" "2"] "me" text`
			if string(answer.Body) != want {
				t.Errorf("%s:\ngot  %s\nwant %s", protocol, answer.Body, want)
			}
		}
		conn.Close()
	}
	if got := r.Without("X-TWICE"); len(got.Headers) != 0 || len(r.Headers) != 2 {
		t.Errorf("Without: %v of %v", got.Headers, r.Headers)
	}
}

// A header list beyond one frame needs CONTINUATION, a body beyond one several DATA.
func TestHTTP2LargeRequest(t *testing.T) {
	client := echo(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(bytes.Repeat([]byte("x"), len(r.Header.Get("Large"))+len(body)))
	})
	r := Request{Method: "POST", Target: "/", Host: "api.example", Body: make([]byte, 3*frameSize)}.With("large", strings.Repeat("a", 4*frameSize))
	answer, err := client.Do(t.Context(), HTTP2, r)
	if err != nil || len(answer.Body) != 7*frameSize {
		t.Fatalf("%v, %v", answer, err)
	}
}

func TestAnswersWithoutBody(t *testing.T) {
	client := echo(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "7")
		w.WriteHeader(http.StatusForbidden)
	})
	for _, protocol := range Protocols {
		answer, err := client.Do(t.Context(), protocol, Request{Method: "HEAD", Target: "/", Host: "api.example"})
		if err != nil || answer.Status != http.StatusForbidden || len(answer.Body) != 0 {
			t.Errorf("%s: %v, %v", protocol, answer, err)
		}
	}
}

// Only a server that says no is a refusal. Not to reach it, or not to believe it, is an error.
func TestRefused(t *testing.T) {
	client := echo(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	r := Request{Method: "GET", Target: "/", Host: "api.example"}
	for _, protocol := range Protocols {
		answer, err := client.Do(t.Context(), protocol, r)
		if err != nil || answer.Refused == "" || answer.Status != 0 {
			t.Errorf("%s, aborted: %v, %v", protocol, answer, err)
		}
	}
	if answer, err := client.Frames(t.Context(), []authz.Header{{Name: "method", Value: "no pseudo-header"}}, nil); err != nil || answer.Refused == "" {
		t.Errorf("frames without a method: %v, %v", answer, err)
	}
	if answer, err := client.Raw(t.Context(), "GET", []byte("nonsense\r\n\r\n")); err != nil || answer.Status != http.StatusBadRequest {
		t.Errorf("nonsense: %v, %v", answer, err)
	}
	other := *client
	other.ServerName = "other.example"
	if answer, err := other.Do(t.Context(), HTTP1, r); err == nil {
		t.Errorf("a server that is not who it should be: %v", answer)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other.Address = listener.Addr().String()
	listener.Close()
	if answer, err := other.Do(t.Context(), HTTP1, r); err == nil {
		t.Errorf("no server: %v", answer)
	}
}

// An interim answer is none.
func TestContinueComesBeforeTheAnswer(t *testing.T) {
	client := echo(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		io.Copy(w, r.Body) // which makes the server send 100 Continue
	})
	r := Request{Method: "POST", Target: "/", Host: "api.example", Body: []byte("body")}.With("expect", "100-continue")
	for _, protocol := range Protocols {
		if answer, err := client.Do(t.Context(), protocol, r); err != nil || answer.Status != 200 || string(answer.Body) != "body" {
			t.Errorf("%s: %v, %v", protocol, answer, err)
		}
	}
}
