package cache_test

// failoverFaults are those that make another server the one that holds the map.
var failoverFaults = []fault{
	{"Sentinels fail over, nothing is lost", bySentinels, seldom, "the newest", "rises for a moment", itself, func(s *stage) {
		s.d.failover(s.t)
		s.young()
		s.loaded(1)
		s.serves(s.publish(revoked))
		s.loaded(1)
	}},
	{"the primary killed, Sentinels fail over", bySentinels, 0, "the newest", "rises until another is primary", itself, func(s *stage) {
		s.server.Kill()
		s.d.awaitFailover(s.t, s.server)
		s.young()
		s.loaded(1)
		s.serves(s.publish(revoked))
		s.loaded(1)
	}},
	{"the primary frozen, Sentinels fail over", bySentinels, seldom, "the newest", "rises until another is primary", itself, func(s *stage) {
		s.must(s.server.Freeze())
		s.d.awaitFailover(s.t, s.server)
		s.young()
		s.loaded(1)
		s.must(s.server.Thaw())
		s.serves(s.publish(revoked))
	}},
	{"the primary cut off, Sentinels fail over", bySentinels, seldom | proxied, "the newest", "rises until another is primary", itself, func(s *stage) {
		s.server.Proxy().Partition()
		version := s.published(revoked)
		s.serves(version)
		s.young()
		s.loaded(1)
		s.server.Proxy().Heal()
		s.d.awaitFailover(s.t, s.server)
		s.young()
		s.loaded(1)
	}},
	{"the server is demoted, and its link to the new one is down", withReplicas, 0, "the newest", "rises for a moment", itself, func(s *stage) {
		old := s.d.demote(s.t)
		s.serves(s.publish(revoked)) // which the old one never hears of
		s.young()
		s.loaded(1)
		s.must(old.JoinReplication(s.t.Context()))
		s.d.awaitFailover(s.t, old)
		s.serves(s.publish(granted))
		s.loaded(1)
	}},
	{"a failover loses a revocation that was acknowledged", withReplicas, seldom, same + ", the revocation too", rises, again, func(s *stage) {
		var version uint64
		s.d.lose(s.t, func() {
			version = s.publish(revoked)
			s.serves(version)
		})
		s.regressed()
		s.ages()
		s.serves(version)
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"a node of the Cluster fails over", inCluster, 0, "the newest", "rises for a moment", itself, func(s *stage) {
		s.d.failover(s.t)
		s.young()
		s.serves(s.publish(revoked))
		s.loaded(1)
	}},
	{"the Cluster's node killed", inCluster, seldom, "the newest", "rises until another is master", itself, func(s *stage) {
		s.server.Kill()
		s.d.awaitFailover(s.t, s.server)
		s.young()
		s.loaded(1)
		s.serves(s.publish(revoked))
	}},
	{"the slot moved to another node", inCluster, seldom, "the newest", "rises for a moment", itself, func(s *stage) {
		_, err := s.d.cluster.MoveSlot(s.t.Context(), manifest)
		s.must(err)
		s.young()
		s.serves(s.publish(revoked))
		s.loaded(1)
	}},
}
