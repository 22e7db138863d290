package authz

import (
	"strings"
)

// matchEndpoint asks the table. What Envoy's route says narrows the answer and never
// stands in for it: two matchers that must agree are better than one that is believed.
func (c *check) matchEndpoint() bool {
	path, below := strings.CutPrefix(c.path, c.a.Profile.Base)
	if below {
		for _, e := range c.a.table[c.r.Method] {
			if e.Path.match(path) {
				c.endpoint = e
				break
			}
		}
	}
	if c.endpoint == nil {
		return c.object(Fault{Reason: EndpointUnknown, Field: FieldPath})
	}
	if c.r.Route != "" && c.r.Route != c.endpoint.Name {
		if c.a.byName[c.r.Route] == nil {
			return c.object(Fault{Reason: EndpointUnknown, Field: FieldRoute})
		}
		return c.object(Fault{Reason: EndpointMismatch, Field: FieldRoute, Other: FieldEndpoint, OtherValue: c.endpoint.Name})
	}
	c.facts.Endpoint, c.facts.Interaction = c.endpoint.Name, c.endpoint.Interaction
	return true
}

// interaction lets the header choose within the endpoint's choice, and confirm otherwise.
func (c *check) interaction() bool {
	sent := c.value[useInteraction]
	if c.count[useInteraction] == 0 {
		if len(c.endpoint.Choice) > 0 {
			return c.object(Fault{Reason: HeaderMissing, Field: c.a.fields[useInteraction]})
		}
		return true
	}
	id, accepted := c.endpoint.accepts(sent)
	if !accepted {
		return c.object(Fault{Reason: InteractionNotOfEndpoint, Field: c.a.fields[useInteraction], Other: FieldEndpoint, Value: sent, OtherValue: c.endpoint.Name})
	}
	if len(c.endpoint.Choice) > 0 {
		c.chosen, c.facts.Interaction = id, id
	}
	return true
}

// active comes after the binding: nobody may find out about the state of others.
func (c *check) active() bool {
	if c.breakGlass.deniesASID(c.system.asid) {
		return c.object(Fault{Reason: SystemSuspended, Field: FieldBreakGlass})
	}
	if c.system.state != Active {
		return c.object(Fault{Reason: SystemSuspended, Field: FieldSystem})
	}
	return true
}

func (c *check) granted() bool {
	e := c.endpoint
	if len(e.Choice) > 0 {
		if c.m.grants(&c.system, c.chosen) {
			return true
		}
	} else {
		if c.m.grants(&c.system, e.Interaction) {
			return true
		}
		for _, alias := range e.Aliases {
			if c.m.grants(&c.system, alias) {
				return true
			}
		}
	}
	return c.object(Fault{Reason: InteractionNotGranted, Field: FieldEndpoint, Other: FieldSystem, Value: c.facts.Interaction.s})
}
