//go:build docker

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/cache/redistest"
	"asid-authz/e2e/docker"
)

// The keys with which the issuer signs gp-one's tokens: the one that the corpus knows, and the
// one that follows it.
const oldKey, newKey = "cas-2", "cas-6"

// trust is the system that is suspended.
const trust = "200000000201"

// leastRequests is how many are sent in every phase at least: a fault without a load shows
// nothing.
const leastRequests = 200

// A faults is a deployment under load, to which things are done one after the other.
type faults struct {
	*fleet
	load *fleetLoad

	steady  *sender // gp-one reads, and may
	refused *sender // gp-one deletes, and may not
	former  *sender // gp-one reads, with the key that is withdrawn
	granted *sender // gp-two updates, until the grant is revoked
	revoked *sender // gp-two creates, until its certificate is revoked
	suspend *sender // the trust deletes, unless it is suspended

	cut              string    // the replica that was cut off
	expired, rejoins time.Time // between these its map must not be used
}

// testFaults does to the deployment what happens to one, under a steady load. No answer is
// ever wrong, and none of these faults costs a request.
func (f *fleet) testFaults(t *testing.T) {
	s := &faults{fleet: f}
	s.steady = f.sender(t, "gp-one's read", readCase, allowed)
	s.refused = f.sender(t, "gp-one's delete", removeCase, denied(authz.InteractionNotGranted))
	s.former = f.sender(t, "gp-one's read with the former key", readCase, allowed)
	s.granted = f.sender(t, "gp-two's update", "allow-update", allowed)
	s.revoked = f.sender(t, "gp-two's create", "allow-create", allowed)
	s.suspend = f.sender(t, "the trust's delete", "allow-delete", allowed)
	s.load = startFleetLoad(t.Context(), s.steady, s.refused, s.former, s.granted, s.revoked, s.suspend)
	defer func() {
		report := s.load.Stop()
		s.load.close()
		t.Logf("%d requests a second, Envoy: %v, Redis: %v\n%v", rate, f.Images.Envoy, f.Images.Redis, report)
		for _, p := range report {
			if p.Requests < leastRequests {
				t.Errorf("%s: %d requests, there should be at least %d", p.Name, p.Requests, leastRequests)
			}
			if p.Wrong > 0 || p.Failed > 0 {
				t.Errorf("%s: %d answers were wrong and %d requests failed:\n%s", p.Name, p.Wrong, p.Failed, strings.Join(p.Details, "\n"))
			}
		}
	}()
	s.load.await(t, leastRequests)
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"a replica is killed", s.killReplica},
		{"three replicas are rolled", s.roll},
		{"four replicas, and three again", s.scale},
		{"the primary of Redis is killed", s.killPrimary},
		{"a grant is revoked", s.revokeGrant},
		{"a system is suspended, and resumed", s.suspendAndResume},
		{"a replica is cut off from Redis", s.cutReplica},
		{"the issuer rotates its keys", s.rotateKeys},
		{"a certificate is revoked", s.revokeCertificate},
	} {
		s.load.Phase(step.name)
		step.do(t)
		s.load.await(t, leastRequests)
	}
	s.load.Phase("steady again")
	s.load.await(t, leastRequests)
	s.checkCut(t)
	s.checkAgreement(t)
}

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *faults) replicas(t *testing.T) []string {
	t.Helper()
	ids, err := s.Containers(t.Context(), "authz")
	must(t, err)
	return ids
}

// scaleTo has that many replicas, and waits until all of them are asked.
func (s *faults) scaleTo(t *testing.T, n int) {
	t.Helper()
	before := s.replicas(t)
	must(t, s.Scale(t.Context(), "authz", n))
	must(t, s.Healthy(t.Context(), "authz"))
	for _, id := range s.replicas(t) {
		if !slices.Contains(before, id) {
			s.awaitAsked(t, id)
		}
	}
}

// awaitAsked waits until a replica that has just started decides.
func (s *faults) awaitAsked(t *testing.T, id string) {
	t.Helper()
	eventually(t, "the new replica is asked", func() bool {
		return strings.Contains(outputOf(t, id).Stdout, `"decision_id"`)
	})
}

func outputOf(t *testing.T, id string) docker.Output {
	t.Helper()
	out, err := docker.OutputOf(t.Context(), id)
	must(t, err)
	return out
}

func (s *faults) killReplica(t *testing.T) {
	victim := s.replicas(t)[0]
	must(t, s.Kill(t.Context(), victim))
	s.load.await(t, leastRequests) // two seconds, with two replicas
	must(t, s.Remove(t.Context(), victim))
	s.scaleTo(t, 3)
}

// roll replaces the replicas one by one, as a Deployment does: a new one is there before an
// old one goes.
func (s *faults) roll(t *testing.T) {
	for _, old := range s.replicas(t) {
		s.scaleTo(t, 4)
		must(t, s.Stop(t.Context(), old))
		must(t, s.Remove(t.Context(), old))
	}
}

func (s *faults) scale(t *testing.T) {
	s.scaleTo(t, 4)
	fourth := s.replicas(t)[0] // the newest
	must(t, s.Stop(t.Context(), fourth))
	must(t, s.Remove(t.Context(), fourth))
}

// killPrimary kills the primary of Redis. What is published to the next one holds, and the
// old one comes back as its replica.
func (s *faults) killPrimary(t *testing.T) {
	before := s.primary(t)
	ids, err := s.Containers(t.Context(), before)
	must(t, err)
	must(t, s.Kill(t.Context(), ids[0]))
	eventually(t, "another node is the primary", func() bool { return s.primary(t) != before })
	s.suspendAndResume(t)
	must(t, s.Start(t.Context(), ids[0]))
	must(t, s.Healthy(t.Context(), before))
	eventually(t, "the old primary is a replica", func() bool {
		return strings.Contains(s.logOf(t, before), "REPLICA sync: Finished with success")
	})
}

// primary returns the service that the first Sentinel has last promoted.
func (s *faults) primary(t *testing.T) string {
	t.Helper()
	service := "redis-1"
	for line := range strings.Lines(s.logOf(t, "sentinel-1")) {
		if _, promoted, is := strings.Cut(line, "+switch-master "+redistest.MasterName+" "); is {
			service = s.Stage.RedisAt(strings.Fields(promoted)[2])
		}
	}
	return service
}

// logOf returns what the one container of a service wrote.
func (s *faults) logOf(t *testing.T, service string) string {
	t.Helper()
	ids, err := s.Containers(t.Context(), service)
	must(t, err)
	out := outputOf(t, ids[0])
	return out.Stdout + out.Stderr
}

// soon is how long after a command has ended nobody may be answered as before any more.
const soon = 5 * time.Second

// publish runs a command that changes the map, and waits until everybody is answered so.
func (s *faults) publish(t *testing.T, of *sender, becomes expected, command ...string) {
	t.Helper()
	of.becomes(becomes)
	_, err := s.Map(t.Context(), append(command, "--by", "e2e", "--reason", t.Name())...)
	must(t, err)
	of.settle(time.Now().Add(soon))
	s.load.awaitFresh(t, of)
}

func (s *faults) suspendAndResume(t *testing.T) {
	t.Helper()
	s.publish(t, s.suspend, denied(authz.SystemSuspended), "suspend", trust)
	s.publish(t, s.suspend, allowed, "resume", trust)
}

func (s *faults) revokeGrant(t *testing.T) {
	const grants = "interactions: [nrl-consumer, nrl-provider]"
	const without = "interactions: [nrl-consumer, urn:nhs:names:services:nrl:DocumentReference.create, urn:nhs:names:services:nrl:DocumentReference.delete]"
	text, err := s.Stage.World.MapText()
	must(t, err)
	if strings.Count(text, grants) != 1 {
		t.Fatalf("the map has %q %d times", grants, strings.Count(text, grants))
	}
	must(t, s.Stage.Replace("publisher", "map.yaml", []byte(strings.Replace(text, grants, without, 1))))
	s.publish(t, s.granted, denied(authz.InteractionNotGranted), "apply", "/etc/publisher/map.yaml", "--yes")
}

// cutReplica takes the way to Redis from one replica, and suspends a system behind its back.
// It may go on as before until its map is too old, and not a moment longer: then it says so,
// and is asked no more.
func (s *faults) cutReplica(t *testing.T) {
	s.load.stale.Store(true)
	s.cut = s.replicas(t)[0]
	must(t, s.Disconnect(t.Context(), s.cut, "state"))
	s.expired = time.Now().Add(docker.MaxStaleness)
	s.suspend.becomes(denied(authz.SystemSuspended))
	_, err := s.Map(t.Context(), "suspend", trust, "--by", "e2e", "--reason", t.Name())
	must(t, err)
	s.suspend.settle(s.expired)
	within(t, docker.MaxStaleness+patience, "the replica's map is too old", func() bool {
		return health(t, s.cut) == `"serving":false,"why":"map-stale"`
	})
	s.load.awaitFresh(t, s.load.senders...)
	s.rejoins = time.Now()
	must(t, s.Connect(t.Context(), s.cut, "state"))
	eventually(t, "the replica has caught up", func() bool { return strings.HasPrefix(health(t, s.cut), `"serving":true`) })
	s.load.stale.Store(false)
	s.publish(t, s.suspend, allowed, "resume", trust)
}

// health returns what a replica's log last said about its health.
func health(t *testing.T, id string) (says string) {
	t.Helper()
	for line := range strings.Lines(outputOf(t, id).Stderr) {
		if at := strings.Index(line, `"serving":`); at >= 0 && strings.Contains(line, `"msg":"health"`) {
			says = strings.TrimSuffix(strings.TrimSpace(line[at:]), "}")
		}
	}
	return says
}

// checkCut looks into the records of the replica that was cut off: it has let nobody in while
// its map was too old, and asked or not, it was the one that was cut.
func (s *faults) checkCut(t *testing.T) {
	decided := 0
	for _, r := range s.records(t) {
		if r.replica != s.cut {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, r.Time)
		must(t, err)
		if at.Before(s.expired) {
			decided++
		} else if at.Before(s.rejoins) && r.Reason != authz.MapStale.String() {
			t.Errorf("the replica that was cut off decided %v after its map was too old: %+v", at.Sub(s.expired), r)
		}
	}
	if decided == 0 {
		t.Error("the replica that was cut off never decided anything")
	}
}

// checkAgreement compares the version that the command finds to be whole with the one that
// each replica last decided by.
func (s *faults) checkAgreement(t *testing.T) {
	t.Helper()
	out, err := s.Map(t.Context(), "verify", "--json")
	must(t, err)
	_, version, found := strings.Cut(out, `"version":`)
	if !found {
		t.Fatalf("verify says %q", out)
	}
	version = strings.TrimSpace(version[:strings.IndexAny(version, ",}\n")])
	last := map[string]fleetRecord{}
	for _, r := range s.records(t) {
		if r.MapVersion > 0 && r.Time > last[r.replica].Time {
			last[r.replica] = r
		}
	}
	for _, id := range s.replicas(t) {
		if got := fmt.Sprint(last[id].MapVersion); got != version {
			t.Errorf("replica %s decides by version %s, Redis has %s", id, got, version)
		}
	}
}

// rotateKeys replaces the key of gp-one's tokens as an issuer does that knows how: the new key
// is published before it is used, and the old one stays for as long as its tokens live. Then
// it is withdrawn.
func (s *faults) rotateKeys(t *testing.T) {
	t.Helper()
	s.publishKeys(t)
	kid := newKey
	for _, of := range []*sender{s.steady, s.refused} {
		of.kid.Store(&kid)
	}
	s.former.becomes(denied(authz.TokenKeyUnknown), denied(authz.KeysUnavailable)) // the latter while it is asked whether there is such a key by now
	s.publishKeys(t, oldKey)
	s.former.settle(time.Now())
	s.load.awaitFresh(t, s.former)
	s.former.becomes(allowed)
	s.former.kid.Store(&kid)
	s.load.awaitFresh(t, s.former)
	s.former.settle(time.Now())
}

// publishKeys publishes all keys but those, and waits until every replica has them.
func (s *faults) publishKeys(t *testing.T, without ...string) {
	t.Helper()
	text, keys := keysWithout(t, s.Stage.World.Issuers[s.Stage.World.World.Issuers[0].Name].JWKS(), without...)
	must(t, s.Stage.Replace("issuer", "jwks.json", text))
	want := fmt.Sprintf(`"keys":%d,`, keys)
	for _, id := range s.replicas(t) {
		within(t, docker.KeysRefresh+patience, "a replica has the issuer's keys", func() bool {
			accepted := ""
			for line := range strings.Lines(outputOf(t, id).Stderr) {
				if strings.Contains(line, `"msg":"keys accepted"`) {
					accepted = line
				}
			}
			return strings.Contains(accepted, want)
		})
	}
}

// keysWithout returns a key set without those keys, and how many are left.
func keysWithout(t *testing.T, jwks []byte, without ...string) ([]byte, int) {
	t.Helper()
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	must(t, json.Unmarshal(jwks, &set))
	set.Keys = slices.DeleteFunc(set.Keys, func(key map[string]any) bool {
		kid, _ := key["kid"].(string)
		return slices.Contains(without, kid)
	})
	text, err := json.Marshal(set)
	must(t, err)
	return text, len(set.Keys)
}

// revokeCertificate revokes gp-two's certificate, on connections that are open: no new one is
// needed to be told.
func (s *faults) revokeCertificate(t *testing.T) {
	certificate, err := s.Stage.World.Certificate(s.revoked.c)
	must(t, err)
	opened := s.revoked.opened.Load()
	for _, of := range []*sender{s.granted, s.revoked} {
		of.becomes(denied(authz.CertificateRevoked))
	}
	text, err := s.Stage.World.CRLs(2, certificate)
	must(t, err)
	must(t, s.Stage.Replace("authz", "crls.pem", text))
	for _, of := range []*sender{s.granted, s.revoked} {
		of.settle(time.Now().Add(noticed))
	}
	s.load.awaitFresh(t, s.granted, s.revoked)
	if now := s.revoked.opened.Load(); now != opened {
		t.Errorf("%d connections were opened meanwhile: the denials need not be from those that were open", now-opened)
	}
}

// noticed is how long a replica may take to see that a file was replaced: it looks every ten
// seconds if nobody tells it.
const noticed = 15 * time.Second
