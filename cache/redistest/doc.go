// Package redistest runs real Redis or Valkey servers on the loopback: one, a primary with
// replicas and Sentinels, or a Cluster. Their users are the documented ones, and faults are
// done to them as life does: by signals, failovers and moved slots.
//
//	s := redistest.Standalone(t, redistest.Options{})
//	client := redis.NewUniversalClient(s.ClientOptions(redistest.Reader))
//	s.Freeze()
//
// [Standalone], [Sentinel] and [Cluster] are for tests: what they start ends with the
// test, and what the servers logged is shown when it fails. [Start], [StartSentinels] and
// [StartCluster] are the same for a program, which calls Close. [Find] says which server it
// is. Whatever a method waits for is a condition that can be seen; the context bounds it.
package redistest
