package envoy

import (
	"fmt"

	"asid-authz/authz"
)

// A dialect is how one API says no: with which status, code and words. It decides
// nothing, and it keeps the silence of design: until a certificate is bound to the
// claimed ASID every answer about it is the same but for its ids.
type dialect struct {
	name            string
	profile, system string // of the OperationOutcome, and of its codes
	displays        map[string]string
	answers         map[authz.Reason]spineAnswer
	diagnostics     func(*authz.Decision) string
}

// A spineAnswer is the part of an answer that hangs on the Reason alone.
type spineAnswer struct {
	status    int
	issueCode string
	code      string
}

func dialectNamed(name string) (*dialect, error) {
	if name == nrl28.name {
		return &nrl28, nil
	}
	return nil, fmt.Errorf("no error dialect is named %s; there is %s", authz.Excerpt(name), nrl28.name)
}

// answer returns the status and body of a denial. Every Reason has an entry; one that
// had none would be answered as what it is, an error of ours.
func (d *dialect) answer(decision *authz.Decision, id string) (status int, outcome Outcome) {
	a, known := d.answers[decision.Reason().Public()]
	if !known {
		a = d.answers[authz.InternalError]
	}
	return a.status, d.outcome(a, id, d.diagnostics(decision))
}

func (d *dialect) outcome(a spineAnswer, id, diagnostics string) Outcome {
	return Outcome{
		ID:          id,
		Profile:     d.profile,
		Severity:    "error",
		IssueCode:   a.issueCode,
		System:      d.system,
		Code:        a.code,
		Display:     d.displays[a.code],
		Diagnostics: diagnostics,
	}
}
