package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the Sentinels call the primary that they watch.
const MasterName = "asid-authz"

const (
	sentinels = 3
	downAfter = 1000  // ms without an answer until a Sentinel or a node calls a server down
	patience  = 60000 // the same with Options.Patient, and while a failover is made by hand
)

// A SentinelDeployment is a primary with replicas, and three Sentinels that agree by two.
type SentinelDeployment struct {
	*realm
	data, sentinels []*Server
}

// StartSentinel starts a primary, Options.Replicas replicas and three Sentinels, and returns
// when every Sentinel knows all of them and the replicas follow.
func StartSentinel(ctx context.Context, options Options) (*SentinelDeployment, error) {
	if options.Replicas == 0 {
		options.Replicas = 2
	}
	r, err := newRealm(ctx, options)
	if err != nil {
		return nil, err
	}
	d := &SentinelDeployment{realm: r}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, fmt.Errorf("%s", r.Log()), r.Close())
	}
	return d, nil
}

func (d *SentinelDeployment) start(ctx context.Context) error {
	var primary string
	for i := range 1 + d.options.Replicas {
		var lines []string
		if i > 0 {
			lines = []string{"replicaof 127.0.0.1 " + port(primary)}
		}
		s, err := d.realm.start(ctx, data, lines)
		if err != nil {
			return err
		}
		d.data = append(d.data, s)
		if i == 0 {
			primary = s.announced()
		}
	}
	set := func(name, value string) string { return "sentinel " + name + " " + MasterName + " " + value }
	for range sentinels {
		s, err := d.realm.start(ctx, sentinel, []string{
			set("monitor", "127.0.0.1 "+port(primary)+" "+strconv.Itoa(sentinels/2+1)),
			set("auth-user", SentinelUser),
			set("auth-pass", d.passwords[SentinelUser]),
			"sentinel sentinel-user " + SentinelUser,
			"sentinel sentinel-pass " + d.passwords[SentinelUser],
			set("down-after-milliseconds", strconv.Itoa(d.options.downAfter())),
			set("failover-timeout", "2000"),
			set("parallel-syncs", strconv.Itoa(d.options.Replicas)),
		})
		if err != nil {
			return err
		}
		d.sentinels = append(d.sentinels, s)
		if err := s.hasten(ctx); err != nil {
			return err
		}
	}
	return until(ctx, "every Sentinel knows all", func() error {
		for _, s := range d.sentinels {
			says, err := s.master(ctx)
			if err != nil {
				return err
			}
			for name, want := range map[string]string{
				"flags": "master", "num-slaves": strconv.Itoa(d.options.Replicas), "num-other-sentinels": strconv.Itoa(sentinels - 1),
			} {
				if says[name] != want {
					return fmt.Errorf("%s: %s is %q", s.name(), name, says[name])
				}
			}
		}
		return d.follow(ctx, primary)
	})
}

// master returns what a Sentinel says of the primary.
func (s *Server) master(ctx context.Context) (map[string]string, error) {
	says := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", MasterName)
	err := s.admin.Process(ctx, says)
	return says.Val(), err
}

// hasten makes a Sentinel do in tenths of a second what it does in seconds: by default an old
// primary that is back stays one for 8 s. It forgets that when it ends.
func (s *Server) hasten(ctx context.Context) error {
	return s.admin.Do(ctx, "SENTINEL", "DEBUG",
		"info-period", 200, "ping-period", 200, "ask-period", 200, "publish-period", 200,
		"tilt-period", 1000).Err()
}

// follow says which live server is not what it must be under that primary.
func (d *SentinelDeployment) follow(ctx context.Context, primary string) error {
	for _, s := range d.data {
		if !s.live() {
			continue
		}
		is, err := s.info(ctx, "replication")
		if err != nil {
			return err
		}
		want := map[string]string{"role": "slave", "master_port": port(primary), "master_link_status": "up"}
		if s.announced() == primary {
			want = map[string]string{"role": "master"}
		}
		for name, value := range want {
			if is[name] != value {
				return fmt.Errorf("%s: %s is %q", s.name(), name, is[name])
			}
		}
	}
	return nil
}

// ClientOptions returns what a client of the primary needs as that user, whichever it is.
func (d *SentinelDeployment) ClientOptions(user string) *redis.UniversalOptions {
	options := d.clientOptions(user)
	options.MasterName = MasterName
	for _, s := range d.sentinels {
		options.Addrs = append(options.Addrs, s.Address())
	}
	options.SentinelUsername, options.SentinelPassword = Discovery, d.passwords[Discovery]
	return options
}

// Data returns the servers that hold the map: primary and replicas.
func (d *SentinelDeployment) Data() []*Server { return slices.Clone(d.data) }

// Sentinels returns the three.
func (d *SentinelDeployment) Sentinels() []*Server { return slices.Clone(d.sentinels) }

// Primary returns the server that all live Sentinels call so; it is an error if they do not
// agree.
func (d *SentinelDeployment) Primary(ctx context.Context) (*Server, error) {
	var address string
	for _, s := range d.sentinels {
		if !s.live() {
			continue
		}
		reply, err := s.admin.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).StringSlice()
		if err != nil {
			return nil, err
		}
		if len(reply) != 2 {
			return nil, fmt.Errorf("%s names no primary", s.name())
		}
		said := net.JoinHostPort(reply[0], reply[1])
		if address != "" && said != address {
			return nil, fmt.Errorf("one Sentinel calls %s the primary, another %s", address, said)
		}
		address = said
	}
	for _, s := range d.data {
		if s.announced() == address {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no server has the address %q of the primary", address)
}

// Replicas returns the other servers, whether they live or not.
func (d *SentinelDeployment) Replicas(ctx context.Context) ([]*Server, error) {
	primary, err := d.Primary(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(d.Data(), func(s *Server) bool { return s == primary }), nil
}

// AwaitFailover waits until another server than old is the primary, all live Sentinels agree,
// and all live servers follow it, old among them if it lives. It returns the new primary.
func (d *SentinelDeployment) AwaitFailover(ctx context.Context, old *Server) (primary *Server, err error) {
	err = until(ctx, "another server is the primary", func() error {
		primary, err = d.failedOver(ctx, old)
		return err
	})
	return primary, err
}

func (d *SentinelDeployment) failedOver(ctx context.Context, old *Server) (*Server, error) {
	primary, err := d.Primary(ctx)
	if err != nil {
		return nil, err
	}
	if primary == old {
		return nil, fmt.Errorf("%s still is", old.name())
	}
	return primary, d.follow(ctx, primary.announced())
}

// Failover lets the Sentinels fail over while everybody lives, so that nothing is lost: the
// old primary refuses writes (NOREPLICAS) from before the last one is replicated until it is
// a replica. It returns the new primary when all servers follow it.
func (d *SentinelDeployment) Failover(ctx context.Context) (*Server, error) {
	old, err := d.Primary(ctx)
	if err != nil {
		return nil, err
	}
	if err := old.admin.ConfigSet(ctx, "min-replicas-to-write", "100").Err(); err != nil {
		return nil, err
	}
	// A failover by hand is not voted on. Another one at the same time, because the primary of
	// a busy machine looks down, could get the same epoch, and then two are primary for good.
	var primary *Server
	if err = d.callDownAfter(ctx, patience); err == nil {
		primary, err = d.failOver(ctx, old)
	}
	// The failover had the server write its configuration: the limit must not stay there.
	for _, undo := range []error{
		d.callDownAfter(ctx, d.options.downAfter()),
		old.admin.ConfigSet(ctx, "min-replicas-to-write", "0").Err(),
		old.admin.ConfigRewrite(ctx).Err(),
	} {
		err = errors.Join(err, undo)
	}
	return primary, err
}

// callDownAfter sets after how many ms without an answer the live Sentinels call a server down.
func (d *SentinelDeployment) callDownAfter(ctx context.Context, ms int) error {
	for _, s := range d.sentinels {
		if !s.live() {
			continue
		}
		if err := s.admin.Do(ctx, "SENTINEL", "SET", MasterName, "down-after-milliseconds", ms).Err(); err != nil {
			return err
		}
	}
	return nil
}

// Hurry ends Options.Patient until Calm: a primary that dies is called down within a second.
func (d *SentinelDeployment) Hurry(ctx context.Context) error { return d.callDownAfter(ctx, downAfter) }

// Calm ends Hurry.
func (d *SentinelDeployment) Calm(ctx context.Context) error {
	return d.callDownAfter(ctx, d.options.downAfter())
}

func (d *SentinelDeployment) failOver(ctx context.Context, old *Server) (*Server, error) {
	is, err := old.info(ctx, "replication")
	if err != nil {
		return nil, err
	}
	last, err := strconv.Atoi(is["master_repl_offset"])
	if err != nil {
		return nil, err
	}
	err = until(ctx, "the replicas have everything", func() error {
		for _, s := range d.data {
			if s == old || !s.live() {
				continue
			}
			is, err := s.info(ctx, "replication")
			if err != nil {
				return err
			}
			if offset, _ := strconv.Atoi(is["slave_repl_offset"]); offset < last {
				return fmt.Errorf("%s is at %d, the primary at %d", s.name(), offset, last)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var primary *Server
	err = until(ctx, "another server is the primary", func() error {
		if err := d.begin(ctx, old); err != nil {
			return err
		}
		if primary, err = d.failedOver(ctx, old); err == nil {
			return nil
		}
		return errors.Join(err, d.promoteAgain(ctx, old))
	})
	return primary, err
}

// Demote lets the Sentinels fail over while everybody lives, and keeps the link of the old
// primary to the new one down until JoinReplication: what it is asked it answers from what it
// had. Nobody may write meanwhile. It returns the old primary when it is a replica.
func (d *SentinelDeployment) Demote(ctx context.Context) (old *Server, err error) {
	if old, err = d.Primary(ctx); err != nil {
		return nil, err
	}
	if err := old.forgetPassword(ctx); err != nil {
		return nil, err
	}
	if err = d.callDownAfter(ctx, patience); err == nil { // as in Failover
		err = until(ctx, "the primary is a replica without a link", func() error {
			if err := d.begin(ctx, old); err != nil {
				return err
			}
			if primary, err := d.Primary(ctx); err != nil || primary == old {
				return errors.Join(err, fmt.Errorf("%s still is the primary", old.name()))
			}
			return errors.Join(d.promoteAgain(ctx, old), old.cutOff(ctx))
		})
	}
	return old, errors.Join(err, d.callDownAfter(ctx, d.options.downAfter()))
}

// promoteAgain makes the server a primary that all Sentinels call so, if it is none any
// more: one of them that heard of the failover late, because the machine is busy, took it for
// a replica that had gone astray. By themselves they would find that out after as long as a
// primary may be silent.
func (d *SentinelDeployment) promoteAgain(ctx context.Context, old *Server) error {
	primary, err := d.Primary(ctx)
	if err != nil || primary == old {
		return nil // it is not over
	}
	is, err := primary.info(ctx, "replication")
	if err != nil || is["role"] == "master" {
		return err
	}
	return primary.admin.Do(ctx, "REPLICAOF", "NO", "ONE").Err()
}

// begin has a Sentinel fail over, unless it does already or has. On a busy machine it may give
// up, and nobody would try again, because the primary is not down. It is always the same
// Sentinel: another one could hear of the new primary between question and order, and fail
// over from that.
func (d *SentinelDeployment) begin(ctx context.Context, old *Server) error {
	i := slices.IndexFunc(d.sentinels, (*Server).live)
	if i < 0 {
		return errors.New("no Sentinel lives")
	}
	says, err := d.sentinels[i].master(ctx)
	if err != nil {
		return err
	}
	if says["port"] != port(old.announced()) || strings.Contains(says["flags"], "failover_in_progress") {
		return nil
	}
	return d.sentinels[i].admin.Do(ctx, "SENTINEL", "FAILOVER", MasterName).Err()
}

// CutReplication ends the link of a replica to its primary and keeps it from coming up again,
// until JoinReplication: what is written from now on is lost when that replica is promoted.
// It returns when the link is down.
func (s *Server) CutReplication(ctx context.Context) error {
	if err := s.forgetPassword(ctx); err != nil {
		return err
	}
	return until(ctx, "the link is down", func() error {
		if err := s.admin.Do(ctx, "CLIENT", "KILL", "TYPE", "master").Err(); err != nil {
			return err
		}
		return s.cutOff(ctx)
	})
}

// forgetPassword keeps links to a primary from coming up, and leaves one that is up alone.
func (s *Server) forgetPassword(ctx context.Context) error {
	return s.admin.ConfigSet(ctx, "masterauth", "no-such-password").Err()
}

// cutOff says that the server is no replica, or one whose link is not down.
func (s *Server) cutOff(ctx context.Context) error {
	is, err := s.info(ctx, "replication")
	if err != nil {
		return err
	}
	if role, status := is["role"], is["master_link_status"]; role != "slave" || status != "down" {
		return fmt.Errorf("%s is a %s, its link is %q", s.name(), role, status)
	}
	return nil
}

// JoinReplication lets a replica follow its primary again. Nothing is waited for: it may have
// become a primary.
func (s *Server) JoinReplication(ctx context.Context) error {
	return s.admin.ConfigSet(ctx, "masterauth", s.passwords[ReplicaUser]).Err()
}
