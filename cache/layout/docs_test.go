package layout

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"asid-authz/authz"
)

// TestDocs holds the examples of docs/caching.md against the code: who publishes with a
// program of his own has nothing else.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/caching.md")
	if err != nil {
		t.Fatal(err)
	}
	entry := AppendEntry(nil, &authz.AccreditedSystem{ODSCode: "RXA", State: authz.Active}, []int{0, 1, 300})
	for what, example := range map[string]string{
		"bucket": "`200000000205` is in bucket `" + BucketName(BucketOf("200000000205")) + "`",
		"number": fmt.Sprintf("(300 is `% x`)", AppendEntry(nil, &authz.AccreditedSystem{}, []int{300})[8:]),
		"entry":  fmt.Sprintf("    % x\n", entry),
		"digest": "    " + Digest{}.Next(1, "x").String() + "\n",
		"fields": "`HMGET manifest " + strings.Join(HeadFields(), " ") + "`",
	} {
		if !strings.Contains(string(text), example) {
			t.Errorf("%s: docs/caching.md does not say %q", what, example)
		}
	}
}
