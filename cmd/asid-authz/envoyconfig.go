package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"asid-authz/authz/profile"
	"asid-authz/envoy"
)

// An envoyConfig is what envoy-config is asked for.
type envoyConfig struct {
	envoy.Bootstrap
	config    string
	profile   ProfileConfig
	file      string
	base      string
	part, out string
}

// newEnvoyConfigCommand prints the configuration of the Envoy that asks.
func newEnvoyConfigCommand() *cobra.Command {
	var e envoyConfig
	command := &cobra.Command{
		Use:   "envoy-config",
		Short: "Print the configuration of the Envoy in front, or a part of it, with the reason of each setting",
		Long: `Print the configuration of the Envoy in front, or a part of it, with the reason of
each setting. Without flags it is a complete example for the profile nrl.

It is one file, which Envoy reads once. With --out DIR it is DIR/envoy.yaml and the files
DIR/sds/*.yaml, through which Envoy takes up certificates and CAs that are replaced
while it runs; DIR must be where Envoy finds it.

For an Envoy that exists already, --part prints what belongs into it:
  tls         transport_socket of the listener's filter chain
  hcm         settings of the HttpConnectionManager
  filter      http_filters: ext_authz and the lock behind it
  routes      route_config: a route for each endpoint
  access-log  access_log: one line for each request, with what was decided
  cluster     clusters: asid-authz`,
		Example: `  asid-authz envoy-config --config asid-authz.yaml --server-name api.example.org --out /etc/envoy
  asid-authz envoy-config --part filter --authz unix:/run/asid-authz/authz.sock`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := e.complete(command); err != nil {
				return err
			}
			return e.write(command.OutOrStdout())
		},
	}
	f := command.Flags()
	f.StringVar(&e.config, "config", "", "configuration `file` of asid-authz: profile, base and, if Envoy can dial it as it stands, the address")
	f.StringVar(&e.profile.Name, "profile", "nrl", "`name` of a built-in profile: "+strings.Join(profile.Names(), ", "))
	f.StringVar(&e.file, "profile-file", "", "`file` of a profile of your own")
	f.StringVar(&e.base, "base", "", "`path` that the endpoints stand below, if it is not the profile's")

	f.StringVar(&e.Listen, "listen", "0.0.0.0:8443", "IP `address` and port that clients reach")
	f.StringArrayVar(&e.ServerNames, "server-name", []string{"api.example.org"}, "DNS `name` of the API; again for another one")
	f.StringVar(&e.Certificate, "certificate", "/etc/envoy/tls/server.pem", "PEM `file` of the API's certificate")
	f.StringVar(&e.Key, "key", "/etc/envoy/tls/server.key", "PEM `file` of its key")
	f.StringVar(&e.ClientCA, "client-ca", "/etc/envoy/tls/client-ca.pem", "PEM `file` that clients are verified against: roots and intermediates")
	f.BoolVar(&e.UnverifiedClients, "unverified-clients", false, "leave it to asid-authz alone to verify clients: a bad certificate is answered with an OperationOutcome")

	peerFlags(command, &e.Authz, "authz", "`address` of asid-authz, host:port or unix:PATH; again for another replica")
	f.BoolVar(&e.InsecureAuthz, "authz-insecure", false, "no TLS to an --authz of another machine, because something else guards the way (a service mesh)")
	f.DurationVar(&e.CheckTimeout, "check-timeout", 250*time.Millisecond, "bound of one question to asid-authz")

	peerFlags(command, &e.Upstream, "upstream", "`address` of the API, host:port or unix:PATH; again for another replica (default 127.0.0.1:8080)")
	f.StringVar(&e.Admin, "admin", "unix:/run/envoy/admin.sock", "`address` of Envoy's administration, unix:PATH or a port of the loopback; empty: none")

	f.StringVar(&e.part, "part", "", "print one `part` only: "+strings.Join(envoy.Parts(), ", "))
	f.StringVar(&e.out, "out", "", "`directory` to write to, as Envoy sees it")
	command.MarkFlagsMutuallyExclusive("config", "profile", "profile-file")
	command.MarkFlagsMutuallyExclusive("config", "base")
	command.MarkFlagsMutuallyExclusive("part", "out")
	return command
}

func peerFlags(command *cobra.Command, p *envoy.Peer, name, usage string) {
	f := command.Flags()
	f.StringArrayVar(&p.Addresses, name, nil, usage)
	f.StringVar(&p.CA, name+"-ca", "", "PEM `file` that its certificate is verified against; without: no TLS")
	f.StringVar(&p.Name, name+"-name", "", "DNS `name` that its certificate must be for")
	f.StringVar(&p.Certificate, name+"-certificate", "", "PEM `file` of the certificate that Envoy shows it")
	f.StringVar(&p.Key, name+"-key", "", "PEM `file` of its key")
}

// complete fills in what the flags leave open: from the configuration of asid-authz, or
// with what makes an example.
func (e *envoyConfig) complete(command *cobra.Command) (err error) {
	path := func(p PathValue) string { return string(p) }
	if e.file != "" {
		e.profile = ProfileConfig{File: PathValue(e.file)}
	}
	if command.Flags().Changed("base") {
		e.profile.Base = &e.base
	}
	if e.config != "" {
		c, err := loadConfig(e.config)
		if err != nil {
			return err
		}
		e.profile, path = c.Profile, c.path
		if len(e.Authz.Addresses) == 0 {
			if err := e.dial(c); err != nil {
				return err
			}
		}
	}
	if e.Profile, err = loadProfile(e.profile, path); err != nil {
		return err
	}
	if len(e.Authz.Addresses) == 0 {
		e.example()
	}
	if len(e.Upstream.Addresses) == 0 {
		e.Upstream.Addresses = []string{"127.0.0.1:8080"}
	}
	if e.out != "" {
		if e.out, err = filepath.Abs(e.out); err != nil {
			return err
		}
		e.SecretsDirectory = filepath.Join(e.out, "sds")
	}
	return nil
}

// dial takes the address of asid-authz from its configuration. An address that it
// listens on need not be one that can be dialled.
func (e *envoyConfig) dial(c *Config) error {
	if unix := c.Listen.Unix; unix != nil {
		e.Authz.Addresses = []string{"unix:" + c.path(unix.Path)}
		return nil
	}
	address := string(c.Listen.TCP.Address)
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		return exitError{exitUsage, fmt.Errorf("asid-authz listens on %s, which is no address to dial: say --authz host:port", address)}
	}
	if c.Listen.TCP.TLS != nil && e.Authz.CA == "" {
		return exitError{exitUsage, errors.New("asid-authz takes mutual TLS: say --authz-ca, --authz-name, --authz-certificate and --authz-key")}
	}
	e.Authz.Addresses = []string{address}
	e.InsecureAuthz = e.InsecureAuthz || c.Listen.TCP.Insecure
	return nil
}

// example stands for an asid-authz that nobody has named yet. What was said of its TLS stays.
func (e *envoyConfig) example() {
	e.Authz.Addresses = []string{"asid-authz.example.org:9001"}
	for _, field := range []struct {
		value   *string
		example string
	}{
		{&e.Authz.CA, "/etc/envoy/tls/internal-ca.pem"},
		{&e.Authz.Name, "asid-authz.example.org"},
		{&e.Authz.Certificate, "/etc/envoy/tls/envoy.pem"},
		{&e.Authz.Key, "/etc/envoy/tls/envoy.key"},
	} {
		if *field.value == "" {
			*field.value = field.example
		}
	}
}

func (e *envoyConfig) write(stdout io.Writer) error {
	text, err := e.render()
	if err != nil {
		return exitError{exitUsage, err}
	}
	if e.out == "" {
		_, err = stdout.Write(text)
		return err
	}
	files, err := e.Secrets()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.SecretsDirectory, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := replaceFile(stdout, filepath.Join(e.SecretsDirectory, name), files[name]); err != nil {
			return err
		}
	}
	return replaceFile(stdout, filepath.Join(e.out, "envoy.yaml"), text)
}

func (e *envoyConfig) render() ([]byte, error) {
	if e.part != "" {
		return e.Part(e.part)
	}
	return e.Render()
}

// replaceFile puts a whole file in the place of what is there: Envoy watches for the
// rename, and would not notice a file that is written over.
func replaceFile(stdout io.Writer, name string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil { // no secret: paths alone
		return err
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, name)
	return err
}
