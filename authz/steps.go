package authz

import (
	"context"
	"time"
)

// A check is one decision on its way.
type check struct {
	a   *Authorizer
	ctx context.Context
	r   *Request

	passed uint64 // a bit for each step
	fault  Fault
	facts  Facts

	path, query string
	value       [useCount]string // of the headers that mean something
	count       [useCount]int    // how often they came
	forbidden   Field            // a forbidden header that came

	breakGlass   *BreakGlass   // the orders of an emergency, or nil
	maxStaleness time.Duration // with them

	trust      *Trust
	verdict    *verdict // of trust
	sender     ASID
	credential string
	m          *InteractionMap
	system     system
	endpoint   *Endpoint
	chosen     InteractionID // what the interaction header says
	claims     *Claims
	late       Field // what was looked at when the time was found to be over
}

// A step looks at one thing. run returns false after it has set c.fault. It may rely
// on what the steps in needs have found, and on nothing else: Explain runs every step
// whose needs were met.
type step struct {
	name  string
	needs uint64
	run   func(c *check) bool
}

// The steps by their place in the decision.
const (
	stepMessage = iota
	stepMethod
	stepPath
	stepQuery
	stepForbiddenHeaders
	stepSenderHeader
	stepReceiverHeader
	stepInteractionHeader
	stepCredential
	stepCertificate
	stepTrust
	stepBreakGlass
	stepRevocation
	stepMap
	stepASID
	stepBinding
	stepReceiver
	stepEndpoint
	stepInteraction
	stepToken
	stepClaims
	stepTie
	stepOrganisation
	stepScope
	stepState
	stepPermission
	stepLastLook
	stepCount
)

func needing(steps ...int) (needs uint64) {
	for _, s := range steps {
		needs |= 1 << s
	}
	return needs
}

// stepsOf returns the decision as a list: the order is the order of the objections.
func stepsOf(mode BindingMode) []step {
	steps := []step{
		stepMessage:           {"message", 0, (*check).message},
		stepMethod:            {"method", 0, (*check).method},
		stepPath:              {"path", needing(stepMessage), (*check).canonicalPath},
		stepQuery:             {"query", needing(stepMessage), (*check).plainQuery},
		stepForbiddenHeaders:  {"forbidden headers", needing(stepMessage), (*check).noForbiddenHeader},
		stepSenderHeader:      {"sender header", needing(stepMessage), (*check).senderHeader},
		stepReceiverHeader:    {"receiver header", needing(stepMessage), (*check).receiverHeader},
		stepInteractionHeader: {"interaction header", needing(stepMessage), (*check).interactionHeader},
		stepCredential:        {"credential", needing(stepMessage), (*check).bearer},
		stepCertificate:       {"certificate", 0, (*check).certificate},
		stepTrust:             {"trust", needing(stepCertificate), (*check).trusted},
		stepBreakGlass:        {"break-glass", needing(stepCertificate), (*check).notDenied},
		stepRevocation:        {"revocation", needing(stepTrust), (*check).notRevoked},
		stepMap:               {"map", 0, (*check).currentMap},
		stepASID:              {"asid", needing(stepMap, stepSenderHeader), (*check).known},
		stepBinding:           {"binding", needing(stepASID, stepCertificate), (*check).bound},
		stepReceiver:          {"receiver", needing(stepReceiverHeader), (*check).receiver},
		stepEndpoint:          {"endpoint", needing(stepMethod, stepPath), (*check).matchEndpoint},
		stepInteraction:       {"interaction", needing(stepEndpoint, stepInteractionHeader), (*check).interaction},
		stepToken:             {"token", needing(stepCredential), (*check).token},
		stepClaims:            {"claims", needing(stepToken), (*check).claimRules},
		stepTie:               {"tie", needing(stepToken, stepBinding), (*check).tied},
		stepOrganisation:      {"organisation", needing(stepToken, stepBinding), (*check).organisation},
		stepScope:             {"scope", needing(stepToken, stepEndpoint), (*check).scope},
		stepState:             {"state", needing(stepBinding), (*check).active},
		stepPermission:        {"permission", needing(stepBinding, stepInteraction), (*check).granted},
		stepLastLook:          {"last look", 1<<stepLastLook - 1, (*check).lastLook},
	}
	if mode == InCertificate {
		steps[stepASID].needs |= needing(stepCertificate)
	}
	return steps
}

func (c *check) object(f Fault) bool {
	c.fault = f
	return false
}

func (c *check) denied() Decision {
	return Decision{fault: c.fault, facts: c.facts}
}

// allowed is the one place where an allow is made. It asks again what lastLook asked:
// that every step passed. An allow must not hang on the order of a list.
func (c *check) allowed() Decision {
	if c.passed != 1<<stepCount-1 {
		return c.denied()
	}
	return Decision{allow: true, facts: c.facts}
}

// lastLook is the end of the way: whoever waited may be gone, and the map that the
// entry came from must still be one that may be used.
func (c *check) lastLook() bool {
	if c.late == "" && c.ctx.Err() != nil {
		c.late = FieldRequest
	}
	if c.late != "" {
		return c.object(Fault{Reason: Cancelled, Field: c.late})
	}
	if c.m == nil || !c.facts.HasMap || c.facts.MapAge > c.maxStaleness {
		return c.object(Fault{Reason: MapStale, Field: FieldMap})
	}
	if c.passed != 1<<stepLastLook-1 {
		return c.object(Fault{Reason: Undecided, Field: FieldRequest})
	}
	return true
}
