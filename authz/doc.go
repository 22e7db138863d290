// Package authz decides whether an accredited system may perform an interaction.
//
// One question is asked for every request that Envoy receives: the peer proved
// that it holds the key of a certificate, claims to be the system with a certain
// ASID, carries a bearer token, and calls an endpoint. May it?
//
// The answer is a [Decision]. [Authorizer.Check] reaches it in steps that stop at
// the first objection, cheap before expensive, identity before permission, what a
// client can repair before what it must ask for:
//
//  1. form: method, path, query, headers, the shape of the credential
//  2. certificate: present, parsed, valid now, issued by a CA that we trust
//  3. ASID: known, and bound to that certificate; the receiver is ours
//  4. endpoint: the profile's table knows it, the route and the interaction header agree
//  5. token: verified, its claims well formed, tied to this caller, its scope wide enough
//  6. permission: the system is active and accredited for the interaction
//  7. last look: nobody has given up meanwhile and the map is still young enough
//
// # Words
//
//   - ASID: Accredited System ID, exactly twelve ASCII digits.
//   - InteractionID: what an ASID may do, "urn:nhs:names:services:…".
//   - AccreditedSystem: one entry of the map.
//   - InteractionMap: an immutable snapshot of all AccreditedSystems, with a version.
//   - Endpoint: method, path template, scope, and the interaction that calling it is.
//   - Profile: all that is particular to one protected API.
//   - sender and receiver: the calling system and the called one.
//   - Consumer and Provider: what a sender is accredited as. No field of its own: a
//     Consumer is a system whose set holds read and search.
//   - claim headers: what the client asserts (fromASID); identity headers: what we
//     assert to the API (x-asid).
//   - Request, Decision, Fault, Reason: question, answer, why not, and the stable name for why.
//
// # What holds always
//
// The zero Decision denies. Only this package can make one that allows. Unknown is
// never yes, and a failure to find out is itself a Decision, so that no caller can
// turn an error into an allow.
//
// The package is pure: it has no clock (a [Request] brings the time), starts no
// goroutine, writes no log, opens no file and no connection, and imports nothing but
// the standard library. Package envoy puts the question, package cache supplies the
// map, package token verifies the token, and the command joins them.
package authz
