// Package mesh runs a small deployment on one machine: an API, the real asid-authz and a
// real Envoy as processes on the loopback, with certificates that are thrown away with it,
// and clients that say exactly what they are told to.
//
//	programs, err := mesh.FindPrograms(ctx)               // Envoy found or fetched, asid-authz built
//	m, err := programs.Start(ctx, minted, mesh.Options{}) // the API and asid-authz, in a world of the corpus
//	edge, err := m.Edge(ctx)                              // an Envoy in front of them
//	answer, err := edge.Client(certificate).Do(ctx, mesh.HTTP2, request)
//	record, err := m.Record(answer.Header.Get("x-asid-decision-id"))
//
// Envoy's configuration is what `asid-authz envoy-config` prints; a weaker one is that, with
// a named [Change] made to it.
//
// Everything ends with [Mesh.Close], and with the process that started it however that ends.
// The package knows nothing of testing: the demo runs on it too.
package mesh
