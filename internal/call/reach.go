package call

import (
	"reflect"
	"time"

	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// reach dials the groups of targets in order until one answers. It returns nil and why, with
// the context cancelled if that ends the call, if none does or the caller gives up. The caller's digits
// and hang-up are heard meanwhile.
func (c *Call) reach(targets [][]policy.Target, ring time.Duration, offer sdp.Session) (Leg, Cause) {
	last := NoAnswer
	var before policy.Target
	for _, group := range c.spread(targets) {
		if t := group[0]; t.Way > 0 && t.Kind == before.Kind && t.Name == before.Name && !last.unreached() {
			continue // whoever is behind the trunk has had its say
		}
		before, c.toward = group[0], group[0]
		var legs []Leg
		for _, t := range group {
			leg, err := c.dial(t, offer)
			if err != nil {
				last = AsCause(err)
				c.log.Info("target failed", "kind", t.Kind, "trunk", t.Name, "status", last.Status)
				continue
			}
			legs = append(legs, leg)
		}
		if len(legs) == 0 {
			continue
		}
		answered, cause := c.await(legs, ring)
		for _, leg := range legs {
			if leg != answered {
				c.gone = append(c.gone, leg)
				leg.Hangup(cause)
			}
		}
		if answered != nil {
			return answered, Cause{}
		}
		if c.ctx.Err() != nil {
			return nil, cause
		}
		last = cause
		c.log.Info("target failed", "kind", before.Kind, "trunk", before.Name, "status", cause.Status)
	}
	if c.answered.IsZero() {
		c.cancel(last)
	}
	return nil, last
}

func (c *Call) dial(t policy.Target, offer sdp.Session) (Leg, error) {
	dialer, ok := c.b.cfg.Dialers[t.Kind]
	if !ok {
		return nil, Cause{Status: 503, Q850: 38, Text: "no way to reach a " + t.Kind}
	}
	if t.Kind != "trunk" || c.b.cfg.Limits == nil || c.Urgent {
		return dialer.Dial(c.ctx, t, c.Facts, c.prefer(offer))
	}
	give, err := c.b.tolls.take(c.b.cfg.Limits(t.Number), c.query.Call.Source, c.leaving != nil, time.Now())
	if err != nil {
		return nil, err
	}
	leg, err := dialer.Dial(c.ctx, t, c.Facts, c.prefer(offer))
	if err != nil {
		give()
		return nil, err
	}
	c.b.wg.Go(func() { <-leg.Done(); give() })
	return leg, nil
}

// spread puts the ways to each target in its place. Where several targets ring
// together, each is reached by its first way.
func (c *Call) spread(groups [][]policy.Target) [][]policy.Target {
	var out [][]policy.Target
	for _, group := range groups {
		var together []policy.Target
		for _, t := range group {
			ways := [][]policy.Target{{t}}
			if s, ok := c.b.cfg.Dialers[t.Kind].(Spreader); ok {
				ways = s.Ways(t)
			}
			switch {
			case len(group) == 1:
				out = append(out, ways...)
			case len(ways) > 0:
				together = append(together, ways[0]...)
			}
		}
		if len(together) > 0 {
			out = append(out, together)
		}
	}
	return out
}

// await waits for the first of the dialled legs to answer; nil: none did, and why.
// Until then whoever is there already is served. The cause is what the others, or
// all of them, are to be told.
func (c *Call) await(legs []Leg, ring time.Duration) (Leg, Cause) {
	timer := time.NewTimer(ring)
	defer timer.Stop()
	// A select over as many legs as ring: the last cases are theirs.
	const done, late, caller, callee, first = 0, 1, 2, 3, 4
	wait := []reflect.SelectCase{{Chan: reflect.ValueOf(c.ctx.Done())}, {Chan: reflect.ValueOf(timer.C)}, {}, {}}
	for _, leg := range legs {
		wait = append(wait, reflect.SelectCase{Chan: reflect.ValueOf(leg.Events())})
	}
	for i := range wait {
		wait[i].Dir = reflect.SelectRecv
	}
	worst, left := Cause{}, len(legs)
	for {
		wait[caller].Chan, wait[callee].Chan = reflect.ValueOf(c.events(c.a)), reflect.ValueOf(c.events(c.z))
		n, v, ok := reflect.Select(wait)
		e, _ := v.Interface().(Event)
		switch {
		case n == done:
			return nil, Elsewhere
		case n == late:
			return nil, NoAnswer
		case n == caller && (!ok || !c.serveLeg(c.a, e)):
			c.cancel(Cancelled)
			return nil, Cancelled
		case n == callee && (!ok || !c.serveLeg(c.z, e)):
			return nil, Cancelled
		case n < first:
		case !ok || e.Ended != nil:
			cause := NoAnswer
			if ok {
				cause = *e.Ended
			}
			worst = weightier(worst, cause)
			wait[n].Chan = reflect.Value{}
			if left--; left == 0 {
				return nil, worst
			}
		case e.Answered:
			return legs[n-first], Elsewhere
		case e.Ringing > 0 && c.answered.IsZero():
			c.ring(legs[n-first], e)
		case e.Ringing > 0 && c.told != nil:
			c.told(e.Ringing)
		}
	}
}

// weightier is which of two refusals the caller hears where several were rung
// (RFC 3261 §16.7, step 6): one for all before one for one, and that of somebody
// before that of nobody.
func weightier(a, b Cause) Cause {
	rank := func(c Cause) int {
		switch {
		case c.Status >= 600:
			return 4
		case c.Status == 0:
			return 0
		case c.unreached():
			return 1
		case c.Status == 480:
			return 2
		}
		return 3
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}
