package envoy

import (
	"strings"

	"asid-authz/authz"
)

// A localReply gives one kind of Envoy's own answers a body.
type localReply struct {
	Expression  string // CEL: which answers
	ContentType string
	Format      string // Envoy's format string of the body
}

// replyKinds are the kinds of Envoy's own answers, each in the words of a Reason of the
// same kind. Envoy's status stays. The texts say no more than the status does: what
// Envoy found wrong is in its access log.
var replyKinds = [...]struct {
	expression  string
	like        authz.Reason
	diagnostics string
}{
	{"response.code >= 500", authz.InternalError, "The service is not available at present; try again later"},
	// The lock, and what matches no endpoint's route.
	{"response.code == 403", authz.EndpointUnknown, "The request URL and method are not an endpoint of this service, or the request could not be authorized"},
	{"response.code >= 400", authz.RequestMalformed, "The request is malformed, too large, or was not sent in time"},
}

const (
	// isOurID holds when x-request-id has the form of a UUID. Envoy overwrites what a
	// client sends, but a request that is refused before that (an escaped slash) still
	// carries the client's own text, which must not stand in a body.
	isOurID = `size(request.id) == 36 && request.id.matches('^[0-9a-f-]+$')`

	// wantsJSON follows negotiate as far as CEL can: _format decides, else what Accept
	// names first. A header or a query that is not there is an error in CEL, which makes
	// the whole expression false: XML.
	wantsJSON = `(request.query.matches('(^|&)_format=[^&]*(?i:json)') || ` +
		`!request.query.matches('(^|&)_format=') && request.headers['accept'].matches('(?i)^([^x]|x[^m])*json'))`
)

// localReplies returns what local_reply_config maps, in the order in which Envoy tries.
func localReplies(d *dialect) []localReply {
	var all []localReply
	for _, kind := range replyKinds {
		for _, id := range []struct{ condition, command string }{
			{" && " + isOurID, "%REQUEST_HEADER(X-REQUEST-ID)%"},
			{"", "%UNIQUE_ID%"},
		} {
			for _, f := range []format{formatJSON, formatXML} {
				expression := kind.expression + id.condition
				if f == formatJSON {
					expression += " && " + wantsJSON
				}
				outcome := d.outcome(d.answers[kind.like], "", kind.diagnostics)
				all = append(all, localReply{expression, contentTypes[f], replyFormat(outcome, f, id.command)})
			}
		}
	}
	return all
}

// replyFormat returns the format string whose output is o with the id that command
// yields. Percent signs of the text are escaped, or Envoy would take them for commands.
func replyFormat(o Outcome, f format, command string) string {
	o.ID = "00000000-0000-0000-0000-000000000000"
	text := strings.ReplaceAll(string(o.body(f)), "%", "%%")
	return strings.Replace(text, o.ID, command, 1)
}
