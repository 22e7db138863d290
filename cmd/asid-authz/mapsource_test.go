package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"asid-authz/authz"
	"asid-authz/cache/redistest"
)

// fromRedis makes the deployment's map one from Redis.
func (d *deployment) fromRedis(settings string) {
	d.t.Helper()
	d.replace("asid-authz.yaml", "map: {source: file, file: map.yaml}", "map: {source: redis, redis: {"+settings+"}}")
}

func (d *deployment) config() *Config {
	d.t.Helper()
	c, err := loadConfig(d.path("asid-authz.yaml"))
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// nobody is an address where no Redis listens.
const nobody = `addresses: ["127.0.0.1:1"]`

// TestServeFromRedis is the whole way of a map: the service starts before Redis does and
// becomes ready by itself, what the commands publish takes effect, and what Redis was
// told last is decided by when it is away.
func TestServeFromRedis(t *testing.T) {
	d := newDeployment(t)
	publisher, redis := redisFile(t, d.dir)
	if err := redis.Stop(); err != nil {
		t.Fatal(err)
	}
	d.fromRedis(fmt.Sprintf("addresses: [%q], username: reader, password_file: %q", redis.Address(), redis.PasswordFile(redistest.Reader)))
	d.start()
	if got := d.ask(); got != "deny map-unavailable" {
		t.Fatalf("without Redis: %s", got)
	}
	if status, body := d.get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "map-unavailable") {
		t.Errorf("not ready without Redis: %d %s", status, body)
	}
	if err := redis.Restart(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	publish := func(arguments ...string) {
		t.Helper()
		if code, out, errs := command(t, append(append([]string{"map"}, arguments...), "--redis", publisher)...); code != exitOK {
			t.Fatalf("%v: exit %d\n%s%s", arguments, code, out, errs)
		}
	}
	publish("apply", d.path("map.yaml"), "--yes", "--reason", "first")
	d.await("ready", func() bool { status, _ := d.get("/readyz"); return status == http.StatusOK })
	if got := d.ask(); got != "allow" {
		t.Fatalf("with the map: %s\n%s", got, d.stderr)
	}
	for _, line := range []string{`asid_authz_map_connected 1`, `asid_authz_map_systems 10`, `asid_authz_map_regressed 0`, `asid_authz_map_incomplete 0`,
		`asid_authz_map_entries_refused 0`, `asid_authz_map_reloads_total 1`, `asid_authz_map_max_staleness_seconds 3600`} {
		if !d.hasMetric(line) {
			t.Errorf("the metrics do not say %s", line)
		}
	}
	if code, out, errs := command(t, "explain", "--config", d.path("asid-authz.yaml"), "--path", "/STU3/DocumentReference", "--cert", d.path("client.pem"),
		"--header", "fromASID: 200000000117"); !strings.Contains(out, "in the map, for ASID 200000000117:\n  name") {
		t.Errorf("explain by the map in Redis: exit %d\n%s%s", code, out, errs)
	}
	publish("suspend", "200000000117", "--reason", "test")
	d.await("a suspension takes effect", func() bool { return d.ask() == "deny system-suspended" })
	publish("resume", "200000000117", "--reason", "test")
	d.await("and its end", func() bool { return d.ask() == "allow" })
	redis.Kill()
	d.await("Redis is missed", func() bool { return d.hasMetric(`asid_authz_map_connected 0`) })
	if got := d.ask(); got != "allow" {
		t.Errorf("inside the bound, without Redis: %s", got)
	}
	if status, _ := d.get("/readyz"); status != http.StatusOK {
		t.Errorf("ready is %d while Redis is away", status)
	}
}

// TestGRPCHealth: Envoy's health checks hear NOT_SERVING before there is a map and when it is
// too old, about the service and about the process, and SERVING as soon as there is a fresh one.
func TestGRPCHealth(t *testing.T) {
	d := newDeployment(t)
	publisher, redis := redisFile(t, d.dir)
	if err := redis.Stop(); err != nil {
		t.Fatal(err)
	}
	d.fromRedis(fmt.Sprintf("addresses: [%q], username: reader, password_file: %q", redis.Address(), redis.PasswordFile(redistest.Reader)))
	d.replace("asid-authz.yaml", "map: {source: redis,", "map: {max_staleness: 5s, source: redis,")
	d.start()
	health := func() (statuses []healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", "envoy.service.auth.v3.Authorization"} {
			response, err := d.health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
			if err != nil {
				t.Fatalf("health of %q: %v", service, err)
			}
			statuses = append(statuses, response.GetStatus())
		}
		return statuses
	}
	are := func(want healthv1.HealthCheckResponse_ServingStatus) func() bool {
		return func() bool {
			return !slices.ContainsFunc(health(), func(got healthv1.HealthCheckResponse_ServingStatus) bool { return got != want })
		}
	}
	const serving, notServing = healthv1.HealthCheckResponse_SERVING, healthv1.HealthCheckResponse_NOT_SERVING
	apply := func(more ...string) {
		t.Helper()
		if code, _, errs := command(t, append([]string{"map", "apply", d.path("map.yaml"), "--yes", "--redis", publisher}, more...)...); code != exitOK {
			t.Fatalf("apply: exit %d, %s", code, errs)
		}
	}

	if got := health(); got[0] != notServing || got[1] != notServing {
		t.Errorf("without a map: %v", got)
	}
	if err := redis.Restart(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	d.await("Redis is found, and is empty", func() bool { return strings.Contains(d.stderr.String(), "nothing is published") })
	if got := health(); got[0] != notServing || got[1] != notServing {
		t.Errorf("with an empty Redis: %v", got)
	}
	apply()
	d.await("SERVING with a map", are(serving))
	if got := d.ask(); got != "allow" {
		t.Errorf("SERVING, and the answer is %s", got)
	}
	redis.Kill()
	d.await("NOT_SERVING with a map that is too old", are(notServing))
	if got := d.ask(); got != "deny map-stale" {
		t.Errorf("NOT_SERVING, and the answer is %s", got)
	}
	// It has held a map, though nobody asked then: that only Redis is missing is no reason to
	// take it out.
	if status, _ := d.get("/readyz"); status != http.StatusOK {
		t.Errorf("ready is %d with a map that is too old", status)
	}
	if err := redis.Restart(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	apply()
	d.await("SERVING with a map that is fresh again", are(serving))
}

// The service starts without Redis: it has no map, says so, and keeps its replica through
// every generation.
func TestMapFromRedisWithoutRedis(t *testing.T) {
	d := newDeployment(t)
	d.fromRedis(nobody)
	c := d.config()
	g, err := build(c, nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if is, why := g.fresh(time.Now()); is || why != authz.MapUnavailable.String() {
		t.Errorf("fresh %t, %s; want false, map-unavailable", is, why)
	}
	again, err := build(c, g, zap.NewNop())
	if err != nil || again.interactions != g.interactions {
		t.Errorf("another generation has another replica, or %v", err)
	}
	if err := g.await(t.Context(), 300*time.Millisecond); err == nil || !strings.Contains(err.Error(), "no map from Redis") {
		t.Errorf("waiting for a map: %v", err)
	}
	other := *c
	other.Map.Source = "file"
	if _, err := build(&other, g, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("another source in a reload: %v", err)
	}
}

// What is missing from the beginning is a mistake in the configuration.
func TestMapFromRedisWithoutPassword(t *testing.T) {
	for settings, want := range map[string]string{
		", username: reader, password_file: gone": "gone",
		", tls: {ca: gone.pem}":                   "map.redis.tls: ",
	} {
		d := newDeployment(t)
		d.fromRedis(nobody + settings)
		if _, err := build(d.config(), nil, zap.NewNop()); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

func TestClientName(t *testing.T) {
	if got := clientName("a b\nc-é"); got != "a-b-c---" {
		t.Errorf("%q", got)
	}
}
