package cache_test

import (
	"asid-authz/cache/layout"
)

// dataFaults are those of what lies in the server.
var dataFaults = []fault{
	{"Redis comes back empty", everywhere, 0, same, rises, again, func(s *stage) {
		s.server.Kill()
		s.must(s.server.Restart(s.t.Context(), nil))
		s.ages()
		s.regressed()
		s.serves(s.publish(granted))
		s.young()
	}},
	{"Redis comes back from an old dump, without a revocation", everywhere, 0, same + ", the revocation too", rises, again, func(s *stage) {
		dump := s.dump()
		version := s.publish(revoked)
		s.serves(version)
		s.server.Kill()
		s.must(s.server.Restart(s.t.Context(), dump))
		s.ages()
		s.regressed()
		s.serves(version)
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"the log deleted", everywhere, 0, "the newest", stays, "–", func(s *stage) {
		s.admin("DEL", layout.DefaultNamespace.Log())
		s.young()
		s.loaded(1)
		s.serves(s.publish(revoked)) // which repairs the log, so it is a load
		s.young()
	}},
	{"the log trimmed past a replica that was away", everywhere, 0, "the newest", "rises while it is away", loading, func(s *stage) {
		back := s.away()
		s.publish(revoked)
		s.publish(granted)
		version := s.publish(revoked)
		s.admin("XTRIM", layout.DefaultNamespace.Log(), "MAXLEN", "1")
		back()
		s.serves(version)
		s.young()
		s.loaded(2)
	}},
	{"a bucket evicted or deleted", everywhere, 0, same, rises, again, func(s *stage) {
		s.admin("DEL", layout.DefaultNamespace.Bucket(s.generation(), layout.BucketOf(asid)))
		s.incomplete()
		s.ages()
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"the dictionary evicted or deleted", everywhere, 0, same, rises, again, func(s *stage) {
		s.admin("DEL", layout.DefaultNamespace.IDs(s.generation()))
		s.incomplete()
		s.ages()
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"the manifest evicted or deleted", everywhere, 0, same, rises, again, func(s *stage) {
		s.admin("DEL", manifest)
		s.regressed()
		s.ages()
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"somebody writes an entry behind the log's back", everywhere, 0, same, rises, again, func(s *stage) {
		bucket := layout.DefaultNamespace.Bucket(s.generation(), layout.BucketOf(asid))
		s.admin("HSET", bucket, asid, "\x01\x00\x03RXA\x00\x00\x00\x00\x00")
		s.incomplete()
		s.ages()
		s.serves(s.publish(revoked))
		s.young()
	}},
	{"another type under a bucket", everywhere, 0, same, rises, again, func(s *stage) {
		s.mistyped(layout.DefaultNamespace.Bucket(s.generation(), layout.BucketOf(asid)))
	}},
	{"another type under the dictionary", everywhere, 0, same, rises, again, func(s *stage) {
		s.mistyped(layout.DefaultNamespace.IDs(s.generation()))
	}},
	{"another type under the suspension layer", everywhere, 0, same, rises, again, func(s *stage) {
		s.mistyped(layout.DefaultNamespace.Suspended())
	}},
	{"another type under the manifest", everywhere, 0, same, rises, "when it is gone", func(s *stage) {
		s.admin("RENAME", manifest, manifest+".away")
		s.admin("SET", manifest, "x")
		s.incomplete()
		s.ages()
		s.admin("RENAME", manifest+".away", manifest)
		s.young()
	}},
	{"another type under the log", everywhere, 0, same, rises, "when it is gone", func(s *stage) {
		log := layout.DefaultNamespace.Log()
		s.admin("RENAME", log, log+".away")
		s.admin("SET", log, "x")
		s.incomplete()
		s.ages()
		s.admin("RENAME", log+".away", log)
		s.young()
		s.loaded(1)
	}},
}
