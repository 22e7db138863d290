package authz_test

import (
	"fmt"
	"strings"
	"testing"

	"asid-authz/authz"
)

// reasons is the operators' interface. A line may be added. None may be changed or
// taken out: somewhere an alert waits for it.
const reasons = `
undecided unavailable 503
method-not-allowed malformed 400
path-not-canonical malformed 400
header-missing malformed 400
header-repeated malformed 400
header-malformed malformed 400
header-forbidden malformed 400
query-forbidden malformed 400
request-too-large malformed 400
request-malformed malformed 400
certificate-missing unauthenticated 401
certificate-malformed unauthenticated 401
certificate-not-yet-valid unauthenticated 401
certificate-expired unauthenticated 401
certificate-untrusted unauthenticated 401
certificate-revoked unauthenticated 401
token-missing unauthenticated 401
token-repeated unauthenticated 401
token-malformed unauthenticated 401
token-algorithm-refused unauthenticated 401
token-key-unknown unauthenticated 401
token-signature-invalid unauthenticated 401
token-issuer-unknown unauthenticated 401
token-audience-wrong unauthenticated 401
token-not-yet-valid unauthenticated 401
token-expired unauthenticated 401
token-not-bound unauthenticated 401
claim-missing unauthenticated 401
claim-malformed unauthenticated 401
asid-unknown forbidden 403
certificate-not-of-asid forbidden 403
receiver-unknown forbidden 403
endpoint-unknown forbidden 403
endpoint-mismatch forbidden 403
interaction-not-of-endpoint forbidden 403
claim-mismatch forbidden 403
scope-insufficient forbidden 403
system-suspended forbidden 403
interaction-not-granted forbidden 403
map-unavailable unavailable 503
map-incomplete unavailable 503
map-stale unavailable 503
keys-unavailable unavailable 503
trust-unavailable unavailable 503
revocation-unknown unavailable 503
overloaded unavailable 503
cancelled unavailable 503
audit-unavailable unavailable 503
internal-error unavailable 503
`

func TestReasons(t *testing.T) {
	var got strings.Builder
	got.WriteByte('\n')
	seen := map[string]bool{}
	for _, r := range authz.Reasons() {
		fmt.Fprintln(&got, r, r.Class(), r.Class().Status())
		if seen[r.String()] {
			t.Errorf("two Reasons are named %v", r)
		}
		seen[r.String()] = true
		if parsed, err := authz.ParseReason(r.String()); err != nil || parsed != r {
			t.Errorf("ParseReason(%v) is %v, %v", r, parsed, err)
		}
	}
	if got.String() != reasons {
		t.Errorf("the Reasons are now:%s", got.String())
	}
}

func TestReasonUnknown(t *testing.T) {
	for _, name := range []string{"", "Undecided", "token", "token-expired ", "map_stale", strings.Repeat("x", 1000)} {
		r, err := authz.ParseReason(name)
		if err == nil || r != authz.Undecided {
			t.Errorf("ParseReason(%.20q) is %v, %v", name, r, err)
		}
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("the error repeats %d bytes", len(err.Error()))
		}
	}
	if r := authz.Reason(200); r.String() != "reason-200" || r.Class() != authz.Unavailable {
		t.Errorf("a Reason that is none is %v, %v", r, r.Class())
	}
}

// TestPublicReason: until a certificate is bound to the claimed ASID the client learns
// only that it is not.
func TestPublicReason(t *testing.T) {
	for _, r := range authz.Reasons() {
		want := r
		if r == authz.ASIDUnknown {
			want = authz.CertificateNotOfASID
		}
		if r.Public() != want {
			t.Errorf("%v.Public() is %v, want %v", r, r.Public(), want)
		}
	}
}
