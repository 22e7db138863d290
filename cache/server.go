package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// A server is one connection to what holds the map. An error is one of the connection,
// which is then spent, or an answer that leaves nothing to be read; what is wrong with
// the map itself is in the answers.
type server interface {
	// follow asks who the server is, for the head of the manifest, and for the log
	// entries after a version; if there are none it waits for one, unless wait is 0.
	follow(ctx context.Context, after uint64, wait time.Duration) (answer, error)
	// start reads what a load begins with, at one moment.
	start(ctx context.Context) (start, error)
	// buckets reads n buckets from first on, and the dictionary from known on, at one
	// moment.
	buckets(ctx context.Context, generation uint64, first, n, known int) (part, error)
	close()
}

// An answer is what follow returns. The entries may be younger than the head.
type answer struct {
	head    layout.Head
	headErr error // why there is no head: see layout.ParseHead
	entries []logEntry
}

type logEntry struct {
	version uint64
	change  string
	digest  string
}

type start struct {
	manifest  map[string]string
	suspended map[string]string
}

type part struct {
	head    layout.Head
	headErr error
	ids     []string
	idTally string
	buckets []map[string]string
	tallies []string // as the manifest says; "" where it says nothing
}

// A redisServer is a server that is one.
type redisServer struct {
	c         *conn.Conn
	namespace layout.Namespace
}

// entriesAtOnce bounds what one answer can be: a log entry is at most
// [layout.MaxTransaction] bytes, and few are more than some hundred.
const entriesAtOnce = 64

func dial(ctx context.Context, options conn.Options, namespace layout.Namespace) (server, error) {
	c, err := conn.Open(ctx, options, namespace.Manifest())
	if err != nil {
		return nil, err
	}
	return &redisServer{c, namespace}, nil
}

func (s *redisServer) close() { s.c.Close() }

func (s *redisServer) follow(ctx context.Context, after uint64, wait time.Duration) (a answer, err error) {
	if wait == 0 {
		wait = -1 // to the library: do not block
	}
	p := s.c.Pipeline()
	hello := conn.Hello(ctx, p)
	head := p.HMGet(ctx, s.namespace.Manifest(), layout.HeadFields()...)
	entries := p.XRead(ctx, &redis.XReadArgs{
		Streams: []string{s.namespace.Log(), layout.LogID(after)}, Count: entriesAtOnce, Block: wait,
	})
	if _, err := p.Exec(ctx); err != nil && (!conn.IsAnswer(err) || hello.Err() == nil && hello.Val() == nil) {
		// Or the connection was refused, by a wrong password for instance: then none of the
		// commands was sent, and none of them says why.
		return a, err
	}
	// The order matters: what a server says that is not the master proves nothing.
	if err := conn.IsMaster(hello); err != nil {
		return a, err
	}
	values, err := head.Result()
	switch {
	case wrongType(err):
		a.headErr = fmt.Errorf("manifest: %w", err)
		return a, nil
	case err != nil:
		return a, fmt.Errorf("manifest: %w", err)
	}
	a.head, a.headErr = layout.ParseHead(values)
	streams, err := entries.Result()
	switch {
	case wrongType(err):
		a.headErr = fmt.Errorf("log: %w", err)
		return a, nil
	case err != nil && !errors.Is(err, redis.Nil):
		return a, fmt.Errorf("log: %w", err)
	}
	for _, stream := range streams {
		for _, message := range stream.Messages {
			e := logEntry{}
			if e.version, err = layout.ParseLogID(message.ID); err != nil {
				e.version = 0 // nobody's successor
			}
			e.change, _ = message.Values["change"].(string)
			e.digest, _ = message.Values["digest"].(string)
			a.entries = append(a.entries, e)
		}
	}
	return a, nil
}

func (s *redisServer) start(ctx context.Context) (start, error) {
	p := s.c.TxPipeline()
	manifest := p.HGetAll(ctx, s.namespace.Manifest())
	suspended := p.HGetAll(ctx, s.namespace.Suspended())
	if _, err := p.Exec(ctx); err != nil {
		return start{}, ofTheMap(err)
	}
	return start{manifest.Val(), suspended.Val()}, nil
}

func (s *redisServer) buckets(ctx context.Context, generation uint64, first, n, known int) (part, error) {
	fields := append(layout.HeadFields(), layout.FieldIDs)
	for b := first; b < first+n; b++ {
		fields = append(fields, layout.BucketName(byte(b)))
	}
	p := s.c.TxPipeline()
	manifest := p.HMGet(ctx, s.namespace.Manifest(), fields...)
	ids := p.LRange(ctx, s.namespace.IDs(generation), int64(known), -1)
	hashes := make([]*redis.MapStringStringCmd, n)
	for i := range hashes {
		hashes[i] = p.HGetAll(ctx, s.namespace.Bucket(generation, byte(first+i)))
	}
	if _, err := p.Exec(ctx); err != nil {
		return part{}, ofTheMap(err)
	}
	read := part{ids: ids.Val()}
	values := manifest.Val()
	heads := len(layout.HeadFields())
	read.head, read.headErr = layout.ParseHead(values[:heads])
	read.idTally, _ = values[heads].(string)
	for i, hash := range hashes {
		read.buckets = append(read.buckets, hash.Val())
		tally, _ := values[heads+1+i].(string)
		read.tallies = append(read.tallies, tally)
	}
	return read, nil
}

// wrongType reports whether a key of the map is of another type than the layout says:
// somebody else wrote there. The connection is as good as before.
func wrongType(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE ") }

// ofTheMap tells what is wrong with the map from what is wrong with the connection. Were a
// key of another type taken for a broken connection, the next one would confirm the map
// by its manifest alone, and nobody would hear of it.
func ofTheMap(err error) error {
	if wrongType(err) {
		return incompleteError{err.Error()}
	}
	return err
}
