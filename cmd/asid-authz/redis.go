package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"asid-authz/authz/strictyaml"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// RedisConfig says where in Redis the interaction map lies, and who asks for it. Whoever
// may write there can bind any certificate to any ASID: so it takes TLS, or stays on the
// loopback.
type RedisConfig struct {
	Addresses            []AddressValue  `yaml:"addresses"`              // host:port of the server. Of the Sentinels, with sentinel_master; of some nodes of the Cluster, with cluster.
	SentinelMaster       string          `yaml:"sentinel_master"`        // The name by which the Sentinels know the server.
	Cluster              bool            `yaml:"cluster"`                // The server is a Redis Cluster. The map lies in one slot of it.
	Namespace            NamespaceValue  `yaml:"namespace"`              // Where the map lies, so that several can lie side by side: asid-authz unless something else is written.
	Username             string          `yaml:"username"`               // Of the ACL user.
	PasswordFile         PathValue       `yaml:"password_file"`          // Read for every connection. A line end behind the password does not belong to it.
	SentinelUsername     string          `yaml:"sentinel_username"`      // Of the ACL user at the Sentinels.
	SentinelPasswordFile PathValue       `yaml:"sentinel_password_file"` // Read for every connection.
	TLS                  *RedisTLSConfig `yaml:"tls"`                    // Left out only on the loopback, or with insecure.
	Insecure             bool            `yaml:"insecure"`               // No TLS beyond the loopback, because something else guards the way. Written out, or nothing starts.
}

// RedisTLSConfig is TLS to the server, and to the Sentinels. The files are read for every
// connection.
type RedisTLSConfig struct {
	CA          PathValue `yaml:"ca"`          // PEM bundle that the server's certificate is verified against. Default: the system's.
	Certificate PathValue `yaml:"certificate"` // PEM, the chain that the server verifies. Only with key.
	Key         PathValue `yaml:"key"`         // PEM
	ServerName  string    `yaml:"server_name"` // That the server's certificate must have. Default: the host that is connected to.
}

// A NamespaceValue is a namespace; the zero one is the default.
type NamespaceValue struct{ layout.Namespace }

func (v *NamespaceValue) UnmarshalYAML(n *yaml.Node) (err error) {
	v.Namespace, err = layout.ParseNamespace(scalar(n))
	return err
}

// String returns the namespace as it is written down, also the default.
func (v NamespaceValue) String() string { return v.orDefault().String() }

func (v NamespaceValue) orDefault() layout.Namespace {
	if v == (NamespaceValue{}) {
		return layout.DefaultNamespace
	}
	return v.Namespace
}

// missing returns what must be said and is not, and what must not be said together. at is
// where the settings stand, with a dot behind it, or "".
func (c *RedisConfig) missing(at string) (texts []string) {
	object := func(bad bool, format string, args ...any) {
		if bad {
			texts = append(texts, at+fmt.Sprintf(format, args...))
		}
	}
	object(len(c.Addresses) == 0, "addresses is missing: host:port of the server")
	beyond := false
	for _, address := range c.Addresses {
		beyond = beyond || !address.loopback()
	}
	object(beyond && c.TLS == nil && !c.Insecure, "tls is missing: without TLS the server is on the loopback (127.0.0.1), unless %sinsecure is true", at)
	object(c.TLS != nil && c.Insecure, "insecure and tls exclude each other")
	if c.TLS != nil {
		object((c.TLS.Certificate == "") != (c.TLS.Key == ""), "tls: certificate and key belong together")
	}
	object(c.Username != "" && c.PasswordFile == "", "password_file is missing: username has a password")
	object(c.SentinelUsername != "" && c.SentinelPasswordFile == "", "sentinel_password_file is missing: sentinel_username has a password")
	object(c.SentinelMaster == "" && c.SentinelPasswordFile != "", "sentinel_password_file belongs to sentinel_master")
	object(c.Cluster && c.SentinelMaster != "", "cluster and sentinel_master exclude each other")
	object(!c.Cluster && c.SentinelMaster == "" && len(c.Addresses) > 1, "addresses: several are those of Sentinels or of a Cluster: say sentinel_master or cluster")
	return texts
}

// options returns what a connection needs. path makes the paths absolute, and name is the
// connection's.
func (c *RedisConfig) options(path func(PathValue) string, name string) conn.Options {
	o := conn.Options{SentinelMaster: c.SentinelMaster, Cluster: c.Cluster, Name: name}
	for _, address := range c.Addresses {
		o.Addresses = append(o.Addresses, string(address))
	}
	if c.PasswordFile != "" {
		o.Credentials = credentialsOf(c.Username, path(c.PasswordFile))
	}
	if c.SentinelPasswordFile != "" {
		o.SentinelCredentials = credentialsOf(c.SentinelUsername, path(c.SentinelPasswordFile))
	}
	if t := c.TLS; t != nil {
		o.TLS = func() (*tls.Config, error) { return t.config(path) }
	}
	return o
}

func credentialsOf(username, file string) func() (string, string, error) {
	return func() (string, string, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", "", err
		}
		password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
		if password == "" || strings.ContainsAny(password, "\r\n") {
			return "", "", fmt.Errorf("%s holds no password: it is one line", file)
		}
		return username, password, nil
	}
}

func (t *RedisTLSConfig) config(path func(PathValue) string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		text, err := os.ReadFile(path(t.CA))
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", path(t.CA))
		}
	}
	if t.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(path(t.Certificate), path(t.Key))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// loadRedis reads a file that holds nothing but the settings of map.redis.
func loadRedis(file string) (*RedisConfig, func(PathValue) string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	c := &RedisConfig{}
	problems := strictyaml.Problems{}
	if err := strictyaml.Decode(file, text, c); err != nil && !errors.As(err, &problems) {
		return nil, nil, err
	}
	if len(problems) == 0 {
		for _, text := range c.missing("") {
			problems = append(problems, strictyaml.Problem{File: file, Text: text})
		}
	}
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return c, func(p PathValue) string {
		if filepath.IsAbs(string(p)) {
			return string(p)
		}
		return filepath.Join(filepath.Dir(file), string(p))
	}, nil
}
