package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// set writes a key as administrator.
func set(t *testing.T, s *Server, value string) {
	t.Helper()
	if err := s.Admin().HSet(t.Context(), prefix+"hash", "a", value).Err(); err != nil {
		t.Fatal(err)
	}
}

// has checks what the server has of it; "" is nothing.
func has(t *testing.T, s *Server, want string) {
	t.Helper()
	all, err := s.Admin().HGetAll(t.Context(), prefix+"hash").Result()
	if got := all["a"]; err != nil || got != want {
		t.Errorf("%s has %q, %v, want %q", s.name(), got, err, want)
	}
}

func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := Standalone(t, Options{Config: []string{"maxmemory 20mb"}})
	if got, err := s.Admin().ConfigGet(ctx, "maxmemory*").Result(); err != nil || got["maxmemory"] != "20971520" || got["maxmemory-policy"] != "noeviction" {
		t.Errorf("configuration: got %v, %v", got, err)
	}
	set(t, s, "old")
	dump, err := s.Dump(ctx)
	if err != nil {
		t.Fatal(err)
	}
	set(t, s, "new")
	if err := s.Restart(ctx, nil); err == nil {
		t.Error("a server that runs was started again")
	}
	pid, address := s.Pid(), s.Address()
	s.Kill()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("process %d after Kill: %v", pid, err)
	}
	if err := s.Restart(ctx, dump); err != nil {
		t.Fatal(err)
	}
	has(t, s, "old")
	if s.Pid() == pid || s.Address() != address {
		t.Errorf("process %d at %s became %d at %s", pid, address, s.Pid(), s.Address())
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if err := s.Restart(ctx, nil); err != nil {
		t.Fatal(err)
	}
	has(t, s, "")
}

func TestFreezeAndThaw(t *testing.T) {
	t.Parallel()
	s := Standalone(t, Options{})
	set(t, s, "1")
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Admin().Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("frozen: got %v", err)
	}
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	has(t, s, "1")
	s.Kill()
	if err := s.Freeze(); err == nil {
		t.Error("a server that does not run was frozen")
	}
}

func TestLoading(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := Standalone(t, Options{})
	set(t, s, "1")
	pid := s.Pid()
	if err := s.KillIntoLoading(ctx); err != nil {
		t.Fatal(err)
	}
	if s.Pid() == pid {
		t.Error("it is the same process")
	}
	for _, user := range []string{Reader, Admin} {
		client := connect(t, s.ClientOptions(user))
		if err := client.HGet(ctx, prefix+"hash", "a").Err(); err == nil || !strings.HasPrefix(err.Error(), "LOADING") {
			t.Errorf("%s: got %v, want LOADING", user, err)
		}
	}
	if err := s.FinishLoading(ctx); err != nil {
		t.Fatal(err)
	}
	has(t, s, "1")
}

func TestConnectionsAndCPU(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := Standalone(t, Options{})
	for _, name := range []string{"replica-1", "replica-2", "other"} {
		options := s.ClientOptions(Reader)
		options.ClientName = name
		if err := connect(t, options).Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Connections(ctx, "replica-"); err != nil || n != 2 {
		t.Errorf("got %d connections, %v, want 2", n, err)
	}
	if err := s.Admin().Do(ctx, "EVAL", "for i = 1, 10000000 do end return 1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/self/stat"); err == nil && s.CPU() < 10*time.Millisecond {
		t.Errorf("used %v of the processor", s.CPU())
	}
}

func TestSentinelFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := Sentinel(t, Options{})
	old, err := d.Primary(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// While the failover goes on, a publisher writes: what was acknowledged is there after it.
	acknowledged := make(chan string)
	writing, stop := context.WithCancel(ctx)
	go func() {
		client := connect(t, d.ClientOptions(Publisher))
		last := ""
		for i := 0; writing.Err() == nil; i++ {
			if client.HSet(ctx, prefix+"hash", "a", i).Err() == nil {
				last = strconv.Itoa(i)
			}
		}
		acknowledged <- last
	}()
	primary, err := d.Failover(ctx)
	stop()
	last := <-acknowledged
	if err != nil {
		t.Fatal(err)
	}
	if primary == old {
		t.Errorf("%s is the primary still", old.name())
	}
	has(t, primary, last)
	if text, err := os.ReadFile(filepath.Join(old.dir, "redis.conf")); err != nil || strings.Contains(string(text), "min-replicas-to-write 100") {
		t.Errorf("the old primary keeps its limit: %v", err)
	}

	// A write that no replica got is lost when the primary dies.
	replicas, err := d.Replicas(ctx)
	if err != nil || len(replicas) != 2 {
		t.Fatalf("got %d replicas, %v", len(replicas), err)
	}
	set(t, primary, "before")
	if err := primary.Admin().Wait(ctx, 2, 5*time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	for _, s := range replicas {
		if err := s.CutReplication(ctx); err != nil {
			t.Fatal(err)
		}
	}
	set(t, primary, "lost")
	if err := primary.Freeze(); err != nil {
		t.Fatal(err)
	}
	for _, s := range replicas {
		if err := s.JoinReplication(ctx); err != nil {
			t.Fatal(err)
		}
	}
	next, err := d.AwaitFailover(ctx, primary)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(replicas, next) {
		t.Fatalf("%s is the primary", next.name())
	}
	has(t, next, "before")

	// The old one is back, and becomes a replica.
	if err := primary.Thaw(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AwaitFailover(ctx, primary); err != nil {
		t.Fatal(err)
	}
	has(t, primary, "before")
}

func TestClusterFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := Cluster(t, Options{})
	client := connect(t, c.ClientOptions(Admin)).(*redis.ClusterClient)
	const many = 150 // more than one round
	for i := range many {
		if err := client.HSet(ctx, prefix+strconv.Itoa(i), "a", i).Err(); err != nil {
			t.Fatal(err)
		}
	}
	all := func(what string, s *Server) {
		t.Helper()
		for i := range many {
			key := prefix + strconv.Itoa(i)
			err := until(ctx, "the client has found the master", func() error {
				err := client.HGet(ctx, key, "a").Err()
				if err != nil { // go-redis does not ask again who is master for a minute because one is gone
					client.ReloadState(ctx)
				}
				return err
			})
			if got := client.HGet(ctx, key, "a").Val(); err != nil || got != strconv.Itoa(i) {
				t.Fatalf("%s: got %q, %v, want %d", what, got, err, i)
			}
		}
		if n, err := s.Admin().DBSize(ctx).Result(); err != nil || n != many {
			t.Errorf("%s: %s has %d keys, %v, want %d", what, s.name(), n, err, many)
		}
	}
	first, err := c.NodeOf(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	all("at first", first)
	second, err := c.Failover(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	all("failed over", second)
	third, err := c.MoveSlot(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	all("moved", third)
	if n, err := second.Admin().DBSize(ctx).Result(); err != nil || n != 0 {
		t.Errorf("%s has %d keys still, %v", second.name(), n, err)
	}
	if err := third.Admin().Wait(ctx, 1, 5*time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	third.Kill()
	fourth, err := c.AwaitFailover(ctx, prefix, third)
	if err != nil {
		t.Fatal(err)
	}
	all("killed", fourth)
	if err := third.Restart(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.NodeOf(ctx, prefix); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Server{first, second, third} {
		if s == fourth {
			t.Errorf("%s is master again", s.name())
		}
	}
}

// Nobody is told the address of a server that has a proxy, not even after it was demoted; and
// one that was, and has no link, goes on answering what it had.
func TestDemoteBehindProxies(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := Options{Replicas: 1, Proxy: func(address string) *Proxy { return NewProxy(t, address) }}
	check := func(t *testing.T, old *Server, all []*Server, told string, master func() (*Server, error)) {
		t.Helper()
		for _, s := range all {
			if strings.Contains(told, s.Address()) || !strings.Contains(told, s.Proxy().Address()) {
				t.Errorf("%s behind %s: clients are told %s", s.name(), s.Proxy().Address(), told)
			}
		}
		if err := old.cutOff(ctx); err != nil {
			t.Error(err)
		}
		if err := old.JoinReplication(ctx); err != nil {
			t.Fatal(err)
		}
		if now, err := master(); err != nil || now == old {
			t.Errorf("%v is the master still, %v", now, err)
		}
	}
	t.Run("Sentinel", func(t *testing.T) {
		d := Sentinel(t, o)
		first, err := d.Primary(ctx)
		if err != nil {
			t.Fatal(err)
		}
		set(t, first, "before")
		old, err := d.Demote(ctx)
		if err != nil || old != first {
			t.Fatalf("%v was demoted, %v", old, err)
		}
		has(t, old, "before")
		s := d.Sentinels()[0].Admin()
		primary, err := s.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		told := fmt.Sprint(strings.Join(primary, ":"), s.Do(ctx, "SENTINEL", "REPLICAS", MasterName).Val())
		check(t, old, d.Data(), told, func() (*Server, error) { return d.AwaitFailover(ctx, old) })
	})
	t.Run("Cluster", func(t *testing.T) {
		c := Cluster(t, o)
		first, err := c.NodeOf(ctx, prefix)
		if err != nil {
			t.Fatal(err)
		}
		old, err := c.Demote(ctx, prefix)
		if err != nil || old != first {
			t.Fatalf("%v was demoted, %v", old, err)
		}
		told := c.Nodes()[0].Admin().ClusterNodes(ctx).Val()
		check(t, old, c.Nodes(), told, func() (*Server, error) { return c.NodeOf(ctx, prefix) })
	})
}

// Whatever state they are in, nothing is left of the servers.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	d, err := StartSentinel(t.Context(), Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	all := append(d.Data(), d.Sentinels()...)
	all[0].Kill()
	frozen := all[1].Freeze()
	stopped := all[2].Stop()
	if err := errors.Join(frozen, stopped, d.Close()); err != nil {
		t.Error(err)
	}
	for _, s := range all {
		if err := syscall.Kill(s.Pid(), 0); err != syscall.ESRCH {
			t.Errorf("%s, process %d: %v", s.name(), s.Pid(), err)
		}
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", d.dir, err)
	}
}

// A server that does not start says why, and is gone.
func TestStartReports(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Config: []string{"no-such-directive yes"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-directive") || !strings.Contains(err.Error(), "before it was ready") {
		t.Errorf("got %v", err)
	}
}
