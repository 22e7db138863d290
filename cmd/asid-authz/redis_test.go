package main

import (
	"os"
	"strings"
	"testing"

	"asid-authz/authz/authztest"
	"asid-authz/cache/layout"
)

func TestRedisConfig(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"addresses: [127.0.0.1:6379]":                               "",
		"addresses: [127.0.0.1:6379]\nnamespace: canary":            "",
		"addresses: [a:1, b:1]\nsentinel_master: m\ninsecure: true": "",
		"addresses: [a:1, b:1]\ncluster: true\ntls: {ca: x}":        "",
		"addresses: [a:1]\ntls: {}\nusername: u\npassword_file: p":  "",
		"namespace: x":     "addresses is missing",
		"addresses: [a:1]": "tls is missing: without TLS the server is on the loopback",
		"addresses: [127.0.0.1:1, 10.0.0.1:1]\ncluster: true":                 "tls is missing",
		"addresses: [a:1]\ntls: {}\ninsecure: true":                           "exclude each other",
		"addresses: [a:1]\ntls: {key: x}":                                     "certificate and key belong together",
		"addresses: [a:1, b:1]\ninsecure: true":                               "say sentinel_master or cluster",
		"addresses: [a:1]\ninsecure: true\ncluster: true\nsentinel_master: m": "exclude each other",
		"addresses: [127.0.0.1:1]\nusername: u":                               "password_file is missing",
		"addresses: [127.0.0.1:1]\nsentinel_password_file: u":                 "belongs to sentinel_master",
		"addresses: [127.0.0.1:1]\nsentinel_master: m\nsentinel_username: u":  "sentinel_password_file is missing",
		"addresses: [a]": "an address is host:port",
		"addresses: [127.0.0.1:1]\nnamespace: \"a{b\"": "a namespace is",
		"addresses: [127.0.0.1:1]\npassword: secret":   "password",
	} {
		file := writeFile(t, dir, "redis.yaml", text+"\n")
		c, _, err := loadRedis(file)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), file)) {
			t.Errorf("%s\ngives %v, want %q", text, err, want)
		}
		if err == nil && strings.Contains(text, "canary") != (c.Namespace.orDefault() != layout.DefaultNamespace) {
			t.Errorf("%s\nis namespace %s", text, c.Namespace.orDefault())
		}
	}
}

// TestRedisOptions: passwords and TLS files are read whenever a connection is made, from
// where the file lies.
func TestRedisOptions(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, dir, "redis.yaml", "addresses: [a:1, b:2]\nsentinel_master: m\nusername: u\npassword_file: p\nsentinel_password_file: s\ntls: {ca: ca.pem, server_name: redis.internal}\n")
	c, path, err := loadRedis(file)
	if err != nil {
		t.Fatal(err)
	}
	o := c.options(path, "name")
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if o.SentinelMaster != "m" || o.Name != "name" || strings.Join(o.Addresses, " ") != "a:1 b:2" {
		t.Errorf("%+v", o)
	}
	if _, _, err := o.Credentials(); err == nil {
		t.Error("there is no password file yet")
	}
	for text, want := range map[string]string{"one": "one", "two\n": "two", "three\r\n": "three", " four \n": " four ", "": "", "\n": "", "a\nb\n": ""} {
		writeFile(t, dir, "p", text)
		user, password, err := o.Credentials()
		if password != want || (err == nil) != (want != "") || err == nil && user != "u" {
			t.Errorf("%q is %q %q, %v", text, user, password, err)
		}
		if err != nil && text != "" && strings.TrimSpace(text) != "" && strings.Contains(err.Error(), strings.TrimSpace(text)) {
			t.Errorf("the password is in the error: %v", err)
		}
	}
	writeFile(t, dir, "s", "sentinel")
	if _, password, err := o.SentinelCredentials(); password != "sentinel" || err != nil {
		t.Errorf("%q, %v", password, err)
	}
	for _, text := range []string{"", "no PEM"} {
		if text != "" {
			writeFile(t, dir, "ca.pem", text)
		}
		if _, err := o.TLS(); err == nil {
			t.Errorf("CA %q was accepted", text)
		}
	}
	if err := os.WriteFile(dir+"/ca.pem", authztest.NewCA("A").PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := o.TLS()
	if err != nil || config.ServerName != "redis.internal" || config.RootCAs == nil || config.MinVersion == 0 {
		t.Errorf("%+v, %v", config, err)
	}
}
