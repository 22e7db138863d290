// Package envoy is the ext_authz edge: it takes Envoy's CheckRequest apart into an
// authz.Request, and makes the Decision into the CheckResponse that Envoy acts on.
//
// A request's way is straight: [Server.Check] reads the fields that we use
// (request.go, certificate.go), asks the Authorizer, hands one [Record] to whoever
// keeps records, and encodes the answer (response.go), in the error dialect of the
// API behind Envoy (dialect.go, outcome.go). Nothing is judged here.
//
// Envoy takes a CheckResponse without a status, a nil one, and a status of zero with a
// denial in it for an allow. So one function makes every CheckResponse, out of a
// denial that is complete before anything else is looked at.
//
// The package also renders the configuration of the Envoy that asks (bootstrap.go):
// what one side must send and the other must heed is written down in one place.
package envoy
