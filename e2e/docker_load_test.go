//go:build docker

package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/e2e/load"
	"asid-authz/e2e/mesh"
)

// An expected is the answer to a request: 200, or a status with a public Reason.
type expected struct {
	status int
	reason string
}

func (e expected) matches(a *mesh.Answer) bool {
	return a.Status == e.status && a.Header.Get("X-Asid-Reason") == e.reason
}

var allowed = expected{status: 200}

func denied(reason authz.Reason) expected { return expected{statusOf(reason), publicReason(reason)} }

// A sender sends one request of the corpus again and again, over connections that it keeps,
// and knows what the answer must be.
type sender struct {
	name   string
	fleet  *fleet
	c      *authztest.Case
	client *mesh.Client
	kid    atomic.Pointer[string] // of the ES256 key that signs, nil: the case's own
	idle   map[mesh.Protocol]chan mesh.Conn
	opened atomic.Int64 // connections

	mu      sync.Mutex
	now     expected
	before  expected
	settles time.Time // from when on no request that is sent may be answered as before; zero while a change is made
	also    []expected
	fresh   int // answers as they should be now, since the change
}

func (f *fleet) sender(t *testing.T, name, file string, now expected) *sender {
	t.Helper()
	for _, c := range f.cases {
		if c.File != file {
			continue
		}
		s := &sender{name: name, fleet: f, c: c, client: f.clientOf(t, c), now: now, before: now, idle: map[mesh.Protocol]chan mesh.Conn{}}
		for _, protocol := range mesh.Protocols {
			s.idle[protocol] = make(chan mesh.Conn, mostInFlight)
		}
		return s
	}
	t.Fatalf("the corpus has no case %s in this world", file)
	return nil
}

// becomes says what the answer is from now on, while the change is made: until [sender.settle]
// it may as well be the one that it was.
func (s *sender) becomes(e expected, also ...expected) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.now, s.also, s.settles, s.fresh = s.now, e, also, time.Time{}, 0
}

// settle says from when on nobody may be answered as before.
func (s *sender) settle(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settles, s.fresh = at, 0
}

// freshAnswers returns how many answers in a row were as they should be now.
func (s *sender) freshAnswers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fresh
}

// send sends the request once.
func (s *sender) send(ctx context.Context, protocol mesh.Protocol) (*mesh.Answer, error) {
	fields, body, err := s.fleet.Stage.World.HTTP2(s.c, time.Now())
	if err != nil {
		return nil, err
	}
	if kid := s.kid.Load(); kid != nil {
		if err := s.sign(fields, *kid); err != nil {
			return nil, err
		}
	}
	var conn mesh.Conn
	select {
	case conn = <-s.idle[protocol]:
	default:
		var refused *mesh.Answer
		if conn, refused, err = s.client.Open(ctx, protocol); conn == nil {
			return refused, err
		}
		s.opened.Add(1)
	}
	a, err := conn.Do(mesh.NewRequest(fields, body))
	if err != nil || a.Refused != "" || a.Last {
		conn.Close()
		return a, err
	}
	s.idle[protocol] <- conn
	return a, nil
}

// sign replaces the token by one with the same claims, signed with that key.
func (s *sender) sign(fields []authz.Header, kid string) error {
	for i, f := range fields {
		token, is := strings.CutPrefix(f.Value, "Bearer ")
		if !is || !strings.EqualFold(f.Name, "authorization") {
			continue
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if err != nil {
			return err
		}
		issuer := s.fleet.Stage.World.World.Issuers[0].Name
		token, err = s.fleet.Stage.World.Issuers[issuer].SignPayload("ES256", kid, nil, payload)
		fields[i].Value = "Bearer " + token
		return err
	}
	return fmt.Errorf("%s has no token", s.c.File)
}

// judge says what an answer to a request that was sent then is.
func (s *sender) judge(sent time.Time, a *mesh.Answer, stale bool) load.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	good := load.Denied
	if a.Status == 200 {
		good = load.Answered
	}
	for _, e := range append([]expected{s.now}, s.also...) {
		if e.matches(a) {
			s.fresh++
			return load.Verdict{Kind: good}
		}
	}
	s.fresh = 0
	detail := fmt.Sprintf("%s: %v, want %v", s.name, a, s.now)
	switch {
	case s.before.matches(a) && (s.settles.IsZero() || sent.Before(s.settles)):
		return load.Verdict{Kind: load.Old}
	case stale && denied(authz.MapStale).matches(a):
		return load.Verdict{Kind: load.Denied}
	case a.Refused != "" || a.Status >= 500:
		return load.Verdict{Kind: load.Failed, Detail: detail}
	}
	return load.Verdict{Kind: load.Wrong, Detail: detail}
}

const (
	rate         = 100 // requests a second
	mostInFlight = 1024
	most         = 10 * time.Second // that a client waits: more than Envoy does for a decision
)

// A fleetLoad is the steady load of all senders, in turn and over both protocols.
type fleetLoad struct {
	*load.Load
	senders []*sender
	stale   atomic.Bool // map-stale is a denial by design
}

func startFleetLoad(ctx context.Context, senders ...*sender) *fleetLoad {
	l := &fleetLoad{senders: senders}
	l.Load = load.Start(ctx, load.Config{Rate: rate, InFlight: mostInFlight, Timeout: most, Call: l.call})
	return l
}

func (l *fleetLoad) call(ctx context.Context, n int) load.Verdict {
	s := l.senders[n%len(l.senders)]
	protocol := mesh.Protocols[n/len(l.senders)%len(mesh.Protocols)]
	sent := time.Now()
	a, err := s.send(ctx, protocol)
	switch took := time.Since(sent); {
	case err != nil:
		return load.Verdict{Kind: load.Failed, Detail: fmt.Sprintf("%s, %s: %v", s.name, protocol, err)}
	case took > most:
		return load.Verdict{Kind: load.Failed, Detail: fmt.Sprintf("%s, %s: answered after %v", s.name, protocol, took)}
	}
	return s.judge(sent, a, l.stale.Load())
}

// await waits until as many requests were sent in this phase.
func (l *fleetLoad) await(t *testing.T, requests int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests are answered", requests), func() bool { return l.Now().Requests >= requests })
}

// awaitFresh waits until the sender has been answered as it should be now often enough in a
// row that every replica was among those who answered.
func (l *fleetLoad) awaitFresh(t *testing.T, senders ...*sender) {
	t.Helper()
	for _, s := range senders {
		eventually(t, s.name+" is answered by everybody as it should be", func() bool { return s.freshAnswers() >= 30 })
	}
}

// close closes the connections of all senders.
func (l *fleetLoad) close() {
	for _, s := range l.senders {
		for _, idle := range s.idle {
			for len(idle) > 0 {
				(<-idle).Close()
			}
		}
	}
}
