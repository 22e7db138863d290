package envoy

import (
	"encoding/json"
	"encoding/xml"
	"strings"

	"asid-authz/authz"
)

// An Outcome is a FHIR STU3 OperationOutcome with one issue, as Spine answers with
// (https://fhir.nhs.uk/STU3/StructureDefinition/Spine-OperationOutcome-1).
type Outcome struct {
	ID          string
	Profile     string // meta.profile
	Severity    string // error
	IssueCode   string // of http://hl7.org/fhir/issue-type: invalid, structure, forbidden, transient
	System      string // of Code
	Code        string // MISSING_OR_INVALID_HEADER
	Display     string // of Code
	Diagnostics string
}

// JSON returns the resource as application/fhir+json.
func (o Outcome) JSON() []byte {
	type coding struct {
		System  string `json:"system"`
		Code    string `json:"code"`
		Display string `json:"display"`
	}
	type details struct {
		Coding []coding `json:"coding"`
	}
	type issue struct {
		Severity    string  `json:"severity"`
		Code        string  `json:"code"`
		Details     details `json:"details"`
		Diagnostics string  `json:"diagnostics"`
	}
	type meta struct {
		Profile []string `json:"profile"`
	}
	body, err := json.Marshal(struct {
		ResourceType string  `json:"resourceType"`
		ID           string  `json:"id"`
		Meta         meta    `json:"meta"`
		Issue        []issue `json:"issue"`
	}{"OperationOutcome", o.ID, meta{[]string{o.Profile}},
		[]issue{{o.Severity, o.IssueCode, details{[]coding{{o.System, o.Code, o.Display}}}, o.Diagnostics}}})
	if err != nil {
		panic(err) // strings in structs always encode
	}
	return body
}

// XML returns the resource as application/fhir+xml.
func (o Outcome) XML() []byte {
	var b strings.Builder
	value := func(element, text string) {
		b.WriteString("<" + element + ` value="`)
		xml.EscapeText(&b, []byte(text)) // a strings.Builder returns no error
		b.WriteString(`"/>`)
	}
	b.WriteString(`<OperationOutcome xmlns="http://hl7.org/fhir">`)
	value("id", o.ID)
	b.WriteString("<meta>")
	value("profile", o.Profile)
	b.WriteString("</meta><issue>")
	value("severity", o.Severity)
	value("code", o.IssueCode)
	b.WriteString("<details><coding>")
	value("system", o.System)
	value("code", o.Code)
	value("display", o.Display)
	b.WriteString("</coding></details>")
	value("diagnostics", o.Diagnostics)
	b.WriteString("</issue></OperationOutcome>")
	return []byte(b.String())
}

func (o Outcome) body(f format) []byte {
	if f == formatJSON {
		return o.JSON()
	}
	return o.XML()
}

// A format is one of the two in which an Outcome is written.
type format uint8

const (
	formatXML format = iota // what NRL answers in when nobody says
	formatJSON
)

var formats = map[string]format{
	"xml": formatXML, "text/xml": formatXML, "application/xml": formatXML,
	"application/fhir+xml": formatXML, "application/xml+fhir": formatXML,
	"json": formatJSON, "text/json": formatJSON, "application/json": formatJSON,
	"application/fhir+json": formatJSON, "application/json+fhir": formatJSON,
}

var contentTypes = [...]string{formatXML: "application/fhir+xml; charset=utf-8", formatJSON: "application/fhir+json; charset=utf-8"}

// maxNegotiation bounds what is read of a stranger's wish for a format.
const maxNegotiation = 1024

// negotiateFor returns the format in which r is answered.
func negotiateFor(r *authz.Request) format {
	var accept []string
	for i := range r.Headers {
		if r.Headers[i].Name == "accept" {
			accept = append(accept, r.Headers[i].Value)
		}
	}
	_, query, _ := strings.Cut(r.Target, "?")
	return negotiate(query, accept)
}

// negotiate returns the format that the client asked for: in _format, which overrides,
// else in Accept. Whatever is not understood asks for nothing: the answer to a request
// that is refused anyway must not depend on guessing.
func negotiate(query string, accept []string) format {
	for part := range strings.SplitSeq(query[:min(len(query), maxNegotiation)], "&") {
		if value, found := strings.CutPrefix(part, "_format="); found {
			// "+" is a blank in a query, but clients send application/fhir+json as it is.
			value = strings.NewReplacer("%2B", "+", "%2b", "+", "%2F", "/", "%2f", "/").Replace(value)
			if f, known := formats[strings.ToLower(value)]; known {
				return f
			}
		}
	}
	best, bestQuality, found := formatXML, 0, false
	for _, value := range accept {
		for media := range strings.SplitSeq(value[:min(len(value), maxNegotiation)], ",") {
			name, parameters, _ := strings.Cut(media, ";")
			f, known := formats[strings.ToLower(strings.TrimSpace(name))]
			if q := quality(parameters); known && q > bestQuality {
				best, bestQuality, found = f, q, true
			}
		}
	}
	if found {
		return best
	}
	return formatXML
}

// quality returns the weight of a media range in thousandths (RFC 9110 §12.4.2), 0 if
// it is malformed: a wish that cannot be read is none.
func quality(parameters string) int {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		whole, fraction, _ := strings.Cut(value, ".")
		if len(whole) != 1 || whole[0] > '1' || whole[0] < '0' || len(fraction) > 3 {
			return 0
		}
		q := int(whole[0]-'0') * 1000
		for i, unit := 0, 100; i < len(fraction); i, unit = i+1, unit/10 {
			if fraction[i] < '0' || fraction[i] > '9' {
				return 0
			}
			q += int(fraction[i]-'0') * unit
		}
		return min(q, 1000)
	}
	return 1000
}
