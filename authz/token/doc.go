// Package token turns the bearer credential of token kind "signed" into
// [authz.Claims]. It is the one place that knows JOSE: JWTs in compact form (RFC 7515,
// RFC 7519, RFC 8725) and key sets (RFC 7517).
//
// # A token
//
// [Verifier.VerifyToken] judges in this order and stops at the first objection:
//
//  1. form: three parts in strict base64url; header and payload are JSON objects in
//     which no name stands twice, at any depth; kid is there; crit and b64 are not
//  2. issuer: iss is, byte for byte, one that is configured. It is read before the
//     signature was looked at, to choose the keys, and for nothing else
//  3. algorithm: alg is on that issuer's list
//  4. key: the issuer holds one of that kid, and it is one for that algorithm
//  5. signature
//  6. the form of the claims that are used here, and whether it is an ID token
//  7. audience and authorised party
//  8. times: exp, nbf, iat
//
// Keys come from the issuer's [Keys] alone: jwk, jku, x5u and x5c of a header are
// never looked at, because whoever made the token made them.
//
// The claims that are judged are those of the bytes that were verified: a token is
// parsed once. What the profile wants of the claims, and whose token it is, is
// package authz's business.
//
// # ID tokens
//
// An ID token tells a client who its user is; it authorises nobody, and it goes through
// more hands than an access token. It is refused unless the issuer's IDTokens says
// otherwise. A token is taken for one when
//
//   - it holds at_hash, c_hash or s_hash, or
//   - tokenName is "id_token" (ForgeRock and with it CIS2), token_use is "id"
//     (Cognito) or the claim typ is "ID" (Keycloak), or
//   - it holds a nonce and nothing says that it is an access token: neither the
//     header's typ "at+jwt" (RFC 9068) nor tokenName "access_token", token_use
//     "access" or the claim typ "Bearer". Keycloak before 25 puts a nonce in both.
//
// A tokenName or token_use with any other value is refused always: refresh tokens are
// signed with the same key.
//
// # Keys
//
// [FileKeys] are handed in, [RemoteKeys] fetch themselves. Each holds one immutable set
// and the time when it was last confirmed to be the newest; an issuer's MaxKeyAge says
// for how long that is good enough, and beyond it the answer is keys-unavailable.
// VerifyToken never waits for keys. An unknown kid makes RemoteKeys ask again soon, but
// never sooner than MinInterval after the last time, however many unknown kids come.
//
// # The cache
//
// Verifying a signature costs tens of microseconds, a look into the cache less than one.
// What is remembered, under the SHA-256 of the credential, is that the signature was
// good for an issuer and a key set, and the claims. Audience and times are judged again
// on each request, a new key set makes every entry of its issuer worthless, and what
// was refused is not remembered.
package token
