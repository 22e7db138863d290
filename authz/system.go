package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An AccreditedSystem is one entry of the interaction map.
type AccreditedSystem struct {
	ASID     ASID
	Name     string // for people
	ODSCode  string // of the organisation, as the Organisation Data Service spells it
	PartyKey string // for people

	// What binds a certificate to the system. Every kind that is listed must hold: a
	// certificate with one of the Fingerprints, if there are any, and with one of the
	// FQDNs as its name, if there are any. A system that lists none is bound to no
	// certificate in binding mode registered.
	FQDNs        []string
	Fingerprints [][32]byte // SHA-256 of the certificate's DER

	TokenClients []string // azp or client_id values that belong to the system
	Interactions []InteractionID
	State        State
}

// State says whether a system may do anything at all. The zero State is Suspended.
type State uint8

const (
	Suspended State = iota
	Active
)

// String returns "active" or "suspended".
func (s State) String() string {
	if s == Active {
		return "active"
	}
	return "suspended"
}

// ParseState returns the State of that name.
func ParseState(name string) (State, error) {
	switch name {
	case "active":
		return Active, nil
	case "suspended":
		return Suspended, nil
	}
	return Suspended, fmt.Errorf("state is active or suspended, not %s", Excerpt(name))
}

// Bounds of one entry: far above every real record (the largest published one has
// 478 interactions), low enough that no entry can hurt the others.
const (
	MaxInteractions = 4096
	maxBindings     = 1024
	maxText         = 255
)

// Validate returns what is wrong with s, all of it, or nil.
func (s *AccreditedSystem) Validate() error {
	var all []error
	object := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if s.ASID.IsZero() {
		object("asid is missing")
	}
	if !isVisible(s.ODSCode) {
		object("ods is 1 to %d visible ASCII characters, not %s", maxText, Excerpt(s.ODSCode))
	}
	for _, text := range []struct{ name, value string }{{"name", s.Name}, {"party_key", s.PartyKey}} {
		if len(text.value) > maxText || hasControl(text.value) {
			object("%s is at most %d characters without control characters, not %s", text.name, maxText, Excerpt(text.value))
		}
	}
	// Each is compared with those before it, of which there is nearly always one or
	// none; the bound keeps that from taking long.
	fqdns, clients, fingerprints := bounded(s.FQDNs), bounded(s.TokenClients), bounded(s.Fingerprints)
	for i, fqdn := range fqdns {
		switch {
		case comparableName(fqdn) == "" || len(fqdn) > maxText:
			object("fqdn %s can match no certificate: a name is ASCII, without wildcard, blank or trailing dot", Excerpt(fqdn))
		case slices.ContainsFunc(fqdns[:i], func(before string) bool { return strings.EqualFold(before, fqdn) }):
			object("fqdn %s stands twice", Excerpt(fqdn))
		}
	}
	for i, client := range clients {
		if !isVisible(client) {
			object("token client is 1 to %d visible ASCII characters, not %s", maxText, Excerpt(client))
		}
		if slices.Contains(clients[:i], client) {
			object("token client %s stands twice", Excerpt(client))
		}
	}
	for i := range fingerprints {
		if slices.Contains(fingerprints[:i], fingerprints[i]) {
			object("certificate %x stands twice", fingerprints[i])
		}
	}
	if len(s.FQDNs) > maxBindings || len(s.Fingerprints) > maxBindings || len(s.TokenClients) > maxBindings {
		object("more than %d fqdns, certificates or token clients", maxBindings)
	}
	if len(s.Interactions) > MaxInteractions {
		all = append(all, errTooManyInteractions)
	}
	for _, id := range s.Interactions {
		if id.IsZero() {
			object("an interaction is empty")
		}
	}
	return errors.Join(all...)
}

var errTooManyInteractions = fmt.Errorf("more than %d interactions", MaxInteractions)

func bounded[T any](all []T) []T { return all[:min(len(all), maxBindings)] }

// isVisible reports whether s is 1 to maxText visible ASCII characters.
func isVisible(s string) bool {
	if s == "" || len(s) > maxText {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
