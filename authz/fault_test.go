package authz_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
)

// fieldsOf returns every Field that a Fault may be about under a profile: a closed list,
// or a stranger's text could become a label.
func fieldsOf(p *authz.Profile) []authz.Field {
	all := []authz.Field{
		authz.FieldRequest, authz.FieldMethod, authz.FieldPath, authz.FieldQuery, authz.FieldRoute, authz.FieldCertificate, authz.FieldName,
		authz.FieldFingerprint, authz.FieldASID, authz.FieldToken, authz.FieldEndpoint, authz.FieldSystem, authz.FieldMap, authz.FieldTrust, authz.FieldHeaders,
	}
	for _, h := range []authz.ClaimHeader{p.Sender, p.Receiver, p.Interaction} {
		if h.Name != "" {
			all = append(all, authz.HeaderField(h.Name))
		}
	}
	for _, name := range authz.ForbiddenHeaders() {
		all = append(all, authz.HeaderField(name))
	}
	claims := []string{"iss", "aud", "exp", "nbf", "iat", "sub", "azp", "client_id", "cnf", "at_hash", "c_hash", "s_hash", "nonce", "tokenName", "token_use", "typ",
		p.Token.ASID.Claim, p.Token.Organisation.Claim, p.Token.ScopeClaim}
	for _, r := range p.Token.Rules {
		claims = append(claims, r.Claim, r.IfPresent)
		claims = append(claims, r.EqualsFirstOf...)
	}
	for _, claim := range claims {
		if claim != "" {
			all = append(all, authz.ClaimField(claim))
		}
	}
	return all
}

// TestFaults looks at the objection of every case: a Field from the closed list, the
// other side only where something was compared, and never a credential or a patient.
func TestFaults(t *testing.T) {
	now := time.Now()
	corpus := loadCorpus(t)
	worlds := mintAll(t, corpus, now)
	for _, c := range corpus.Cases {
		w := worlds[c.World]
		token, err := w.Token(c, now)
		if err != nil {
			t.Fatal(err)
		}
		r := w.request(t, c, now)
		_, steps := w.authorizer.Explain(context.Background(), r)
		fields := fieldsOf(&w.config.Profile)
		for _, s := range steps {
			f := s.Fault
			if s.Outcome != authz.Failed {
				continue
			}
			if f.Reason == authz.Undecided || !slices.Contains(fields, f.Field) || f.Other != "" && !slices.Contains(fields, f.Other) {
				t.Errorf("%s: step %s objects as %v about %q and %q", c.File, s.Name, f.Reason, f.Field, f.Other)
			}
			for _, value := range []string{f.Value, f.OtherValue} {
				switch {
				case value == "":
				case token != "" && strings.Contains(token, value) && len(value) > 20, strings.HasPrefix(value, "Bearer"):
					t.Errorf("%s: step %s repeats the credential", c.File, s.Name)
				case strings.Contains(value, "nhs-number"), strings.Contains(value, "9912003888"):
					t.Errorf("%s: step %s repeats an NHS number: %q", c.File, s.Name, value)
				}
			}
		}
	}
}

// TestClaimant: where no header claims the ASID, an objection is not about a header.
func TestClaimant(t *testing.T) {
	now := time.Now()
	w := mint(t, loadCorpus(t), "certificate-uri-san", now)
	w.config.Profile.Sender = authz.ClaimHeader{}
	a, err := authz.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]authz.Fault{
		"binding-uri-unknown":      {Reason: authz.ASIDUnknown, Field: authz.FieldASID},
		"binding-uri-name-nowhere": {Reason: authz.CertificateNotOfASID, Field: authz.FieldName, Other: authz.FieldASID},
		"client-tie-asid-of-another": {Reason: authz.ClaimMismatch, Field: authz.ClaimField("asid"), Other: authz.FieldASID,
			Value: "240000000002"},
	}
	for _, c := range loadCorpus(t).Cases {
		f, is := want[c.File]
		if !is {
			continue
		}
		delete(want, c.File)
		d := a.Check(context.Background(), w.request(t, c, now))
		if *d.Fault() != f {
			t.Errorf("%s: %+v, want %+v", c.File, *d.Fault(), f)
		}
	}
	if len(want) > 0 {
		t.Errorf("no such cases any more: %v", want)
	}
}
