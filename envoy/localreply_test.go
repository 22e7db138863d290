package envoy

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"slices"
	"strings"
	"testing"

	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
)

const someID = "6e5df6ee-6d46-43e5-9554-0b72f1903c2d"

// envoyFormats does what Envoy does with a format string: commands become their values,
// two percent signs become one. It fails on a command that is not expected.
func envoyFormats(t *testing.T, format string) string {
	t.Helper()
	var b strings.Builder
	for format != "" {
		text, rest, found := strings.Cut(format, "%")
		b.WriteString(text)
		if !found {
			break
		}
		command, after, found := strings.Cut(rest, "%")
		if !found {
			t.Fatalf("a percent sign that begins no command: %q", format)
		}
		switch command {
		case "":
			b.WriteByte('%')
		case "REQUEST_HEADER(X-REQUEST-ID)", "UNIQUE_ID":
			b.WriteString(someID)
		default:
			t.Fatalf("command %q: what it yields could be a stranger's text", command)
		}
		format = after
	}
	return b.String()
}

// TestLocalReplies: Envoy's own answers have a body that clients of the dialect can
// read, in the format that they asked for, with nothing in it that a client sent.
func TestLocalReplies(t *testing.T) {
	mappers := render(t, nrlBootstrap(t)).hcm.GetLocalReplyConfig().GetMappers()
	var expressions []string
	for _, m := range mappers {
		cel := an[*celv3.ExpressionFilter](t, m.GetFilter().GetExtensionFilter().GetTypedConfig())
		expressions = append(expressions, cel.GetExpression())
		if m.GetStatusCode() != nil || m.GetBody() != nil {
			t.Errorf("%s: another status or body than Envoy's and ours", cel.GetExpression())
		}
	}
	if own := mappers[0]; expressions[0] != "response.code_details == 'ext_authz_denied'" || own.GetBodyFormatOverride() != nil || len(own.GetHeadersToAdd()) > 0 {
		t.Errorf("a denial of asid-authz does not go out as it is: %v", own)
	}
	if last := expressions[len(expressions)-1]; last != "response.code >= 400" {
		t.Errorf("the last mapper fits only %s", last)
	}

	type seen struct{ status, format string }
	found := map[seen]Outcome{}
	for i, m := range mappers[1:] {
		expression := expressions[i+1]
		format := m.GetBodyFormatOverride().GetTextFormatSource().GetInlineString()
		if strings.Contains(format, "X-REQUEST-ID") != strings.Contains(expression, isOurID) {
			t.Errorf("%s: the client's x-request-id in a body, or Envoy's not", expression)
		}
		if h := m.GetHeadersToAdd(); len(h) != 1 || h[0].GetHeader().GetKey() != "cache-control" || h[0].GetHeader().GetValue() != "no-store" {
			t.Errorf("%s: headers %v", expression, h)
		}
		body := envoyFormats(t, format)
		status, _, _ := strings.Cut(expression, " &&")
		s := seen{status, m.GetBodyFormatOverride().GetContentType()}
		asksJSON := strings.Contains(expression, wantsJSON)
		var outcome Outcome
		switch {
		case asksJSON && s.format == contentTypes[formatJSON]:
			outcome = readJSON(t, body)
			if body != string(outcome.JSON()) {
				t.Errorf("%s is no Outcome", body)
			}
		case !asksJSON && s.format == contentTypes[formatXML]:
			wellFormed(t, body)
			outcome = found[seen{status, contentTypes[formatJSON]}]
			if body != string(outcome.XML()) { // the JSON mapper of the same kind stands before
				t.Errorf("XML and JSON say different things:\n%s\n%+v", body, outcome)
			}
		default:
			t.Errorf("%s: content type %s", expression, s.format)
		}
		found[s] = outcome
	}
	for status, want := range map[string][2]string{
		"response.code >= 500": {"transient", "INTERNAL_SERVER_ERROR"},
		"response.code == 403": {"forbidden", "ACCESS_DENIED"},
		"response.code >= 400": {"invalid", "BAD_REQUEST"},
	} {
		for _, f := range contentTypes {
			if o := found[seen{status, f}]; o.IssueCode != want[0] || o.Code != want[1] || o.Display == "" || o.Diagnostics == "" || o.ID != someID {
				t.Errorf("%s as %s: %+v", status, f, o)
			}
		}
	}
	if order := slices.Compact(func() (all []string) {
		for _, e := range expressions[1:] {
			status, _, _ := strings.Cut(e, " &&")
			all = append(all, status)
		}
		return all
	}()); !slices.Equal(order, []string{"response.code >= 500", "response.code == 403", "response.code >= 400"}) {
		t.Errorf("the first mapper that fits wins, and they stand as %q", order)
	}
}

func readJSON(t *testing.T, body string) Outcome {
	t.Helper()
	var r struct {
		ID    string
		Meta  struct{ Profile []string }
		Issue []struct {
			Severity, Code, Diagnostics string
			Details                     struct {
				Coding []struct{ System, Code, Display string }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil || len(r.Issue) != 1 || len(r.Meta.Profile) != 1 || len(r.Issue[0].Details.Coding) != 1 {
		t.Fatalf("%v: %s", err, body)
	}
	issue, coding := r.Issue[0], r.Issue[0].Details.Coding[0]
	return Outcome{r.ID, r.Meta.Profile[0], issue.Severity, issue.Code, coding.System, coding.Code, coding.Display, issue.Diagnostics}
}

func wellFormed(t *testing.T, body string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(body)); ; {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	}
}

// TestReplyFormat: whatever a dialect's texts hold, Envoy's output is the Outcome.
func TestReplyFormat(t *testing.T) {
	for _, text := range []string{"plain", "100 %", "%", "%%", "%REQ(X)%", `"<&>'` + "\n", "00000000-0000-0000-0000-000000000000 too"} {
		o := Outcome{Profile: text, Severity: text, IssueCode: text, System: text, Code: text, Display: text, Diagnostics: text}
		for _, f := range []format{formatXML, formatJSON} {
			got := envoyFormats(t, replyFormat(o, f, "%UNIQUE_ID%"))
			want := o
			want.ID = someID
			if got != string(want.body(f)) {
				t.Errorf("%q:\n%s\n%s", text, got, want.body(f))
			}
		}
	}
}
