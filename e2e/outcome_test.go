package e2e

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
	"asid-authz/e2e/mesh"
)

// An outcome is what a client's FHIR library would read of an OperationOutcome.
type outcome struct{ id, severity, code, spineCode string }

// checkOutcome returns the OperationOutcome in the answer's body, after it has checked that
// it is one and in the format that was asked for.
func checkOutcome(t *testing.T, a *mesh.Answer, asksJSON bool) outcome {
	t.Helper()
	read, contentType := readXML, "application/fhir+xml; charset=utf-8"
	if asksJSON {
		read, contentType = readJSON, "application/fhir+json; charset=utf-8"
	}
	if got := a.Header.Get("Content-Type"); !strings.EqualFold(got, contentType) {
		t.Errorf("content-type is %q, not %q", got, contentType)
	}
	o, err := read(string(a.Body))
	if err != nil {
		t.Errorf("the body is no OperationOutcome: %v\n%s", err, a.Body)
	}
	if o.severity != "error" || o.code == "" || o.spineCode == "" {
		t.Errorf("the OperationOutcome says %+v", o)
	}
	return o
}

func readJSON(body string) (outcome, error) {
	var resource struct {
		ResourceType, ID string
		Issue            []struct {
			Severity, Code string
			Details        struct {
				Coding []struct{ System, Code string }
			}
		}
	}
	d := json.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&resource); err != nil {
		return outcome{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return outcome{}, errors.New("text behind the JSON")
	}
	if resource.ResourceType != "OperationOutcome" || len(resource.Issue) != 1 || len(resource.Issue[0].Details.Coding) != 1 {
		return outcome{}, fmt.Errorf("a %s with %d issues", resource.ResourceType, len(resource.Issue))
	}
	issue := resource.Issue[0]
	return outcome{resource.ID, issue.Severity, issue.Code, issue.Details.Coding[0].Code}, nil
}

func readXML(body string) (outcome, error) {
	type value struct {
		Value string `xml:"value,attr"`
	}
	var resource struct {
		XMLName xml.Name `xml:"http://hl7.org/fhir OperationOutcome"`
		ID      value    `xml:"id"`
		Issue   []struct {
			Severity value `xml:"severity"`
			Code     value `xml:"code"`
			Details  struct {
				Coding []struct {
					Code value `xml:"code"`
				} `xml:"coding"`
			} `xml:"details"`
		} `xml:"issue"`
	}
	d := xml.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&resource); err != nil {
		return outcome{}, err
	}
	if rest, err := d.Token(); err != io.EOF {
		if text, is := rest.(xml.CharData); !is || strings.TrimSpace(string(text)) != "" {
			return outcome{}, errors.New("text behind the XML")
		}
	}
	if len(resource.Issue) != 1 || len(resource.Issue[0].Details.Coding) != 1 {
		return outcome{}, fmt.Errorf("%d issues", len(resource.Issue))
	}
	issue := resource.Issue[0]
	return outcome{resource.ID.Value, issue.Severity.Value, issue.Code.Value, issue.Details.Coding[0].Code.Value}, nil
}

// asksForJSON reports whether the request asks for JSON: in _format, else as the best liked
// of what it accepts. NRL answers in XML when nobody says.
func asksForJSON(c *authztest.Case) bool {
	_, query, _ := strings.Cut(c.Request.Target, "?")
	for parameter := range strings.SplitSeq(query, "&") {
		if format, is := strings.CutPrefix(parameter, "_format="); is {
			return strings.Contains(strings.ToLower(format), "json")
		}
	}
	best, asksJSON := 0.0, false
	for _, line := range c.Request.Lines {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(name, "accept") {
			continue
		}
		for media := range strings.SplitSeq(value, ",") {
			name, parameter, _ := strings.Cut(strings.ToLower(media), ";")
			weight := 1.0
			if q, is := strings.CutPrefix(strings.TrimSpace(parameter), "q="); is {
				weight, _ = strconv.ParseFloat(q, 64)
			}
			isJSON := strings.Contains(name, "json")
			if weight > best && (isJSON || strings.Contains(name, "xml")) {
				best, asksJSON = weight, isJSON
			}
		}
	}
	return asksJSON
}

// statusOf returns the status of a denial in the dialect of NRL 2.8: never 401.
func statusOf(reason authz.Reason) int {
	switch reason.Class() {
	case authz.Malformed:
		return 400
	case authz.Unauthenticated:
		if strings.HasPrefix(reason.String(), "certificate-") {
			return 403
		}
		return 400
	case authz.Forbidden:
		if slices.Contains([]authz.Reason{authz.EndpointUnknown, authz.EndpointMismatch, authz.SystemSuspended, authz.InteractionNotGranted}, reason) {
			return 403
		}
		return 400
	}
	return 503
}

// publicReason returns what a client may be told: it cannot find out which ASIDs there are.
func publicReason(reason authz.Reason) string {
	if reason == authz.ASIDUnknown {
		return "certificate-not-of-asid"
	}
	return reason.String()
}
