package cache

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"asid-authz/authz"
)

// Content is a map with its suspension layer, as those who publish in the histories know it.
type Content = fakeContent

// NewContent returns a map of n systems that no edit touches.
func NewContent(n int) Content {
	c := Content{map[string]fakeSystem{}, map[string]bool{}}
	for i := range n {
		asid := fmt.Sprintf("9%011d", i)
		c.systems[asid] = fakeSystem{asid: asid, ods: "FILL", state: authz.Active, interactions: historyIDs[:1]}
	}
	return c
}

// historyASIDs are the systems that come and go in the histories, in few enough buckets and
// with few enough interactions that one change meets another.
var (
	historyASIDs = func() (all []string) {
		for i := range 12 {
			all = append(all, fmt.Sprintf("1%011d", i*7919))
		}
		return all
	}()
	historyIDs = []string{"urn:nhs:a", "urn:nhs:b", "urn:nhs:c", "urn:nhs:d", "urn:nhs:e"}
)

// randomEdit returns one of many edits of c.
func (c fakeContent) randomEdit(random *rand.Rand, ods string) (e fakeEdit) {
	for _, asid := range historyASIDs {
		switch random.IntN(10) {
		case 0, 1:
			s := fakeSystem{asid: asid, ods: ods, state: authz.Active}
			if random.IntN(4) == 0 {
				s.state = authz.Suspended
			}
			for _, id := range historyIDs {
				if random.IntN(3) == 0 {
					s.interactions = append(s.interactions, id)
				}
			}
			e.put = append(e.put, s)
		case 2:
			if _, there := c.systems[asid]; there {
				e.drop = append(e.drop, asid)
			}
		}
		switch {
		case random.IntN(12) == 0 && !c.suspended[asid]:
			e.suspend = append(e.suspend, asid)
		case random.IntN(6) == 0 && c.suspended[asid] && !slices.Contains(e.drop, asid):
			e.resume = append(e.resume, asid)
		}
	}
	return e
}

// after returns what c becomes by an edit.
func (c fakeContent) after(e fakeEdit) fakeContent {
	next := c.clone()
	for _, s := range e.put {
		next.systems[s.asid] = s
	}
	for _, asid := range e.drop {
		delete(next.systems, asid)
	}
	for _, asid := range e.suspend {
		next.suspended[asid] = true
	}
	for _, asid := range e.resume {
		delete(next.suspended, asid)
	}
	return next
}

// described returns what replicas must make of c.
func (c fakeContent) described() map[string]string {
	all := map[string]string{}
	for asid, s := range c.systems {
		all[asid] = s.describe(c.suspended[asid])
	}
	return all
}

// Applied returns what a random apply makes of c. It leaves the suspension layer alone.
func (c fakeContent) Applied(random *rand.Rand, ods string) Content {
	e := c.randomEdit(random, ods)
	e.suspend, e.resume = nil, nil
	return c.after(e)
}

// With returns the systems of another content under the layer of c, as a rollback does.
func (c fakeContent) With(other Content) Content {
	return Content{maps.Clone(other.systems), maps.Clone(c.suspended)}
}

// Switched returns what c becomes when a random system is suspended, or resumed if it is.
func (c fakeContent) Switched(random *rand.Rand) (next Content, asid string, suspended bool) {
	asid = historyASIDs[random.IntN(len(historyASIDs))]
	e := fakeEdit{suspend: []string{asid}}
	if c.suspended[asid] {
		e = fakeEdit{resume: []string{asid}}
	}
	return c.after(e), asid, !c.suspended[asid]
}

// Map returns the systems of c as a publisher takes them: without the layer.
func (c fakeContent) Map() (*authz.InteractionMap, error) {
	var b authz.MapBuilder
	for _, s := range c.systems {
		asid, err := authz.ParseASID(s.asid)
		if err != nil {
			return nil, err
		}
		system := authz.AccreditedSystem{ASID: asid, ODSCode: s.ods, State: s.state}
		for _, text := range s.interactions {
			id, err := authz.ParseInteractionID(text)
			if err != nil {
				return nil, err
			}
			system.Interactions = append(system.Interactions, id)
		}
		if err := b.Add(system); err != nil {
			return nil, err
		}
	}
	return b.Build(1)
}

// Differs says where a map, with a layer over it, is another one than c; "" is nowhere.
func (c fakeContent) Differs(m *authz.InteractionMap, suspended func(authz.ASID) bool) string {
	got := map[string]string{}
	for s := range m.Systems() {
		if suspended(s.ASID) {
			s.State = authz.Suspended
		}
		got[s.ASID.String()] = describeSystem(&s)
	}
	return differences(got, c.described())
}
