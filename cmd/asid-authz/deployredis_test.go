package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const kubernetes = "../../deploy/kubernetes/"

// A manifest is what the tests read of one: of a Deployment, a CronJob or a patch onto one,
// and of a NetworkPolicy.
type manifest struct {
	Spec struct {
		Template    podTemplate
		JobTemplate struct {
			Spec struct{ Template podTemplate }
		} `yaml:"jobTemplate"`
		Egress []struct {
			Ports []struct {
				Port any
			}
		}
	}
}

type podTemplate struct {
	Spec struct {
		Containers []container
		Volumes    []volume
	}
}

type container struct {
	Name   string
	Args   []string
	Env    []struct{ Name string }
	Mounts []mount `yaml:"volumeMounts"`
}

type mount struct {
	Name     string
	Path     string `yaml:"mountPath"`
	ReadOnly bool   `yaml:"readOnly"`
	Patch    string `yaml:"$patch"`
}

type volume struct {
	Name      string
	Patch     string `yaml:"$patch"`
	ConfigMap *struct {
		Name string
	} `yaml:"configMap"`
	Secret *struct {
		Name string `yaml:"secretName"`
	}
	Projected *struct {
		Sources []struct {
			Secret struct{ Name string }
		}
	}
}

// manifestOf reads files, the later ones of which are patches onto the first.
func manifestOf(t *testing.T, files ...string) (all []manifest) {
	t.Helper()
	for _, file := range files {
		for d := yaml.NewDecoder(bytes.NewReader([]byte(readText(t, kubernetes+file)))); ; {
			var m manifest
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, m)
		}
	}
	return all
}

// A pod is what one container of it finds at which path, and what its secrets are called.
type pod struct {
	container container
	mounts    map[string]string // path to volume
	secrets   []string          // of every container
	ports     []string          // that it may connect to
}

func podOf(t *testing.T, name string, files ...string) pod {
	t.Helper()
	p := pod{mounts: map[string]string{}}
	sources := map[string][]string{} // of the volumes
	for _, m := range manifestOf(t, files...) {
		for _, template := range []podTemplate{m.Spec.Template, m.Spec.JobTemplate.Spec.Template} {
			for _, c := range template.Spec.Containers {
				if c.Name != name {
					continue
				}
				p.container = c
				for _, at := range c.Mounts {
					if at.Patch == "delete" {
						delete(p.mounts, at.Path)
						continue
					}
					if !at.ReadOnly && strings.HasPrefix(at.Path, "/etc/") {
						t.Errorf("%s: %s can be written to", files, at.Path)
					}
					p.mounts[at.Path] = at.Name
				}
			}
			for _, v := range template.Spec.Volumes {
				switch {
				case v.Patch == "delete":
					delete(sources, v.Name)
				case v.Secret != nil:
					sources[v.Name] = []string{v.Secret.Name}
				case v.Projected != nil:
					for _, s := range v.Projected.Sources {
						sources[v.Name] = append(sources[v.Name], s.Secret.Name)
					}
				default:
					sources[v.Name] = nil
				}
			}
		}
		for _, rule := range m.Spec.Egress {
			for _, port := range rule.Ports {
				p.ports = append(p.ports, fmt.Sprint(port.Port))
			}
		}
	}
	for at, v := range p.mounts {
		if _, there := sources[v]; !there {
			t.Errorf("%s: nothing is mounted at %s: there is no volume %s", files, at, v)
		}
	}
	p.secrets = slices.Concat(slices.Collect(maps.Values(sources))...)
	return p
}

// finds expects the files to lie where something is mounted.
func (p pod) finds(t *testing.T, files ...PathValue) {
	t.Helper()
	for _, file := range files {
		if file != "" && p.mounts[path.Dir(string(file))] == "" {
			t.Errorf("nothing is mounted where %s should be", file)
		}
	}
}

// reaches expects the pod to be let to Redis, and Redis' secrets to be where c says, and
// in docs/kubernetes.md.
func (p pod) reaches(t *testing.T, c *RedisConfig) {
	t.Helper()
	for _, address := range c.Addresses {
		_, port, err := net.SplitHostPort(string(address))
		if err != nil || !slices.Contains(p.ports, port) {
			t.Errorf("the NetworkPolicy lets nobody to %s: %v", address, err)
		}
	}
	if c.SentinelMaster != "" && !slices.Contains(p.ports, "6379") {
		t.Error("the NetworkPolicy lets nobody to the server that the Sentinels name")
	}
	files := []PathValue{c.PasswordFile, c.SentinelPasswordFile, c.TLS.CA, c.TLS.Certificate, c.TLS.Key}
	p.finds(t, files...)
	documented := readText(t, "../../docs/kubernetes.md")
	for _, file := range files {
		if !strings.Contains(documented, "`"+path.Base(string(file))+"`") {
			t.Errorf("docs/kubernetes.md says of no Secret that it holds %s", path.Base(string(file)))
		}
	}
	for _, secret := range p.secrets {
		if !strings.Contains(documented, "| `"+secret+"` |") {
			t.Errorf("docs/kubernetes.md has no Secret %s", secret)
		}
	}
}

var shapes = map[string][]string{
	"fleet":   {"base/deployment.yaml", "fleet/fleet.yaml", "fleet/networkpolicy.yaml"},
	"sidecar": {"base/deployment.yaml", "sidecar/sidecar.yaml", "sidecar/networkpolicy.yaml"},
}

// TestDeployedRedis: the map of both shapes is in Redis, and the service is let to it and
// finds what it needs for it; the publisher too, whose secrets are its own.
func TestDeployedRedis(t *testing.T) {
	writes, _, err := loadRedis(kubernetes + "publisher/publisher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	publisher := podOf(t, "asid-authz-publisher", "publisher/cronjob.yaml", "publisher/networkpolicy.yaml")
	publisher.reaches(t, writes)
	for shape, files := range shapes {
		c, err := loadConfig(kubernetes + shape + "/asid-authz.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if c.Map.Redis == nil {
			t.Errorf("%s: the map is not in Redis", shape)
			continue
		}
		reads, p := c.Map.Redis, podOf(t, "asid-authz", files...)
		p.reaches(t, reads)
		p.finds(t, PathValue(c.Trust.ClientCA))
		if !slices.Equal(reads.Addresses, writes.Addresses) || reads.SentinelMaster != writes.SentinelMaster || reads.Namespace.orDefault() != writes.Namespace.orDefault() {
			t.Errorf("%s reads another map than the publisher writes", shape)
		}
		if reads.Username == writes.Username {
			t.Errorf("%s reads as the user that may write", shape)
		}
		for _, secret := range publisher.secrets {
			if slices.Contains(p.secrets, secret) {
				t.Errorf("%s holds the publisher's Secret %s", shape, secret)
			}
		}
	}
}

// TestDeployedMapFile: with the component map-file, and the line that it says, a shape has
// its map in a file, and nothing of Redis.
func TestDeployedMapFile(t *testing.T) {
	line := regexp.MustCompile("`(map: [^`]*)`").FindStringSubmatch(readText(t, kubernetes+"map-file/kustomization.yaml"))
	if line == nil {
		t.Fatal("the component does not say what the configuration says with it")
	}
	for shape, files := range shapes {
		text := regexp.MustCompile(`(?m)^map:\n(  .*\n)+`).ReplaceAllLiteralString(readText(t, kubernetes+shape+"/asid-authz.yaml"), line[1]+"\n")
		c, err := decodeConfig(shape, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		p := podOf(t, "asid-authz", append(files, "map-file/deployment.yaml")...)
		if p.finds(t, c.Map.File); c.Map.File == "" || c.Map.Redis != nil {
			t.Errorf("%s: the map is not in a file", shape)
		}
		if i := slices.IndexFunc(p.secrets, func(s string) bool { return strings.Contains(s, "redis") }); i >= 0 {
			t.Errorf("%s still needs the Secret %s", shape, p.secrets[i])
		}
	}
}

// TestDeployedPublisher: the job of the manifests publishes a map, and says for whom and why.
func TestDeployedPublisher(t *testing.T) {
	dir := t.TempDir()
	redis, _ := redisFile(t, dir)
	p := podOf(t, "asid-authz-publisher", "publisher/cronjob.yaml")
	replace := []string{"/etc/asid-authz-publisher/publisher.yaml", redis,
		"/etc/asid-authz-publisher/map.yaml", filepath.Join(kubernetes, "publisher", "map.yaml")}
	var settings struct {
		Generators []struct {
			Literals []string
		} `yaml:"configMapGenerator"`
	}
	if err := yaml.Unmarshal([]byte(readText(t, kubernetes+"publisher/kustomization.yaml")), &settings); err != nil {
		t.Fatal(err)
	}
	for _, literal := range settings.Generators[0].Literals {
		name, value, _ := strings.Cut(literal, "=")
		replace = append(replace, "$("+strings.ToUpper(name)+")", value)
	}
	var args []string
	for _, arg := range p.container.Args {
		args = append(args, strings.NewReplacer(replace...).Replace(arg))
	}
	for _, want := range []string{"published version ", "no difference to version "} { // a job that is tried again changes nothing
		if code, stdout, stderr := command(t, args...); code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("asid-authz %q: exit code %d, %s%s; want %q", args, code, stdout, stderr, want)
		}
	}
	code, history, _ := command(t, "map", "history", "--redis", redis)
	if code != exitOK || !strings.Contains(history, `platform-team  "first map"`) {
		t.Errorf("the history is\n%s", history)
	}
}
