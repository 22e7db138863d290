package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"asid-authz/e2e/mesh"
)

// Where both servers listen: each is alone in its container. The second is for the health
// check alone, which has no certificate that the first would take.
const (
	address = ":8443"
	health  = "127.0.0.1:8080"
)

// serve answers over TLS, to one client alone if one is named, until ctx ends.
func (f *files) serve(ctx context.Context, handler http.Handler) error {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.clientCA != "" {
		text, err := os.ReadFile(f.clientCA)
		if err != nil {
			return err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s: no certificate", f.clientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return state.PeerCertificates[0].VerifyHostname(f.clientName)
		}
	}
	server := &http.Server{Handler: handler, TLSConfig: config, ReadHeaderTimeout: 5 * time.Second}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	alive, err := net.Listen("tcp", health)
	if err != nil {
		return err
	}
	go http.Serve(alive, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		timeout, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(timeout)
	}()
	if err := server.ServeTLS(listener, f.certificate, f.key); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// maxBody is the most that is read of a request.
const maxBody = 1 << 20

// echo is the API. Its answer is what it saw, because nobody outside can look at it.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/fhir+json")
	json.NewEncoder(w).Encode(mesh.Seen{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header, Body: body})
}

// documents serves the two documents of an issuer, read anew each time: keys are rotated by
// replacing a file.
func documents(directory string) http.Handler {
	mux := http.NewServeMux()
	for path, name := range map[string]string{"/.well-known/openid-configuration": "openid-configuration.json", "/jwks.json": "jwks.json"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			text, err := os.ReadFile(filepath.Join(directory, name))
			if err != nil {
				http.Error(w, "not here", http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Write(text)
		})
	}
	return mux
}
