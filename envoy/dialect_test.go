package envoy

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"asid-authz/authz"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const goldenID = "00000000-0000-4000-8000-000000000000"

// examples has a Fault for each Reason as the steps make it, and those of the token
// whose words differ. Under the name of its golden file.
func examples() map[string]authz.Fault {
	const value = "<&\"'>\x1b[31m" // what every quoting must survive
	header := authz.HeaderField("fromASID")
	all := map[string]authz.Fault{
		"method-not-allowed":          {Reason: authz.MethodNotAllowed, Field: authz.FieldMethod, Value: "TRACE" + value},
		"query-forbidden":             {Reason: authz.QueryForbidden, Field: authz.FieldQuery, Value: "access_token"},
		"header-forbidden":            {Reason: authz.HeaderForbidden, Field: authz.HeaderField("x-http-method-override")},
		"header-missing":              {Reason: authz.HeaderMissing, Field: header},
		"header-repeated":             {Reason: authz.HeaderRepeated, Field: header, Value: "1,2"},
		"header-malformed":            {Reason: authz.HeaderMalformed, Field: header, Value: value + strings.Repeat("x", 300)},
		"receiver-unknown":            {Reason: authz.ReceiverUnknown, Field: authz.HeaderField("toASID"), Value: "200000000999"},
		"interaction-not-of-endpoint": {Reason: authz.InteractionNotOfEndpoint, Field: authz.HeaderField("InteractionID"), Value: "urn:x:" + value, Other: authz.FieldEndpoint, OtherValue: "read"},
		"claim-missing":               {Reason: authz.ClaimMissing, Field: authz.ClaimField("sub")},
		"claim-malformed":             {Reason: authz.ClaimMalformed, Field: authz.ClaimField("exp")},
		"claim-malformed-system":      {Reason: authz.ClaimMalformed, Field: authz.ClaimField("requesting_system"), Value: "200000000117"},
		"claim-malformed-org":         {Reason: authz.ClaimMalformed, Field: authz.ClaimField("requesting_organization"), Value: "A20047"},
		"claim-malformed-user":        {Reason: authz.ClaimMalformed, Field: authz.ClaimField("requesting_user"), Value: value},
		"claim-malformed-patient":     {Reason: authz.ClaimMalformed, Field: authz.ClaimField("requesting_patient")},
		"claim-malformed-reason":      {Reason: authz.ClaimMalformed, Field: authz.ClaimField("reason_for_request"), Value: "secondaryuses", OtherValue: "directcare"},
		"claim-malformed-scope":       {Reason: authz.ClaimMalformed, Field: authz.ClaimField("scope"), Value: "patient/*.read"},
		"claim-mismatch":              {Reason: authz.ClaimMismatch, Field: authz.ClaimField("sub"), Other: authz.ClaimField("requesting_user"), OtherValue: "https://fhir.nhs.uk/Id/sds-role-profile-id|1"},
		"claim-mismatch-patient":      {Reason: authz.ClaimMismatch, Field: authz.ClaimField("sub"), Other: authz.ClaimField("requesting_patient")},
		"claim-mismatch-system":       {Reason: authz.ClaimMismatch, Field: authz.ClaimField("requesting_system"), Value: "https://fhir.nhs.uk/Id/accredited-system|200000000118", Other: header, OtherValue: "200000000117"},
		"claim-mismatch-org":          {Reason: authz.ClaimMismatch, Field: authz.ClaimField("requesting_organization"), Value: "https://fhir.nhs.uk/Id/ods-organization-code|B81002", Other: authz.FieldSystem},
		"claim-mismatch-both":         {Reason: authz.ClaimMismatch, Field: authz.ClaimField("requesting_patient"), Other: authz.ClaimField("requesting_user")},
		"claim-mismatch-client":       {Reason: authz.ClaimMismatch, Field: authz.ClaimField("client_id"), Other: authz.ClaimField("azp"), Value: "a", OtherValue: "b"},
		"scope-insufficient":          {Reason: authz.ScopeInsufficient, Field: authz.ClaimField("scope"), Value: "patient/DocumentReference.read"},
		"asid-unknown":                {Reason: authz.ASIDUnknown, Field: header, Value: "200000000117"},
		"certificate-not-of-asid":     {Reason: authz.CertificateNotOfASID, Field: authz.FieldName, Other: header, OtherValue: "200000000117"},
	}
	for _, reason := range authz.Reasons() {
		if _, has := all[reason.String()]; !has {
			all[reason.String()] = authz.Fault{Reason: reason, Field: authz.FieldRequest}
		}
	}
	return all
}

// TestDialect compares every answer of the dialect with its golden file, in both
// formats, and the files with the answers: none is left over.
func TestDialect(t *testing.T) {
	dir := filepath.Join("testdata", nrl28.name)
	wanted := map[string]bool{}
	for name, fault := range examples() {
		decision := authz.Deny(fault)
		status, outcome := nrl28.answer(&decision, goldenID)
		var got bytes.Buffer
		got.WriteString("HTTP " + itoa(status) + ", x-asid-reason: " + fault.Reason.Public().String() + "\n")
		got.Write(outcome.JSON())
		got.WriteByte('\n')
		got.Write(outcome.XML())
		got.WriteByte('\n')
		file := filepath.Join(dir, name+".golden")
		wanted[file] = true
		if *update {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v (go test -update writes it)", err)
			continue
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s:\ngot  %s\nwant %s", file, got.Bytes(), want)
		}
		for _, b := range got.Bytes() {
			if b < ' ' && b != '\n' || b == 0x7f {
				t.Errorf("%s: a control byte reaches the client", name)
				break
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !wanted[file] {
			t.Errorf("%s is nobody's answer", file)
		}
	}
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

// TestDialectIsComplete: every Reason has an answer, none is 401 or a success, and the
// status is of the Reason's class, but for what the NRL guidance says otherwise.
func TestDialectIsComplete(t *testing.T) {
	for _, reason := range authz.Reasons() {
		a, has := nrl28.answers[reason]
		if !has {
			t.Errorf("%s has no answer", reason)
			continue
		}
		if a.status != 400 && a.status != 403 && a.status != 503 {
			t.Errorf("%s is answered with %d", reason, a.status)
		}
		if (reason.Class() == authz.Unavailable) != (a.status == 503) {
			t.Errorf("%s is of class %s and answered with %d", reason, reason.Class(), a.status)
		}
		if nrl28.displays[a.code] == "" {
			t.Errorf("%s: code %s has no display", reason, a.code)
		}
	}
}

// TestUnboundAnswersAreEqual: until the certificate is bound to the claimed ASID, the
// answer is the same to the byte, whether the ASID exists and whatever of it did not match.
func TestUnboundAnswersAreEqual(t *testing.T) {
	header := authz.HeaderField("fromASID")
	var first []byte
	for _, fault := range []authz.Fault{
		{Reason: authz.ASIDUnknown, Field: header, Value: "200000000117"},
		{Reason: authz.CertificateNotOfASID, Field: authz.FieldName, Other: header, OtherValue: "200000000117"},
		{Reason: authz.CertificateNotOfASID, Field: authz.FieldFingerprint, Other: header, OtherValue: "200000000117"},
		{Reason: authz.CertificateNotOfASID, Field: authz.FieldCertificate, Other: header, OtherValue: "200000000117"},
	} {
		decision := authz.Deny(fault)
		status, outcome := nrl28.answer(&decision, goldenID)
		got := append(outcome.JSON(), outcome.XML()...)
		got = append(got, itoa(status)+fault.Reason.Public().String()...)
		if first == nil {
			first = got
		}
		if !bytes.Equal(got, first) {
			t.Errorf("%s on %s is told from the others:\n%s\n%s", fault.Reason, fault.Field, got, first)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for _, test := range []struct {
		query  string
		accept []string
		want   format
	}{
		{"", nil, formatXML},
		{"", []string{"application/fhir+json"}, formatJSON},
		{"", []string{"application/fhir+xml"}, formatXML},
		{"", []string{"Application/JSON"}, formatJSON},
		{"", []string{"text/html, application/json+fhir;q=0.9"}, formatJSON},
		{"", []string{"application/fhir+json;q=0.1, application/fhir+xml;q=0.2"}, formatXML},
		{"", []string{"application/fhir+xml;q=0.1,application/fhir+json;q=0.2"}, formatJSON},
		{"", []string{"application/fhir+json;q=0"}, formatXML},
		{"", []string{"application/fhir+json;q=x"}, formatXML},
		{"", []string{"application/fhir+json;q=1.0001"}, formatXML},
		{"", []string{"*/*"}, formatXML},
		{"", []string{"application/fhir+json, application/fhir+xml"}, formatJSON},
		{"", []string{"text/plain", "application/json"}, formatJSON},
		{"_format=json", nil, formatJSON},
		{"_format=xml", []string{"application/fhir+json"}, formatXML},
		{"subject=x&_format=application/fhir+json", []string{"application/fhir+xml"}, formatJSON},
		{"_format=application%2Ffhir%2Bjson", nil, formatJSON},
		{"_format=nonsense", []string{"application/fhir+json"}, formatJSON},
		{"_format=", nil, formatXML},
		{"a_format=json", nil, formatXML},
		{strings.Repeat("x", maxNegotiation) + "&_format=json", nil, formatXML},
	} {
		if got := negotiate(test.query, test.accept); got != test.want {
			t.Errorf("negotiate(%q, %q) = %s, want %s", test.query, test.accept, contentTypes[got], contentTypes[test.want])
		}
	}
}

// FuzzNegotiate: whatever is asked for, there is an answer.
func FuzzNegotiate(f *testing.F) {
	f.Add("_format=json", "application/json;q=0.5")
	f.Fuzz(func(t *testing.T, query, accept string) {
		if got := negotiate(query, []string{accept}); got != formatXML && got != formatJSON {
			t.Errorf("format %d", got)
		}
	})
}
