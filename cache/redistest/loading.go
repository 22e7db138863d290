package redistest

import (
	"context"
	"fmt"
)

// KillIntoLoading ends the process as a crash does and starts it again with what it held,
// which it goes on loading until FinishLoading: it takes connections, says that it is a
// master, and answers LOADING to everything that is about data. It returns when it says that
// it is loading.
func (s *Server) KillIntoLoading(ctx context.Context) error {
	// Keys of nobody make the dump long enough: a server that loads looks at its connections
	// once in a while only, counted in bytes, and sleeps before each key if it is told to.
	// Together they take a hundred seconds, which FinishLoading cuts short.
	const keys, bytes, delay = 5000, 1100, 20_000               // µs
	padding := "{" + s.options.Namespace.String() + "}:padding" // in a Cluster its node must have the slot
	for _, command := range [][]any{
		{"CONFIG", "SET", "rdbcompression", "no"},
		{"DEBUG", "POPULATE", keys, padding, bytes},
	} {
		if err := s.admin.Do(ctx, command...).Err(); err != nil {
			return err
		}
	}
	if _, err := s.Dump(ctx); err != nil {
		return err
	}
	s.Kill()
	return s.launch(ctx, func() bool {
		is, err := s.info(ctx, "persistence")
		return err == nil && is["loading"] == "1"
	}, "--key-load-delay", fmt.Sprint(delay), "--loading-process-events-interval-bytes", "1024")
}

// FinishLoading lets a server that is loading come to the end, and returns when it answers.
func (s *Server) FinishLoading(ctx context.Context) error {
	if err := s.admin.ConfigSet(ctx, "key-load-delay", "0").Err(); err != nil {
		return err
	}
	return until(ctx, "everything is loaded", func() error { return s.answers(ctx) })
}
