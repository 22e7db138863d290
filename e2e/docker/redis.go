package docker

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"asid-authz/authz/authztest"
	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

// Addresses are those of the containers that must be found when their names are gone: Docker
// forgets the name of a container that has died, and a Sentinel that asks for it then waits
// for ten seconds each time.
type Addresses struct {
	Subnet string // its first three numbers: "10.213.7"
}

// The last numbers of the fixed addresses; ../compose.yaml has them too.
const (
	firstRedis    = 11
	firstSentinel = 21
	redisNodes    = 2
	sentinels     = 3
)

func (a Addresses) redis(n int) string    { return fmt.Sprintf("%s.%d", a.Subnet, firstRedis+n-1) }
func (a Addresses) sentinel(n int) string { return fmt.Sprintf("%s.%d", a.Subnet, firstSentinel+n-1) }

// sentinelAddresses are where asid-authz and the publisher ask for the primary.
func (a Addresses) sentinelAddresses() (all []string) {
	for n := 1; n <= sentinels; n++ {
		all = append(all, a.sentinel(n)+":26379")
	}
	return all
}

// RedisAt returns the service of the node that has that address, "" if none has.
func (s *Stage) RedisAt(address string) string {
	for n := 1; n <= redisNodes; n++ {
		if s.addresses.redis(n) == address {
			return fmt.Sprintf("redis-%d", n)
		}
	}
	return ""
}

// RedisName is what the certificates of all nodes and Sentinels are for: whichever of them is
// the primary, its clients verify the same name.
const RedisName = "redis.internal"

// probeUser is the health check's, at a node and at a Sentinel: it may ask whether somebody
// is there.
const (
	probeUser  = "probe"
	probeRules = "-@all resetchannels resetkeys +ping"
)

// RedisStage has the passwords of Redis's users, by their names.
type RedisStage map[string]string

// nodeUsers and sentinelUsers are who may do what: the rules that docs/operations.md gives
// to operators, and the health check.
var (
	nodeUsers = map[string]string{
		redistest.Reader:       redistest.ReaderRules(layout.DefaultNamespace),
		redistest.Publisher:    redistest.PublisherRules(layout.DefaultNamespace),
		redistest.ReplicaUser:  redistest.ReplicaRules,
		redistest.SentinelUser: redistest.SentinelRules,
		probeUser:              probeRules,
	}
	sentinelUsers = map[string]string{
		redistest.Discovery:    redistest.DiscoveryRules,
		redistest.SentinelUser: redistest.PeerRules,
		probeUser:              probeRules,
	}
)

// users returns an ACL file. It holds hashes, so that no server knows a password that is not
// its own.
func (r RedisStage) users(rules map[string]string) []byte {
	lines := []string{"user default off"}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		hash := sha256.Sum256([]byte(r[name]))
		lines = append(lines, "user "+name+" on #"+hex.EncodeToString(hash[:])+" "+rules[name])
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// writable reports whether a container writes into its directory: a Redis its data and what
// a Sentinel tells it, a Sentinel what it has seen.
func writable(name string) bool {
	return strings.HasPrefix(name, "redis-") && name != redisTLS || strings.HasPrefix(name, "sentinel-")
}

// redisTLS is the directory that nodes and Sentinels share.
const redisTLS = "redis-tls"

// client returns how a user finds the map, whose files lie in its own directory.
func (r RedisStage) client(a Addresses, user string) node {
	return node{
		"addresses": a.sentinelAddresses(), "sentinel_master": redistest.MasterName,
		"username": user, "password_file": "redis-password",
		"sentinel_username": redistest.Discovery, "sentinel_password_file": "sentinel-password",
		"tls": node{"ca": "redis-ca.pem", "certificate": "redis.pem", "key": "redis.key", "server_name": RedisName},
	}
}

// stageRedis adds the directories of the nodes, of the Sentinels, and what their clients need.
func (s *Stage) stageRedis(dirs map[string]map[string][]byte, a Addresses) error {
	s.Redis = RedisStage{}
	for _, users := range []map[string]string{nodeUsers, sentinelUsers} {
		for name := range users {
			s.Redis[name] = password()
		}
	}
	// An authority of its own: Redis takes every client that this one has certified, and then
	// asks for user and password.
	ca := authztest.NewCA("Stage Redis Authority")
	for dir, name := range map[string]string{redisTLS: RedisName, "authz": authzName, "publisher": "publisher.internal"} {
		certificate, err := ca.Issue(authztest.CertificateSpec{
			CommonNames: []string{name}, DNSNames: []string{name},
			// A node is a client too, of the one that it replicates.
			ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return err
		}
		if dirs[dir] == nil {
			dirs[dir] = map[string][]byte{}
		}
		dirs[dir]["redis.pem"], dirs[dir]["redis.key"], dirs[dir]["redis-ca.pem"] = certificate.PEM(), certificate.KeyPEM(), ca.PEM()
	}
	dirs[redisTLS]["probe-password"] = []byte(s.Redis[probeUser])
	for dir, user := range map[string]string{"authz": redistest.Reader, "publisher": redistest.Publisher} {
		dirs[dir]["redis-password"] = []byte(s.Redis[user])
		dirs[dir]["sentinel-password"] = []byte(s.Redis[redistest.Discovery])
	}
	for n := 1; n <= redisNodes; n++ {
		dirs[fmt.Sprintf("redis-%d", n)] = map[string][]byte{
			"redis.conf": []byte(s.Redis.node(a, n)),
			"users.acl":  s.Redis.users(nodeUsers),
		}
	}
	for n := 1; n <= sentinels; n++ {
		dirs[fmt.Sprintf("sentinel-%d", n)] = map[string][]byte{
			"sentinel.conf": []byte(s.Redis.sentinelConf(a, n)),
			"users.acl":     s.Redis.users(sentinelUsers),
		}
	}
	return nil
}

// tlsOnly is what nodes and Sentinels have in common: no port but one with mutual TLS.
func tlsOnly(port int) string {
	return fmt.Sprintf(`port 0
tls-port %d
tls-cert-file /tls/redis.pem
tls-key-file /tls/redis.key
tls-ca-cert-file /tls/redis-ca.pem
tls-auth-clients yes
tls-replication yes
protected-mode no
aclfile /data/users.acl
dir /data
`, port)
}

func (r RedisStage) node(a Addresses, n int) string {
	conf := tlsOnly(6379) + fmt.Sprintf(`masteruser %s
masterauth %s
replica-announce-ip %s
maxmemory-policy noeviction
save 60 1
`, redistest.ReplicaUser, r[redistest.ReplicaUser], a.redis(n))
	if n > 1 {
		conf += fmt.Sprintf("replicaof %s 6379\n", a.redis(1))
	}
	return conf
}

func (r RedisStage) sentinelConf(a Addresses, n int) string {
	return tlsOnly(26379) + fmt.Sprintf(`sentinel monitor %[1]s %[2]s 6379 2
sentinel down-after-milliseconds %[1]s 1000
sentinel failover-timeout %[1]s 10000
sentinel parallel-syncs %[1]s 1
sentinel auth-user %[1]s %[3]s
sentinel auth-pass %[1]s %[4]s
sentinel sentinel-user %[3]s
sentinel sentinel-pass %[4]s
sentinel announce-ip %[5]s
`, redistest.MasterName, a.redis(1), redistest.SentinelUser, r[redistest.SentinelUser], a.sentinel(n))
}
