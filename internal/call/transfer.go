package call

import (
	"math/rand/v2"
	"time"

	"github.com/sipbridge/sipbridge/internal/policy"
)

type replacement struct{ leg, old Leg }

// parting is another call's wish to have a leg; let says whether it may.
type parting struct {
	leg Leg
	let chan bool
}

// patience is how long a call waits for another to let a leg go: that one may be
// in a transfer of its own.
const patience = 2 * time.Second

// Replace puts a leg in the place of one of the call's (RFC 3891). It reports
// false if the call is over.
func (c *Call) Replace(leg, old Leg) bool {
	select {
	case c.replace <- replacement{leg, old}:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// Part has the call let go of a leg that is to talk elsewhere, and end. It reports
// false if that leg does not talk in it.
func (c *Call) Part(leg Leg) bool {
	p := parting{leg, make(chan bool, 1)}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case c.part <- p:
		return <-p.let
	case <-c.ctx.Done():
	case <-timer.C:
	}
	return false
}

// transfer reaches a new target while the old bridge still runs, then swaps the
// far side. If nobody answers, the two go on talking.
func (c *Call) transfer(n next) {
	c.enter(Transferring)
	stays := c.other(n.by)
	if with := n.transfer.With; with != nil {
		c.fetch(with, n)
		return
	}
	c.leaving, c.told, c.absent = n.by, n.transfer.Told, nil
	defer func() { c.leaving, c.told = nil, nil }()
	targets := c.transferees(n)
	if len(targets) == 0 {
		n.transfer.Told(403)
		c.enter(Talking)
		return
	}
	leg, cause := c.reach(targets, c.decision.Ring, stays.Want())
	switch {
	case leg != nil:
		n.transfer.Told(200)
		c.swap(stays, leg, n.by)
	case c.ctx.Err() != nil:
	case c.absent != nil: // nobody is left to talk to
		c.cancel(cause)
	default:
		n.transfer.Told(max(cause.Status, 400))
		c.enter(Talking)
	}
}

// fetch has an end of another call come over and talk to whom the referrer leaves.
func (c *Call) fetch(with Leg, n next) {
	from := c.b.of(with)
	if from == nil || from == c || !from.Part(with) {
		n.transfer.Told(481)
		c.enter(Talking)
		return
	}
	c.log.Info("an end of another call comes over", "from", from.ID, "leg", with.Kind())
	n.transfer.Told(200)
	c.swap(c.other(n.by), with, n.by)
	with.Offer(c.prefer(c.other(with).Want())) // who is transferred mostly was on hold there
}

// let gives a leg to another call, and ends what is left of this one.
func (c *Call) let(p parting) {
	if p.leg != c.a && p.leg != c.z {
		p.let <- false
		return
	}
	c.bridge.Load().Close()
	c.parted = p.leg
	c.cancel(NormalClearing)
	p.let <- true
}

// transferees are where a transfer leads. One that names no kind of target is a
// call by whoever asked for it, and goes where the policy lets that go.
func (c *Call) transferees(n next) [][]policy.Target {
	to := n.transfer.Target
	if to.Kind != "" {
		return [][]policy.Target{{to}}
	}
	d := c.b.cfg.Decide(policy.Query{At: time.Now(), Dice: rand.Float64(), Call: policy.Call{Source: to.Name, From: to.From, To: policy.Address{User: to.Number}}})
	if d.Kind != policy.Routed {
		c.log.Info("transfer refused", "reason", string(d.Kind), "route", d.Route)
	}
	return d.Groups
}

// take puts a leg that came by itself in the place of an old one.
func (c *Call) take(leg, old Leg) {
	if old != c.a && old != c.z {
		leg.Hangup(Cause{Status: 481, Q850: 101, Text: "no such leg"})
		c.gone = append(c.gone, leg)
		return
	}
	stays := c.other(old)
	if err := leg.Accept(c.prefer(stays.Want())); err != nil {
		leg.Hangup(AsCause(err))
		c.gone = append(c.gone, leg)
		return
	}
	c.swap(stays, leg, old)
}

func (c *Call) swap(stays, comes, leaves Leg) {
	if stays == c.a {
		c.z = comes
	} else {
		c.a = comes
	}
	c.join()
	// Who transfers a call mostly held it before.
	if want := comes.Want(); c.held[leaves] || want.Recorded != leaves.Want().Recorded {
		delete(c.held, leaves)
		stays.Offer(want)
	}
	c.gone = append(c.gone, leaves)
	leaves.Hangup(NormalClearing)
}
