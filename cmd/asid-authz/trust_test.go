package main

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"asid-authz/authz"
	"asid-authz/authz/authztest"
)

func crlOf(t *testing.T, ca *authztest.CA, spec authztest.CRLSpec) []byte {
	t.Helper()
	der, err := ca.CRL(spec)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestCRLFile follows a file of CRLs through its life. What counts is the age: it is
// young only after a read that found the newest there can be.
func TestCRLFile(t *testing.T) {
	ca, other := authztest.NewCA("CA"), authztest.NewCA("Other")
	start := time.Now().Truncate(time.Second)
	until := start.Add(time.Hour)
	numbered := func(number int64) []byte {
		return crlOf(t, ca, authztest.CRLSpec{Number: number, NextUpdate: until, Revoked: []*big.Int{big.NewInt(number)}})
	}
	broken := slices.Clone(numbered(9))
	broken[len(broken)-1] ^= 1
	trust := newTrustFile("bundle", []string{"crl", "second"}, nil)
	if _, err := trust.loadCRLs("crl", numbered(5), start); err == nil || !strings.Contains(err.Error(), "cannot be verified") {
		t.Errorf("before there is a bundle: %v", err)
	}
	if _, err := trust.load(ca.PEM(), start); err != nil {
		t.Fatal(err)
	}
	if err := trust.usable(); err == nil {
		t.Error("usable without a list")
	}
	confirmed := time.Duration(0) // after start
	for _, step := range []struct {
		name    string
		text    []byte
		after   time.Duration
		changed bool
		refused string
	}{
		{"the first", numbered(5), 0, true, ""},
		{"nothing new", nil, time.Minute, false, ""},
		{"empty", []byte{}, 2 * time.Minute, false, "no CRL"},
		{"no list", []byte("nonsense"), 3 * time.Minute, false, "malformed crl"},
		{"an older one", numbered(4), 4 * time.Minute, false, "CRL 4 of \"CN=CA\" is older than number 5"},
		{"not signed by the CA", broken, 5 * time.Minute, false, "was not signed by that CA"},
		{"of the future", crlOf(t, ca, authztest.CRLSpec{Number: 6, ThisUpdate: start.Add(20 * time.Minute), NextUpdate: until}), 6 * time.Minute, false, "is of the future"},
		{"expired", crlOf(t, ca, authztest.CRLSpec{Number: 6, NextUpdate: start}), 7 * time.Minute, false, "has expired"},
		{"the first again", numbered(5), 8 * time.Minute, true, ""}, // read anew: the same number, made later
		{"a newer one", numbered(7), 9 * time.Minute, true, ""},
		{"the first again, after a newer one", numbered(5), 10 * time.Minute, false, "is older than number 7"},
		{"the newer one again", nil, 11 * time.Minute, false, ""},
		{"when a newer one is due", nil, time.Hour, false, ""},
		{"past that time", nil, time.Hour + time.Second, false, "has expired: a newer one was promised"},
		{"long past it", nil, 5 * time.Hour, false, "has expired: a newer one was promised"},
	} {
		if step.text == nil {
			step.text = trust.files["crl"].text
		}
		changed, err := trust.loadCRLs("crl", step.text, start.Add(step.after))
		if changed != step.changed || (err == nil) != (step.refused == "") || err != nil && !strings.Contains(err.Error(), step.refused) {
			t.Errorf("%s: changed=%v, %v; want %v, %q", step.name, changed, err, step.changed, step.refused)
		}
		if err == nil {
			confirmed = step.after
		}
		current, _ := trust.Current()
		if got, want := current.CRLAge(start.Add(step.after)), step.after-confirmed; got != want {
			t.Errorf("%s: the list is %v old, want %v", step.name, got, want)
		}
		if err := trust.usable(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}

	// A bundle that knows the CA no more: its list is used no more, and forgotten neither.
	if _, err := trust.load(other.PEM(), start); err != nil {
		t.Fatal(err)
	}
	if current, _ := trust.Current(); !slices.Equal(current.WithoutCRL(), []string{"CN=Other"}) || !slices.Equal(trust.strangers(), []string{`"CN=CA"`}) {
		t.Errorf("without a list: %q; of strangers: %q", current.WithoutCRL(), trust.strangers())
	}
	if changed, err := trust.loadCRLs("second", crlOf(t, other, authztest.CRLSpec{}), start); err != nil || !changed {
		t.Errorf("a list for the new CA: %v, %v", changed, err)
	}
	if _, err := trust.load(slices.Concat(ca.PEM(), other.PEM()), start); err != nil {
		t.Fatal(err)
	}
	if current, _ := trust.Current(); len(current.WithoutCRL()) != 0 || len(trust.strangers()) != 0 {
		t.Errorf("without a list: %q; of strangers: %q", current.WithoutCRL(), trust.strangers())
	}

	// A changed setting is no way back to an older list.
	again := newTrustFile("bundle", []string{"crl"}, trust)
	if _, err := again.load(ca.PEM(), start); err != nil {
		t.Fatal(err)
	}
	if _, err := again.loadCRLs("crl", numbered(5), start); err == nil || !strings.Contains(err.Error(), "is older than number 7") {
		t.Errorf("an older list after a changed setting: %v", err)
	}
	if trust.owns("bundle", []string{"crl"}) || !trust.owns("bundle", []string{"crl", "second"}) {
		t.Error("files of another setting are taken for the same")
	}
}

// TestCRLsRefuseStart: with a list that cannot be used, revoked clients would get in.
func TestCRLsRefuseStart(t *testing.T) {
	d := newDeployment(t)
	good, err := d.minted.CRLs(1)
	if err != nil {
		t.Fatal(err)
	}
	d.replace("asid-authz.yaml", "client_ca: clients.pem", "client_ca: clients.pem, crl: [crl.pem]")
	stranger := authztest.NewCA("Stranger")
	for name, test := range map[string]struct {
		text string
		want string
	}{
		"empty":        {"", "crl: no CRL"},
		"unreadable":   {"nonsense", "crl: CRL 1 of the file"},
		"expired":      {string(crlOf(t, stranger, authztest.CRLSpec{NextUpdate: time.Now().Add(-time.Minute)})), "has expired"},
		"of strangers": {string(crlOf(t, stranger, authztest.CRLSpec{})), "no list is one of a CA in"},
		"missing":      {"-", "no such file"},
	} {
		if test.text != "-" {
			d.write("crl.pem", test.text)
		} else {
			d.replace("asid-authz.yaml", "crl.pem", "none.pem")
		}
		code, _, stderr := command(t, "serve", "--config", d.path("asid-authz.yaml"), "--check-config")
		if code != exitFailed || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit %d, %q, want %q", name, code, stderr, test.want)
		}
		if test.text == "-" {
			d.replace("asid-authz.yaml", "none.pem", "crl.pem")
		}
	}
	d.write("crl.pem", string(good))
	code, out, stderr := command(t, "serve", "--config", d.path("asid-authz.yaml"), "--check-config")
	if code != exitOK || !strings.Contains(out, "is good") || !strings.Contains(stderr, "Corpus Unlisted Authority") {
		t.Errorf("good lists: exit %d, %q, %q", code, out, stderr)
	}
}

// TestRevokedWhileRunning: a new list takes effect without a restart, an older one does
// not take it back, and explain knows.
func TestRevokedWhileRunning(t *testing.T) {
	d := newDeployment(t)
	set := func(number int64, revoked ...*authztest.Certificate) {
		t.Helper()
		text, err := d.minted.CRLs(number, revoked...)
		if err != nil {
			t.Fatal(err)
		}
		d.write("crl.pem", string(text))
	}
	set(1)
	d.replace("asid-authz.yaml", "client_ca: clients.pem", "client_ca: clients.pem, crl: [crl.pem]")
	d.start()
	if got := d.ask(); got != "allow" {
		t.Fatalf("%s\n%s", got, d.stderr)
	}
	d.await("the CA without a list is named", func() bool { return strings.Contains(d.stderr.String(), "Corpus Unlisted Authority") })
	set(2, d.client)
	d.await("the certificate is revoked", func() bool { return d.ask() == "deny certificate-revoked" })
	code, out, _ := command(t, "explain", "--config", d.path("asid-authz.yaml"), "--path", "/STU3/DocumentReference/1", "--cert", d.path("client.pem"))
	if code != exitDifferences || !strings.Contains(out, "FAILED         revocation          certificate-revoked: certificate") {
		t.Errorf("explain: exit %d:\n%s", code, out)
	}
	set(1)
	d.await("the older list is refused", func() bool { return d.hasMetric(`asid_authz_reloads_total{result="refused",what="crl"} 1`) })
	if got := d.ask(); got != "deny certificate-revoked" {
		t.Errorf("under an older list: %s", got)
	}
	if _, metrics := d.get("/metrics"); !strings.Contains(metrics, "\nasid_authz_crl_next_update_seconds 1") {
		t.Errorf("the next list is due in two days:\n%s", metrics)
	}
	set(3)
	d.await("the certificate is good again", func() bool { return d.ask() == "allow" })
	if d.end() != exitOK {
		t.Error(d.stderr)
	}
}

// TestFreshCRLs: a replica whose lists have grown too old says so, and others take over.
func TestFreshCRLs(t *testing.T) {
	d := newDeployment(t)
	text, err := d.minted.CRLs(1)
	if err != nil {
		t.Fatal(err)
	}
	d.write("crl.pem", string(text))
	d.replace("asid-authz.yaml", "client_ca: clients.pem", "client_ca: clients.pem, max_age: 48h, crl: [crl.pem], crl_max_age: 30m")
	d.replace("asid-authz.yaml", "file: map.yaml", "file: map.yaml, max_staleness: 48h")
	g := d.build()
	now := time.Now()
	for _, test := range []struct {
		after time.Duration
		want  string
	}{{0, "ready"}, {29 * time.Minute, "ready"}, {31 * time.Minute, authz.RevocationUnknown.String()}} {
		if is, why := g.fresh(now.Add(test.after)); why != test.want || is != (why == "ready") {
			t.Errorf("after %v: %v, %s; want %s", test.after, is, why, test.want)
		}
	}
}
