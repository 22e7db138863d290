package docker

import (
	"crypto/x509"
	"fmt"
	"strings"

	"asid-authz/authz/authztest"
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

// RedisName is what the certificates of all nodes and Sentinels are for: whichever of them is
// the primary, its clients verify the same name.
const RedisName = "redis.internal"

// SentinelMaster is what the Sentinels call the primary.
const SentinelMaster = "interaction-map"

// RedisStage has the passwords of Redis's users.
type RedisStage struct {
	Reader, Publisher string // of asid-authz and of the publisher

	replication, sentinel, probe string
}

// writable reports whether a container writes into its directory: a Redis its data and what
// a Sentinel tells it, a Sentinel what it has seen.
func writable(name string) bool {
	return strings.HasPrefix(name, "redis-") && name != redisTLS || strings.HasPrefix(name, "sentinel-")
}

// redisTLS is the directory that nodes and Sentinels share.
const redisTLS = "redis-tls"

// stageRedis adds the directories of the nodes, of the Sentinels, and what their clients need.
func (s *Stage) stageRedis(dirs map[string]map[string][]byte, a Addresses) error {
	s.Redis = RedisStage{Reader: password(), Publisher: password(), replication: password(), sentinel: password(), probe: password()}
	// An authority of its own: Redis takes every client that this one has certified, and then
	// asks for user and password.
	ca := authztest.NewCA("Stage Redis Authority")
	for dir, name := range map[string]string{redisTLS: RedisName, "authz": "authz.internal"} {
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
	dirs[redisTLS]["probe-password"] = []byte(s.Redis.probe)
	dirs["authz"]["redis-password"] = []byte(s.Redis.Reader)
	for n := 1; n <= redisNodes; n++ {
		dirs[fmt.Sprintf("redis-%d", n)] = map[string][]byte{
			"redis.conf": []byte(s.Redis.node(a, n)),
			"users.acl":  []byte(s.Redis.users()),
		}
	}
	for n := 1; n <= sentinels; n++ {
		dirs[fmt.Sprintf("sentinel-%d", n)] = map[string][]byte{"sentinel.conf": []byte(s.Redis.sentinelConf(a, n))}
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
dir /data
`, port)
}

func (r *RedisStage) node(a Addresses, n int) string {
	conf := tlsOnly(6379) + fmt.Sprintf(`aclfile /data/users.acl
masteruser replication
masterauth %s
replica-announce-ip %s
maxmemory-policy noeviction
save 60 1
`, r.replication, a.redis(n))
	if n > 1 {
		conf += fmt.Sprintf("replicaof %s 6379\n", a.redis(1))
	}
	return conf
}

// users are the ACL users. None may do what its part does not need, and nobody is "default".
func (r *RedisStage) users() string {
	return strings.Join([]string{
		"user default off",
		"user reader on >" + r.Reader + " resetchannels ~{asid-authz}:* -@all +hello +auth +ping +get +mget +hget +hmget +hgetall +xread +xrange +xrevrange +client|setname",
		"user publisher on >" + r.Publisher + " resetchannels ~{asid-authz}:* -@all +@read +@write +@transaction +hello +auth +ping +client|setname",
		"user replication on >" + r.replication + " resetchannels -@all +psync +replconf +ping",
		"user sentinel on >" + r.sentinel + " allchannels -@all +multi +slaveof +ping +exec +subscribe +config|rewrite +role +publish +info +client|setname +client|kill +script|kill",
		"user probe on >" + r.probe + " resetchannels -@all +ping",
	}, "\n") + "\n"
}

func (r *RedisStage) sentinelConf(a Addresses, n int) string {
	return tlsOnly(26379) + fmt.Sprintf(`sentinel monitor %[1]s %[2]s 6379 2
sentinel down-after-milliseconds %[1]s 1000
sentinel failover-timeout %[1]s 10000
sentinel parallel-syncs %[1]s 1
sentinel auth-user %[1]s sentinel
sentinel auth-pass %[1]s %[3]s
sentinel announce-ip %[4]s
`, SentinelMaster, a.redis(1), r.sentinel, a.sentinel(n))
}
