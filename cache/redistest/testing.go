package redistest

import (
	"context"
	"testing"
)

// Standalone starts one server for a test.
func Standalone(t testing.TB, options Options) *Server {
	t.Helper()
	return started(t, options, Start)
}

// Sentinel starts a primary with replicas and three Sentinels for a test.
func Sentinel(t testing.TB, options Options) *SentinelDeployment {
	t.Helper()
	return started(t, options, StartSentinel)
}

// Cluster starts a Cluster for a test.
func Cluster(t testing.TB, options Options) *ClusterDeployment {
	t.Helper()
	return started(t, options, StartCluster)
}

// started starts a deployment that ends with the test.
func started[D interface {
	Log() string
	Close() error
}](t testing.TB, options Options, start func(context.Context, Options) (D, error)) D {
	t.Helper()
	d, err := start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Log())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
