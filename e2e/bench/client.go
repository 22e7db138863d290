package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"asid-authz/e2e/mesh"
)

// inFlight is how many requests are on their way at once. It stays below what asid-authz
// takes for the beginning of a queue that stands (docs/operations.md, "Overload"): what is
// refused early would look like speed.
const inFlight = 16

// connections says how many share them: on HTTP/1.1 each has a connection of its own.
var connections = map[mesh.Protocol]int{mesh.HTTP1: inFlight, mesh.HTTP2: 4}

// A slot sends one request after the other.
type slot struct {
	conn    *http.ClientConn
	request *http.Request
}

func (s slot) do() error {
	response, err := s.conn.RoundTrip(s.request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return fmt.Errorf("answered %s, %q", response.Status, body)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// dial opens the connections and returns the slots that use them.
func dial(ctx context.Context, c *mesh.Client, protocol mesh.Protocol, r mesh.Request) (slots []slot, closeAll func() error, err error) {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(protocol == mesh.HTTP1)
	protocols.SetHTTP2(protocol == mesh.HTTP2)
	transport := &http.Transport{
		Protocols:          protocols,
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{ServerName: c.ServerName, RootCAs: c.Roots, Certificates: []tls.Certificate{*c.Certificate}},
	}
	request, err := http.NewRequest(r.Method, "https://"+r.Host+r.Target, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range r.Headers {
		request.Header.Add(h.Name, h.Value)
	}
	var open []*http.ClientConn
	closeAll = func() error {
		var all []error
		for _, conn := range open {
			all = append(all, conn.Close())
		}
		return errors.Join(all...)
	}
	for range connections[protocol] {
		conn, err := transport.NewClientConn(ctx, "https", c.Address)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		open = append(open, conn)
	}
	for i := range inFlight {
		slots = append(slots, slot{open[i%len(open)], request.Clone(ctx)})
	}
	return slots, closeAll, nil
}

// A pace says how requests are sent.
type pace struct {
	rate         float64 // a second; 0: each as soon as the one before it is answered
	warm, length time.Duration
}

// A run is what came of it.
type run struct {
	sent      int             // warm-up included
	latencies []time.Duration // of those that were answered in the time that is measured, in order
	elapsed   time.Duration   // that time
}

// send sends requests at that pace. measured is called when the time that is measured
// begins, and when it ends. The first request that fails ends it.
//
// At a fixed rate a request is due by the clock. One that finds every slot busy is late, and
// that counts as part of its latency: a server that stops for a moment would otherwise keep
// the client from asking just when the answer would be slow.
func (p pace) send(ctx context.Context, slots []slot, measured func()) (*run, error) {
	type answer struct {
		at      time.Time
		latency time.Duration
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	end := began.Add(p.warm + p.length)
	var n, sent atomic.Int64
	answers := make([][]answer, len(slots))
	var all sync.WaitGroup
	for i, s := range slots {
		all.Go(func() {
			for ctx.Err() == nil {
				due := time.Now()
				if p.rate > 0 {
					due = began.Add(time.Duration(float64(n.Add(1)-1) / p.rate * float64(time.Second)))
					if wait := time.Until(due); wait > 0 && due.Before(end) {
						pause(ctx, wait)
						due = time.Now() // how late the timer is, is no fault of the server's
					}
				}
				if !time.Now().Before(end) || !due.Before(end) {
					return
				}
				sent.Add(1)
				if err := s.do(); err != nil {
					cancel(err)
					return
				}
				now := time.Now()
				answers[i] = append(answers[i], answer{now, now.Sub(due)})
			}
		})
	}
	pause(ctx, time.Until(began.Add(p.warm)))
	from := time.Now()
	measured()
	pause(ctx, time.Until(end))
	to := time.Now()
	measured()
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	r := &run{sent: int(sent.Load()), elapsed: to.Sub(from)}
	for _, list := range answers {
		for _, a := range list {
			if !a.at.Before(from) && !a.at.After(to) {
				r.latencies = append(r.latencies, a.latency)
			}
		}
	}
	slices.Sort(r.latencies)
	return r, nil
}

// pause waits for that long, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
