package publish

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"asid-authz/cache/conn"
	"asid-authz/cache/redistest"
)

func connOptions(o *redis.UniversalOptions, cluster bool) conn.Options {
	c := conn.Options{Addresses: o.Addrs, SentinelMaster: o.MasterName, Cluster: cluster, Name: "publish-test",
		Credentials: func() (string, string, error) { return o.Username, o.Password, nil }}
	if o.SentinelPassword != "" {
		c.SentinelCredentials = func() (string, string, error) { return o.SentinelUsername, o.SentinelPassword, nil }
	}
	return c
}

// Before and after a failover, and under the documented users, a map is published to
// whatever server has it, and a replica of that server acknowledges it.
func TestTopologies(t *testing.T) {
	first, second := mapOf(t, entry(t, 1, "AAA", 1)), mapOf(t, entry(t, 1, "BBB", 2))
	test := func(t *testing.T, o conn.Options, failover func() error) {
		p := open(t, o)
		if r := apply(t, p, first); r.Acknowledged < 1 {
			t.Errorf("the first publication: %+v", r)
		}
		if err := failover(); err != nil {
			t.Fatal(err)
		}
		// The publisher's connection ended, or it leads to what is no master any more.
		late := open(t, o)
		expect(t, late, first)
		if r := apply(t, late, second); r.Generation {
			t.Errorf("the edit: %+v", r)
		}
		if _, err := late.Suspend(t.Context(), parseASID(t, "000000000001"), by); err != nil {
			t.Error(err)
		}
		expect(t, late, second)
	}
	t.Run("sentinel", func(t *testing.T) {
		d := redistest.Sentinel(t, redistest.Options{})
		test(t, connOptions(d.ClientOptions(redistest.Publisher), false), func() error { _, err := d.Failover(t.Context()); return err })
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.Cluster(t, redistest.Options{})
		test(t, connOptions(c.ClientOptions(redistest.Publisher), true), func() error { _, err := c.Failover(t.Context(), ns.Manifest()); return err })
	})
}
