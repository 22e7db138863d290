package redistest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// through returns a client that goes through the proxy and does nothing twice.
func through(t *testing.T, s *Server, p *Proxy) *redis.Client {
	t.Helper()
	options := s.ClientOptions(Reader)
	options.Addrs = []string{p.Address()}
	options.MaxRetries, options.DialerRetries = -1, 1
	return connect(t, options).(*redis.Client)
}

func timeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

func TestProxy(t *testing.T) {
	t.Parallel()
	s := Standalone(t, Options{})
	set(t, s, "1")
	ask := func(p *Proxy, client *redis.Client, d time.Duration) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		begin := time.Now()
		got, err := client.HGet(ctx, prefix+"hash", "a").Result()
		if err == nil && got != "1" {
			t.Errorf("got %q", got)
		}
		return time.Since(begin), err
	}
	for name, test := range map[string]struct {
		fault func(*Proxy)
		want  func(took time.Duration, err error) bool
		heal  func(*Proxy)
	}{
		"partition": {(*Proxy).Partition, func(_ time.Duration, err error) bool { return timeout(err) }, (*Proxy).Heal},
		"disable":   {(*Proxy).Disable, func(_ time.Duration, err error) bool { return err != nil && !timeout(err) }, (*Proxy).Enable},
		"delay": {func(p *Proxy) { p.Delay(50 * time.Millisecond) },
			func(took time.Duration, err error) bool { return err == nil && took >= 50*time.Millisecond }, (*Proxy).Heal},
		"drip": {func(p *Proxy) { p.Drip(1, 10*time.Millisecond) }, // "$1\r\n1\r\n" has 7 bytes
			func(took time.Duration, err error) bool { return err == nil && took >= 50*time.Millisecond }, (*Proxy).Heal},
		"cut before a command is whole": {func(p *Proxy) { p.CutAfterSent(3) }, func(_ time.Duration, err error) bool { return errors.Is(err, io.EOF) }, (*Proxy).Heal},
		"cut":                           {func(p *Proxy) { p.CutAfter(3) }, func(_ time.Duration, err error) bool { return errors.Is(err, io.EOF) }, (*Proxy).Heal},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewProxy(t, s.Address())
			client := through(t, s, p)
			if _, err := ask(p, client, wait); err != nil {
				t.Fatal(err)
			}
			test.fault(p)
			limit := wait
			if name == "partition" {
				limit = 50 * time.Millisecond
			}
			if took, err := ask(p, client, limit); !test.want(took, err) {
				t.Errorf("got %v after %v", err, took)
			}
			test.heal(p)
			if err := until(t.Context(), "it is healed", func() error { _, err := ask(p, client, wait); return err }); err != nil {
				t.Error(err)
			}
		})
	}
}

// A proxy that leads elsewhere does so for whoever comes, and nobody stays where he was.
func TestProxyLeadsElsewhere(t *testing.T) {
	t.Parallel()
	one, other := Standalone(t, Options{}), Standalone(t, Options{})
	set(t, one, "1")
	p := NewProxy(t, one.Address())
	options := one.ClientOptions(Admin)
	options.Addrs = []string{p.Address()}
	if got, err := connect(t, options).HGet(t.Context(), prefix+"hash", "a").Result(); got != "1" {
		t.Fatalf("got %q, %v", got, err)
	}
	p.To(other.Address())
	set(t, other, "2")
	options = other.ClientOptions(Admin)
	options.Addrs = []string{p.Address()}
	if got, err := connect(t, options).HGet(t.Context(), prefix+"hash", "a").Result(); got != "2" {
		t.Errorf("led elsewhere: got %q, %v", got, err)
	}
	if err := until(t.Context(), "nobody is where it led before", func() error {
		n, err := one.Connections(t.Context(), "")
		if err == nil && n != 1 { // the administrator's
			err = fmt.Errorf("%d connections", n)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
