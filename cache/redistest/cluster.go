package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	masters = 3
	slots   = 16384
)

// A ClusterDeployment is three masters and a replica of each.
type ClusterDeployment struct {
	*realm
	nodes []*Server
}

// StartCluster starts six nodes and returns when each says that the Cluster is ok and the
// replicas follow.
func StartCluster(ctx context.Context, options Options) (*ClusterDeployment, error) {
	r, err := newRealm(ctx, options)
	if err != nil {
		return nil, err
	}
	c := &ClusterDeployment{realm: r}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, fmt.Errorf("%s", r.Log()), r.Close())
	}
	return c, nil
}

func (c *ClusterDeployment) start(ctx context.Context) error {
	for i := range 2 * masters {
		s, err := c.realm.start(ctx, node, nil)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, s)
		// Or all begin with the same epoch, and agree only after as many collisions.
		if err := s.admin.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return err
		}
	}
	if err := until(ctx, "the nodes have met", func() error { return c.meet(ctx) }); err != nil {
		return err
	}
	for i, s := range c.nodes[:masters] {
		first, last := i*slots/masters, (i+1)*slots/masters-1
		if err := s.admin.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			return err
		}
	}
	for i, s := range c.nodes[masters:] {
		id, err := c.nodes[i].admin.ClusterMyID(ctx).Result()
		if err != nil {
			return err
		}
		err = until(ctx, "the replica knows its master", func() error { return s.admin.ClusterReplicate(ctx, id).Err() })
		if err != nil {
			return err
		}
	}
	return until(ctx, "the Cluster is ok", func() error {
		for slot := 0; slot < slots; slot += slots/masters + 1 {
			if _, err := c.settled(ctx, slot); err != nil {
				return err
			}
		}
		return nil
	})
}

// meet introduces each node to all whom it does not know, and says so if there are any or they
// have not shaken hands yet. A node forgets whom it was introduced to when shaking hands takes
// longer than its timeout.
func (c *ClusterDeployment) meet(ctx context.Context) (missing error) {
	for _, s := range c.nodes {
		all, err := s.members(ctx)
		if err != nil {
			return err
		}
		for _, other := range c.nodes { // all of them: to hear of each other by gossip takes longer
			i := slices.IndexFunc(all, func(m member) bool {
				return m.address == other.announced() || s == other && slices.Contains(m.flags, "myself")
			})
			if i >= 0 && !slices.Contains(all[i].flags, "handshake") {
				continue
			}
			missing = fmt.Errorf("%s does not know %s", s.name(), other.name())
			if i >= 0 {
				continue
			}
			if err := s.admin.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", port(other.announced()), port(other.bus)).Err(); err != nil {
				return err
			}
		}
	}
	return missing
}

// A member is what one node says about another.
type member struct {
	id, address, master string
	flags, slots        []string
}

// has reports whether the node owns that slot.
func (m *member) has(slot int) bool {
	for _, r := range m.slots {
		first, last, is := strings.Cut(r, "-")
		if !is {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil && from <= slot && slot <= to { // not one that is on its way: [93-<-id]
			return true
		}
	}
	return false
}

// members returns what a node says about all.
func (s *Server) members(ctx context.Context) ([]member, error) {
	text, err := s.admin.ClusterNodes(ctx).Result()
	if err != nil {
		return nil, err
	}
	var all []member
	for line := range strings.Lines(text) {
		// id, address@bus, flags, master, ping, pong, epoch, link, slots…
		f := strings.Fields(line)
		if len(f) < 8 {
			return nil, fmt.Errorf("%s: CLUSTER NODES: %q", s.name(), line)
		}
		address, _, _ := strings.Cut(f[1], "@")
		all = append(all, member{id: f[0], address: address, flags: strings.Split(f[2], ","), master: f[3], slots: f[8:]})
	}
	return all, nil
}

// settled returns the master of a slot, if all live nodes name the same one and say that the
// Cluster is ok, it lives, and what live replicas it has follow it.
func (c *ClusterDeployment) settled(ctx context.Context, slot int) (*Server, error) {
	var owner *member
	var all []member
	for _, s := range c.nodes {
		if !s.live() {
			continue
		}
		is, err := s.admin.ClusterInfo(ctx).Result()
		if err != nil {
			return nil, err
		}
		if !strings.Contains(is, "cluster_state:ok") {
			return nil, fmt.Errorf("%s says that the Cluster is not ok", s.name())
		}
		if all, err = s.members(ctx); err != nil {
			return nil, err
		}
		if len(all) != len(c.nodes) {
			return nil, fmt.Errorf("%s knows %d nodes", s.name(), len(all))
		}
		for _, m := range all {
			// A master that has lost its slots is one that does not know yet that it is a replica.
			if len(m.slots) > 0 || m.master != "-" {
				continue
			}
			if idle, err := c.node(m.address); err != nil || idle.live() {
				return nil, fmt.Errorf("%s calls %s a master, which has no slots", s.name(), m.address)
			}
		}
		i := slices.IndexFunc(all, func(m member) bool { return m.has(slot) })
		if i < 0 {
			return nil, fmt.Errorf("%s knows no master of slot %d", s.name(), slot)
		}
		if owner != nil && all[i].id != owner.id {
			return nil, fmt.Errorf("two nodes are called master of slot %d: %s and %s", slot, owner.address, all[i].address)
		}
		owner = &all[i]
	}
	if owner == nil {
		return nil, errors.New("no node lives")
	}
	master, err := c.node(owner.address)
	if err != nil {
		return nil, err
	}
	if !master.live() {
		return nil, fmt.Errorf("%s, the master of slot %d, does not live", master.name(), slot)
	}
	for _, m := range all {
		if m.master != owner.id {
			continue
		}
		replica, err := c.node(m.address)
		if err != nil {
			return nil, err
		}
		if !replica.live() {
			continue
		}
		is, err := replica.info(ctx, "replication")
		if err != nil {
			return nil, err
		}
		if is["master_port"] != port(master.announced()) || is["master_link_status"] != "up" {
			return nil, fmt.Errorf("%s does not follow %s: its link is %q", replica.name(), master.name(), is["master_link_status"])
		}
	}
	return master, nil
}

func (c *ClusterDeployment) node(address string) (*Server, error) {
	for _, s := range c.nodes {
		if s.announced() == address {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no node has the address %q", address)
}

// ClientOptions returns what a client of the Cluster needs as that user.
func (c *ClusterDeployment) ClientOptions(user string) *redis.UniversalOptions {
	options := c.clientOptions(user)
	options.IsClusterMode = true
	for _, s := range c.nodes {
		options.Addrs = append(options.Addrs, s.announced())
	}
	return options
}

// Nodes returns all six.
func (c *ClusterDeployment) Nodes() []*Server { return slices.Clone(c.nodes) }

// slot returns the slot of a key.
func (c *ClusterDeployment) slot(ctx context.Context, key string) (int, error) {
	for _, s := range c.nodes {
		if s.live() {
			slot, err := s.admin.ClusterKeySlot(ctx, key).Result()
			return int(slot), err
		}
	}
	return 0, errors.New("no node lives")
}

// NodeOf returns the master of a key's slot. It waits until all live nodes agree which.
func (c *ClusterDeployment) NodeOf(ctx context.Context, key string) (*Server, error) {
	return c.await(ctx, key, nil)
}

// AwaitFailover waits until another node than old is the master of the key's slot and all
// live nodes agree. It returns the new master.
func (c *ClusterDeployment) AwaitFailover(ctx context.Context, key string, old *Server) (*Server, error) {
	return c.await(ctx, key, old)
}

func (c *ClusterDeployment) await(ctx context.Context, key string, old *Server) (master *Server, err error) {
	slot, err := c.slot(ctx, key)
	if err != nil {
		return nil, err
	}
	err = until(ctx, "all agree on a master", func() error {
		if master, err = c.settled(ctx, slot); err == nil && master == old {
			return fmt.Errorf("%s still is", old.name())
		}
		return err
	})
	return master, err
}

// Hurry ends Options.Patient until Calm: a node that dies is called down within a second.
func (c *ClusterDeployment) Hurry(ctx context.Context) error { return c.callDownAfter(ctx, downAfter) }

// Calm ends Hurry.
func (c *ClusterDeployment) Calm(ctx context.Context) error {
	return c.callDownAfter(ctx, c.options.downAfter())
}

func (c *ClusterDeployment) callDownAfter(ctx context.Context, ms int) error {
	for _, s := range c.nodes {
		if !s.live() {
			continue
		}
		if err := s.admin.ConfigSet(ctx, "cluster-node-timeout", strconv.Itoa(ms)).Err(); err != nil {
			return err
		}
	}
	return nil
}

// ReplicasOf returns the replicas of the key's master, whether they live or not.
func (c *ClusterDeployment) ReplicasOf(ctx context.Context, key string) ([]*Server, error) {
	master, err := c.NodeOf(ctx, key)
	if err != nil {
		return nil, err
	}
	id, err := master.admin.ClusterMyID(ctx).Result()
	if err != nil {
		return nil, err
	}
	all, err := master.members(ctx)
	if err != nil {
		return nil, err
	}
	var replicas []*Server
	for _, m := range all {
		if m.master != id {
			continue
		}
		s, err := c.node(m.address)
		if err != nil {
			return nil, err
		}
		replicas = append(replicas, s)
	}
	return replicas, nil
}

// Failover makes the replica of the key's master the master, and the master its replica, with
// nothing lost. It returns the new master when all nodes agree.
func (c *ClusterDeployment) Failover(ctx context.Context, key string) (master *Server, err error) {
	slot, err := c.slot(ctx, key)
	if err != nil {
		return nil, err
	}
	_, err = c.failOver(ctx, key, func(old, _ *Server) error {
		master, err = c.settled(ctx, slot)
		if err == nil && master == old {
			err = fmt.Errorf("%s still is", old.name())
		}
		return err
	})
	return master, err
}

// Demote is Failover, but that the link of the old master to the new one stays down until
// JoinReplication: what it is asked it answers from what it had. It returns the old master
// when it is a replica.
func (c *ClusterDeployment) Demote(ctx context.Context, key string) (*Server, error) {
	old, err := c.NodeOf(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := old.forgetPassword(ctx); err != nil {
		return nil, err
	}
	return c.failOver(ctx, key, func(old, next *Server) error {
		is, err := next.info(ctx, "replication")
		if err == nil && is["role"] != "master" {
			err = fmt.Errorf("%s is a %s", next.name(), is["role"])
		}
		return errors.Join(err, old.cutOff(ctx))
	})
}

// failOver tells a replica of the key's master to take over until it is over, and returns
// who was the master.
func (c *ClusterDeployment) failOver(ctx context.Context, key string, over func(old, next *Server) error) (*Server, error) {
	old, err := c.NodeOf(ctx, key)
	if err != nil {
		return nil, err
	}
	replicas, err := c.ReplicasOf(ctx, key)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(replicas, (*Server).live)
	if i < 0 {
		return nil, fmt.Errorf("%s has no replica that lives", old.name())
	}
	// Nobody votes about the same master twice within two timeouts, by hand or not.
	if err := c.Hurry(ctx); err != nil {
		return nil, err
	}
	var begun time.Time
	err = until(ctx, "the replica has taken over", func() error {
		is, err := replicas[i].info(ctx, "replication")
		if err != nil {
			return err
		}
		if is["role"] != "master" && time.Since(begun) > givenUp {
			begun = time.Now()
			if err := replicas[i].admin.ClusterFailover(ctx).Err(); err != nil {
				return err
			}
		}
		return over(old, replicas[i])
	})
	return old, errors.Join(err, c.Calm(ctx))
}

// givenUp is longer than a node tries to fail over by hand: then it must be told again.
const givenUp = 6 * time.Second

// MoveSlot moves the slot of the key, with all keys in it, to another master, as resharding
// does under load. It returns the new master when all nodes agree.
func (c *ClusterDeployment) MoveSlot(ctx context.Context, key string) (*Server, error) {
	slot, err := c.slot(ctx, key)
	if err != nil {
		return nil, err
	}
	from, err := c.NodeOf(ctx, key)
	if err != nil {
		return nil, err
	}
	all, err := from.members(ctx)
	if err != nil {
		return nil, err
	}
	var to *Server
	var source, target string
	for _, m := range all {
		s, err := c.node(m.address)
		if err != nil {
			return nil, err
		}
		if s == from {
			source = m.id
		} else if slices.Contains(m.flags, "master") && s.live() {
			to, target = s, m.id
		}
	}
	if to == nil {
		return nil, errors.New("no other master lives")
	}
	if err := to.admin.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", source).Err(); err != nil {
		return nil, err
	}
	if err := from.admin.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", target).Err(); err != nil {
		return nil, err
	}
	for {
		keys, err := from.admin.ClusterGetKeysInSlot(ctx, slot, 100).Result()
		if err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			break
		}
		migrate := []any{"MIGRATE", "127.0.0.1", port(to.announced()), "", 0, 5000, "AUTH2", Admin, c.passwords[Admin], "KEYS"}
		for _, key := range keys {
			migrate = append(migrate, key)
		}
		if err := from.admin.Do(ctx, migrate...).Err(); err != nil {
			return nil, err
		}
	}
	for _, s := range []*Server{to, from} { // in this order: a slot must never be nobody's
		if err := s.admin.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", target).Err(); err != nil {
			return nil, err
		}
	}
	return c.AwaitFailover(ctx, key, from)
}
