package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"asid-authz/e2e/mesh"
)

// A result is what one variant did in one round.
type result struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       cpu // of one request
	cpuKnown  bool
}

// A cpu is the processor time of everybody who has a part in a request.
type cpu struct{ envoy, server, client time.Duration }

func (c cpu) minus(o cpu) cpu {
	return cpu{c.envoy - o.envoy, c.server - o.server, c.client - o.client}
}

func (c cpu) over(n int) cpu {
	d := time.Duration(n)
	return cpu{c.envoy / d, c.server / d, c.client / d}
}

// measure sends requests through a variant. It is an error if one of them is answered with
// anything but 200, or if there were more or fewer decisions than requests.
func (s *stage) measure(ctx context.Context, v *variant, protocol mesh.Protocol, p pace) (_ *result, err error) {
	request, err := s.request()
	if err != nil {
		return nil, err
	}
	certificate, err := s.world.Certificate(s.read)
	if err != nil {
		return nil, err
	}
	slots, closeAll, err := dial(ctx, v.edge.Client(certificate), protocol, request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	before, err := v.decisions(ctx)
	if err != nil {
		return nil, err
	}
	var used []cpu
	var known bool
	var unread error
	r, err := p.send(ctx, slots, func() {
		now, is, err := v.cpu()
		used, known, unread = append(used, now), is, errors.Join(unread, err)
	})
	if err = errors.Join(err, unread); err != nil {
		return nil, fmt.Errorf("%s, %s: %w", v.name, protocol, err)
	}
	after, err := v.decisions(ctx)
	if err != nil {
		return nil, err
	}
	if decided := after - before; v.decided != nil && decided != uint64(r.sent) {
		return nil, fmt.Errorf("%s, %s: %d requests were answered with 200, and %d decided about", v.name, protocol, r.sent, decided)
	}
	answered := len(r.latencies)
	if answered == 0 {
		return nil, fmt.Errorf("%s, %s: nothing was answered in %v", v.name, protocol, r.elapsed)
	}
	return &result{
		perSecond: float64(answered) / r.elapsed.Seconds(),
		p50:       r.latencies[answered/2],
		p99:       r.latencies[answered*99/100],
		cpu:       used[1].minus(used[0]).over(answered),
		cpuKnown:  known,
	}, nil
}

// decisions returns how many there were so far.
func (v *variant) decisions(ctx context.Context) (uint64, error) {
	if v.decided == nil {
		return 0, nil
	}
	return v.decided(ctx)
}

// cpu returns what everybody has used so far.
func (v *variant) cpu() (c cpu, known bool, err error) {
	for _, of := range []struct {
		pid int
		to  *time.Duration
	}{{v.edge.Pid(), &c.envoy}, {v.service, &c.server}, {os.Getpid(), &c.client}} {
		if of.pid == 0 {
			continue
		}
		used, is, err := cpuTime(of.pid)
		if !is || err != nil {
			return cpu{}, false, err
		}
		*of.to = used
	}
	return c, true, nil
}
