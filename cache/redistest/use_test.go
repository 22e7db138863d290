package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

var prefix = strings.TrimSuffix(layout.DefaultNamespace.Pattern(), "*")

// The documented users can do what a reader and a publisher do, in each topology, and neither
// package conn nor the servers among themselves try anything that is refused: the ACL log of every
// server stays empty. Where the server speaks TLS, that is between all of them.
func TestUsersSuffice(t *testing.T) {
	options := Options{TLS: found(t).Caps.TLS}
	t.Run("standalone", func(t *testing.T) {
		t.Parallel()
		s := Standalone(t, options)
		use(t, s.ClientOptions)
		refusedNothing(t, s)
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		d := Sentinel(t, options)
		use(t, d.ClientOptions)
		if _, err := d.Failover(t.Context()); err != nil {
			t.Fatal(err)
		}
		use(t, d.ClientOptions)
		refusedNothing(t, append(d.Data(), d.Sentinels()...)...)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := Cluster(t, options)
		use(t, c.ClientOptions)
		if _, err := c.Failover(t.Context(), prefix); err != nil {
			t.Fatal(err)
		}
		use(t, c.ClientOptions)
		refusedNothing(t, c.Nodes()...)
	})
}

// found returns the server that the tests run.
func found(t *testing.T) *Program {
	t.Helper()
	p, err := Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func connect(t *testing.T, options *redis.UniversalOptions) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(options)
	t.Cleanup(func() { client.Close() })
	return client
}

// open returns a connection as the service and its publisher have it.
func open(t *testing.T, options *redis.UniversalOptions) *conn.Conn {
	t.Helper()
	credentials := func(username, password string) func() (string, string, error) {
		return func() (string, string, error) { return username, password, nil }
	}
	o := conn.Options{
		Addresses:      options.Addrs,
		SentinelMaster: options.MasterName,
		Cluster:        options.IsClusterMode,
		Credentials:    credentials(options.Username, options.Password),
		Name:           "asid-authz-test",
	}
	if o.SentinelMaster != "" {
		o.SentinelCredentials = credentials(options.SentinelUsername, options.SentinelPassword)
	}
	if options.TLSConfig != nil {
		o.TLS = func() (*tls.Config, error) { return options.TLSConfig, nil }
	}
	c, err := conn.Open(t.Context(), o, layout.DefaultNamespace.Manifest())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// use does as publisher and reader what the map is made of, with new connections.
func use(t *testing.T, options func(user string) *redis.UniversalOptions) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	publisher, reader := open(t, options(Publisher)), open(t, options(Reader))
	hash, list, log, set := prefix+"hash", prefix+"list", prefix+"log", prefix+"set"

	if err := publisher.Unlink(ctx, hash, list, log, set).Err(); err != nil {
		t.Fatal(err)
	}
	if err := publisher.Do(ctx, "WATCH", hash, log).Err(); err != nil {
		t.Fatal(err)
	}
	if err := publisher.HGetAll(ctx, hash).Err(); err != nil {
		t.Fatal(err)
	}
	_, err := publisher.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, hash, "a", "1", "b", "2")
		p.RPush(ctx, list, "x", "y")
		p.SAdd(ctx, set, "s")
		p.XAdd(ctx, &redis.XAddArgs{Stream: log, MaxLen: 10, Approx: true, ID: "1-1", Values: []string{"n", "1"}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"sismember": publisher.SIsMember(ctx, set, "s").Err(),
		"smembers":  publisher.SMembers(ctx, set).Err(),
		"srem":      publisher.SRem(ctx, set, "s").Err(),
		"hdel":      publisher.HDel(ctx, hash, "b").Err(),
		"xlen":      publisher.XLen(ctx, log).Err(),
		"xtrim":     publisher.XTrimMaxLen(ctx, log, 5).Err(),
		"unwatch":   publisher.Do(ctx, "UNWATCH").Err(),
		"wait":      publisher.Do(ctx, "WAIT", 0, 10).Err(),
		"del":       publisher.Del(ctx, prefix+"nothing").Err(),
	} {
		if err != nil {
			t.Errorf("publisher: %s: %v", what, err)
		}
	}

	hello, err := reader.Pipelined(ctx, func(p redis.Pipeliner) error { conn.Hello(ctx, p); return nil })
	if err != nil || conn.IsMaster(hello[0].(*redis.MapStringInterfaceCmd)) != nil {
		t.Errorf("reader: HELLO: %v, %v", hello, err)
	}
	all, err := reader.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HGetAll(ctx, hash)
		p.HMGet(ctx, hash, "a", "b")
		p.HLen(ctx, hash)
		p.HGet(ctx, hash, "a")
		p.LLen(ctx, list)
		p.LRange(ctx, list, 0, -1)
		p.XRange(ctx, log, "-", "+")
		return nil
	})
	if err != nil || len(all) != 7 || all[3].(*redis.StringCmd).Val() != "1" {
		t.Errorf("reader: got %v, %v", all, err)
	}
	read, err := reader.XRead(ctx, &redis.XReadArgs{Streams: []string{log, "0"}, Block: time.Second}).Result()
	if err != nil || len(read) != 1 || len(read[0].Messages) != 1 {
		t.Errorf("reader: XREAD: got %v, %v", read, err)
	}
	if _, err := reader.XRead(ctx, &redis.XReadArgs{Streams: []string{log, "$"}, Block: 10 * time.Millisecond}).Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("reader: XREAD beyond the end: %v", err)
	}
}

// refusedNothing looks into the ACL logs.
func refusedNothing(t *testing.T, servers ...*Server) {
	t.Helper()
	for _, s := range servers {
		log, err := s.Admin().Do(t.Context(), "ACL", "LOG").Slice()
		if err != nil {
			t.Error(err)
		}
		for _, entry := range log {
			e := entry.(map[any]any)
			t.Errorf("%s refused %v to %v (%v, %v)", s.name(), e["object"], e["username"], e["reason"], e["client-info"])
		}
	}
}

// What is done to a server by its administrator is refused to reader and publisher, and so is
// every key that is not the map's.
func TestUsersAreRefused(t *testing.T) {
	t.Parallel()
	s := Standalone(t, Options{})
	ctx := t.Context()
	other := "{asid-authz-2}:1:hash"
	always := [][]any{
		{"INFO"}, {"ROLE"}, {"CONFIG", "GET", "*"}, {"SCAN", 0}, {"KEYS", "*"}, {"EVAL", "return 1", 0}, {"XINFO", "STREAM", prefix + "log"},
		{"DEBUG", "SLEEP", 0}, {"FLUSHALL"}, {"ACL", "WHOAMI"}, {"CLIENT", "LIST"}, {"CLUSTER", "NODES"}, {"SAVE"}, {"REPLICAOF", "NO", "ONE"},
		{"SUBSCRIBE", "any"}, {"PUBLISH", "any", "text"}, {"EXPIRE", prefix + "hash", 1}, {"RENAME", prefix + "hash", prefix + "h"},
		{"HGETALL", other}, {"XREAD", "STREAMS", other, 0}, {"HGETALL", "{asid-authz}:2:hash"},
	}
	for user, refused := range map[string][][]any{
		Reader:    append([][]any{{"HSET", prefix + "hash", "a", "1"}, {"DEL", prefix + "hash"}, {"XADD", prefix + "log", "*", "a", "1"}, {"WATCH", prefix + "log"}}, always...),
		Publisher: append([][]any{{"HSET", other, "a", "1"}, {"DEL", prefix + "hash", other}}, always...),
	} {
		client := connect(t, s.ClientOptions(user))
		for _, command := range refused {
			if err := client.Do(ctx, command...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
				t.Errorf("%s: %v: got %v, want NOPERM", user, command, err)
			}
		}
	}
	nobody := s.ClientOptions(Reader)
	nobody.Username, nobody.Password = "", ""
	if err := connect(t, nobody).Ping(ctx).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("without a user: got %v, want NOAUTH", err)
	}
	wrong := s.ClientOptions(Reader)
	wrong.Password = s.Password(Publisher)
	if err := connect(t, wrong).Ping(ctx).Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGPASS") {
		t.Errorf("with another's password: got %v, want WRONGPASS", err)
	}
}

// Every command that the server knows is refused to a user whose rules do not name it: no
// category or alias lets in more.
func TestUsersMayNothingElse(t *testing.T) {
	t.Parallel()
	d := Sentinel(t, Options{Replicas: 1})
	mayNothingElse(t, d.Data()[0], serverUsers(layout.DefaultNamespace))
	mayNothingElse(t, d.Sentinels()[0], sentinelUsers())
}

func mayNothingElse(t *testing.T, s *Server, users []user) {
	t.Helper()
	ctx := t.Context()
	infos, err := s.Admin().Do(ctx, "COMMAND").Slice()
	if err != nil {
		t.Fatal(err)
	}
	arity := map[string]int{}
	var add func([]any)
	add = func(infos []any) {
		for _, info := range infos {
			i := info.([]any)
			name := strings.ToLower(i[0].(string))
			if len(i) > 9 && len(i[9].([]any)) > 0 {
				add(i[9].([]any))
				continue
			}
			arity[name] = int(i[1].(int64))
		}
	}
	add(infos)
	if len(arity) < 20 {
		t.Fatalf("%s knows %d commands only", s.name(), len(arity))
	}
	for _, u := range users {
		if u.name == Admin {
			continue
		}
		want := []string{"auth", "hello", "quit", "reset"} // are for those that are nobody yet
		for _, rule := range strings.Fields(u.rules) {
			if name, is := strings.CutPrefix(rule, "+"); is {
				want = append(want, name)
			}
		}
		var got []string
		for name, n := range arity {
			args := []any{"ACL", "DRYRUN", u.name}
			words := strings.Split(name, "|")
			for i := range max(n, -n) {
				if i < len(words) {
					args = append(args, words[i])
				} else {
					args = append(args, "1")
				}
			}
			reply, err := s.Admin().Do(ctx, args...).Text()
			if err != nil {
				t.Errorf("%v: %v", args, err)
			}
			// An allowed command is refused for its keys or channels, which are "1".
			if !strings.Contains(reply, "no permissions to run the") {
				got = append(got, name)
			}
		}
		for _, name := range got {
			container, _, _ := strings.Cut(name, "|")
			if !slices.Contains(want, name) && !slices.Contains(want, container) {
				t.Errorf("%s: %s may %s", s.name(), u.name, name)
			}
		}
		for _, name := range want {
			if arity[name] != 0 && !slices.Contains(got, name) {
				t.Errorf("%s: %s may not %s", s.name(), u.name, name)
			}
		}
	}
}
