package call

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// State is what an outsider sees of a call. Nothing branches on it.
type State string

// The states.
const (
	Routing      State = "routing"
	Ringing      State = "ringing"
	Talking      State = "talking"
	Held         State = "held"
	Transferring State = "transferring"
	Ending       State = "ending"
)

// Call is one call: a set of legs and the goroutine that serves them. Its
// program counter is its state: admit, reach, talk, bury.
type Call struct {
	Facts
	b       *B2BUA
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelCauseFunc
	done    chan struct{}
	started time.Time
	query   policy.Query
	state   atomic.Value // State
	bridge  atomic.Pointer[media.Bridge]
	view    atomic.Pointer[view]
	replace chan replacement
	part    chan parting

	// ---- owned by serve ----
	a, z     Leg // the caller, and who it talks to
	gone     []Leg
	answered time.Time
	decision policy.Decision
	give     func()        // gives back the room that the route had; nil: it took none
	toward   policy.Target // the first of those that rang last
	held     map[Leg]bool
	leaving  Leg              // who asked for the transfer that is under way
	told     func(status int) // who hears what becomes of it
	absent   Leg              // it has left meanwhile
	parted   Leg              // it talks in another call now
}

// view is what snapshots read.
type view struct {
	route string
	legs  []Leg
}

// State is the phase the call is in.
func (c *Call) State() State {
	s, _ := c.state.Load().(State)
	return s
}

// Started is when the call came.
func (c *Call) Started() time.Time { return c.started }

// Route is the name of the route taken; "" before that.
func (c *Call) Route() string {
	if v := c.view.Load(); v != nil {
		return v.route
	}
	return ""
}

// Legs are the legs of the moment, the caller first.
func (c *Call) Legs() []Leg {
	if v := c.view.Load(); v != nil {
		return v.legs
	}
	return nil
}

// Bridge is what joins the two legs; nil while they are not joined.
func (c *Call) Bridge() *media.Bridge { return c.bridge.Load() }

// Done is closed when the call is buried.
func (c *Call) Done() <-chan struct{} { return c.done }

// Hangup ends the call; the first cause wins. It never waits.
func (c *Call) Hangup(cause Cause) { c.cancel(cause) }

func (c *Call) enter(s State) {
	c.state.Store(s)
	legs := []Leg{c.a}
	if c.z != nil {
		legs = append(legs, c.z)
	}
	c.view.Store(&view{route: c.decision.Route, legs: legs})
}

// serve is the life of a call.
func (c *Call) serve() {
	defer c.bury()
	c.enter(Routing)
	c.log.Info("call came", "source", c.query.Call.Source)
	c.b.cfg.Open(c.record(NormalClearing))
	if !c.admit() {
		return
	}
	leg, _ := c.reach(c.decision.Groups, c.decision.Ring, c.a.Want())
	if leg == nil {
		return
	}
	c.z = leg
	if err := c.a.Accept(c.prefer(leg.Want())); err != nil {
		c.cancel(AsCause(err))
		return
	}
	c.answered = time.Now()
	c.count("to " + c.toward.Where())
	c.b.cfg.Open(c.record(NormalClearing))
	limit := time.AfterFunc(c.decision.Longest, func() { c.cancel(TimeLimit) })
	defer limit.Stop()
	c.join()
	for {
		next := c.talk()
		switch {
		case next.transfer != nil:
			c.transfer(next)
		case next.leg != nil:
			c.take(next.leg, next.old)
		case next.part != nil:
			c.let(*next.part)
		default:
			return
		}
		if c.ctx.Err() != nil {
			return
		}
	}
}

// admit asks the policy, and the next route where one has no room.
func (c *Call) admit() bool {
	q := c.query
	q.At, q.Dice = time.Now(), rand.Float64()
	_, m, offers := c.a.Want().First(sdp.Audio)
	if offers {
		q.Call.Encrypted = m.Keyed
		for _, f := range m.Formats {
			if !f.IsEvent() && !f.IsNoise() {
				q.Call.Codecs = append(q.Call.Codecs, f.Name)
			}
		}
	}
	if len(c.Headers) > 0 {
		q.Call.Headers = map[string]string{}
		for name, values := range c.Headers {
			q.Call.Headers[name] = values[0]
		}
	}
	for {
		c.decision = c.b.cfg.Decide(q)
		d := c.decision
		for _, f := range d.Failed {
			c.log.Debug("a condition could not be evaluated", "condition", f) // it may name people
		}
		if n := len(d.Failed); n > 0 {
			c.log.Warn("conditions that could not be evaluated do not hold", "conditions", n)
		}
		c.Urgent = d.Kind == policy.IsUrgent
		switch {
		case len(d.Groups) == 0:
			c.refuse(string(d.Kind), Cause{Status: d.Status, Q850: 21, Text: d.Reason, Urgent: c.Urgent})
			return false
		case c.Urgent:
			c.log.Warn("an emergency call")
			return true
		case c.b.cfg.Full != nil && c.b.cfg.Full():
			c.refuse("overload", Busy)
			return false
		case offers && !m.Keyed && d.Groups[0][0].Session.Secret:
			c.refuse("secrecy", NotSecured)
			return false
		}
		give, ok := c.b.routes.take(d, q.At)
		switch {
		case ok:
			c.give = give
			c.AtOnce = c.AtOnce && d.AtOnce
			c.count("taken")
			c.log.Info("call routed", "route", d.Route)
			return true
		case d.Limit.Full != "next":
			c.refuse("limit", RouteFull)
			return false
		}
		c.count("full")
		c.log.Info("route full", "route", d.Route)
		q.After = d.Next
	}
}

// count notes what became of the call by its route.
func (c *Call) count(outcome string) {
	if c.decision.Route == "" {
		return
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.b.counts.Routes[RouteOutcome{c.decision.Route, outcome}]++
}

// refuse ends a call that may go nowhere, and counts it by reason.
func (c *Call) refuse(reason string, cause Cause) {
	c.b.mu.Lock()
	c.b.counts.Refused[reason]++
	c.b.mu.Unlock()
	c.count("refused")
	c.log.Info("call refused", "reason", reason, "route", c.decision.Route, "status", cause.Status)
	c.cancel(cause)
}

// ring tells the caller that a leg rings, and lets it hear what sounds before the
// answer.
func (c *Call) ring(leg Leg, e Event) {
	c.enter(Ringing)
	var far *sdp.Session
	if e.Sound {
		s := c.prefer(leg.Want())
		far = &s
	}
	if err := c.a.Progress(e.Ringing, far); err != nil {
		c.log.Info("the caller is not told that it rings", "error", err)
		return
	}
	if far != nil {
		c.bring(leg)
	}
}

// bring joins the caller's media to a leg's, and parts it from another's.
func (c *Call) bring(leg Leg) *media.Bridge {
	br := media.Join(c.a.Media(), leg.Media())
	if old := c.bridge.Swap(br); old != nil {
		old.Close()
	}
	return br
}

// events are a leg's, if it is there.
func (c *Call) events(leg Leg) <-chan Event {
	if leg == nil || leg == c.absent {
		return nil
	}
	return leg.Events()
}

// next is what talk came to: hang-up, or a target to reach, or a leg to take or to
// let go.
type next struct {
	transfer *Transfer
	by       Leg // who asked for it, and leaves
	leg, old Leg
	part     *parting
}

// talk lets the two ends talk until something must change.
func (c *Call) talk() next {
	for {
		select {
		case <-c.ctx.Done():
			return next{}
		case r := <-c.replace:
			return next{leg: r.leg, old: r.old}
		case p := <-c.part:
			return next{part: &p}
		case e, ok := <-c.a.Events():
			if ok && e.Transfer != nil {
				return next{transfer: e.Transfer, by: c.a}
			}
			if !ok || !c.serveLeg(c.a, e) {
				return next{}
			}
		case e, ok := <-c.z.Events():
			if ok && e.Transfer != nil {
				return next{transfer: e.Transfer, by: c.z}
			}
			if !ok || !c.serveLeg(c.z, e) {
				return next{}
			}
		}
	}
}

// serveLeg takes one event of a leg that talks. It returns false when the leg
// ended, and with it the call.
func (c *Call) serveLeg(leg Leg, e Event) bool {
	switch {
	case e.Ended != nil && leg == c.leaving:
		c.log.Info("the referrer left", "leg", leg.Kind())
		c.absent = leg
	case e.Transfer != nil:
		e.Transfer.Told(491) // one at a time, and not while the call is being set up
	case e.Ended != nil:
		c.log.Info("leg ended", "leg", leg.Kind(), "status", e.Ended.Status, "cause", e.Ended.Text)
		c.cancel(*e.Ended)
		return false
	case e.Signal != nil:
		if far := c.other(leg); far != nil {
			info := *e.Signal
			info.Carried = info.Carried && c.carriesEvents(leg, far)
			far.Signal(info)
		}
	case e.Offered != nil:
		c.renegotiate(leg, e.Offered)
	}
	return true
}

// carriesEvents reports whether a telephone-event from one leg leaves by the
// other as one.
func (c *Call) carriesEvents(from, to Leg) bool {
	s := to.Media().Stream(sdp.Audio)
	if s == nil || s.Agreed() == nil {
		return false
	}
	_, ok := s.Agreed().Event()
	return ok
}

// renegotiate answers a peer's wish: its directions are met, and offered to the
// far end if it holds or is recorded, or no longer. A wish that cannot be met is refused and the call lives on.
func (c *Call) renegotiate(leg Leg, o *Offered) {
	far := c.other(leg)
	if far == nil {
		o.Reject(Cause{Status: 491, Text: "not now"})
		return
	}
	recorded := leg.Want().Recorded
	if err := o.Accept(c.prefer(far.Want())); err != nil {
		cause := AsCause(err)
		c.log.Info("offer refused", "leg", leg.Kind(), "status", cause.Status)
		o.Reject(cause)
		return
	}
	_, m, ok := o.Want.First(sdp.Audio)
	held := ok && !m.Direction.Receives()
	if c.held == nil {
		c.held = map[Leg]bool{}
	}
	holds := held != c.held[leg]
	if holds || o.Want.Recorded != recorded {
		far.Offer(o.Want)
	}
	if !holds {
		return
	}
	c.held[leg] = held
	c.log.Info("hold", "leg", leg.Kind(), "held", held)
	if c.held[c.a] || c.held[c.z] {
		c.enter(Held)
	} else {
		c.enter(Talking)
	}
}

func (c *Call) other(leg Leg) Leg {
	if leg == c.a {
		return c.z
	}
	return c.a
}

// join connects the two legs' media.
func (c *Call) join() {
	br := c.bring(c.z)
	c.enter(Talking)
	c.log.Info("talking", "route", c.decision.Route, "forth", br.AB.String(), "back", br.BA.String())
}

// prefer puts the route's terms beside what an end has.
func (c *Call) prefer(s sdp.Session) sdp.Session {
	out := sdp.Session{Media: append([]sdp.Media(nil), s.Media...), Recorded: s.Recorded}
	if len(c.decision.Groups) > 0 {
		out.Terms = c.decision.Groups[0][0].Session
	}
	for i := range out.Media {
		out.Media[i].Direction = sdp.SendRecv
	}
	if len(out.Media) == 0 {
		out.Media = []sdp.Media{{Kind: sdp.Audio}}
	}
	return out
}
