package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// probe returns an error if the server at target is not ready.
func (f *files) probe(ctx context.Context, target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "http":
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", target, response.Status)
		}
		return nil
	case "redis":
		return f.ping(ctx, u)
	}
	return fmt.Errorf("%s: neither http nor redis", target)
}

// ping asks a Redis whether it would answer questions: while it loads its data it does not.
func (f *files) ping(ctx context.Context, u *url.URL) error {
	config, err := f.clientTLS()
	if err != nil {
		return err
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, has := ctx.Deadline(); has {
		conn.SetDeadline(deadline)
	}
	commands := []string{"PING"}
	if f.password != "" {
		password, err := os.ReadFile(f.password)
		if err != nil {
			return err
		}
		commands = []string{"AUTH " + u.User.Username() + " " + strings.TrimSpace(string(password)), "PING"}
	}
	answers := bufio.NewReader(conn)
	for _, command := range commands {
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if answer != "+OK\r\n" && answer != "+PONG\r\n" {
			return fmt.Errorf("%s answers %q", u.Host, answer)
		}
	}
	return nil
}

func (f *files) clientTLS() (*tls.Config, error) {
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: f.name}
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", f.ca)
	}
	certificate, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{certificate}
	return config, nil
}
