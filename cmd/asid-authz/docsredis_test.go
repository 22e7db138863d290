package main

import (
	"strings"
	"testing"

	"asid-authz/cache/layout"
	"asid-authz/cache/redistest"
)

// The documented users are those that every test with a real server runs under.
func TestDocsRedisUsers(t *testing.T) {
	text := fileText(t, "../../docs/operations.md")
	_, section, found := strings.Cut(text, "\n## Redis users\n")
	if !found {
		t.Fatal("operations.md has no section about the users of Redis")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for user, rules := range map[string]string{
		"reader":    redistest.ReaderRules(layout.DefaultNamespace),
		"publisher": redistest.PublisherRules(layout.DefaultNamespace),
		"replica":   redistest.ReplicaRules,
		"sentinel":  redistest.SentinelRules,
		"discovery": redistest.DiscoveryRules,
	} {
		if line := "\nuser " + user + " on #HASH " + rules + "\n"; !strings.Contains(section, line) {
			t.Errorf("operations.md does not say%s", line)
		}
	}
	if line := "\nuser sentinel on #HASH " + redistest.PeerRules + "\n"; !strings.Contains(section, line) {
		t.Errorf("operations.md does not say%s", line)
	}
}
