package cache_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
	"asid-authz/cache/publish"
	"asid-authz/cache/redistest"
)

// A deployment is servers that hold a map, of whatever topology.
type deployment struct {
	name    string
	options func(user string) *redis.UniversalOptions
	// master returns the server that holds the map now.
	master func(ctx context.Context) (*redistest.Server, error)

	sentinel *redistest.SentinelDeployment // or nil
	cluster  *redistest.ClusterDeployment  // or nil
}

var manifest = layout.DefaultNamespace.Manifest()

func standalone(t *testing.T, options redistest.Options) *deployment {
	s := redistest.Standalone(t, options)
	return &deployment{name: "standalone", options: s.ClientOptions,
		master: func(context.Context) (*redistest.Server, error) { return s, nil }}
}

func sentinel(t *testing.T, options redistest.Options) *deployment {
	d := redistest.Sentinel(t, options)
	return &deployment{name: "sentinel", options: d.ClientOptions, master: d.Primary, sentinel: d}
}

func cluster(t *testing.T, options redistest.Options) *deployment {
	d := redistest.Cluster(t, options)
	return &deployment{name: "cluster", options: d.ClientOptions, cluster: d,
		master: func(ctx context.Context) (*redistest.Server, error) { return d.NodeOf(ctx, manifest) }}
}

// conn returns what a connection needs as one of the documented users.
func (d *deployment) conn(user string) conn.Options {
	o := d.options(user)
	c := conn.Options{Addresses: o.Addrs, SentinelMaster: o.MasterName, Cluster: o.IsClusterMode, Name: "test-" + user,
		Credentials: func() (string, string, error) { return o.Username, o.Password, nil }}
	if o.SentinelUsername != "" {
		c.SentinelCredentials = func() (string, string, error) { return o.SentinelUsername, o.SentinelPassword, nil }
	}
	return c
}

// at returns what a connection needs to a server behind that address.
func (d *deployment) at(user, address string) conn.Options {
	c := d.conn(user)
	c.Addresses, c.SentinelMaster, c.SentinelCredentials, c.Cluster = []string{address}, "", nil, false
	return c
}

// admin returns a client of the server that holds the map, which may do everything.
func (d *deployment) admin(t *testing.T) *redis.Client {
	t.Helper()
	s, err := d.master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Admin()
}

// publish publishes the content of a map file, whatever is there.
func (d *deployment) publish(t *testing.T, text string) publish.Result {
	t.Helper()
	result, err := d.tryToPublish(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (d *deployment) tryToPublish(t *testing.T, text string) (result publish.Result, err error) {
	t.Helper()
	m := decoded(t, text)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := publish.Open(ctx, d.conn(redistest.Publisher), layout.DefaultNamespace)
	if err != nil {
		return result, err
	}
	defer p.Close()
	state, err := p.Read(ctx)
	if err != nil {
		return result, err
	}
	plan := publish.NewPlan(state, m)
	plan.Repair = len(state.Damage) > 0
	return p.Apply(ctx, plan, meta)
}

// replicas returns the servers that follow the one that holds the map.
func (d *deployment) replicas(t *testing.T) (all []*redistest.Server) {
	t.Helper()
	var err error
	if d.sentinel != nil {
		all, err = d.sentinel.Replicas(t.Context())
	} else {
		all, err = d.cluster.ReplicasOf(t.Context(), manifest)
	}
	if err != nil || len(all) == 0 {
		t.Fatalf("%d replicas: %v", len(all), err)
	}
	return all
}

// failover makes another server the one that holds the map, and nothing is lost.
func (d *deployment) failover(t *testing.T) {
	t.Helper()
	var err error
	if d.sentinel != nil {
		_, err = d.sentinel.Failover(t.Context())
	} else {
		_, err = d.cluster.Failover(t.Context(), manifest)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// demote makes another server the one that holds the map, nothing is lost, and the one that
// held it has no link to the other: it goes on answering what it knows. It returns that one.
func (d *deployment) demote(t *testing.T) *redistest.Server {
	t.Helper()
	var old *redistest.Server
	var err error
	if d.sentinel != nil {
		old, err = d.sentinel.Demote(t.Context())
	} else {
		old, err = d.cluster.Demote(t.Context(), manifest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return old
}

// awaitFailover waits until another server than old holds the map.
func (d *deployment) awaitFailover(t *testing.T, old *redistest.Server) {
	t.Helper()
	var err error
	if d.sentinel != nil {
		_, err = d.sentinel.AwaitFailover(t.Context(), old)
	} else {
		_, err = d.cluster.AwaitFailover(t.Context(), manifest, old)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// lose kills the server that holds the map when nobody has what was written since, and
// waits until another one holds the map: without that. It returns the one that was killed.
func (d *deployment) lose(t *testing.T, write func()) *redistest.Server {
	t.Helper()
	old, err := d.master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	replicas := d.replicas(t)
	for _, r := range replicas {
		if err := r.CutReplication(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write()
	d.hurry(t, true)
	old.Kill()
	for _, r := range replicas {
		if err := r.JoinReplication(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.awaitFailover(t, old)
	d.hurry(t, false)
	return old
}

// hurry has those who watch the servers call one that dies down at once, or ends that.
func (d *deployment) hurry(t *testing.T, on bool) {
	t.Helper()
	var watchers interface {
		Hurry(context.Context) error
		Calm(context.Context) error
	} = d.cluster
	if d.sentinel != nil {
		watchers = d.sentinel
	}
	set := watchers.Calm
	if on {
		set = watchers.Hurry
	}
	if err := set(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// replicated waits until a replica of the server has what was published: a failover before
// that loses it, which is another fault.
func (d *deployment) replicated(t *testing.T) {
	t.Helper()
	admin := d.admin(t)
	until(t, "a replica has what was published", func() bool {
		p := admin.Pipeline()
		p.Set(t.Context(), "{asid-authz}:probe", "x", 0) // WAIT is about the connection's own writes
		n := p.Do(t.Context(), "WAIT", 1, 1000)
		if _, err := p.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		acknowledged, _ := n.Int()
		return acknowledged > 0
	})
}
