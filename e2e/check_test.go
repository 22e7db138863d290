package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
)

// TestCheck sends every case of the corpus through a real Envoy, over both protocols.
func TestCheck(t *testing.T) {
	corpus := loadCorpus(t)
	for name, world := range corpus.Worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, world, corpus.In(name))
			t.Run("asked", func(t *testing.T) { r.all(t, true) })
			// One after the other: that there is no record is only to be seen when nobody
			// else makes one.
			t.Run("not asked", func(t *testing.T) { r.all(t, false) })
			if got, want := int64(r.Upstream.Count()), r.allowed.Load(); got != want {
				t.Errorf("%d requests reached the API, %d should have", got, want)
			}
		})
	}
}

// A runner sends the cases of one world.
type runner struct {
	*mesh.Mesh
	cases    []*authztest.Case
	edges    map[edgeKind]*mesh.Edge
	odsCodes map[string]string // by ASID, as the map file has them
	profile  authz.Profile
	witness  *authztest.Case // a request of which there is a record, and which does not reach the API

	allowed atomic.Int64 // how many requests should have reached the API
}

// An edgeKind is what makes cases need an Envoy of another configuration.
type edgeKind struct {
	unverified bool
	route      string
}

func kindOf(c *authztest.Case) edgeKind { return edgeKind{c.Unverified, c.Route} }

func newRunner(t *testing.T, world *authztest.World, cases []*authztest.Case) *runner {
	t.Helper()
	minted, err := world.Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{Mesh: startMesh(t, minted, mesh.Options{}), cases: cases, edges: map[edgeKind]*mesh.Edge{}}
	for _, c := range cases {
		if c.Only == "" && c.Behind("h1").Kind == authztest.WantDeny {
			r.witness = c
		}
		kind := kindOf(c)
		if r.edges[kind] != nil {
			continue
		}
		var changes []mesh.Change
		if kind.unverified {
			changes = append(changes, mesh.Unverified)
		}
		if kind.route != "" {
			changes = append(changes, mesh.Naming(kind.route))
		}
		r.edges[kind] = startEdge(t, r.Mesh, changes...)
	}
	r.readMap(t)
	if r.profile, err = world.Decoded(); err != nil {
		t.Fatal(err)
	}
	return r
}

// readMap reads the map file again, by other means than the service does.
func (r *runner) readMap(t *testing.T) {
	t.Helper()
	text, err := r.World.MapText()
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Systems []struct{ ASID, ODS yaml.Node }
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	r.odsCodes = map[string]string{}
	for _, s := range file.Systems {
		r.odsCodes[s.ASID.Value] = s.ODS.Value
	}
}

// asked reports whether an answer comes from asid-authz, or from the API that it let the
// request through to.
func asked(w authztest.Want) bool {
	return w.Kind == authztest.WantAllow || w.Kind == authztest.WantDeny
}

// olderAsks are cases, with their protocol, that Envoy answers by itself since 1.40. One of
// 1.39, the oldest that is supported, asks about them, and gets the answer of every edge.
var olderAsks = map[string]bool{"form-method-query/h2": true}

func wanted(c *authztest.Case, protocol string) authztest.Want {
	if olderAsks[c.File+"/"+protocol] && strings.HasPrefix(programs.EnvoyVersion, "1.39.") {
		return c.Want
	}
	return c.Behind(protocol)
}

// all sends the cases that asid-authz is asked about, or the others.
func (r *runner) all(t *testing.T, theAsked bool) {
	for _, c := range r.cases {
		for _, protocol := range c.Protocols() {
			if want := wanted(c, protocol); asked(want) == theAsked {
				t.Run(c.File+"/"+protocol, func(t *testing.T) {
					if theAsked {
						t.Parallel()
					}
					r.run(t, c, protocol, want)
					if t.Failed() {
						t.Logf("%s\n\n%s %s\n%s", c.Why, c.Request.Method, c.Request.Target, strings.Join(c.Request.Lines, "\n"))
					}
				})
			}
		}
	}
}

func (r *runner) run(t *testing.T, c *authztest.Case, protocol string, want authztest.Want) {
	now := time.Now()
	var before []mesh.Record
	if !asked(want) {
		before = r.records(t)
	}
	answer, err := r.send(t, c, protocol, now)
	if err != nil {
		t.Fatal(err)
	}
	switch want.Kind {
	case authztest.WantAllow:
		r.checkAllow(t, c, answer, want, now)
	case authztest.WantDeny:
		r.checkDeny(t, c, answer, want)
	case authztest.WantEnvoyAnswer:
		if answer.Refused != "" || answer.Status != want.Status || answer.Header.Get("X-Asid-Decision-Id") != "" {
			t.Errorf("got %v\nwant %v", answer, want)
		}
	case authztest.WantRefused:
		if answer.Refused == "" {
			t.Errorf("got %v\nwant it refused", answer)
		}
	}
	if _, reached := r.Upstream.Of(answer); reached != (want.Kind == authztest.WantAllow) {
		t.Errorf("reached the API: %v; the answer was %v", reached, answer)
	}
	if !asked(want) {
		if after := r.records(t); len(after) != len(before)+1 { // +1: the witness
			t.Errorf("asid-authz was asked: %+v", after[len(before):])
		}
	}
}

// records returns all records so far, after one more request: its record is the last, so that
// none is still on its way.
func (r *runner) records(t *testing.T) []mesh.Record {
	t.Helper()
	if r.witness == nil {
		t.Fatal("the world has no case that is denied")
	}
	answer, err := r.send(t, r.witness, "h1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.recordOf(t, answer.Header.Get("X-Asid-Decision-Id"), answer)
	all, err := r.Records(0)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (r *runner) send(t *testing.T, c *authztest.Case, protocol string, now time.Time) (*mesh.Answer, error) {
	t.Helper()
	certificate, err := r.World.Certificate(c)
	if err != nil {
		return nil, err
	}
	client := r.edges[kindOf(c)].Client(certificate)
	if protocol == "h2" {
		fields, body, err := r.World.HTTP2(c, now)
		if err != nil {
			return nil, err
		}
		return client.Frames(t.Context(), fields, body)
	}
	message, err := r.World.HTTP1(c, now)
	if err != nil {
		return nil, err
	}
	return client.Raw(t.Context(), c.Request.Method, message)
}

func (r *runner) checkDeny(t *testing.T, c *authztest.Case, a *mesh.Answer, want authztest.Want) {
	if a.Refused != "" || a.Status != statusOf(want.Reason) {
		t.Errorf("got %v\nwant %d, %v", a, statusOf(want.Reason), want)
	}
	if got := a.Header.Get("X-Asid-Reason"); got != publicReason(want.Reason) {
		t.Errorf("x-asid-reason is %q, not %q", got, publicReason(want.Reason))
	}
	record := r.recordOf(t, a.Header.Get("X-Asid-Decision-Id"), a)
	if record.Decision != "deny" || record.Reason != want.Reason.String() {
		t.Errorf("the record says %s %s, want %v", record.Decision, record.Reason, want)
	}
	if c.Request.Method != http.MethodHead {
		if o := checkOutcome(t, a, asksForJSON(c)); o.id != record.DecisionID {
			t.Errorf("the OperationOutcome's id is %q, the decision's %q", o.id, record.DecisionID)
		}
	}
	for name := range a.Header {
		if strings.HasPrefix(name, "X-Asid") && name != "X-Asid-Reason" && name != "X-Asid-Decision-Id" {
			t.Errorf("the answer has a header %s", name)
		}
	}
}

// recordOf returns the record of a decision, after it has checked that it belongs to the answer.
func (r *runner) recordOf(t *testing.T, id string, a *mesh.Answer) mesh.Record {
	t.Helper()
	if id == "" {
		t.Fatalf("no decision id: %v", a)
	}
	record, err := r.Record(id)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Header.Get("X-Request-Id"); got == "" || got != record.RequestID {
		t.Errorf("the record is of request %q, the answer to %q", record.RequestID, got)
	}
	if record.Schema != 1 || record.Time == "" || record.Profile == "" {
		t.Errorf("the record lacks schema, time or profile: %+v", record)
	}
	return record
}

func (r *runner) checkAllow(t *testing.T, c *authztest.Case, a *mesh.Answer, want authztest.Want, now time.Time) {
	r.allowed.Add(1)
	if a.Refused != "" || a.Status != http.StatusOK {
		t.Fatalf("got %v\nwant %v", a, want)
	}
	seen, reached := r.Upstream.Of(a)
	if !reached {
		t.Fatalf("the API did not see the request; the answer was %v", a)
	}
	record := r.recordOf(t, seen.Header.Get("X-Asid-Decision-Id"), a)
	if record.Decision != "allow" || record.Reason != "" || record.Endpoint != want.Endpoint || record.Interaction != want.Interaction {
		t.Errorf("the record says %s %s %s %s, want %v", record.Decision, record.Reason, record.Endpoint, record.Interaction, want)
	}
	r.checkSeen(t, c, seen, now)
	identity := map[string][]string{
		"X-Asid":                {record.ASID},
		"X-Asid-Ods-Code":       {r.odsCodes[record.ASID]},
		"X-Asid-Interaction-Id": {want.Interaction},
		"X-Asid-Endpoint":       {want.Endpoint},
		"X-Asid-Decision-Id":    {record.DecisionID},
	}
	if subject := r.publicSubject(t, c, now); subject != "" {
		identity["X-Asid-Subject"] = []string{subject}
	}
	got := map[string][]string{}
	for name, values := range seen.Header {
		if strings.HasPrefix(name, "X-Asid") {
			got[name] = values
		}
	}
	if diff := cmp.Diff(identity, got); diff != "" {
		t.Errorf("identity headers (-want +got):\n%s", diff)
	}
	if claimed := headerOf(c, r.profile.Sender.Name); claimed != "" && claimed != record.ASID {
		t.Errorf("the client claimed %s and became %s", claimed, record.ASID)
	}
	certificate, err := r.World.Certificate(c)
	if err != nil {
		t.Fatal(err)
	}
	if sum := certificate.SHA256(); record.CertificateSHA256 != hex.EncodeToString(sum[:]) || record.MapVersion == 0 {
		t.Errorf("the record has certificate %q and map version %d", record.CertificateSHA256, record.MapVersion)
	}
	if record.ASID == "" || record.ODSCode != r.odsCodes[record.ASID] {
		t.Errorf("the record says ASID %q of %q, the map %q", record.ASID, record.ODSCode, r.odsCodes[record.ASID])
	}
}

// plainPath matches paths without anything that programs read differently, but for dot segments.
var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9.$-]+)+$`)

// hasOneReading reports whether every program takes the path for the same, whatever the client
// wrote before Envoy normalised it.
func hasOneReading(path string) bool {
	segments := strings.Split(path, "/")
	return plainPath.MatchString(path) && !slices.Contains(segments, ".") && !slices.Contains(segments, "..")
}

// checkSeen checks that the API got the request that was judged.
func (r *runner) checkSeen(t *testing.T, c *authztest.Case, seen mesh.Seen, now time.Time) {
	t.Helper()
	_, body, err := r.World.HTTP2(c, now)
	if err != nil {
		t.Fatal(err)
	}
	path, _, _ := strings.Cut(seen.Target, "?")
	if seen.Method != c.Request.Method || !hasOneReading(path) || !strings.HasPrefix(path, r.profile.Base+"/") || string(seen.Body) != string(body) {
		t.Errorf("the API saw %s %s with body %q", seen.Method, seen.Target, seen.Body)
	}
	for _, name := range r.profile.UnusedHeaders {
		if seen.Header.Get(name) != "" {
			t.Errorf("the API saw the claim header %s, which nobody judged", name)
		}
	}
}

// headerOf returns what the case sends in that header, "" if nothing.
func headerOf(c *authztest.Case, header string) string {
	for _, line := range c.Request.Lines {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, header) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// publicSubject returns the subject of the case's token if it can be no patient.
func (r *runner) publicSubject(t *testing.T, c *authztest.Case, now time.Time) string {
	t.Helper()
	token, err := r.World.Token(c, now)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Sub string }
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	// The API need not know that some clients write a pipe as an escape.
	subject := strings.Replace(claims.Sub, "%7C", "|", 1)
	for _, kind := range []string{"sds-role-profile-id", "accredited-system"} {
		if strings.HasPrefix(subject, "https://fhir.nhs.uk/Id/"+kind+"|") {
			return subject
		}
	}
	return ""
}
