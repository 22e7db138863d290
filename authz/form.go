package authz

import (
	"strings"
)

// Bounds of a request. They are above what Envoy is configured to let through, so that
// an honest client meets Envoy's, and below what could hurt us if Envoy's were gone.
const (
	MaxTarget      = 8 << 10  // bytes of path and query
	MaxHeaders     = 128      // header fields
	MaxHeaderBytes = 64 << 10 // bytes of all names and values
	MaxCredential  = 16 << 10 // bytes of the bearer token
)

// message takes the request apart. Sizes first: every later step walks over it.
func (c *check) message() bool {
	r := c.r
	if r.Fault != nil {
		return c.object(*r.Fault)
	}
	if len(r.Target) > MaxTarget {
		return c.object(Fault{Reason: RequestTooLarge, Field: FieldPath})
	}
	if len(r.Headers) > MaxHeaders {
		return c.object(Fault{Reason: RequestTooLarge, Field: FieldHeaders})
	}
	size := 0
	for i := range r.Headers {
		h := &r.Headers[i]
		size += len(h.Name) + len(h.Value)
		if len(h.Name) > maxHeaderName {
			continue
		}
		for _, u := range c.a.headers[len(h.Name)] {
			if u.name != h.Name {
				continue
			}
			if u.use == useForbidden {
				c.forbidden = u.field
				continue
			}
			c.value[u.use] = h.Value
			c.count[u.use]++
		}
	}
	if size > MaxHeaderBytes {
		return c.object(Fault{Reason: RequestTooLarge, Field: FieldHeaders})
	}
	c.path, c.query, _ = strings.Cut(r.Target, "?")
	return true
}

// method accepts only what an endpoint of the profile has: on HTTP/2 Envoy passes any
// word, and TRACE and the like on both.
func (c *check) method() bool {
	if len(c.a.table[c.r.Method]) == 0 {
		return c.object(Fault{Reason: MethodNotAllowed, Field: FieldMethod, Value: c.r.Method})
	}
	return true
}

func (c *check) canonicalPath() bool {
	if !isCanonicalPath(c.path) {
		return c.object(Fault{Reason: PathNotCanonical, Field: FieldPath})
	}
	return true
}

func (c *check) plainQuery() bool {
	if name, found := forbiddenParameter(c.query); found {
		return c.object(Fault{Reason: QueryForbidden, Field: FieldQuery, Value: name})
	}
	return true
}

func (c *check) noForbiddenHeader() bool {
	if c.forbidden != "" {
		return c.object(Fault{Reason: HeaderForbidden, Field: c.forbidden})
	}
	return true
}

// claimHeader checks presence and number of a header. present is false, without a
// fault, when an optional one did not come.
func (c *check) claimHeader(u use, h *ClaimHeader, required bool) (present, ok bool) {
	switch {
	case h.Name == "":
		return false, true
	case c.count[u] == 0:
		if required {
			return false, c.object(Fault{Reason: HeaderMissing, Field: c.a.fields[u]})
		}
		return false, true
	case c.count[u] > 1 || strings.IndexByte(c.value[u], ',') >= 0: // Envoy may have joined two fields with a comma
		return true, c.object(Fault{Reason: HeaderRepeated, Field: c.a.fields[u], Value: c.value[u]})
	}
	return true, true
}

func (c *check) asidHeader(u use, h *ClaimHeader) (a ASID, ok bool) {
	present, ok := c.claimHeader(u, h, h.Required)
	if !ok || !present {
		return ASID{}, ok
	}
	if a, ok = parseASID(c.value[u]); !ok {
		return ASID{}, c.object(Fault{Reason: HeaderMalformed, Field: c.a.fields[u], Value: c.value[u]})
	}
	return a, true
}

func (c *check) senderHeader() (ok bool) {
	c.sender, ok = c.asidHeader(useSender, &c.a.Profile.Sender)
	c.facts.ClaimedASID = c.sender
	return ok
}

func (c *check) receiverHeader() (ok bool) {
	c.facts.Receiver, ok = c.asidHeader(useReceiver, &c.a.Profile.Receiver)
	return ok
}

func (c *check) interactionHeader() bool {
	h := &c.a.Profile.Interaction
	present, ok := c.claimHeader(useInteraction, h, h.Required)
	if ok && present && !isInteractionID(c.value[useInteraction]) {
		return c.object(Fault{Reason: HeaderMalformed, Field: c.a.fields[useInteraction], Value: c.value[useInteraction]})
	}
	return ok
}

// bearer takes the credential out of the authorization header. Its value is in no Fault.
func (c *check) bearer() bool {
	value := c.value[useCredential]
	if c.count[useCredential] == 0 {
		return c.object(Fault{Reason: TokenMissing, Field: FieldToken})
	}
	scheme, credential, found := strings.Cut(value, " ")
	if c.count[useCredential] == 1 && found && strings.EqualFold(scheme, "Bearer") && isCredential(credential) {
		c.credential = credential
		return true
	}
	if c.count[useCredential] > 1 || strings.IndexByte(value, ',') >= 0 { // Envoy joins two fields of this name
		return c.object(Fault{Reason: TokenRepeated, Field: FieldToken})
	}
	return c.object(Fault{Reason: TokenMalformed, Field: FieldToken})
}

// isCredential reports whether s is one visible ASCII word, without comma, of a bounded
// size. What a token is made of, the verifier says. A token is the longest thing in a
// request and is walked on every one, so eight bytes are looked at together.
func isCredential(s string) bool {
	if s == "" || len(s) > MaxCredential || strings.IndexByte(s, ',') >= 0 {
		return false
	}
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(s) >= 8; s = s[8:] {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		// The high bit of a byte is set in w if it is not ASCII, in the sum also if it
		// is DEL, and in the difference also if it is below "!".
		if (w|(w+ones)|(w-'!'*ones)&^w)&highs != 0 {
			return false
		}
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}
