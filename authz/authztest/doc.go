// Package authztest holds what every layer's tests share: certificates and tokens,
// honest and hostile, minted when a test runs, and the corpus.
//
// The corpus is a directory with worlds and cases. A [World] is one deployment: a map,
// a profile, a binding, issuers, and the certificates and tokens of its clients by
// name. A [Case] is one independent request in a world, in a file of its own that
// begins with a sentence of why, and the answer that it must get. The same file runs
// through package authz, through the gRPC edge and through a real Envoy:
//
//	corpus, err := authztest.Load("testdata")
//	minted, err := corpus.Worlds[c.World].Mint(now) // once for each world
//	config, err := minted.Config(now)
//	request, err := minted.Request(c, &config.Profile, now)
//
// A case is a txtar archive. Its sections are case (world, certificate, token, route,
// envoy, only), claims and jose (JSON that is laid over the token's), request, want,
// and, where a real Envoy answers otherwise, want envoy, want envoy h1 or want envoy h2.
// Certificates and tokens are names of the world with options behind them: "gp-one
// expired=1h", "gp-one scope=x sign=RS256/cas-1 exp=-1s". In a request {token} is the
// token, {0x00} a byte, {a*3000} a letter as often as that, {certificate NAME} the
// SHA-256 of a certificate in hex.
//
// Nothing that ships may import it.
package authztest
