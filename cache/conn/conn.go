// Package conn is the way to the Redis server that holds an interaction map: one server,
// one watched by Sentinels, or the one of a Cluster that has the map's slot.
package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options say where the server is and who asks. The functions are called for every
// connection, so that a rotated password or certificate is used from the next one on.
type Options struct {
	Addresses []string // host:port of the server; of the Sentinels; of some nodes of the Cluster

	SentinelMaster string // name by which the Sentinels know the server; "": no Sentinels
	Cluster        bool

	Credentials         func() (username, password string, err error) // nil: none
	SentinelCredentials func() (username, password string, err error) // nil: none
	TLS                 func() (*tls.Config, error)                   // nil: no TLS

	Name string // of the connection, in the server's list of clients
}

// Validate returns what is wrong with o, or nil.
func (o *Options) Validate() error {
	var all []error
	if len(o.Addresses) == 0 {
		all = append(all, errors.New("an address is missing"))
	}
	for _, address := range o.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			all = append(all, fmt.Errorf("an address is host:port: %w", err))
		}
	}
	if o.Cluster && o.SentinelMaster != "" {
		all = append(all, errors.New("a server is in a Cluster or watched by Sentinels, not both"))
	}
	if !o.Cluster && o.SentinelMaster == "" && len(o.Addresses) > 1 {
		all = append(all, errors.New("several addresses are those of Sentinels or of a Cluster: say which"))
	}
	if o.SentinelMaster == "" && o.SentinelCredentials != nil {
		all = append(all, errors.New("there are credentials for Sentinels, and no Sentinels"))
	}
	return errors.Join(all...)
}

// A Conn is one connection to the server that holds the map: every command goes over it,
// in order, and none is repeated behind the caller's back. After an error that is not an
// answer of the server it is spent.
type Conn struct {
	*redis.Conn
	client redis.UniversalClient
}

const (
	dialTimeout = 2 * time.Second
	// ioTimeout bounds commands whose context has no deadline. Those of a replica have
	// one, and it is shorter.
	ioTimeout = 10 * time.Second
)

// Open connects to the server that has key. Sentinels are asked, and the slots of a
// Cluster are read, for each connection anew: what they said last time is what a failover
// made untrue. The role of the server is not looked at; see [Conn.IsMaster].
func Open(ctx context.Context, o Options, key string) (*Conn, error) {
	quiet()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	options := &redis.UniversalOptions{
		Addrs:           o.Addresses,
		MasterName:      o.SentinelMaster,
		IsClusterMode:   o.Cluster,
		ClientName:      o.Name,
		Protocol:        3,
		DisableIdentity: true, // one right less that the user needs

		// A command that is sent again without the caller's knowledge would be answered
		// later than it was sent, and the age of the map counts from the sending.
		MaxRetries:    -1,
		DialerRetries: 1,

		DialTimeout:           dialTimeout,
		ReadTimeout:           ioTimeout,
		WriteTimeout:          ioTimeout,
		ContextTimeoutEnabled: true, // without it a deadline is not heeded

		PoolSize:         1,
		PipelinePoolSize: -1, // or pipelines would go over connections of their own
		PoolTimeout:      dialTimeout,

		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.Cluster {
		options.MaxRedirects = -1
	}
	if o.TLS != nil {
		config, err := o.TLS()
		if err != nil {
			return nil, err
		}
		options.TLSConfig = config
	}
	if o.SentinelCredentials != nil {
		var err error
		if options.SentinelUsername, options.SentinelPassword, err = o.SentinelCredentials(); err != nil {
			return nil, err
		}
	}
	if o.Credentials != nil {
		options.CredentialsProviderContext = func(context.Context) (string, string, error) { return o.Credentials() }
	}
	client := redis.NewUniversalClient(options)
	c := &Conn{client: client}
	switch node := client.(type) {
	case *redis.ClusterClient:
		master, err := node.MasterForKey(ctx, key)
		if err != nil {
			client.Close()
			return nil, err
		}
		c.Conn = master.EphemeralConn()
	case *redis.Client:
		c.Conn = node.EphemeralConn()
	}
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return errors.Join(c.Conn.Close(), c.client.Close()) }

// Hello adds the question who the server is to a pipeline. Unlike INFO and ROLE, HELLO is
// open to every user.
func Hello(ctx context.Context, p redis.Pipeliner) *redis.MapStringInterfaceCmd {
	command := redis.NewMapStringInterfaceCmd(ctx, "hello", "3")
	p.Process(ctx, command)
	return command
}

// A NotMasterError says that the server follows another one, or no one says what it is.
// What it answers may be old, however quickly it answers.
type NotMasterError struct{ Role string }

func (e NotMasterError) Error() string {
	return fmt.Sprintf("the server's role is %q, not master", e.Role)
}

// IsMaster takes the answer to Hello: nil, or a [NotMasterError].
func IsMaster(hello *redis.MapStringInterfaceCmd) error {
	if err := hello.Err(); err != nil {
		return err
	}
	if role, _ := hello.Val()["role"].(string); role != "master" {
		return NotMasterError{role}
	}
	return nil
}

// IsAnswer reports whether err is what a server answered to a command: the connection
// goes on, and asking again is not what helps.
func IsAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// IsMoved reports whether err says that another node of the Cluster has the map.
func IsMoved(err error) bool {
	return err != nil && (strings.HasPrefix(err.Error(), "MOVED ") || strings.HasPrefix(err.Error(), "ASK "))
}

var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

// silence is what the library logs to: what goes wrong reaches the caller as an error,
// and a library that writes to stderr by itself writes between our log's JSON lines.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}
