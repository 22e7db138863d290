//go:build docker

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"asid-authz/authz/authztest"
	"asid-authz/cache/redistest"
	"asid-authz/e2e/docker"
	"asid-authz/e2e/mesh"
)

// TestDocker runs the deployment of compose.yaml and calls it from outside. `make e2e-docker`
// runs it, because it needs a Docker engine, and minutes.
func TestDocker(t *testing.T) {
	f := startFleet(t)
	t.Run("corpus", f.testCorpus)
	t.Run("faults", f.testFaults)
	t.Run("private", f.testNothingPrivateIsWritten)
}

// A fleet is the deployment in the world that most deployments are like.
type fleet struct {
	*docker.Fleet
	cases  []*authztest.Case
	client mesh.Client // without a certificate
}

// startFleet makes the images, starts everything, and ends it with the test.
func startFleet(t *testing.T) *fleet {
	ctx := t.Context()
	if err := docker.Available(ctx); err != nil {
		t.Fatal(err)
	}
	corpus := loadCorpus(t)
	f := &fleet{cases: corpus.In(authztest.Usual)}
	world, err := corpus.Worlds[authztest.Usual].Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := world.Issuers[world.World.Issuers[0].Name].AddKey("ES256", newKey); err != nil {
		t.Fatal(err)
	}
	addresses, err := docker.FreeAddresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := docker.NewStage(t.TempDir(), world, addresses)
	if err != nil {
		t.Fatal(err)
	}
	// The key that follows is not published yet.
	keys, _ := keysWithout(t, world.Issuers[world.World.Issuers[0].Name].JWKS(), newKey)
	if err := stage.Replace("issuer", "jwks.json", keys); err != nil {
		t.Fatal(err)
	}
	const authz = "asid-authz:e2e"
	images := findImages(t)
	t.Logf("Envoy: %v; Redis: %v; built with %v", images.Envoy, images.Redis, images.Go)
	build := docker.Build{Name: authz, Go: images.Go.Name}
	build.Version, build.Revision = docker.Describe(ctx) // as in `make image`, so that the one finds the other's work done
	if err := build.Run(ctx, os.Stderr); err != nil {
		t.Fatal(err)
	}
	peers, err := docker.BuildPeers(ctx, stage.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage.ConfigureEnvoy(ctx, authz); err != nil {
		t.Fatal(err)
	}
	f.Fleet, err = docker.NewFleet(ctx, fmt.Sprintf("asid-e2e-%d", os.Getpid()), stage, images, authz, peers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.Log(context.Background()))
		}
		if err := f.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	if err := f.Up(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("everything is healthy after %v", time.Since(began).Round(100*time.Millisecond))
	address, err := f.Edge(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.client = mesh.Client{Address: address, ServerName: world.Authority, Roots: stage.Roots()}
	return f
}

// findImages returns public images, or stand-ins if STANDIN is set. Which of them is no
// guess: what a test was run with must not depend on whether a registry answered today.
func findImages(t *testing.T) docker.Images {
	images := docker.PublicImages()
	if os.Getenv("STANDIN") == "" {
		return images
	}
	redis, err := redistest.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !redis.Caps.TLS {
		t.Fatalf("%v: let REDIS_SERVER name one with TLS", redis)
	}
	if images.Go, err = docker.StandInGo(t.Context()); err != nil {
		t.Fatal(err)
	}
	images.Envoy, images.Redis, err = docker.StandIns(t.Context(), docker.Programs{Envoy: programs.Envoy, EnvoyVersion: programs.EnvoyVersion, Redis: redis.Path, RedisName: strings.ToLower(redis.Name), RedisVersion: redis.Version})
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// clientOf returns a client with the case's certificate.
func (f *fleet) clientOf(t *testing.T, c *authztest.Case) *mesh.Client {
	t.Helper()
	certificate, err := f.Stage.World.Certificate(c)
	if err != nil {
		t.Fatal(err)
	}
	client := f.client
	if certificate != nil {
		shown := certificate.TLS()
		client.Certificate = &shown
	}
	return &client
}

// leastCases is how many cases must be played: a corpus that shrinks, or a filter that lets
// nothing pass, must not look like a test.
const leastCases = 30

// testCorpus plays every case of the world that needs no other configuration of Envoy, over
// both protocols, and compares the answers with the records of all replicas.
func (f *fleet) testCorpus(t *testing.T) {
	type play struct {
		*authztest.Case
		protocol string
		want     authztest.Want
	}
	plays := map[string]play{} // by decision
	played := 0
	for _, c := range f.cases {
		if kindOf(c) != (edgeKind{}) {
			continue
		}
		played++
		for _, protocol := range c.Protocols() {
			want := wanted(c, protocol)
			answer, err := f.send(t, c, protocol)
			if err != nil {
				t.Fatalf("%s/%s: %v", c.File, protocol, err)
			}
			if id := f.checkAnswer(t, c, protocol, answer, want); id != "" {
				plays[id] = play{c, protocol, want}
			}
		}
	}
	if played < leastCases {
		t.Errorf("%d cases were played, at least %d should be", played, leastCases)
	}
	records := f.records(t)
	replicas := map[string]int{}
	for id, p := range plays {
		r, found := records[id]
		if !found {
			t.Errorf("%s/%s: no replica has a record of decision %s", p.File, p.protocol, id)
			continue
		}
		replicas[r.replica]++
		got := authztest.Want{Kind: authztest.WantAllow, Endpoint: r.Endpoint, Interaction: r.Interaction}
		if r.Decision != "allow" {
			got = authztest.Want{Kind: authztest.WantDeny, Reason: p.want.Reason}
			if r.Reason != p.want.Reason.String() {
				t.Errorf("%s/%s: the record says %s, want %v", p.File, p.protocol, r.Reason, p.want)
			}
		}
		if got != p.want {
			t.Errorf("%s/%s: the record says %v, want %v", p.File, p.protocol, got, p.want)
		}
	}
	if len(replicas) != 3 {
		t.Errorf("%d replicas decided, there are 3: %v", len(replicas), replicas)
	}
	t.Logf("%d cases, %d decisions, by replica %v", played, len(plays), replicas)
}

func (f *fleet) send(t *testing.T, c *authztest.Case, protocol string) (*mesh.Answer, error) {
	client, now := f.clientOf(t, c), time.Now()
	if protocol == "h2" {
		fields, body, err := f.Stage.World.HTTP2(c, now)
		if err != nil {
			return nil, err
		}
		return client.Frames(t.Context(), fields, body)
	}
	message, err := f.Stage.World.HTTP1(c, now)
	if err != nil {
		return nil, err
	}
	return client.Raw(t.Context(), c.Request.Method, message)
}

// checkAnswer compares an answer with what is wanted, and returns the id of the decision that
// it comes from, "" if there was none.
func (f *fleet) checkAnswer(t *testing.T, c *authztest.Case, protocol string, a *mesh.Answer, want authztest.Want) (id string) {
	t.Helper()
	wrong := func() { t.Errorf("%s/%s: got %v\nwant %v", c.File, protocol, a, want) }
	switch want.Kind {
	case authztest.WantAllow:
		if a.Refused != "" || a.Status != http.StatusOK {
			wrong()
			return ""
		}
		if c.Request.Method == http.MethodHead {
			return ""
		}
		var seen mesh.Seen
		if err := json.Unmarshal(a.Body, &seen); err != nil {
			t.Errorf("%s/%s: not the API's answer: %v", c.File, protocol, a)
		}
		if seen.Header.Get("X-Asid-Endpoint") != want.Endpoint || seen.Header.Get("X-Asid-Interaction-Id") != want.Interaction {
			t.Errorf("%s/%s: the API was told %v", c.File, protocol, seen.Header)
		}
		return seen.Header.Get("X-Asid-Decision-Id")
	case authztest.WantDeny:
		if a.Refused != "" || a.Status != statusOf(want.Reason) || a.Header.Get("X-Asid-Reason") != publicReason(want.Reason) {
			wrong()
		}
		id = a.Header.Get("X-Asid-Decision-Id")
		if id == "" {
			wrong()
		}
		if c.Request.Method != http.MethodHead {
			if o := checkOutcome(t, a, asksForJSON(c)); o.id != id {
				t.Errorf("%s/%s: the OperationOutcome's id is %q, the decision's %q", c.File, protocol, o.id, id)
			}
		}
		return id
	case authztest.WantEnvoyAnswer:
		if a.Refused != "" || a.Status != want.Status || a.Header.Get("X-Asid-Decision-Id") != "" {
			wrong()
		}
	case authztest.WantRefused:
		if a.Refused == "" {
			wrong()
		}
	}
	return ""
}

// A fleetRecord is an audit record with the container that wrote it.
type fleetRecord struct {
	mesh.Record
	replica string
}

// records returns the audit records of all replicas so far, by decision.
func (f *fleet) records(t *testing.T) map[string]fleetRecord {
	t.Helper()
	outputs, err := f.Outputs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]fleetRecord{}
	for _, o := range outputs {
		if o.Service != "authz" {
			continue
		}
		for line := range strings.Lines(o.Stdout) { // the service's own log is on stderr
			r := fleetRecord{replica: o.ID}
			if err := json.Unmarshal([]byte(line), &r.Record); err != nil {
				t.Fatalf("a line of the audit log is no JSON: %q", line)
			}
			if r.DecisionID != "" {
				records[r.DecisionID] = r
			}
		}
	}
	return records
}

// testNothingPrivateIsWritten looks through everything that the containers wrote, those that
// are gone included, for tokens, PEM, NHS numbers and passwords.
func (f *fleet) testNothingPrivateIsWritten(t *testing.T) {
	outputs, err := f.Outputs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wrote := map[string]int{}
	for _, o := range outputs {
		text := o.Stdout + o.Stderr
		wrote[o.Service] += len(text)
		expectNothingPrivate(t, o.Service+" "+o.ID, text, f.Stage.Redis)
	}
	for _, service := range []string{"authz", "redis-1", "sentinel-1", "publisher"} {
		if wrote[service] == 0 {
			t.Errorf("%s wrote nothing: %v", service, wrote)
		}
	}
	t.Logf("bytes written: %v", wrote)
}
