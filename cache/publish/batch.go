package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// A batch is commands that are sent together, and how many bytes they are on the wire.
type batch struct {
	commands [][]any
	bytes    int
}

// perArgument is more than what the protocol adds to an argument.
const perArgument = 16

func (b *batch) add(arguments ...string) {
	command := make([]any, len(arguments))
	for i, a := range arguments {
		command[i] = a
		b.bytes += len(a) + perArgument
	}
	b.commands = append(b.commands, command)
}

// append adds the commands of another batch.
func (b *batch) append(c *batch) {
	b.commands = append(b.commands, c.commands...)
	b.bytes += c.bytes
}

// fits reports whether b may be one transaction.
func (b *batch) fits() bool { return b.bytes+256 <= layout.MaxTransaction }

var errTooLarge = fmt.Errorf("the change is larger than one transaction may be (%d bytes)", layout.MaxTransaction)

// send executes the commands one after another, without a transaction.
func (p *Publisher) send(ctx context.Context, b *batch) ([]redis.Cmder, error) {
	if len(b.commands) == 0 {
		return nil, nil
	}
	return p.c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, command := range b.commands {
			pipe.Do(ctx, command...)
		}
		return nil
	})
}

// commit executes the commands in one transaction, as far as the keys that are being
// watched have not changed. MULTI is sent alone and answered first: were it refused to the
// user, the commands behind it would be executed one by one.
//
// An answer of the server means that nothing was written, but for a partialError; after
// any other error that is not known.
func (p *Publisher) commit(ctx context.Context, b *batch) error {
	if !b.fits() {
		p.unwatch(ctx)
		return errTooLarge
	}
	if err := p.c.Do(ctx, "MULTI").Err(); err != nil {
		return err
	}
	var exec *redis.Cmd
	queued, err := p.c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, command := range b.commands {
			pipe.Do(ctx, command...)
		}
		exec = pipe.Do(ctx, "EXEC")
		return nil
	})
	if errors.Is(exec.Err(), redis.Nil) {
		return ErrConflict
	}
	if exec.Err() != nil {
		for _, c := range queued { // why one was not queued says more than that the transaction was discarded
			if err := c.Err(); err != nil && conn.IsAnswer(exec.Err()) {
				return fmt.Errorf("%v: %w", c.Args()[0], err)
			}
		}
		return errors.Join(exec.Err(), err)
	}
	replies, err := exec.Slice()
	if err != nil {
		return err
	}
	for i, reply := range replies {
		if err, is := reply.(error); is && i < len(b.commands) {
			return partialError{fmt.Sprint(b.commands[i][0], " ", b.commands[i][1]), err}
		}
	}
	return nil
}

// A partialError says that one command of a transaction failed while it was being
// executed: Redis executes the others all the same.
type partialError struct {
	command string
	err     error
}

func (e partialError) Error() string {
	return fmt.Sprintf("a part of the change was refused (%s: %v), and the rest was written: verify the map, and repair it", e.command, e.err)
}

func (e partialError) Unwrap() error { return e.err }

// wrongType reports whether err says that a key holds something else than it should.
func wrongType(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") }

// keyError says at which key a command failed.
func keyError(key string, err error) error {
	if wrongType(err) {
		return fmt.Errorf("%s holds something else than a map's: find out whose it is, and delete it", key)
	}
	return fmt.Errorf("%s: %w", key, err)
}
