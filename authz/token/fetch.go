package token

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// maxDocument is the largest document that is fetched, in bytes.
const maxDocument = 1 << 20

// A document is what is remembered of one that was fetched and taken, so that the next
// request can ask for it only if it has changed. The zero document asks for it anyhow.
type document struct {
	url          string
	etag         string
	lastModified string
}

// fetched is the answer: the body of a document, or that it has not changed.
type fetched struct {
	document
	body      []byte
	unchanged bool
}

// get asks for the document.
func (d document) get(ctx context.Context, client *http.Client) (fetched, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return fetched{}, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Header.Set("Cache-Control", "no-cache") // or a cache on the way could confirm what the issuer has withdrawn
	r.Header.Set("User-Agent", "asid-authz")
	if d.etag != "" {
		r.Header.Set("If-None-Match", d.etag)
	}
	if d.lastModified != "" {
		r.Header.Set("If-Modified-Since", d.lastModified)
	}
	answer, err := client.Do(r)
	if err != nil {
		return fetched{}, err
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusNotModified && (d.etag != "" || d.lastModified != ""):
		return fetched{document: d, unchanged: true}, nil
	case answer.StatusCode >= 300 && answer.StatusCode < 400 && answer.StatusCode != http.StatusNotModified:
		return fetched{}, fmt.Errorf("GET %s: answered %d, and redirects are not followed", d.url, answer.StatusCode)
	case answer.StatusCode != http.StatusOK:
		return fetched{}, fmt.Errorf("GET %s: answered %d", d.url, answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	if err != nil {
		return fetched{}, fmt.Errorf("GET %s: %w", d.url, err)
	}
	if len(body) > maxDocument {
		return fetched{}, fmt.Errorf("GET %s: more than %d bytes", d.url, maxDocument)
	}
	return fetched{
		document: document{url: d.url, etag: answer.Header.Get("ETag"), lastModified: answer.Header.Get("Last-Modified")},
		body:     body,
	}, nil
}
