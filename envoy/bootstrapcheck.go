package envoy

import (
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"asid-authz/authz"
)

// check returns everything that is wrong with b.
func (b Bootstrap) check() error {
	var all []error
	object := func(what string, err error) {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", what, err))
		}
	}
	for _, problem := range b.Profile.Validate() {
		object("profile", problem)
	}
	if _, err := dialectNamed(b.Profile.Dialect); err != nil {
		object("profile", err)
	}
	if host, err := checkTCP(b.Listen); err != nil {
		object("listen", err)
	} else if net.ParseIP(host) == nil {
		object("listen", fmt.Errorf("%s is no IP address", authz.Excerpt(host)))
	}
	if len(b.ServerNames) == 0 {
		object("server names", errors.New("at least one is needed: without SNI and host anybody's name would do"))
	}
	for i, name := range b.ServerNames {
		if !isDNSName(name) || slices.Contains(b.ServerNames[:i], name) {
			object("server names", fmt.Errorf("%s is no lower-case DNS name without wildcard, or stands twice", authz.Excerpt(name)))
		}
	}
	object("certificate", checkFile(b.Certificate))
	object("key", checkFile(b.Key))
	object("client CA", checkFile(b.ClientCA))
	if b.CheckTimeout != 0 && (b.CheckTimeout < 20*time.Millisecond || b.CheckTimeout > 5*time.Second) {
		object("check timeout", fmt.Errorf("%s is not between 20ms and 5s", b.CheckTimeout))
	}
	for _, err := range b.Authz.check() {
		object("asid-authz", err)
	}
	if b.Authz.CA != "" && b.InsecureAuthz {
		object("asid-authz", errors.New("TLS and insecure exclude each other"))
	}
	if b.Authz.CA != "" && b.Authz.Certificate == "" {
		object("asid-authz", errors.New("a CA without a certificate for Envoy: asid-authz must be able to refuse whoever is not this Envoy"))
	}
	if b.Authz.CA == "" && !b.InsecureAuthz && slices.ContainsFunc(b.Authz.Addresses, func(a string) bool { return !isLocal(a) }) {
		object("asid-authz", errors.New("an address that is not of this machine needs TLS: CA, name, certificate and key"))
	}
	for _, err := range b.Upstream.check() {
		object("upstream", err)
	}
	if b.Admin != "" {
		if err := checkAddress(b.Admin); err != nil {
			object("admin", err)
		} else if !isLocal(b.Admin) {
			object("admin", errors.New("the address is not of this machine: whoever reaches it can stop Envoy"))
		}
	}
	if b.SecretsDirectory != "" {
		object("secrets directory", checkFile(b.SecretsDirectory))
	}
	return errors.Join(all...)
}

func (p Peer) check() (all []error) {
	if len(p.Addresses) == 0 {
		all = append(all, errors.New("an address is missing"))
	}
	sockets := 0
	for _, a := range p.Addresses {
		if err := checkAddress(a); err != nil {
			all = append(all, err)
		}
		if strings.HasPrefix(a, unixPrefix) {
			sockets++
		}
	}
	if sockets > 0 && (sockets < len(p.Addresses) || p.CA != "" || p.Name != "" || p.Certificate != "" || p.Key != "") {
		all = append(all, errors.New("a Unix socket stands alone: without TCP addresses and without TLS"))
	}
	if (p.Certificate == "") != (p.Key == "") {
		all = append(all, errors.New("certificate and key belong together"))
	}
	if (p.CA == "") != (p.Name == "") {
		all = append(all, errors.New("CA and name belong together: a CA certifies many, and a name is proved by nothing else"))
	}
	if p.CA == "" && p.Certificate != "" {
		all = append(all, errors.New("a certificate without a CA: without one there is no TLS"))
	}
	if p.Name != "" && !isDNSName(p.Name) {
		all = append(all, fmt.Errorf("%s is no lower-case DNS name without wildcard", authz.Excerpt(p.Name)))
	}
	for _, file := range []string{p.CA, p.Certificate, p.Key} {
		if file == "" {
			continue
		}
		if err := checkFile(file); err != nil {
			all = append(all, err)
		}
	}
	return all
}

func checkAddress(a string) error {
	if file, is := strings.CutPrefix(a, unixPrefix); is {
		if len(file) > maxSocketPath {
			return fmt.Errorf("the path of a Unix socket has at most %d bytes", maxSocketPath)
		}
		return checkFile(file)
	}
	_, err := checkTCP(a)
	return err
}

// maxSocketPath is what fits into Linux's sockaddr_un, with the NUL at its end.
const maxSocketPath = 107

func checkTCP(a string) (host string, err error) {
	host, port, err := net.SplitHostPort(a)
	if err != nil || net.ParseIP(host) == nil && !isDNSName(host) {
		return "", fmt.Errorf("%s is not host:port", authz.Excerpt(a))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return "", fmt.Errorf("%s has no port between 1 and 65535", authz.Excerpt(a))
	}
	return host, nil
}

// isLocal reports whether an address that was checked is of this machine alone.
func isLocal(a string) bool {
	if strings.HasPrefix(a, unixPrefix) {
		return true
	}
	host, _, _ := net.SplitHostPort(a)
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// checkFile accepts an absolute path: a relative one would mean another file in another
// directory that Envoy is started from.
func checkFile(file string) error {
	switch {
	case file == "":
		return errors.New("a path is missing")
	case !path.IsAbs(file):
		return fmt.Errorf("%s is not an absolute path", authz.Excerpt(file))
	case strings.ContainsFunc(file, func(c rune) bool { return c < 0x20 || c == 0x7f || c == '\uFFFD' }):
		return fmt.Errorf("%s holds a control character, or is not UTF-8", authz.Excerpt(file))
	}
	return nil
}

var dnsName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

func isDNSName(s string) bool { return len(s) <= 253 && dnsName.MatchString(s) }
