package docker

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v4"

	"asid-authz/authz/authztest"
	"asid-authz/cache/redistest"
	"asid-authz/e2e/mesh"
)

// The names in the certificates of the deployment. Each container is called by its service's
// name on the networks; what it proves is its part.
const (
	edgeName   = "edge.internal"  // Envoy, when it asks asid-authz and calls the API
	authzName  = "authz.internal" // asid-authz
	apiName    = "api.internal"
	issuerName = "issuer" // of the URL that its documents are fetched from
)

// A Stage is the directory that the containers are given their files from: each sees the one
// of its service and nothing else, so no container holds another's key.
type Stage struct {
	Dir   string
	World *authztest.Minted
	Redis RedisStage

	public    *authztest.CA // what clients verify the edge with
	addresses Addresses
}

// What is shorter than anybody would have it, so that a test need not wait for an hour.
const (
	MaxStaleness = 20 * time.Second // well above what a failover takes
	KeysRefresh  = 30 * time.Second // the least
)

// node is a mapping of a YAML document.
type node = map[string]any

// NewStage writes all that can be written before there is an image: dir/authz, api, issuer,
// publisher, redis-1, redis-2, sentinel-1 to -3 and redis-tls. Envoy's own configuration is printed by
// the image; see [Stage.ConfigureEnvoy].
func NewStage(dir string, world *authztest.Minted, addresses Addresses) (*Stage, error) {
	if len(world.World.Issuers) != 1 {
		return nil, fmt.Errorf("world %s has %d issuers, and there is one container for one", world.Name, len(world.World.Issuers))
	}
	s := &Stage{Dir: dir, World: world, public: authztest.NewCA("Stage Public Authority"), addresses: addresses}
	private := authztest.NewCA("Stage Private Authority")
	issue := func(ca *authztest.CA, name string, uses ...x509.ExtKeyUsage) (pem, key []byte, err error) {
		c, err := ca.Issue(authztest.CertificateSpec{CommonNames: []string{name}, DNSNames: []string{name}, ExtKeyUsages: uses})
		if err != nil {
			return nil, nil, err
		}
		return c.PEM(), c.KeyPEM(), nil
	}
	const server, client = x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	dirs := map[string]map[string][]byte{}
	for _, identity := range []struct {
		dir, file string
		ca        *authztest.CA
		name      string
		use       x509.ExtKeyUsage
	}{
		{"envoy", "server", s.public, world.Authority, server},
		{"envoy", "edge", private, edgeName, client},
		{"authz", "authz", private, authzName, server},
		{"api", "api", private, apiName, server},
		{"issuer", "issuer", private, issuerName, server},
	} {
		pem, key, err := issue(identity.ca, identity.name, identity.use)
		if err != nil {
			return nil, err
		}
		if dirs[identity.dir] == nil {
			dirs[identity.dir] = map[string][]byte{"private-ca.pem": private.PEM()}
		}
		dirs[identity.dir][identity.file+".pem"] = pem
		dirs[identity.dir][identity.file+".key"] = key
	}
	files, err := mesh.WorldFiles(world)
	if err != nil {
		return nil, err
	}
	dirs["envoy"]["client-ca.pem"] = files["client-ca.pem"]
	dirs["publisher"] = map[string][]byte{"map.yaml": files["map.yaml"]}
	delete(files, "map.yaml") // the map is in Redis
	maps.Copy(dirs["authz"], files)
	if dirs["authz"]["crls.pem"], err = world.CRLs(1); err != nil {
		return nil, err
	}
	settings := world.World.Issuers[0]
	if dirs["issuer"]["openid-configuration.json"], err = json.Marshal(node{
		"issuer": settings.Issuer, "jwks_uri": "https://" + issuerName + ":8443/jwks.json",
	}); err != nil {
		return nil, err
	}
	dirs["issuer"]["jwks.json"] = world.Issuers[settings.Name].JWKS()
	if err := s.stageRedis(dirs, addresses); err != nil {
		return nil, err
	}
	for file, settings := range map[string]node{
		"authz/asid-authz.yaml":    s.settings(),
		"publisher/publisher.yaml": s.Redis.client(addresses, redistest.Publisher),
	} {
		dir, name := filepath.Split(file)
		if dirs[filepath.Clean(dir)][name], err = yaml.Marshal(settings); err != nil {
			return nil, err
		}
	}
	for name, files := range dirs {
		if err := s.write(name, files); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// settings returns the configuration of asid-authz.
func (s *Stage) settings() node {
	settings := mesh.WorldSettings(s.World)
	settings["listen"] = node{"tcp": node{"address": "0.0.0.0:9001", "tls": node{
		"certificate": "authz.pem", "key": "authz.key", "client_ca": "private-ca.pem", "client_names": []string{edgeName},
	}}}
	for _, issuer := range settings["issuers"].([]node) {
		issuer["keys"] = node{"discovery": "https://" + issuerName + ":8443", "ca": "private-ca.pem", "refresh": KeysRefresh.String()}
	}
	settings["map"] = node{
		"source": "redis", "redis": s.Redis.client(s.addresses, redistest.Reader), "max_staleness": MaxStaleness.String(),
	}
	settings["trust"] = node{"client_ca": "client-ca.pem", "crl": []string{"crls.pem"}}
	return settings
}

// ConfigureEnvoy writes Envoy's configuration, as the image prints it.
func (s *Stage) ConfigureEnvoy(ctx context.Context, image string) error {
	text, err := Do(ctx, "run", "--rm", "--read-only", "--cap-drop", "ALL", "--volume", filepath.Join(s.Dir, "authz")+":/etc/asid-authz:ro", image,
		"envoy-config", "--config", "/etc/asid-authz/asid-authz.yaml",
		"--listen", "0.0.0.0:8443", "--admin", "127.0.0.1:9901", "--server-name", s.World.Authority,
		"--certificate", "/etc/envoy/server.pem", "--key", "/etc/envoy/server.key", "--client-ca", "/etc/envoy/client-ca.pem",
		"--check-timeout", "5s", // everything shares the processors of one machine, and starts and ends all the time
		"--authz", "authz:9001", "--authz-ca", "/etc/envoy/private-ca.pem", "--authz-name", authzName,
		"--authz-certificate", "/etc/envoy/edge.pem", "--authz-key", "/etc/envoy/edge.key",
		"--upstream", "api:8443", "--upstream-ca", "/etc/envoy/private-ca.pem", "--upstream-name", apiName,
		"--upstream-certificate", "/etc/envoy/edge.pem", "--upstream-key", "/etc/envoy/edge.key")
	if err != nil {
		return err
	}
	return s.write("envoy", map[string][]byte{"envoy.yaml": []byte(text + "\n")})
}

// write writes a directory that a container reads as a user of another number: what keeps
// the keys from others is Dir itself, which is this user's alone.
func (s *Stage) write(name string, files map[string][]byte) error {
	dir := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// Whatever the umask is.
	mode, fileMode := os.FileMode(0o755), os.FileMode(0o644)
	if writable(name) {
		mode, fileMode = 0o777, 0o666
	}
	if err := os.Chmod(dir, mode); err != nil {
		return err
	}
	for file, content := range files {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, content, fileMode); err != nil {
			return err
		}
		if err := os.Chmod(path, fileMode); err != nil {
			return err
		}
	}
	return nil
}

// Replace replaces a file of a container as deployments do: by a rename in the directory that
// is mounted, so that nobody ever reads half of it.
func (s *Stage) Replace(service, file string, content []byte) error {
	next := file + ".next"
	if err := s.write(service, map[string][]byte{next: content}); err != nil {
		return err
	}
	return os.Rename(filepath.Join(s.Dir, service, next), filepath.Join(s.Dir, service, file))
}

// Roots returns what clients verify the edge with.
func (s *Stage) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.public.Certificate)
	return pool
}

// password returns one that nobody can guess and that needs no quoting anywhere.
func password() string { return rand.Text() }
