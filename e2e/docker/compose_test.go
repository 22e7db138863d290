package docker

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

type composeFile struct {
	Services map[string]struct {
		Image       string
		User        string
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		CapAdd      []string `yaml:"cap_add"`
		SecurityOpt []string `yaml:"security_opt"`
		Privileged  bool
		NetworkMode string `yaml:"network_mode"`
		Volumes     []string
		Ports       []string
		Networks    yaml.Node
	}
	Networks map[string]struct{ Internal bool }
}

func readCompose(t *testing.T) (composeFile, string) {
	t.Helper()
	text, err := os.ReadFile("../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c composeFile
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c, string(text)
}

// Nothing in the deployment runs as root, can write to its image, has a capability or can gain
// one, and only a Redis or a Sentinel has a directory that it may write to.
func TestComposeIsHardened(t *testing.T) {
	c, _ := readCompose(t)
	if len(c.Services) < 9 {
		t.Fatalf("%d services", len(c.Services))
	}
	for name, s := range c.Services {
		if s.User != "65532:65532" || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.CapAdd != nil ||
			!slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.Privileged || s.NetworkMode != "" {
			t.Errorf("%s is not hardened: %+v", name, s)
		}
		for _, v := range s.Volumes {
			if !strings.HasSuffix(v, ":ro") && !writable(name) {
				t.Errorf("%s can write to %s", name, v)
			}
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s is published beyond the loopback: %s", name, port)
			}
		}
	}
}

// One network leads out, and Envoy alone is on it. Nobody else reaches the API.
func TestComposeNetworks(t *testing.T) {
	c, _ := readCompose(t)
	for name, n := range c.Networks {
		if n.Internal == (name == "edge") {
			t.Errorf("network %s: internal is %v", name, n.Internal)
		}
	}
	on := map[string][]string{}
	for name, s := range c.Services {
		for _, part := range s.Networks.Content { // of a list, or the names and settings of a mapping
			if part.Kind == yaml.ScalarNode {
				on[part.Value] = append(on[part.Value], name)
			}
		}
	}
	for network, want := range map[string][]string{
		"edge": {"envoy"}, "decide": {"authz", "envoy"}, "behind": {"api", "envoy"}, "keys": {"authz", "issuer"},
		"state": {"authz", "publisher", "redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3"},
	} {
		if slices.Sort(on[network]); !slices.Equal(on[network], want) {
			t.Errorf("on network %s are %v, want %v", network, on[network], want)
		}
	}
}

// The fixed addresses stand in the file and in the configurations of Redis.
func TestComposeAddresses(t *testing.T) {
	_, text := readCompose(t)
	fixed := map[string]string{}
	for n := 1; n <= redisNodes; n++ {
		fixed[fmt.Sprintf("redis-%d", n)] = Addresses{"S"}.redis(n)
	}
	for n := 1; n <= sentinels; n++ {
		fixed[fmt.Sprintf("sentinel-%d", n)] = Addresses{"S"}.sentinel(n)
	}
	text = strings.ReplaceAll(text, "${E2E_SUBNET:-10.213.7}", "S")
	for name, address := range fixed {
		if !strings.Contains(text, `- "`+name+":"+address+`"`) {
			t.Errorf("extra_hosts has no %s at %s", name, address)
		}
		if !regexp.MustCompile(`(?s)\n  ` + name + `:\n.*?ipv4_address: "` + regexp.QuoteMeta(address) + `"`).MatchString(text) {
			t.Errorf("%s has not the address %s", name, address)
		}
	}
}

// docker-compose 1.29.2 refuses these, or ignores them without a word.
func TestComposeServesBothComposes(t *testing.T) {
	_, text := readCompose(t)
	for _, word := range []string{"\nname:", "\nversion:", "\ninclude:", "\nconfigs:", "!reset", "start_interval", "host_ip", "required:", "post_start", "develop:", "env_file", ":+"} {
		if strings.Contains(text, word) {
			t.Errorf("compose.yaml has %q", word)
		}
	}
	if nested := regexp.MustCompile(`\$\{[^}]*\$\{`).FindString(text); nested != "" {
		t.Errorf("compose.yaml has a nested default: %s", nested)
	}
}
