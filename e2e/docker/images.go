package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Images are what the deployment runs, by their names, each with where it comes from.
type Images struct {
	Go, Envoy, Redis Image
}

// An Image is one that somebody else made, or one that stands in for it.
type Image struct {
	Name   string
	Origin string // public, or what a stand-in was made of
}

func (i Image) String() string { return fmt.Sprintf("%s (%s)", i.Name, i.Origin) }

// PublicImages are what people run. Docker pulls what is not there yet.
func PublicImages() Images {
	return Images{
		Go:    Image{"golang:1.26", "public"},
		Envoy: Image{"envoyproxy/envoy:v1.40.0", "public"},
		Redis: Image{"redis:8", "public"},
	}
}

// Programs are the ones that stand-ins are made of, by their paths.
type Programs struct {
	Envoy, EnvoyVersion string
	Redis               string // redis-server or valkey-server
	RedisName           string // redis or valkey
	RedisVersion        string
}

// StandInGo makes an image with this machine's Go in it: its own version, with a shell and
// the CA certificates that this machine trusts, because the way to the module proxy may lead
// through somebody who has one of those.
func StandInGo(ctx context.Context) (Image, error) {
	env, err := goEnv(ctx, "GOVERSION", "GOROOT", "GOPROXY", "GOSUMDB")
	if err != nil {
		return Image{}, err
	}
	image := Image{"standin/go:" + strings.TrimPrefix(env["GOVERSION"], "go"), env["GOVERSION"] + " of this machine"}
	if made(ctx, image) {
		return image, nil
	}
	r := newRootfs()
	r.trees = append(r.trees, tree{at: "/usr/local/go", from: env["GOROOT"], skip: []string{"test", "api", "doc"}})
	shell, err := exec.LookPath("sh")
	if err != nil {
		return Image{}, err
	}
	if err := r.program(ctx, "/bin/sh", shell); err != nil {
		return Image{}, err
	}
	certificates, err := caCertificates()
	if err != nil {
		return Image{}, err
	}
	r.files["/etc/ssl/certs/ca-certificates.crt"] = certificates
	return image, r.load(ctx, image.Name,
		"ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOTOOLCHAIN=local GOPROXY="+env["GOPROXY"]+" GOSUMDB="+env["GOSUMDB"])
}

// StandIns makes images of Envoy and Redis, which take the places of the public ones: the
// programs lie where those have them.
func StandIns(ctx context.Context, p Programs) (envoy, redis Image, err error) {
	envoy = Image{"standin/envoy:" + p.EnvoyVersion, "Envoy " + p.EnvoyVersion + " of the other tests"}
	if !made(ctx, envoy) {
		r := newRootfs()
		if err := r.program(ctx, "/usr/local/bin/envoy", p.Envoy); err != nil {
			return envoy, redis, err
		}
		if err := r.load(ctx, envoy.Name); err != nil {
			return envoy, redis, err
		}
	}
	redis = Image{"standin/" + p.RedisName + ":" + p.RedisVersion, p.RedisName + " " + p.RedisVersion + " of the other tests"}
	if made(ctx, redis) {
		return envoy, redis, nil
	}
	r := newRootfs()
	if err := r.program(ctx, "/usr/local/bin/redis-server", p.Redis); err != nil {
		return envoy, redis, err
	}
	return envoy, redis, r.load(ctx, redis.Name)
}

// made reports whether the image is there already. A stand-in's name says what it was made
// of, so one that is there is the one that would be made.
func made(ctx context.Context, i Image) bool {
	_, err := Do(ctx, "image", "inspect", "--format", "{{.Id}}", i.Name)
	return err == nil
}

func goEnv(ctx context.Context, names ...string) (map[string]string, error) {
	out, err := run(ctx, nil, "go", append([]string{"env"}, names...)...)
	if err != nil {
		return nil, err
	}
	values := strings.Split(out, "\n")
	if len(values) != len(names) {
		return nil, fmt.Errorf("go env: %q", out)
	}
	env := map[string]string{}
	for i, name := range names {
		env[name] = values[i]
	}
	return env, nil
}

// caCertificates returns the bundle of this machine.
func caCertificates() (string, error) {
	for _, path := range []string{
		os.Getenv("SSL_CERT_FILE"),
		"/etc/ssl/certs/ca-certificates.crt", // Debian
		"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora
		"/etc/ssl/cert.pem",                  // Alpine
	} {
		if path != "" && exists(path) {
			return path, nil
		}
	}
	return "", errors.New("this machine has no bundle of CA certificates that the builder could use")
}

// LinuxOnly returns an error of one line where no stand-ins can be made: the programs of
// another system do not run in Linux containers.
func LinuxOnly() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("stand-in images are made of this machine's programs, and those of %s do not run in a container: use the public ones", runtime.GOOS)
	}
	return nil
}
