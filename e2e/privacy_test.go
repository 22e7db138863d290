package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"asid-authz/cache/redistest"
	"asid-authz/e2e/mesh"
)

// sumOf adds up the samples of one metric.
func sumOf(t *testing.T, metrics, name string) (sum int) {
	t.Helper()
	for line := range strings.Lines(metrics) {
		if rest, is := strings.CutPrefix(line, name); is && strings.ContainsAny(rest[:1], "{ ") {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += int(value)
		}
	}
	return sum
}

// private is what no output may hold, whatever a test has sent: the beginning of a token, PEM,
// and the NHS numbers of the corpus.
var private = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8}|-----BEGIN|(?i:nhs-number)|\b(?:991200388[89]|9912004000|9434765919)\b`)

// expectNothingPrivate looks through what the processes of a mesh have written, for what is
// private anywhere and for the passwords of this mesh's Redis, by user. Every mesh of these
// tests ends with it.
func expectNothingPrivate(t *testing.T, name, text string, passwords map[string]string) {
	t.Helper()
	if at := private.FindStringIndex(text); at != nil {
		t.Errorf("%s tells: …%q", name, text[max(0, at[0]-200):at[1]])
	}
	for user, password := range passwords {
		if at := strings.Index(text, password); at >= 0 {
			t.Errorf("%s tells the password of %s: …%q", name, user, text[max(0, at-200):at])
		}
	}
}

// A citizen's subject is an NHS number, and so is what he searches for. It goes to the API in
// the request that the client wrote, and nowhere else: into no log, record, metric, header of
// ours or answer, whether the request is allowed or refused, and whatever for. The same holds
// for tokens, certificates and keys, wherever the decisions are written: and each of them is
// written, in the audit log, or what was allowed in Envoy's access log.
func TestNothingPrivateIsWritten(t *testing.T) {
	for name, audit := range map[string]map[string]any{
		"all":             {},
		"all, deny":       {"on_full": "deny"},
		"sampled,rotated": {"allows": "sampled", "sample": 2, "max_size": "2KiB", "keep": 1000},
		"none, stdout":    {"allows": "none", "output": "stdout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &privacy{scene: play(t, mesh.Options{Audit: audit})}
			p.send(t)
			p.search(t)
			p.checkRecords(t, audit["allows"])
			if rotated, err := filepath.Glob(p.Path("audit-*.jsonl")); err != nil || (len(rotated) > 0) != (audit["max_size"] != nil) {
				t.Errorf("rotated: %v, %v", rotated, err)
			}
		})
	}
}

// The passwords of Redis are written nowhere either, also not where Redis refuses one: not by
// the service, and not by the command.
func TestNoRedisPasswordIsWritten(t *testing.T) {
	t.Parallel()
	redis := redistest.Standalone(t, redistest.Options{})
	p := &privacy{scene: play(t, mesh.Options{Redis: redis})}
	p.send(t)
	for user, password := range redis.Passwords() {
		p.secrets["the password of "+user] = password
	}
	admin := redis.Admin()
	for _, user := range []string{redistest.Reader, redistest.Publisher} {
		err := errors.Join(admin.Do(t.Context(), "ACL", "SETUSER", user, "resetpass", ">another").Err(),
			admin.ClientKillByFilter(t.Context(), "USER", user).Err())
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Map(t.Context(), "verify"); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("the command with a wrong password: %v", err)
	}
	eventually(t, "the service says that its password is refused", func() bool { return strings.Contains(p.Replica().Log(), "WRONGPASS") })
	p.search(t)
	if said := p.outputs["map.log"]; !strings.Contains(said, "published version") || !strings.Contains(said, "WRONGPASS") {
		t.Errorf("what the command printed was not searched: %q", said)
	}
}

// privacy is what was sent, what must not be found again, and what was found.
type privacy struct {
	*scene
	secrets map[string]string // by what they are
	answers []*mesh.Answer
	outputs map[string]string
}

// send sends requests in which there is an NHS number wherever one can be.
func (p *privacy) send(t *testing.T) {
	t.Helper()
	const nhsNumber = "9434765919"
	const subject = "http://fhir.nhs.net/Id/nhs-number|" + nhsNumber
	issuer := p.World.World.Issuers[0]
	alg, kid, _ := strings.Cut(issuer.Keys[0], "/")
	asid := headerOf(p.read, "fromASID")
	ods := p.odsCode(t, asid)
	token := func(over map[string]any) string {
		claims := map[string]any{
			"iss": issuer.Issuer, "aud": issuer.Audiences[0], "sub": subject,
			"iat": time.Now().Unix() - 5, "exp": time.Now().Unix() + 300,
			"reason_for_request":      "patientaccess",
			"scope":                   "patient/DocumentReference.read",
			"requesting_system":       "https://fhir.nhs.uk/Id/accredited-system|" + asid,
			"requesting_organization": "https://fhir.nhs.uk/Id/ods-organization-code|" + ods,
			"requesting_patient":      subject,
		}
		maps.Copy(claims, over)
		text, err := p.World.Issuers[issuer.Name].Sign(alg, kid, nil, claims)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	certificate, err := p.World.Certificate(p.read)
	if err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(certificate.DER)
	p.secrets = map[string]string{
		"an NHS number": nhsNumber, "PEM": "-----BEGIN", "PEM as Envoy sends it": "-----BEGIN%20",
		"a certificate": encoded[:40], "a certificate as Envoy sends it": url.QueryEscape(encoded)[:40],
	}
	search := "/STU3/DocumentReference?subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F" + nhsNumber
	seen := map[string]int{}
	for i, over := range []map[string]any{
		{},
		{"requesting_patient": subject + "0"},
		{"sub": subject + "0"},
		{"sub": "https://fhir.nhs.uk/Id/sds-role-profile-id|" + nhsNumber}, // looks like a user, and is not the patient
		{"act": map[string]any{"sub": subject}},
		{"act": subject},
		{"reason_for_request": "directcare"},
		{"exp": time.Now().Unix() - 300},
		{"scope": "patient/DocumentReference.write"},
	} {
		credential := token(over)
		p.secrets[fmt.Sprint("token ", i)] = credential
		p.secrets[fmt.Sprint("the signature of token ", i)] = credential[strings.LastIndexByte(credential, '.')+1:]
		for _, accept := range []string{"application/fhir+json", "application/fhir+xml"} {
			for _, protocol := range mesh.Protocols {
				r := p.request(t, p.read).Without("authorization").With("authorization", "Bearer "+credential).With("accept", accept)
				r.Target = search
				answer, err := p.client(t, p.edge, p.read).Do(t.Context(), protocol, r)
				if err != nil {
					t.Fatal(err)
				}
				p.answers = append(p.answers, answer)
				seen[answer.Header.Get("X-Asid-Reason")]++
			}
		}
	}
	// An id that Envoy did not make, in a request that it refuses before it makes one, and a
	// method that is no word. Their answers say to the client what it sent itself.
	refused := p.request(t, p.read).With("x-request-id", nhsNumber)
	refused.Target = "/STU3/a%2Fb"
	odd := p.request(t, p.read)
	odd.Method = nhsNumber
	for reason, r := range map[string]mesh.Request{"": refused, "method-not-allowed": odd} {
		answer, err := p.client(t, p.edge, p.read).Do(t.Context(), mesh.HTTP2, r)
		if err != nil || answer.Status != 400 || answer.Header.Get("X-Asid-Reason") != reason {
			t.Errorf("%v, %v", answer, err)
		}
	}
	if seen[""] == 0 || len(seen) < 3 { // or what follows would look at nothing
		t.Errorf("the Reasons were %v, want some allowed and several Reasons", seen)
	}
}

// search looks for the secrets in everything that was printed, logged, exported, answered,
// and sent to the API beside the token.
func (p *privacy) search(t *testing.T) {
	t.Helper()
	places := map[string]string{}
	for i, a := range p.answers {
		var text strings.Builder
		a.Header.Write(&text)
		places["answer "+strconv.Itoa(i)] = text.String() + string(a.Body)
	}
	for i, request := range p.Upstream.All() {
		for name, values := range request.Header {
			if name != "Authorization" {
				places["header "+name+" of request "+strconv.Itoa(i)+" to the API"] = strings.Join(values, ",")
			}
		}
	}
	var err error
	if places["metrics"], err = p.Replica().Metrics(t.Context()); err != nil {
		t.Fatal(err)
	}
	if places["Envoy's stats"], err = p.edge.Stats(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Both hold back what they write, until they end.
	if err := errors.Join(p.edge.Stop(), p.Replica().Stop()); err != nil {
		t.Fatal(err)
	}
	if p.outputs, err = p.Outputs(); err != nil {
		t.Fatal(err)
	}
	maps.Copy(places, p.outputs)
	for place, text := range places {
		if text == "" && (strings.HasSuffix(place, ".jsonl") || strings.HasSuffix(place, ".access.log")) {
			t.Errorf("%s is empty", place)
		}
		for what, secret := range p.secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s tells %s: …%q", place, what, text[max(0, i-80):i+len(secret)])
			}
		}
	}
}

// checkRecords holds what was answered against the audit log and Envoy's access log.
func (p *privacy) checkRecords(t *testing.T, allows any) {
	t.Helper()
	type decision struct {
		ID          string `json:"decision_id"`
		Decision    string
		Reason      string
		ASID        string
		Endpoint    string
		Interaction string
		RequestID   string `json:"request_id"`
		Certificate string `json:"certificate_sha256"`
	}
	logged, audited := map[string]decision{}, map[string]decision{}
	for _, text := range p.outputs {
		for line := range strings.Lines(text) {
			var l struct {
				decision
				Log       string
				RequestID string `json:"request_id"`
				Authz     decision
			}
			if json.Unmarshal([]byte(line), &l) != nil {
				continue // Envoy's own log
			}
			switch {
			case l.Log == "request" && l.Authz.ID == "": // answered by Envoy
			case l.Log == "request":
				logged[l.Authz.ID] = l.Authz
				if l.RequestID == "" || l.RequestID != l.Authz.RequestID {
					t.Errorf("the access log has request %q, with a decision about %q", l.RequestID, l.Authz.RequestID)
				}
			case l.ID != "":
				l.decision.RequestID = l.RequestID
				audited[l.ID] = l.decision
			}
		}
	}
	if len(logged) != len(p.answers)+1 { // +1: the odd method
		t.Errorf("the access log has %d decisions, for %d answers", len(logged), len(p.answers))
	}
	allowed, due := 0, 0
	for id, l := range logged {
		record, written := audited[id]
		want := l.Decision == "deny"
		if l.Decision == "allow" {
			allowed++
			first, err := strconv.ParseUint(id[:8], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			want = allows == nil || allows == "sampled" && first%2 == 0
			if want {
				due++
			}
			if l.ASID == "" || l.Endpoint == "" || l.Interaction == "" || l.Certificate == "" {
				t.Errorf("the access log does not say who was allowed what: %+v", l)
			}
		}
		if written != want || written && record != l {
			t.Errorf("the audit log says %+v, and the access log %+v", record, l)
		}
	}
	if allowed == 0 || len(audited) != len(logged)-allowed+due {
		t.Errorf("%d were allowed, %d of them are due to the audit log, which has %d records", allowed, due, len(audited))
	}
}

// odsCode returns the organisation of a system in the map file.
func (s *scene) odsCode(t *testing.T, asid string) (ods string) {
	t.Helper()
	s.editMap(t, asid, func(system *yaml.Node) { ods = fieldOf(t, system, "ods").Value })
	return ods
}
