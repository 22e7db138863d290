package envoy_test

import (
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// TestNobodyWalksTheASIDs: one request, with a certificate that is not the claimed
// system's, is answered by maps in which the ASID is unknown, known by another name, by
// another fingerprint, suspended, or bound to nothing. But for its ids the answer is
// the same to the byte, in either format.
func TestNobodyWalksTheASIDs(t *testing.T) {
	corpus, minted, config := authztest.Setup(t, "../authz/testdata")
	message := authztest.CheckRequest(authztest.AllowedRead(t, corpus, minted, &config.Profile))
	now := time.Now()
	asid, err := authz.ParseASID("200000000117")
	if err != nil {
		t.Fatal(err)
	}
	entry := authz.AccreditedSystem{ASID: asid, ODSCode: "A20047", FQDNs: []string{"other.example.nhs.uk"}, State: authz.Active}
	maps := map[string][]authz.AccreditedSystem{"unknown": nil, "another name": {entry}}
	suspended, bare, fingerprint := entry, entry, entry
	suspended.State = authz.Suspended
	bare.FQDNs = nil
	fingerprint.FQDNs, fingerprint.Fingerprints = nil, [][32]byte{{1}}
	maps["suspended"] = []authz.AccreditedSystem{suspended}
	maps["bound to nothing"] = []authz.AccreditedSystem{bare}
	maps["another fingerprint"] = []authz.AccreditedSystem{fingerprint}

	for _, accept := range []string{"application/fhir+xml", "application/fhir+json"} {
		asked := proto.Clone(message).(*authv3.CheckRequest)
		setHeader(asked, "accept", accept)
		answers := map[string]string{}
		reasons := map[string]bool{}
		for name, systems := range maps {
			var b authz.MapBuilder
			for _, s := range systems {
				if err := b.Add(s); err != nil {
					t.Fatal(err)
				}
			}
			m, err := b.Build(1)
			if err != nil {
				t.Fatal(err)
			}
			changed := config
			changed.Map = (&authztest.Source{Map: m, Confirmed: now}).Maps()
			e := newEdge(t, changed)
			response, err := e.client.Check(t.Context(), asked)
			if err != nil {
				t.Fatal(err)
			}
			id := response.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()
			reasons[e.records[id].reason] = true
			response.DynamicMetadata = &structpb.Struct{} // is Envoy's to see, not the client's
			wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(response)
			if err != nil {
				t.Fatal(err)
			}
			answers[name] = strings.ReplaceAll(string(wire), id, "ID")
		}
		for name, answer := range answers {
			if answer != answers["unknown"] {
				t.Errorf("%s: told from an unknown ASID:\n%q\n%q", name, answer, answers["unknown"])
			}
		}
		if !reasons["asid-unknown"] || !reasons["certificate-not-of-asid"] || len(reasons) != 2 {
			t.Errorf("the records say %v: the exact Reasons belong there", reasons)
		}
	}
}
