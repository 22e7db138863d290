// Command demo plays asid-authz on one machine: a real Envoy, a real asid-authz, an API
// behind them and their clients. It shows about twenty telling calls and what came of them,
// gives a system one more right while everything runs, explains a refusal, and then waits for
// calls of your own: `make demo`.
//
// With -redis the interaction map lies in a real Redis or Valkey instead of a file, and what
// is shown is how fast a change that `asid-authz map` publishes is decided by.
//
// With -once it ends after that, with exit code 0 only if every call had the outcome that it
// should have had.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/cache/redistest"
	"asid-authz/e2e/mesh"
)

// A play is what is asked for.
type play struct {
	once  bool // end when everything has been shown
	redis bool // the map is in Redis
}

func main() {
	var p play
	flag.BoolVar(&p.once, "once", false, "end when everything has been shown")
	flag.BoolVar(&p.redis, "redis", false, "have the interaction map in a Redis or Valkey")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // or a reader who has seen enough would kill us before everything is ended
	if err := run(ctx, os.Stdout, p); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// errSurprise means that something did not come out as it should have.
var errSurprise = errors.New("not every call had the outcome that it should have had")

// run plays the demo. A ctx that ends means that the user has seen enough.
func run(ctx context.Context, w io.Writer, p play) (err error) {
	d, err := start(ctx, w, p)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	fmt.Fprintf(w, "Envoy %s is at %s, asid-authz behind it, and an API behind both.\n", d.programs.EnvoyVersion, d.edge.Address)
	change := d.playGrant
	if d.redis != nil {
		change = d.playPublished
		server := d.redis.Program()
		fmt.Fprintf(w, "The interaction map is in %s %s at %s.\n", server.Name, server.Version, d.redis.Address())
	}
	fmt.Fprintln(w)
	for _, scene := range []func(context.Context) error{d.playCalls, change, d.playExplain} {
		if err := scene(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	if !p.once {
		if err := d.offer(ctx); err != nil {
			return err
		}
	}
	if d.surprises > 0 {
		return errSurprise
	}
	return nil
}

// A demo is what is on stage.
type demo struct {
	w        io.Writer
	programs *mesh.Programs
	redis    *redistest.Server // nil: the map is in a file
	mesh     *mesh.Mesh
	edge     *mesh.Edge
	cases    map[string]*authztest.Case

	surprises int
}

// world is the deployment of the corpus that is played: Spine as it is.
const world = "registered-cn"

func start(ctx context.Context, w io.Writer, p play) (d *demo, err error) {
	d = &demo{w: w, cases: map[string]*authztest.Case{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	corpus, err := authztest.Load("authz/testdata")
	if err != nil {
		return d, fmt.Errorf("run it from the root of the repository: %w", err)
	}
	for _, c := range corpus.In(world) {
		d.cases[c.File] = c
	}
	minted, err := corpus.Worlds[world].Mint(time.Now())
	if err != nil {
		return d, err
	}
	var options mesh.Options
	if p.redis {
		if d.redis, err = redistest.Start(ctx, redistest.Options{}); err != nil {
			return d, err
		}
		options.Redis = d.redis
	}
	if d.programs, err = mesh.FindPrograms(ctx); err != nil {
		return d, err
	}
	if d.mesh, err = d.programs.Start(ctx, minted, options); err != nil {
		return d, err
	}
	d.edge, err = d.mesh.Edge(ctx)
	return d, err
}

func (d *demo) close() error {
	var all []error
	if d.mesh != nil {
		all = append(all, d.mesh.Close())
	}
	if d.redis != nil {
		all = append(all, d.redis.Close())
	}
	if d.programs != nil {
		all = append(all, d.programs.Remove())
	}
	return errors.Join(all...)
}

// find returns a case by its name.
func (d *demo) find(name string) (*authztest.Case, error) {
	c := d.cases[name]
	if c == nil {
		return nil, fmt.Errorf("the corpus has no case %s in world %s", name, world)
	}
	return c, nil
}
