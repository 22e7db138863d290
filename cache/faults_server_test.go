package cache_test

import (
	"strings"
	"time"

	"asid-authz/authz"
	"asid-authz/cache"
	"asid-authz/cache/redistest"
)

// serverFaults are those of the server and of the way to it; what lies there is whole.
var serverFaults = []fault{
	{"Redis killed, and started again with its data", everywhere, 0, same, rises, itself, func(s *stage) {
		dump := s.dump()
		s.server.Kill()
		s.ages()
		s.must(s.server.Restart(s.t.Context(), dump))
		s.young()
		s.loaded(1)
	}},
	{"Redis frozen (SIGSTOP)", everywhere, 0, same, rises, itself, func(s *stage) {
		s.must(s.server.Freeze())
		s.ages()
		s.must(s.server.Thaw())
		s.young()
		s.loaded(1)
	}},
	{"Redis restarted, and still loading (LOADING; in a Cluster CLUSTERDOWN)", everywhere, 0, same, rises, itself, func(s *stage) {
		s.must(s.server.KillIntoLoading(s.t.Context()))
		s.ages()
		isLoading := func(r *cache.Replica) func() bool {
			return func() bool {
				err := r.Status().Err // a node that has no slots yet looks at these first
				return err != nil && (strings.Contains(err.Error(), "LOADING ") || s.d.cluster != nil && strings.Contains(err.Error(), "CLUSTERDOWN "))
			}
		}
		until(s.t, "it is told that the server is loading", isLoading(s.r))
		if status := s.r.Status(); status.Regressed || status.Incomplete {
			s.t.Errorf("a server that is loading says nothing about what is published: %+v", status)
		}
		another := s.another()
		until(s.t, "one that starts is told the same", isLoading(another))
		if m, _, absent := another.Current(); m != nil || absent != authz.MapUnavailable {
			s.t.Errorf("one that starts holds a map: %v (%s)", m != nil, absent)
		}
		s.must(s.server.FinishLoading(s.t.Context()))
		s.young()
		s.loaded(1)
		until(s.t, "one that started has the map", func() bool { return another.Status().Version == s.r.Status().Version })
	}},
	{"the network lets nothing through, and closes nothing", everywhere, proxied, same, rises, itself, func(s *stage) {
		s.server.Proxy().Partition()
		s.ages()
		s.server.Proxy().Heal()
		s.young()
		s.loaded(1)
	}},
	{"connections refused", everywhere, proxied, same, rises, itself, func(s *stage) {
		s.server.Proxy().Disable()
		s.ages()
		s.server.Proxy().Enable()
		s.young()
		s.loaded(1)
	}},
	{"too many connections (maxclients)", everywhere, 0, same, rises, itself, func(s *stage) {
		s.admin("CONFIG", "SET", "maxclients", "1")
		s.admin("CLIENT", "KILL", "USER", redistest.Reader)
		s.ages()
		s.admin("CONFIG", "SET", "maxclients", "1000")
		s.young()
		s.loaded(1)
	}},
	{"every answer 200 ms late", everywhere, proxied, "the newest", "stays below two looks and 200 ms", "–", func(s *stage) {
		s.server.Proxy().Delay(200 * time.Millisecond)
		version := s.publish(revoked)
		s.serves(version)
		s.young()
		s.loaded(1)
	}},
	{"every answer later than a replica waits", everywhere, proxied, same, rises, itself, func(s *stage) {
		s.server.Proxy().Delay(5 * time.Second)
		s.ages()
		s.server.Proxy().Heal()
		s.young()
		s.loaded(1)
	}},
	{"answers that drip, a few bytes at a time", everywhere, proxied, same, rises, itself, func(s *stage) {
		s.server.Proxy().Drip(1, 100*time.Millisecond)
		s.ages()
		s.server.Proxy().Heal()
		s.young()
		s.loaded(1)
	}},
	{"the password is not taken (WRONGPASS, NOAUTH)", everywhere, 0, same, rises, itself, func(s *stage) {
		s.admin("ACL", "SETUSER", redistest.Reader, "resetpass", ">another")
		s.admin("CLIENT", "KILL", "USER", redistest.Reader)
		s.ages()
		s.admin("ACL", "SETUSER", redistest.Reader, ">"+s.server.Password(redistest.Reader))
		s.young()
		s.loaded(1)
	}},
	{"a right is missing (NOPERM)", everywhere, 0, same, rises, itself, func(s *stage) {
		s.admin("ACL", "SETUSER", redistest.Reader, "-xread")
		s.ages()
		s.admin("ACL", "SETUSER", redistest.Reader, "+xread")
		s.young()
		s.loaded(1)
	}},
	{"somebody has the server follow another one, whose link is down (a Cluster refuses it)", outsideCluster, 0, same, rises, itself, func(s *stage) {
		s.admin("REPLICAOF", "127.0.0.1", "1")
		s.ages()
		s.admin("REPLICAOF", "NO", "ONE")
		s.young()
		s.loaded(1)
	}},
	{"Redis is out of memory", everywhere, 0, same, stays, "– (publishing is refused)", func(s *stage) {
		s.admin("CONFIG", "SET", "maxmemory", "1")
		s.young()
		if err := s.tryToPublish(revoked); err == nil || !strings.Contains(err.Error(), "OOM") {
			s.t.Errorf("publishing without memory: %v", err)
		}
		s.young()
		s.loaded(1)
	}},
}
