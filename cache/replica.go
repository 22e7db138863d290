package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
	"asid-authz/cache/conn"
	"asid-authz/cache/layout"
)

// A Replica holds the interaction map that lies in Redis, all of it, and follows every
// change. It is an [authz.MapSource]. Current and Status take no lock and never wait for
// the network.
//
// What it holds is always one version of the map as it was published, whole. What could
// not be proved to be one is never served; what was served before stays, and ages.
type Replica struct {
	log  *zap.Logger
	open func(context.Context) (server, error)
	pace pace

	state atomic.Pointer[replicaState]

	// What follows belongs to Run.
	held    *held        // nil: no map yet
	trouble error        // why the map cannot be confirmed; nil: it is
	doubt   error        // what is published is not whole, so the map must be loaded anew
	seen    layout.Head  // what was published when somebody looked last
	failed  layout.Head  // what was published when a load failed last
	retry   time.Time    // not before this is the same loaded again
	fails   int          // loads in a row
	told    string       // the trouble that was logged last
	turn    int          // of the verification
	counts  replicaCount // since the start
}

type replicaCount struct{ loads, changes, connections uint64 }

// A replicaState is immutable.
type replicaState struct {
	m         *authz.InteractionMap
	confirmed time.Time
	absent    authz.Reason // why m is nil
	status    ReplicaStatus
}

// A pace is how fast a Replica does things.
type pace struct {
	block   time.Duration // how long the server keeps a question for news open
	answer  time.Duration // how long an answer may take beyond that
	part    time.Duration // how long one part of a load may take
	load    time.Duration // how long a load may take
	spread  time.Duration // over how long the replicas of a fleet spread a re-load
	backoff time.Duration // longest pause between two attempts to connect
	reload  time.Duration // longest pause between two attempts to load
	recycle time.Duration // how long a connection is used
	verify  time.Duration // how often a part of what is held is compared with the server
}

var defaultPace = pace{
	block:   time.Second,
	answer:  2 * time.Second,
	part:    10 * time.Second,
	load:    2 * time.Minute,
	spread:  500 * time.Millisecond,
	backoff: 2 * time.Second,
	reload:  15 * time.Second,
	recycle: 5 * time.Minute,
	verify:  2 * time.Second,
}

// NewReplica returns a Replica of the map in that namespace, without one until Run has
// loaded it. It needs no server yet.
func NewReplica(log *zap.Logger, options conn.Options, namespace layout.Namespace) *Replica {
	return newReplica(log, func(ctx context.Context) (server, error) { return dial(ctx, options, namespace) }, defaultPace)
}

func newReplica(log *zap.Logger, open func(context.Context) (server, error), pace pace) *Replica {
	r := &Replica{log: log, open: open, pace: pace, trouble: errNotConnected}
	r.publish(time.Time{})
	return r
}

var errNotConnected = errors.New("not connected yet")

// Current returns the map and when it was last known to be the newest: when a question
// was sent that the master answered with nothing newer. Without a map it says whether
// there is none to be had (MapUnavailable), or one that is not whole (MapIncomplete).
func (r *Replica) Current() (*authz.InteractionMap, time.Time, authz.Reason) {
	s := r.state.Load()
	return s.m, s.confirmed, s.absent
}

// A ReplicaStatus is what there is to know about a [Replica] at one moment.
type ReplicaStatus struct {
	Version   uint64    // of the current map; 0: there is none
	Systems   int       // in the current map
	Confirmed time.Time // when the current map was last known to be the newest
	Err       error     // why it is not confirmed at the moment; nil: it is

	// Regressed: what is published is older than the current map, as after the restore
	// of an old dump. The current map stays, unconfirmed, until something newer is
	// published.
	Regressed bool
	// Incomplete: what is published does not fit its manifest, or cannot be read.
	Incomplete bool

	Refused       int // entries that were left out because they make no sense: their ASIDs are denied
	UnparsableIDs int // interactionIds in the dictionary that are none

	Connections, Loads, Changes uint64 // made, done and applied since the start
}

// Status returns what there is to know now.
func (r *Replica) Status() ReplicaStatus { return r.state.Load().status }

// Run loads the map and follows it until ctx ends. It returns nothing: whatever happens
// to the server, it goes on trying.
func (r *Replica) Run(ctx context.Context) {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		confirmed := r.state.Load().confirmed
		err := r.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil || !r.state.Load().confirmed.Equal(confirmed) {
			pause = 0
		}
		if err != nil {
			r.object(err)
			pause = min(max(2*pause, 50*time.Millisecond), r.pace.backoff)
			sleep(ctx, jittered(pause))
		}
	}
}

// jittered returns a duration between a half of d and d, so that the replicas that an
// outage has brought into step get out of it.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// object says why the map is not confirmed.
func (r *Replica) object(err error) {
	r.trouble = err
	if text := err.Error(); text != r.told { // once for each new trouble, not at every attempt
		r.told = text
		r.log.Warn("the interaction map is not confirmed, and ages", zap.Error(err), zap.Uint64("version", r.state.Load().status.Version))
	}
	r.publish(r.state.Load().confirmed)
}

// confirm says that the map was the newest when a question was sent.
func (r *Replica) confirm(asked time.Time) {
	if r.told != "" {
		r.told = ""
		r.log.Info("the interaction map is confirmed again", zap.Uint64("version", r.held.head.Version))
	}
	r.trouble = nil
	r.publish(asked)
}

// publish makes what is held what readers see.
func (r *Replica) publish(confirmed time.Time) {
	s := &replicaState{absent: authz.MapUnavailable}
	s.status = ReplicaStatus{Err: r.trouble, Connections: r.counts.connections, Loads: r.counts.loads, Changes: r.counts.changes}
	s.status.Regressed = errors.Is(r.trouble, errRegressed)
	var incomplete incompleteError
	s.status.Incomplete = errors.As(r.trouble, &incomplete)
	if s.status.Incomplete {
		s.absent = authz.MapIncomplete
	}
	if h := r.held; h != nil {
		s.m, s.confirmed, s.absent = h.m, confirmed, authz.Undecided
		s.status.Version, s.status.Systems, s.status.Confirmed = h.m.Version(), h.m.Len(), confirmed
		s.status.Refused, s.status.UnparsableIDs = len(h.refused), h.unparsable
	}
	r.state.Store(s)
}
