package main

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"asid-authz/authz"
	"asid-authz/envoy"
)

// metrics are the service's. Every label value is from a closed list, and an ASID is
// never one: what a stranger can choose must not be able to make a time series.
type metrics struct {
	registry  *prometheus.Registry
	allowed   prometheus.Counter
	denied    []prometheus.Counter // by Reason, bound once: a look-up by label costs more than the decision
	checks    prometheus.Histogram
	waits     prometheus.Histogram
	reloads   *prometheus.CounterVec
	auditLost prometheus.Counter

	misconfigured []prometheus.Gauge // by envoy.Sign
}

// newMetrics registers the metrics that exist whatever the configuration says.
func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "asid_authz_decisions_total",
		Help: "Decisions, by outcome (allow, deny) and Reason (empty for an allow).",
	}, []string{"decision", "reason"})
	m.checks = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "asid_authz_check_seconds",
		Help:    "Time from reading a Check to its decision.",
		Buckets: []float64{5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 0.1},
	})
	m.waits = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "asid_authz_wait_seconds",
		Help:    "Time from the arrival of a question to its turn.",
		Buckets: []float64{1e-5, 1e-4, 1e-3, 5e-3, 1e-2, 2.5e-2, 7.5e-2, 0.15, 0.25},
	})
	m.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "asid_authz_reloads_total",
		Help: "Changed files, by what they hold and whether they were loaded or refused.",
	}, []string{"what", "result"})
	m.auditLost = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "asid_authz_audit_dropped_total",
		Help: "Audit records that were due and are lost: the buffer was full, or the output failed.",
	})
	misconfigured := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "asid_authz_misconfiguration",
		Help: "1 while the questions show a sign that Envoy is not configured as it should be.",
	}, []string{"sign"})
	for _, sign := range envoy.Signs() {
		m.misconfigured = append(m.misconfigured, misconfigured.WithLabelValues(sign.Name))
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "asid_authz_build_info",
		Help:        "1, with the version of the program.",
		ConstLabels: prometheus.Labels{"version": version()},
	})
	build.Set(1)
	m.registry.MustRegister(decisions, m.checks, m.waits, m.reloads, m.auditLost, misconfigured, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, what := range watchedKinds { // or the first refusal would be the birth of a series, which is no increase
		m.reloads.WithLabelValues(what, "loaded")
		m.reloads.WithLabelValues(what, "refused")
	}
	m.allowed = decisions.WithLabelValues("allow", "")
	for _, reason := range authz.Reasons() {
		m.denied = append(m.denied, decisions.WithLabelValues("deny", reason.String()))
	}
	return m
}

// count counts a decision.
func (m *metrics) count(r *envoy.Record) {
	if r.Decision.Allowed() {
		m.allowed.Inc()
	} else {
		m.denied[r.Decision.Reason()].Inc()
	}
	m.checks.Observe(r.Duration.Seconds())
	if r.Marked {
		m.waits.Observe(r.Waited.Seconds())
	}
}

func (m *metrics) reload(what, result string) { m.reloads.WithLabelValues(what, result).Inc() }

// observe registers what is asked for when the metrics are: the state of what is held.
func (m *metrics) observe(s *service, checks *envoy.Server) {
	m.registry.MustRegister(&stateCollector{s, checks})
}

// A stateCollector reads the running generation, whose issuers change with it.
type stateCollector struct {
	service *service
	checks  *envoy.Server
}

var (
	mapAge     = prometheus.NewDesc("asid_authz_map_age_seconds", "Time since the interaction map was last known to be the newest.", nil, nil)
	mapVersion = prometheus.NewDesc("asid_authz_map_version", "Version of the interaction map; 0 if there is none.", nil, nil)
	mapSystems = prometheus.NewDesc("asid_authz_map_systems", "Accredited systems in the interaction map.", nil, nil)
	mapBound   = prometheus.NewDesc("asid_authz_map_max_staleness_seconds", "How old the interaction map may be at the moment, break-glass included.", nil, nil)
	mapLink    = prometheus.NewDesc("asid_authz_map_connected", "1 while the map in Redis is confirmed by every answer, else 0. Without Redis there is no such series, nor the other four about it.", nil, nil)
	mapOlder   = prometheus.NewDesc("asid_authz_map_regressed", "1 while what is published in Redis is older than the map that is held.", nil, nil)
	mapBroken  = prometheus.NewDesc("asid_authz_map_incomplete", "1 while what is published in Redis does not fit its manifest.", nil, nil)
	mapRefused = prometheus.NewDesc("asid_authz_map_entries_refused", "Entries of the map in Redis that make no sense and are left out: their ASIDs are denied.", nil, nil)
	mapLoads   = prometheus.NewDesc("asid_authz_map_reloads_total", "Times that the whole map was loaded from Redis.", nil, nil)
	trustAge   = prometheus.NewDesc("asid_authz_trust_age_seconds", "Time since the CA bundle of the client certificates was last read.", nil, nil)
	crlAge     = prometheus.NewDesc("asid_authz_crl_age_seconds", "Time since the CRL of a CA was last known to be the newest: the oldest of those in use.", nil, nil)
	crlNext    = prometheus.NewDesc("asid_authz_crl_next_update_seconds", "Time until a CA has promised its next CRL (nextUpdate): the nearest, below 0 once it has passed, +Inf without CRLs.", nil, nil)
	breakGlass = prometheus.NewDesc("asid_authz_break_glass", "Orders of an emergency that are in force: 1 or 0.", []string{"order"}, nil)
	orderAge   = prometheus.NewDesc("asid_authz_break_glass_age_seconds", "Time since the file with the orders of an emergency was last read; 0 if none is configured.", nil, nil)
	keysAge    = prometheus.NewDesc("asid_authz_keys_age_seconds", "Time since the issuer's keys were last known to be the newest.", []string{"issuer"}, nil)
	expiry     = prometheus.NewDesc("asid_authz_server_certificate_expiry_seconds", "Unix time at which the certificate that Envoy verifies expires. Without TLS there is no such series.", nil, nil)
	panics     = prometheus.NewDesc("asid_authz_panics_total", "Checks that ended in a panic, and were denied (internal-error).", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{mapAge, mapVersion, mapSystems, mapBound, mapLink, mapOlder, mapBroken, mapRefused, mapLoads, trustAge, crlAge, crlNext, breakGlass, orderAge, keysAge, expiry, panics} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	g := c.service.generation.Load()
	now := time.Now()
	held := g.interactions.state()
	gauge(mapAge, authz.Age(now, held.confirmed).Seconds())
	gauge(mapVersion, float64(held.version))
	gauge(mapSystems, float64(held.systems))
	_, bound := g.authorizer.InForce(now)
	gauge(mapBound, bound.Seconds())
	if r := held.replica; r != nil {
		gauge(mapLink, oneIf(r.Err == nil))
		gauge(mapOlder, oneIf(r.Regressed))
		gauge(mapBroken, oneIf(r.Incomplete))
		gauge(mapRefused, float64(r.Refused))
		to <- prometheus.MustNewConstMetric(mapLoads, prometheus.CounterValue, float64(r.Loads))
	}
	trust, confirmed := g.trust.Current()
	gauge(trustAge, authz.Age(now, confirmed).Seconds())
	gauge(crlAge, trust.CRLAge(now).Seconds())
	if next := trust.NextCRL(); next.IsZero() {
		gauge(crlNext, math.Inf(1))
	} else {
		gauge(crlNext, next.Sub(now).Seconds())
	}
	_, inForce := g.breakGlassAt(now)
	for _, order := range []string{authz.BreakGlassDeny, authz.BreakGlassMaxStaleness} {
		gauge(breakGlass, oneIf(slices.Contains(strings.Split(inForce, ","), order)), order)
	}
	gauge(orderAge, g.breakGlassAge(now).Seconds())
	for _, k := range g.keys {
		gauge(keysAge, k.keys.Status().Age(now).Seconds(), k.issuer.Issuer)
	}
	if held := c.service.identity.certificate.Load(); held != nil {
		gauge(expiry, float64(held.Leaf.NotAfter.Unix()))
	}
	to <- prometheus.MustNewConstMetric(panics, prometheus.CounterValue, float64(c.checks.Panics()))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
