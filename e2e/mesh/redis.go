package mesh

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/redis/go-redis/v9"
	"go.yaml.in/yaml/v4"

	"asid-authz/cache/redistest"
)

// A Redis is what the map lies in: a deployment of package redistest.
type Redis interface {
	ClientOptions(user string) *redis.UniversalOptions
	PasswordFile(user string) string
	Passwords() map[string]string // by user
}

// redisSettings returns how that user finds the map.
func redisSettings(r Redis, user string) node {
	options := r.ClientOptions(user)
	settings := node{"addresses": options.Addrs, "username": user, "password_file": r.PasswordFile(user)}
	if options.MasterName != "" {
		settings["sentinel_master"] = options.MasterName
		settings["sentinel_username"] = options.SentinelUsername
		settings["sentinel_password_file"] = r.PasswordFile(options.SentinelUsername)
	}
	if options.IsClusterMode {
		settings["cluster"] = true
	}
	return settings
}

// mapSettings returns where an asid-authz has its map from.
func (m *Mesh) mapSettings() node {
	settings := node{"source": "file", "file": "map.yaml", "break_glass": "break-glass.yaml"}
	if r := m.options.Redis; r != nil {
		delete(settings, "file")
		settings["source"], settings["redis"] = "redis", redisSettings(r, redistest.Reader)
	}
	if m.options.MaxStaleness != 0 {
		settings["max_staleness"] = m.options.MaxStaleness.String()
	}
	return settings
}

// writePublisher writes the file that `asid-authz map --redis` takes.
func (m *Mesh) writePublisher() error {
	text, err := yaml.Marshal(redisSettings(m.options.Redis, redistest.Publisher))
	if err != nil {
		return err
	}
	return writeFiles(m.dir, map[string][]byte{filepath.Base(m.Publisher()): text})
}

// Publisher returns the path of the file that says, to `asid-authz map --redis`, where the
// map lies.
func (m *Mesh) Publisher() string { return m.Path("publisher.yaml") }

// Map runs `asid-authz map` with those arguments on the map in Redis, and returns what it
// printed. That is also among the outputs of the mesh.
func (m *Mesh) Map(ctx context.Context, args ...string) ([]byte, error) {
	out, errs, err := m.programs.run(ctx, append(append([]string{"map"}, args...), "--redis", m.Publisher())...)
	return out, errors.Join(err, appendFile(m.Path("map.log"), slices.Concat(out, errs)))
}

// publish makes the map file the map in Redis, if that is where the map is.
func (m *Mesh) publish(ctx context.Context) error {
	if m.options.Redis == nil {
		return nil
	}
	_, err := m.Map(ctx, "apply", m.Path("map.yaml"), "--yes", "--max-removals", "100%", "--by", "mesh")
	return err
}
