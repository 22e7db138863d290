// Package cache keeps the current interaction map in memory, so that a decision needs
// no file and no network.
//
// A map is written as a file (format 1), by a team in git or by an import from the
// Spine Directory Service:
//
//	format: 1
//	sets:
//	  nrl-consumer: [urn:nhs:names:services:nrl:DocumentReference.read, urn:nhs:names:services:nrl:DocumentReference.search]
//	systems:
//	  - asid: "200000000205"
//	    name: Example Trust EPR
//	    ods: RXA
//	    party_key: RXA-0000806
//	    fqdns: [epr.rxa.example.nhs.uk]
//	    certificates: []
//	    token_clients: []
//	    state: active
//	    interactions: [nrl-consumer, urn:nhs:names:services:nrl:DocumentReference.create]
//
// [DecodeMap] reads it: it accepts a file as a whole or refuses it with everything that
// is wrong with it. [MapFile.Warnings] says what an accepted one probably does not mean.
//
// [Memory] is the source of a deployment without Redis: whoever polls the file hands it
// the content, and it answers with the newest one that it could accept and with when
// that was last known to be the newest. A file that cannot be accepted never replaces
// one that was, but the map ages while it stands there: a refused newer version may be
// the one that takes a right away.
//
// The suite in package cachetest says what every source of maps must do.
package cache
