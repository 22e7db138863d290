package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const keysURL = "https://cas.example.nhs.uk/jwks"

// origin plays the issuer's server for RemoteKeys, without a network.
type origin struct {
	mu       sync.Mutex
	answer   func(*http.Request) (*http.Response, error)
	requests []*http.Request
	times    []time.Time
}

func (o *origin) RoundTrip(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	o.requests, o.times = append(o.requests, r), append(o.times, time.Now())
	answer := o.answer
	o.mu.Unlock()
	return answer(r)
}

func (o *origin) set(answer func(*http.Request) (*http.Response, error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer = answer
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.requests)
}

// wantPauses looks at the time between any two requests.
func (o *origin) wantPauses(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := 1; i < len(o.times); i++ {
		if pause := o.times[i].Sub(o.times[i-1]); pause < DefaultMinInterval {
			t.Errorf("asked again after %v", pause)
		}
	}
}

func (o *origin) last() *http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests[len(o.requests)-1]
}

func (o *origin) lastTime() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.times[len(o.times)-1]
}

// respond returns an answer with that status and body; fields are name and value in turn.
func respond(status int, body string, fields ...string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		header := http.Header{}
		for i := 0; i < len(fields); i += 2 {
			header.Set(fields[i], fields[i+1])
		}
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

// versioned answers like a server that knows its entity tags.
func versioned(body, etag string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") == etag {
			return respond(304, "")(r)
		}
		return respond(200, body, "ETag", etag)(r)
	}
}

// hang answers nothing until the client has given up.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// remote returns RemoteKeys that ask o.
func remote(t testing.TB, o *origin, r Remote) *RemoteKeys {
	t.Helper()
	if r.Log == nil {
		r.Log = nop
	}
	if r.KeySet == "" && r.Issuer == "" {
		r.KeySet = keysURL
	}
	k, err := NewRemoteKeys(r)
	if err != nil {
		t.Fatal(err)
	}
	k.client.Transport = o
	return k
}

// running runs k until the test ends.
func running(t *testing.T, k *RemoteKeys) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

// lasting is a token that does not expire while a test lets time pass.
func lasting(kid string) string {
	return token(header("kid", quote(kid)), claims("exp", "253402300799", "nbf", "", "iat", ""))
}

func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestOutage: whatever an issuer's server does, the keys that are held stay in use until
// they are too old, nothing waits, and it is not asked more often than it was.
func TestOutage(t *testing.T) {
	k := keyPairs()
	rsaOnly := string(jwks(jwk("rsa", &k.rsa.PublicKey)))
	for _, test := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		err    string
	}{
		{"500", respond(500, rsaOnly), "answered 500"},
		{"204", respond(204, ""), "answered 204"},
		{"304 without a condition", respond(304, ""), "answered 304"},
		{"404", respond(404, "not found"), "answered 404"},
		{"redirect", respond(302, "", "Location", "https://evil.example/jwks"), "answered 302, and redirects are not followed"},
		{"hang", hang, "context deadline exceeded"},
		{"hang in the body", func(r *http.Request) (*http.Response, error) {
			a, _ := respond(200, "")(r)
			a.Body = io.NopCloser(readFunc(func() error { <-r.Context().Done(); return r.Context().Err() }))
			return a, nil
		}, "context deadline exceeded"},
		{"connection refused", func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, "connection refused"},
		{"body cut", func(r *http.Request) (*http.Response, error) {
			a, _ := respond(200, "")(r)
			a.Body = io.NopCloser(io.MultiReader(strings.NewReader(rsaOnly[:20]), readFunc(func() error { return io.ErrUnexpectedEOF })))
			return a, nil
		}, "unexpected EOF"},
		{"endless", func(r *http.Request) (*http.Response, error) {
			a, _ := respond(200, "")(r)
			a.Body = io.NopCloser(readFunc(func() error { return nil }))
			return a, nil
		}, "more than 1048576 bytes"},
		{"HTML", respond(200, "<html>"), "not a key set"},
		{"wrong JSON", respond(200, `{"error":"maintenance"}`), "no array named keys"},
		{"empty set", respond(200, `{"keys":[]}`), "no usable key"},
		{"no usable key", respond(200, string(jwks(jwk("rsa", &k.weakRSA.PublicKey)))), "no usable key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{answer: respond(200, rsaOnly)}
				keys := remote(t, o, Remote{})
				is := issuerOf(keys)
				v := verifierOf(t, is)
				running(t, keys)
				good := lasting("rsa")
				wantOutcome(t, v, good, time.Now(), "")
				confirmed := keys.Status().Confirmed

				o.set(test.answer)
				for time.Since(confirmed) < is.MaxKeyAge-time.Minute {
					sleep(time.Minute)
					wantOutcome(t, v, good, time.Now(), "")
				}
				if s := keys.Status(); s.Confirmed != confirmed || s.Err == nil || !strings.Contains(s.Err.Error(), test.err) || s.Keys != 1 {
					t.Errorf("%+v, want error %q and keys confirmed at %v", s, test.err, confirmed)
				}
				o.wantPauses(t)
				sleep(time.Minute)
				wantOutcome(t, v, good, time.Now(), "") // at MaxKeyAge
				sleep(time.Second)
				wantOutcome(t, v, good, time.Now(), "keys-unavailable (token)")

				o.set(respond(200, rsaOnly))
				sleep(DefaultInterval * 11 / 10)
				wantOutcome(t, v, good, time.Now(), "")
			})
		})
	}
}

type readFunc func() error

func (f readFunc) Read(p []byte) (int, error) {
	if err := f(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// TestStartInOutage: a start without keys says so, tries again and gets over it.
func TestStartInOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: respond(503, "")}
		keys := remote(t, o, Remote{})
		v := verifierOf(t, issuerOf(keys))
		if err := keys.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "answered 503") {
			t.Errorf("got %v", err)
		}
		running(t, keys)
		if o.count() != 1 {
			t.Errorf("asked %d times, want once: Run does not begin anew", o.count())
		}
		wantOutcome(t, v, lasting("rsa"), time.Now(), "keys-unavailable (token)")
		o.set(respond(200, string(allKeys())))
		sleep(DefaultMinInterval * 11 / 10)
		wantOutcome(t, v, lasting("rsa"), time.Now(), "")
	})
}

// TestUnknownKids: a flood of kids that nobody has makes no more requests than one each
// MinInterval, and no difference to good tokens.
func TestUnknownKids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: respond(200, string(allKeys()))}
		keys := remote(t, o, Remote{})
		v := verifierOf(t, issuerOf(keys))
		running(t, keys)
		good := lasting("rsa")

		wantOutcome(t, v, lasting("random"), time.Now(), "token-key-unknown (token)")
		sleep(DefaultMinInterval - 1)
		wantOutcome(t, v, lasting("random"), time.Now(), "token-key-unknown (token)")
		if o.count() != 1 {
			t.Fatalf("asked %d times, want once", o.count())
		}
		sleep(1)
		wantOutcome(t, v, lasting("random"), time.Now(), "keys-unavailable (token)")
		synctest.Wait()
		if o.count() != 2 {
			t.Fatalf("asked %d times, want twice: a set that is no longer new is asked for at once", o.count())
		}
		wantOutcome(t, v, lasting("random"), time.Now(), "token-key-unknown (token)")

		// While the server answers, and while it does not.
		for _, answer := range []func(*http.Request) (*http.Response, error){respond(200, string(allKeys())), respond(500, ""), hang} {
			o.set(answer)
			before, begin := o.count(), time.Now()
			for i := 0; time.Since(begin) < 5*time.Minute; i++ {
				got := outcome(t, v, lasting(fmt.Sprint("random", i)), time.Now())
				if got != "token-key-unknown (token)" && got != "keys-unavailable (token)" {
					t.Fatal(got)
				}
				wantOutcome(t, v, good, time.Now(), "")
				sleep(time.Second)
			}
			if asked := o.count() - before; asked < 5 || asked > 11 {
				t.Errorf("asked %d times in 5 minutes", asked)
			}
		}
		o.wantPauses(t)
	})
}

// TestUnknownKidFindsNewKey: the refresh that an unknown kid asks for brings the key, and
// does not take "not modified" for an answer.
func TestUnknownKidFindsNewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyPairs()
		o := &origin{answer: respond(200, string(jwks(jwk("rsa", &k.rsa.PublicKey))), "ETag", `"1"`)}
		keys := remote(t, o, Remote{})
		v := verifierOf(t, issuerOf(keys))
		running(t, keys)
		wantOutcome(t, v, lasting("next"), time.Now(), "token-key-unknown (token)")
		sleep(time.Minute)
		o.set(versioned(string(jwks(jwk("rsa", &k.rsa.PublicKey), jwk("next", &k.rsa.PublicKey))), `"1"`)) // the tag of before
		wantOutcome(t, v, lasting("next"), time.Now(), "keys-unavailable (token)")
		synctest.Wait()
		wantOutcome(t, v, lasting("next"), time.Now(), "")
		if got := o.last().Header.Get("If-None-Match"); got != "" {
			t.Errorf("asked with If-None-Match %s", got)
		}
	})
}

// TestConditionalRequests: "not modified" confirms the keys and keeps what is remembered;
// another set replaces them.
func TestConditionalRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyPairs()
		logged, logs := observer.New(zapcore.InfoLevel)
		o := &origin{answer: versioned(string(jwks(jwk("rsa", &k.rsa.PublicKey))), `"1"`)}
		keys := remote(t, o, Remote{Log: zap.New(logged)})
		v := verifierOf(t, issuerOf(keys))
		running(t, keys)
		good := lasting("rsa")
		before, err := v.VerifyToken(t.Context(), good, time.Now())
		if err != nil {
			t.Fatal(err)
		}

		first := keys.Status().Confirmed
		sleep(DefaultInterval * 11 / 10)
		if got := o.last().Header; got.Get("If-None-Match") != `"1"` || got.Get("Cache-Control") != "no-cache" {
			t.Errorf("asked with %v", got)
		}
		if s := keys.Status(); !s.Confirmed.After(first) || s.Confirmed != o.lastTime() || s.Err != nil {
			t.Errorf("%+v", s)
		}
		if after, _ := v.VerifyToken(t.Context(), good, time.Now()); after != before {
			t.Error("the token was verified again")
		}

		// Broken and newer is refused, and its tag is not taken.
		o.set(versioned(`{"keys":[]}`, `"2"`))
		sleep(DefaultInterval * 11 / 10)
		sleep(DefaultMinInterval * 11 / 10)
		if got := o.last().Header.Get("If-None-Match"); got != `"1"` {
			t.Errorf("If-None-Match %s", got)
		}
		wantOutcome(t, v, good, time.Now(), "")

		// Rotated, with the old key still there.
		o.set(versioned(string(jwks(jwk("rsa", &k.rsa.PublicKey), jwk("next", &k.rsa.PublicKey))), `"3"`))
		sleep(DefaultInterval * 11 / 10)
		wantOutcome(t, v, good, time.Now(), "")
		wantOutcome(t, v, lasting("next"), time.Now(), "")

		// And withdrawn, by a server that has no tags but dates.
		o.set(respond(200, string(jwks(jwk("next", &k.rsa.PublicKey))), "Last-Modified", "Tue, 24 Nov 2026 12:00:00 GMT"))
		sleep(DefaultInterval * 11 / 10)
		if keys.current().set.keys["rsa"] != nil {
			t.Error("the key that was withdrawn is still there")
		}
		sleep(DefaultInterval * 11 / 10)
		if got := o.last().Header; got.Get("If-Modified-Since") != "Tue, 24 Nov 2026 12:00:00 GMT" || got.Get("If-None-Match") != "" {
			t.Errorf("asked with %v", got)
		}

		var messages []string
		for _, entry := range logs.All() {
			messages = append(messages, entry.Message)
			for _, field := range entry.Context {
				if strings.Contains(fmt.Sprint(field.String, field.Interface), good) {
					t.Error("a token is in the log")
				}
			}
		}
		want := []string{"keys accepted", "keys not confirmed", "keys accepted", "keys accepted"}
		if !slices.Equal(messages, want) {
			t.Errorf("logged %q, want %q", messages, want)
		}
	})
}

// TestConfirmedWhenAsked: an answer that was long on its way says nothing about now.
func TestConfirmedWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := versioned(string(allKeys()), `"1"`)
		o := &origin{answer: func(r *http.Request) (*http.Response, error) {
			time.Sleep(8 * time.Second)
			return answer(r)
		}}
		keys := remote(t, o, Remote{})
		for range 2 { // the second answer is that nothing has changed
			asked := time.Now()
			if err := keys.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s := keys.Status(); s.Confirmed != asked || s.Age(time.Now()) != 8*time.Second {
				t.Errorf("confirmed at %v, asked at %v", s.Confirmed, asked)
			}
		}
	})
}

// TestRunEnds: whoever ends Run is obeyed at once, and it is nobody's fault.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := remote(t, &origin{answer: hang}, Remote{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- keys.Run(ctx) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("still running")
		}
		if s := keys.Status(); s.Err != nil {
			t.Errorf("%+v", s)
		}
	})
}

func TestDiscovery(t *testing.T) {
	k := keyPairs()
	set := string(jwks(jwk("rsa", &k.rsa.PublicKey)))
	document := func(pairs ...string) string {
		return object{"issuer": quote(cas), "jwks_uri": quote(keysURL), "token_endpoint": `"x"`}.with(pairs...).String()
	}
	for _, test := range []struct {
		name, document, err string
	}{
		{"good", document(), ""},
		{"another issuer", document("issuer", `"https://evil.example"`), `is that of issuer "https://evil.example", not of "` + cas},
		{"issuer without its port", document("issuer", quote(strings.Replace(cas, ":443", "", 1))), "is that of issuer"},
		{"issuer in part", document("issuer", quote(cas[:len(cas)-1])), "is that of issuer"},
		{"no issuer", document("issuer", ""), `is that of issuer ""`},
		{"issuer no text", document("issuer", `["`+cas+`"]`), "is that of issuer"},
		{"issuer twice", `{"issuer":` + quote(cas) + `,` + document()[1:], "a name stands twice"},
		{"no jwks_uri", document("jwks_uri", ""), "names no jwks_uri"},
		{"jwks_uri no text", document("jwks_uri", "1"), "names no jwks_uri"},
		{"jwks_uri by http", document("jwks_uri", `"http://cas.example.nhs.uk/jwks"`), "is not https"},
		{"jwks_uri a file", document("jwks_uri", `"file:///etc/passwd"`), "no URL that keys can be fetched from"},
		{"jwks_uri relative", document("jwks_uri", `"/jwks"`), "no URL that keys can be fetched from"},
		{"jwks_uri with a user", document("jwks_uri", `"https://a:b@cas.example.nhs.uk/jwks"`), "a user or a fragment"},
		{"HTML", "<html>", "not a discovery document"},
		{"500", "", "answered 500"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &origin{answer: func(r *http.Request) (*http.Response, error) {
				if test.document == "" {
					return respond(500, "")(r)
				}
				switch r.URL.String() {
				case "https://cas.example.nhs.uk/oidc/.well-known/openid-configuration":
					return respond(200, test.document)(r)
				case keysURL:
					return respond(200, set)(r)
				}
				return nil, fmt.Errorf("asked for %s", r.URL)
			}}
			keys := remote(t, o, Remote{Issuer: cas, Discovery: "https://cas.example.nhs.uk/oidc/"})
			err := keys.Refresh(t.Context())
			if test.err != "" {
				if s := keys.Status(); err == nil || !strings.Contains(err.Error(), test.err) || s.Err != err || s.Keys != 0 {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantOutcome(t, verifierOf(t, issuerOf(keys)), lasting("rsa"), time.Now(), "")
		})
	}
}

// TestDiscoveryMoves: a document that names another URL is followed, and the conditions
// of the old URL are not put to the new one.
func TestDiscoveryMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyPairs()
		at := func(url string) func(*http.Request) (*http.Response, error) {
			return versioned(object{"issuer": quote(cas), "jwks_uri": quote(url)}.String(), quote(url))
		}
		var discovery atomic.Value
		discovery.Store(at(keysURL))
		o := &origin{answer: func(r *http.Request) (*http.Response, error) {
			switch r.URL.String() {
			case cas + "/.well-known/openid-configuration":
				return discovery.Load().(func(*http.Request) (*http.Response, error))(r)
			case keysURL:
				return versioned(string(jwks(jwk("rsa", &k.rsa.PublicKey))), `"1"`)(r)
			case keysURL + "2":
				return versioned(string(jwks(jwk("next", &k.rsa.PublicKey))), `"1"`)(r) // the same tag, by chance
			}
			return nil, fmt.Errorf("asked for %s", r.URL)
		}}
		keys := remote(t, o, Remote{Issuer: cas})
		v := verifierOf(t, issuerOf(keys))
		running(t, keys)
		wantOutcome(t, v, lasting("rsa"), time.Now(), "")
		sleep(DefaultInterval * 11 / 10)
		if got := o.last().Header.Get("If-None-Match"); got != `"1"` || o.count() != 4 {
			t.Errorf("If-None-Match %s in request %d", got, o.count())
		}
		discovery.Store(at(keysURL + "2"))
		sleep(DefaultInterval * 11 / 10)
		wantOutcome(t, v, lasting("next"), time.Now(), "")
		if keys.current().set.keys["rsa"] != nil {
			t.Error("the key of the old URL is still there")
		}
	})
}

func TestNewRemoteKeysRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		remote Remote
		want   string
	}{
		{"neither", Remote{}, "either the URL of a key set is needed or an issuer"},
		{"both", Remote{KeySet: keysURL, Issuer: cas}, "either the URL of a key set is needed or an issuer"},
		{"discovery beside the URL", Remote{KeySet: keysURL, Discovery: cas}, "which needs none"},
		{"http", Remote{KeySet: "http://cas.example.nhs.uk/jwks"}, "is not https: whoever is on the way"},
		{"http in discovery", Remote{Issuer: "http://cas.example.nhs.uk"}, "is not https: whoever is on the way"},
		{"ftp", Remote{KeySet: "ftp://cas.example.nhs.uk/jwks", PlainHTTP: true}, "is not https"},
		{"no host", Remote{KeySet: "https:///jwks"}, "is no URL"},
		{"no URL", Remote{Issuer: "urn:cas"}, "is no URL"},
		{"password", Remote{KeySet: "https://a:secret@cas.example.nhs.uk/jwks"}, "a user or a fragment"},
		{"password by http", Remote{KeySet: "http://a:secret@cas.example.nhs.uk/jwks"}, "a user or a fragment"},
		{"fragment", Remote{KeySet: keysURL + "#a"}, "a user or a fragment"},
		{"query in discovery", Remote{Issuer: "https://cas.example.nhs.uk?a=b"}, "discovery begins at the URL that"},
		{"the document's own URL", Remote{Issuer: cas, Discovery: cas + "/.well-known/openid-configuration"}, "discovery begins at the URL that"},
		{"interval", Remote{KeySet: keysURL, Interval: time.Minute, MinInterval: 2 * time.Minute}, "every 1m0s at the latest and every 2m0s at the soonest"},
		{"long interval", Remote{KeySet: keysURL, Interval: 25 * time.Hour}, "at most 24h0m0s"},
		{"least interval", Remote{KeySet: keysURL, MinInterval: time.Millisecond}, "at least a second"},
		{"log", Remote{KeySet: keysURL}, "a log is needed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name != "log" {
				test.remote.Log = nop
			}
			_, err := NewRemoteKeys(test.remote)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v says the password", err)
			}
		})
	}
	if _, err := NewRemoteKeys(Remote{KeySet: "http://127.0.0.1/jwks", PlainHTTP: true, Log: nop}); err != nil {
		t.Error(err)
	}
}

// TestNeverBlocks: a token is judged while a refresh hangs.
func TestNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: respond(200, string(allKeys()))}
		keys := remote(t, o, Remote{})
		v := verifierOf(t, issuerOf(keys))
		running(t, keys)
		o.set(hang)
		sleep(time.Minute)
		begin := time.Now()
		for range 3 {
			wantOutcome(t, v, lasting("random"), time.Now(), "keys-unavailable (token)")
			wantOutcome(t, v, lasting("rsa"), time.Now(), "")
			wantOutcome(t, v, compact(jwt.SigningMethodES256, keyPairs().p256, header("alg", `"ES256"`, "kid", `"p256"`), claims("exp", "253402300799", "nbf", "", "iat", "")), time.Now(), "")
			synctest.Wait()
		}
		if o.count() != 2 || time.Since(begin) != 0 {
			t.Errorf("asked %d times, waited %v", o.count(), time.Since(begin))
		}
	})
}
