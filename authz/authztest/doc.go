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
//	minted, err := corpus.Worlds[c.World].Mint(time.Now()) // once for each world
//	decision := minted.Authorizer(t).Check(ctx, minted.Request(c, now))
//
// Nothing that ships may import it.
package authztest
