package e2e

import (
	"regexp"
	"testing"

	"go.yaml.in/yaml/v4"

	"asid-authz/e2e/mesh"
)

// refusedReload is what the metrics say of a map file that was refused.
var refusedReload = regexp.MustCompile(`(?m)^asid_authz_reloads_total\{result="refused",what="map"\} [1-9]`)

// fieldOf returns the value of a key of a YAML mapping.
func fieldOf(t *testing.T, mapping *yaml.Node, key string) *yaml.Node {
	t.Helper()
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	t.Fatalf("the map file has no %q at line %d", key, mapping.Line)
	return nil
}

// editMap returns the map file with the entry of that ASID changed, and all the rest as it is
// written.
func (s *scene) editMap(t *testing.T, asid string, edit func(system *yaml.Node)) string {
	t.Helper()
	text, err := s.World.MapText()
	if err != nil {
		t.Fatal(err)
	}
	var file yaml.Node
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, system := range fieldOf(t, file.Content[0], "systems").Content {
		if fieldOf(t, system, "asid").Value == asid {
			edit(system)
			found = true
		}
	}
	if !found {
		t.Fatalf("the map has no %q", asid)
	}
	edited, err := yaml.Marshal(&file)
	if err != nil {
		t.Fatal(err)
	}
	return string(edited)
}

// Who was granted or lost a right feels it on the connection that is open, without anybody's
// restart, and a file that is broken changes nothing.
func TestMapChanges(t *testing.T) {
	t.Parallel()
	s := play(t, mesh.Options{})
	var conns []mesh.Conn
	for _, protocol := range mesh.Protocols {
		conn, refused, err := s.client(t, s.edge, s.remove).Open(t.Context(), protocol)
		if err != nil || refused != nil {
			t.Fatal(refused, err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	until := func(status int, reason string) {
		t.Helper()
		for _, conn := range conns {
			var answer *mesh.Answer
			eventually(t, "the answer to the delete is another", func() (done bool) {
				var err error
				if answer, err = conn.Do(s.request(t, s.remove)); err != nil {
					t.Fatal(err)
				}
				return answer.Header.Get("X-Asid-Reason") == reason
			})
			expect(t, []*mesh.Answer{answer}, status, reason)
		}
	}
	set := func(text string) {
		t.Helper()
		if err := s.SetMap(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	until(403, "interaction-not-granted")
	asid := headerOf(s.remove, "fromASID")
	granted := s.editMap(t, asid, func(system *yaml.Node) {
		set := fieldOf(t, system, "interactions")
		set.Content = append(set.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "urn:nhs:names:services:nrl:DocumentReference.delete"})
	})
	set(granted)
	until(200, "")
	set(s.editMap(t, asid, func(system *yaml.Node) { fieldOf(t, system, "state").Value = "suspended" }))
	until(403, "system-suspended")
	set(granted)
	until(200, "")
	set("format: 1\nsystems: [half a fi")
	eventually(t, "the refused file is counted", func() bool {
		metrics, err := s.Replica().Metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return refusedReload.MatchString(metrics)
	})
	until(200, "")
}
