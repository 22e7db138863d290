package e2e

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

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

// A citizen's subject is an NHS number, and so is what he searches for. It goes to the API in
// the request that the client wrote, and nowhere else: into no log, record, metric, header of
// ours or answer, whether the request is allowed or refused, and whatever for.
func TestNHSNumberStaysInTheRequest(t *testing.T) {
	t.Parallel()
	const nhsNumber = "9434765919"
	const subject = "http://fhir.nhs.net/Id/nhs-number|" + nhsNumber
	s := play(t, mesh.Options{})
	issuer := s.World.World.Issuers[0]
	alg, kid, _ := strings.Cut(issuer.Keys[0], "/")
	asid := headerOf(s.read, "fromASID")
	ods := s.odsCode(t, asid)
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
		text, err := s.World.Issuers[issuer.Name].Sign(alg, kid, nil, claims)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	search := "/STU3/DocumentReference?subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F" + nhsNumber
	secrets := []string{nhsNumber}
	var answers []*mesh.Answer
	seen := map[string]int{}
	for _, over := range []map[string]any{
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
		secrets = append(secrets, credential, credential[strings.LastIndexByte(credential, '.')+1:])
		for _, accept := range []string{"application/fhir+json", "application/fhir+xml"} {
			for _, protocol := range mesh.Protocols {
				r := s.request(t, s.read).Without("authorization").With("authorization", "Bearer "+credential).With("accept", accept)
				r.Target = search
				answer, err := s.client(t, s.edge, s.read).Do(t.Context(), protocol, r)
				if err != nil {
					t.Fatal(err)
				}
				answers = append(answers, answer)
				seen[answer.Header.Get("X-Asid-Reason")]++
			}
		}
	}
	if seen[""] == 0 || len(seen) < 3 { // or what follows would look at nothing
		t.Errorf("the Reasons were %v, want some allowed and several Reasons", seen)
	}
	places := map[string]string{}
	for i, a := range answers {
		var text strings.Builder
		a.Header.Write(&text)
		places["answer "+strconv.Itoa(i)] = text.String() + string(a.Body)
	}
	for i, request := range s.Upstream.All() {
		for name, values := range request.Header {
			if name != "Authorization" {
				places["header "+name+" of request "+strconv.Itoa(i)+" to the API"] = strings.Join(values, ",")
			}
		}
	}
	outputs, err := s.Outputs()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(places, outputs)
	if places["metrics"], err = s.Replica().Metrics(t.Context()); err != nil {
		t.Fatal(err)
	}
	if places["Envoy's stats"], err = s.edge.Stats(t.Context()); err != nil {
		t.Fatal(err)
	}
	for place, text := range places {
		if text == "" && strings.HasSuffix(place, ".jsonl") {
			t.Errorf("%s is empty", place)
		}
		for _, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s tells: …%q", place, text[max(0, i-80):i+len(secret)])
			}
		}
	}
}

// odsCode returns the organisation of a system in the map file.
func (s *scene) odsCode(t *testing.T, asid string) (ods string) {
	t.Helper()
	s.editMap(t, asid, func(system *yaml.Node) { ods = fieldOf(t, system, "ods").Value })
	return ods
}
