package redistest

import (
	"strings"

	"asid-authz/cache/layout"
)

// The users of a server. The default user is off. Operators name them as they like; the
// rules are what counts.
const (
	Reader    = "reader"    // a replica of the service
	Publisher = "publisher" // asid-authz map
	Admin     = "admin"     // a person, and the faults in the tests
	Discovery = "discovery" // reader and publisher, at a Sentinel

	ReplicaUser  = "replica"  // a Redis replica at its primary (masteruser)
	SentinelUser = "sentinel" // a Sentinel at the servers that it watches, and at other Sentinels
)

const (
	reading = "+hget +hmget +hgetall +hlen +lrange +llen +xrange +xread" +
		" +multi +exec +discard +ping +client|setname"
	writing = "+watch +unwatch +hset +hdel +rpush +xadd +xtrim +xlen" +
		" +xrevrange +sadd +srem +smembers +sismember +del +unlink +wait"
	routing = "+cluster|slots" // in a Cluster; it tells nothing about the data
)

// ReaderRules are the ACL rules of a reader of that namespace. AUTH and HELLO need no rule.
func ReaderRules(namespace layout.Namespace) string {
	return "-@all resetchannels resetkeys %R~" + namespace.Pattern() + " " + reading + " " + routing
}

// PublisherRules are the ACL rules of a publisher to that namespace.
func PublisherRules(namespace layout.Namespace) string {
	return "-@all resetchannels resetkeys ~" + namespace.Pattern() + " " + reading + " " + writing + " " + routing
}

// Rules of the other users.
const (
	AdminRules = "~* &* +@all"

	// ReplicaRules let a server replicate from another.
	ReplicaRules = "-@all resetchannels resetkeys +psync +replconf +ping"

	// SentinelRules let a Sentinel watch a server, and promote or demote it. Its script|kill
	// is for a server that a script keeps busy.
	SentinelRules = "-@all resetchannels resetkeys &__sentinel__:hello" +
		" +ping +info +role +publish +subscribe +multi +exec +slaveof +config|rewrite" +
		" +client|setname +client|kill +script|kill"
)

// Rules of the users of a Sentinel, which has an ACL of its own.
const (
	// PeerRules are those of another Sentinel.
	PeerRules = "-@all resetchannels resetkeys &__sentinel__:hello" +
		" +ping +publish +client|setname +sentinel|is-master-down-by-addr"

	// DiscoveryRules let a client find the primary and hear when another became it.
	DiscoveryRules = "-@all resetchannels resetkeys &+switch-master &+replica-reconf-done" +
		" +ping +client|setname +subscribe +unsubscribe" +
		" +sentinel|get-master-addr-by-name +sentinel|replicas +sentinel|sentinels"
)

// A user of an ACL file.
type user struct{ name, rules string }

// serverUsers are the users of a server that holds the map of that namespace.
func serverUsers(namespace layout.Namespace) []user {
	return []user{
		{Admin, AdminRules},
		{Reader, ReaderRules(namespace)},
		{Publisher, PublisherRules(namespace)},
		{ReplicaUser, ReplicaRules},
		{SentinelUser, SentinelRules},
	}
}

// sentinelUsers are the users of a Sentinel.
func sentinelUsers() []user {
	return []user{{Admin, AdminRules}, {SentinelUser, PeerRules}, {Discovery, DiscoveryRules}}
}

// aclFile returns the text of an ACL file. It holds hashes of the passwords.
func aclFile(users []user, hash func(name string) string) string {
	var b strings.Builder
	b.WriteString("user default off\n")
	for _, u := range users {
		b.WriteString("user " + u.name + " on #" + hash(u.name) + " " + u.rules + "\n")
	}
	return b.String()
}
