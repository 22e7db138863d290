package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/cache"
)

// A heldMap is where a generation has its map from.
type heldMap interface {
	authz.MapSource
	state() mapState
}

// A mapState is what gauges and people ask of a held map.
type mapState struct {
	version   uint64 // 0: there is no map
	systems   int
	confirmed time.Time
	replica   *cache.ReplicaStatus // nil: it is not from Redis
}

// A fileMap is the map of a file.
type fileMap struct{ *cache.Memory }

func (m fileMap) state() mapState {
	s := m.Status()
	return mapState{version: s.Version, systems: s.Systems, confirmed: s.Confirmed}
}

// A redisMap is the map of a Redis server. It is the process's: every generation shares it.
type redisMap struct{ *cache.Replica }

func (m redisMap) state() mapState {
	s := m.Status()
	return mapState{version: s.Version, systems: s.Systems, confirmed: s.Confirmed, replica: &s}
}

// useMap gives g the map that its configuration names, or the one that previous has.
func (g *generation) useMap(previous *generation, log *zap.Logger) error {
	c := g.config.Map
	if previous != nil && previous.config.Map.Source != c.Source {
		return errors.New("map.source cannot change while the service runs: restart it")
	}
	if c.Source == "redis" {
		if previous != nil {
			g.interactions = previous.interactions
			return nil
		}
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		options := c.Redis.options(g.config.path, "asid-authz-"+clientName(host))
		if err := options.Validate(); err != nil {
			return fmt.Errorf("map.redis: %w", err)
		}
		// The files are read for every connection. One that is missing from the beginning is
		// a mistake in the configuration, which nothing would say as clearly later.
		for _, credentials := range []func() (string, string, error){options.Credentials, options.SentinelCredentials} {
			if credentials != nil {
				if _, _, err := credentials(); err != nil {
					return fmt.Errorf("map.redis: %w", err)
				}
			}
		}
		if options.TLS != nil {
			if _, err := options.TLS(); err != nil {
				return fmt.Errorf("map.redis.tls: %w", err)
			}
		}
		g.interactions = redisMap{cache.NewReplica(log, options, c.Redis.Namespace.orDefault())}
		return nil
	}
	path := g.config.path(c.File)
	held, shared := fileMap{}, false
	if previous != nil && previous.config.path(previous.config.Map.File) == path {
		held, shared = previous.interactions.(fileMap)
	}
	if !shared {
		held = fileMap{cache.NewMemory(log)}
	}
	g.interactions = held
	g.files = append(g.files, &watchedFile{what: "map", path: path, shared: shared, ownerLogs: true, load: func(text []byte, now time.Time) (bool, error) {
		return held.Load(path, text, now)
	}})
	return nil
}

// clientName returns what of a host's name may stand in a connection's.
func clientName(host string) string {
	name := []byte(host)
	for i, c := range name {
		if c <= ' ' || c > '~' {
			name[i] = '-'
		}
	}
	return string(name)
}

// follow keeps a map from Redis current until ctx ends. For one from a file, the watcher
// does.
func (g *generation) follow(ctx context.Context) {
	if m, is := g.interactions.(redisMap); is {
		m.Run(ctx)
	}
}

// await returns when g has a map, or says why there is none for so long. A command that
// looks at one once needs it; the service does not wait.
func (g *generation) await(ctx context.Context, patience time.Duration) error {
	m, is := g.interactions.(redisMap)
	if !is {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if held, _, _ := m.Current(); held != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no map from Redis after %v: %w", patience, m.Status().Err)
		case <-tick.C:
		}
	}
}
