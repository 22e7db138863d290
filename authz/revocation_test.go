package authz_test

import (
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

// A revocable is a scenario whose certificate has a chain of its own: a leaf of an
// issuing CA, below a root.
type revocable struct {
	*scenario
	root, issuing *authztest.CA
	leaf          *big.Int
	bundle        *authz.Trust
}

func newRevocable(t *testing.T) *revocable {
	t.Helper()
	r := &revocable{scenario: newScenario(t), root: authztest.NewCA("Root"), leaf: big.NewInt(4711)}
	r.issuing = r.root.Intermediate("Issuing")
	r.bundle = parseTrust(t, r.root.PEM(), r.issuing.PEM())
	r.present(r.issuing)
	r.trust.Trust = r.bundle
	return r
}

// present makes the client come with a certificate of that CA.
func (r *revocable) present(ca *authztest.CA) {
	r.t.Helper()
	leaf, err := ca.Issue(authztest.CertificateSpec{CommonNames: []string{"gp-one.example.nhs.uk"}, SerialNumber: r.leaf,
		ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.request.Certificate = authz.ParseCertificate(leaf.DER)
}

func (r *revocable) list(ca *authztest.CA, revoked ...*big.Int) *authz.CRL {
	r.t.Helper()
	return parseCRLs(r.t, crl(r.t, ca, authztest.CRLSpec{Revoked: revoked}))[0]
}

// file is a file of lists that was confirmed that long ago.
func (r *revocable) file(age time.Duration, lists ...*authz.CRL) authz.CRLFile {
	return authz.CRLFile{CRLs: lists, Confirmed: r.request.Now.Add(-age)}
}

// want checks the Reason, Undecided for an allow, and the field.
func (r *revocable) want(name string, reason authz.Reason, field authz.Field) {
	r.t.Helper()
	d := r.check()
	if d.Allowed() != (reason == authz.Undecided) || d.Reason() != reason || d.Fault().Field != field {
		r.t.Errorf("%s: allowed=%v, %v (%s), want %v (%s)", name, d.Allowed(), d.Reason(), d.Fault().Field, reason, field)
	}
}

func TestRevocation(t *testing.T) {
	const bound = authztest.MaxCRLAge
	r := newRevocable(t)
	root, issuing := r.root, r.issuing
	other := big.NewInt(4712)
	for _, test := range []struct {
		name   string
		files  []authz.CRLFile
		reason authz.Reason
		field  authz.Field
	}{
		{"nothing revoked", []authz.CRLFile{r.file(0, r.list(root), r.list(issuing))}, authz.Undecided, ""},
		{"in files of their own", []authz.CRLFile{r.file(0, r.list(root)), r.file(0, r.list(issuing))}, authz.Undecided, ""},
		{"another one", []authz.CRLFile{r.file(0, r.list(root), r.list(issuing, other))}, authz.Undecided, ""},
		{"the leaf", []authz.CRLFile{r.file(0, r.list(root), r.list(issuing, other, r.leaf))}, authz.CertificateRevoked, authz.FieldCertificate},
		{"the leaf's number, at the root", []authz.CRLFile{r.file(0, r.list(root, r.leaf), r.list(issuing))}, authz.Undecided, ""},
		{"the CA between", []authz.CRLFile{r.file(0, r.list(root, issuing.Certificate.SerialNumber), r.list(issuing))}, authz.CertificateRevoked, authz.FieldTrust},
		{"the root, by itself", []authz.CRLFile{r.file(0, r.list(root, root.Certificate.SerialNumber), r.list(issuing))}, authz.Undecided, ""},
		{"no list at all", nil, authz.RevocationUnknown, authz.FieldTrust},
		{"none of the CA", []authz.CRLFile{r.file(0, r.list(root))}, authz.RevocationUnknown, authz.FieldTrust},
		{"none of the root", []authz.CRLFile{r.file(0, r.list(issuing))}, authz.RevocationUnknown, authz.FieldTrust},
		{"one of somebody of that name", []authz.CRLFile{r.file(0, r.list(root), r.list(authztest.NewCA("Issuing")))}, authz.RevocationUnknown, authz.FieldTrust},
		{"of the age that is allowed", []authz.CRLFile{r.file(bound, r.list(root), r.list(issuing))}, authz.Undecided, ""},
		{"the CA's beyond it", []authz.CRLFile{r.file(0, r.list(root)), r.file(bound+1, r.list(issuing))}, authz.RevocationUnknown, authz.FieldTrust},
		{"the root's beyond it", []authz.CRLFile{r.file(bound+1, r.list(root)), r.file(0, r.list(issuing))}, authz.RevocationUnknown, authz.FieldTrust},
		{"never confirmed", []authz.CRLFile{{CRLs: []*authz.CRL{r.list(root), r.list(issuing)}}}, authz.RevocationUnknown, authz.FieldTrust},
		{"too old, and says revoked", []authz.CRLFile{r.file(0, r.list(root)), r.file(10*bound, r.list(issuing, r.leaf))}, authz.CertificateRevoked, authz.FieldCertificate},
		{"unknown at the CA, revoked at the root", []authz.CRLFile{r.file(0, r.list(root, issuing.Certificate.SerialNumber))}, authz.CertificateRevoked, authz.FieldTrust},
		{"of strangers beside", []authz.CRLFile{r.file(0, r.list(authztest.NewCA("Stranger"), r.leaf), r.list(root), r.list(issuing)), r.file(9*bound, r.list(authztest.NewCA("Other")))}, authz.Undecided, ""},
	} {
		r.trust.Trust = r.bundle.WithCRLs(test.files...)
		r.want(test.name, test.reason, test.field)
	}
	r.trust.Trust = authz.TrustEnvoy().WithCRLs(r.file(0, r.list(issuing, r.leaf)))
	r.want("lists for a trust that verifies nothing", authz.Undecided, "")
	r.trust.Trust = &authz.Trust{}
	r.want("the zero Trust", authz.CertificateUntrusted, authz.FieldCertificate)
}

// TestRevocationIsAskedEachTime: the verdict on the chain is remembered with the
// certificate, what has been revoked is not.
func TestRevocationIsAskedEachTime(t *testing.T) {
	r := newRevocable(t)
	root, good, bad := r.list(r.root), r.list(r.issuing), r.list(r.issuing, r.leaf)
	for range 3 {
		r.trust.Trust = r.bundle.WithCRLs(r.file(0, root, good))
		r.want("before", authz.Undecided, "")
		r.trust.Trust = r.bundle.WithCRLs(r.file(0, root, bad))
		r.want("revoked", authz.CertificateRevoked, authz.FieldCertificate)
		r.trust.Trust = r.bundle
		r.want("without lists", authz.Undecided, "")
		r.trust.Trust = r.bundle.WithCRLs()
		r.want("with none of them", authz.RevocationUnknown, authz.FieldTrust)
	}
}

// TestRevocationOfTwoLists: of two lists of one CA the higher number counts, with its age.
func TestRevocationOfTwoLists(t *testing.T) {
	r := newRevocable(t)
	numbered := func(number int64, revoked ...*big.Int) *authz.CRL {
		return parseCRLs(t, crl(t, r.issuing, authztest.CRLSpec{Number: number, Revoked: revoked}))[0]
	}
	root, fresh, old := r.file(0, r.list(r.root)), time.Duration(0), 2*authztest.MaxCRLAge
	for _, test := range []struct {
		name   string
		files  []authz.CRLFile
		reason authz.Reason
	}{
		{"the newer revokes", []authz.CRLFile{r.file(fresh, numbered(255)), r.file(fresh, numbered(256, r.leaf))}, authz.CertificateRevoked},
		{"the older revokes", []authz.CRLFile{r.file(fresh, numbered(255, r.leaf)), r.file(fresh, numbered(256))}, authz.Undecided},
		{"the newer has aged", []authz.CRLFile{r.file(fresh, numbered(255)), r.file(old, numbered(256))}, authz.RevocationUnknown},
	} {
		for range 2 {
			r.trust.Trust = r.bundle.WithCRLs(append([]authz.CRLFile{root}, test.files...)...)
			d := r.check()
			if d.Allowed() != (test.reason == authz.Undecided) || d.Reason() != test.reason {
				t.Errorf("%s: %v", test.name, d.Reason())
			}
			slices.Reverse(test.files)
		}
	}
}

// TestRevocationOfEveryChain: a CA that two roots vouch for is out when one of them has
// revoked it, and its own list is needed once.
func TestRevocationOfEveryChain(t *testing.T) {
	r := newRevocable(t)
	second := authztest.NewCA("Second Root")
	cross, err := second.CrossSign(r.issuing)
	if err != nil {
		t.Fatal(err)
	}
	bundle := parseTrust(t, r.root.PEM(), r.issuing.PEM(), second.PEM(), cross.PEM())
	lists := func(revoked ...*big.Int) *authz.Trust {
		return bundle.WithCRLs(r.file(0, r.list(r.root), r.list(r.issuing), r.list(second, revoked...)))
	}
	r.trust.Trust = lists()
	r.want("nothing revoked", authz.Undecided, "")
	r.trust.Trust = lists(cross.Certificate.SerialNumber)
	r.want("one way revoked", authz.CertificateRevoked, authz.FieldTrust)
	r.trust.Trust = bundle.WithCRLs(r.file(0, r.list(r.root), r.list(r.issuing)))
	r.want("one way unknown", authz.RevocationUnknown, authz.FieldTrust)
	r.trust.Trust = lists()
	r.leaf = big.NewInt(9)
	r.present(r.issuing)
	r.want("another leaf", authz.Undecided, "")
}

// TestCRLState is what health and metrics see.
func TestCRLState(t *testing.T) {
	r := newRevocable(t)
	now := r.request.Now
	if age, next, without := r.bundle.CRLAge(now), r.bundle.NextCRL(), r.bundle.WithoutCRL(); age != 0 || !next.IsZero() || without != nil {
		t.Errorf("without lists: %v, %v, %v", age, next, without)
	}
	if age, without := r.bundle.WithCRLs().CRLAge(now), r.bundle.WithCRLs().WithoutCRL(); age != 1<<63-1 || !slices.Equal(without, []string{"CN=Root", "CN=Issuing"}) {
		t.Errorf("with none of them: %v, %v", age, without)
	}
	soon := now.Add(time.Hour).Truncate(time.Second)
	ends := parseCRLs(t, crl(t, r.root, authztest.CRLSpec{NextUpdate: soon}))[0]
	trust := r.bundle.WithCRLs(r.file(time.Minute, ends), r.file(time.Hour, r.list(authztest.NewCA("Stranger"))))
	if age, next, without := trust.CRLAge(now), trust.NextCRL(), trust.WithoutCRL(); age != time.Minute || !next.Equal(soon) || !slices.Equal(without, []string{"CN=Issuing"}) {
		t.Errorf("with one: %v, %v, %v", age, next, without)
	}
	trust = r.bundle.WithCRLs(r.file(time.Minute, ends), r.file(time.Hour, r.list(r.issuing)))
	if age, next := trust.CRLAge(now), trust.NextCRL(); age != time.Hour || !next.Equal(soon) {
		t.Errorf("with both: %v, %v", age, next)
	}
}
