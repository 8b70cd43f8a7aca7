package browser

import (
	"errors"
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/invite"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// room is one open link: the attachment of the page that has it, what the page
// has not acknowledged yet, and the leg, if there is a call.
type room struct {
	f     *Front
	inv   invite.Invitation
	inbox chan *delivery
	quit  chan struct{}

	mu       sync.Mutex // guards all below
	tab      string     // the tab that holds the link; "" if none
	epoch    string     // its WebSocket
	attached bool
	in, seq  uint64 // the page's last sequence number, and ours
	out      []message
	leg      *Leg
	relays   *Relays     // as last told; nil: never
	away     *time.Timer // runs out when the page has been silent for Grace
	left     bool
}

type delivery struct {
	epoch string
	message
}

func newRoom(f *Front, inv invite.Invitation) *room {
	r := &room{f: f, inv: inv, inbox: make(chan *delivery, inbox), quit: make(chan struct{})}
	r.away = time.AfterFunc(Grace, r.gone)
	return r
}

// serve takes the page's messages one by one; it ends when the room is left.
func (r *room) serve() {
	for {
		select {
		case <-r.quit:
			return
		case d := <-r.inbox:
			r.take(*d)
		}
	}
}

// gone is called when the page has been silent for Grace.
func (r *room) gone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached, r.tab, r.epoch = false, "", ""
	r.out, r.in, r.seq = nil, 0, 0
	if r.leg == nil {
		r.leaveLocked()
		return
	}
	if !r.leg.dialled || r.leg.phase == talking {
		r.leg.end(call.Cause{Q850: 27, Text: "the patient's page went away"}, true)
		return
	}
	r.away.Reset(Grace) // a visit that rings waits for its patient
}

func (r *room) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaveLocked()
}

func (r *room) leaveLocked() {
	if !r.left {
		r.left = true
		r.away.Stop()
		close(r.quit)
		r.f.drop(r)
	}
}

// take handles one message of a page.
func (r *room) take(d delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.Type == "hello" {
		r.hello(d)
		return
	}
	if d.epoch != r.epoch {
		return // an attachment that was replaced is fenced off
	}
	if d.Type != "gone" { // the portal's word: it may come as late as our own
		r.away.Reset(Grace)
	}
	r.prune(d.Ack)
	if d.Seq > 0 {
		if d.Seq != r.in+1 {
			return // twice, or out of turn: what is missing is sent again after the next hello
		}
		r.in = d.Seq
	}
	r.handle(d.message)
}

// hello attaches a WebSocket: a reload of the tab that holds the link, or its
// new connection. Another tab is told that the link is in use.
func (r *room) hello(d delivery) {
	switch {
	case d.Tab == "":
		r.f.Malformed.Add(1)
		r.f.answer(r.inv.Hash, d.epoch, message{Type: "error", Code: "bad-message"})
		return
	case r.leg == nil && r.void():
		r.turnAway(d.epoch)
		return
	case r.tab != "" && r.tab != d.Tab:
		r.f.answer(r.inv.Hash, d.epoch, message{Type: "error", Code: "in-use"})
		return
	}
	forgotten := r.tab == "" // an engine started anew, or a page away too long
	r.tab, r.epoch, r.attached = d.Tab, d.epoch, true
	r.away.Reset(Grace)
	if forgotten {
		d.Ack = 0
	}
	if d.Fresh {
		r.in, r.seq, r.out = 0, 0, nil
	}
	r.prune(d.Ack)
	state := "lobby"
	if r.leg != nil {
		state = r.leg.shown()
	}
	welcome := message{Type: "welcome", Ack: r.in, State: state, Name: r.inv.Name, Fresh: forgotten}
	r.relays = nil // a page that comes anew may have lost them, and so may we
	welcome.ICEServers = r.relay().Page
	r.f.answer(r.inv.Hash, r.epoch, welcome)
	for _, m := range r.out {
		m.Ack = r.in
		r.f.answer(r.inv.Hash, r.epoch, m)
	}
	if r.leg != nil && r.leg.dialled && r.leg.phase == ringing && (d.Fresh || !r.leg.rung) {
		r.leg.ring(d.Fresh)
	}
}

// relay asks for the visit's relays, once for each attachment. It needs mu.
func (r *room) relay() Relays {
	if r.relays == nil {
		r.relays = new(Relays)
		if r.f.o.Relays != nil {
			*r.relays = r.f.o.Relays(r.inv)
		}
	}
	return *r.relays
}

// void reports whether the link expired or was revoked since the room was made.
func (r *room) void() bool {
	_, err := r.f.o.Invitations.ByHash(r.inv.Hash)
	return errors.Is(err, invite.ErrNone)
}

// turnAway tells a page that its link is not valid and leaves the room. It needs mu.
func (r *room) turnAway(epoch string) {
	r.f.Refused.Add(1)
	r.f.answer(r.inv.Hash, epoch, message{Type: "error", Code: "expired"})
	r.leaveLocked()
}

func (r *room) prune(ack uint64) {
	for len(r.out) > 0 && r.out[0].Seq <= ack {
		r.out = r.out[1:]
	}
}

// say queues a message until the page acknowledges it. It needs mu.
func (r *room) say(m message) {
	if len(r.out) >= unacked {
		if r.leg != nil {
			r.leg.end(call.Overflow, true)
		}
		r.out = nil
		return
	}
	r.seq++
	m.Seq, m.Ack = r.seq, r.in
	r.out = append(r.out, m)
	if r.attached {
		r.f.answer(r.inv.Hash, r.epoch, m)
	}
}

// handle is what each message means. It needs mu.
func (r *room) handle(m message) {
	l := r.leg
	switch m.Type {
	case "ping":
		r.f.answer(r.inv.Hash, r.epoch, message{Type: "pong", Ack: r.in})
	case "gone":
		r.attached = false
	case "join":
		r.join(m.SDP)
	case "rejoin":
		if l != nil {
			l.rejoin(m.SDP)
		} else {
			r.say(message{Type: "ended", Code: "over"})
		}
	case "renegotiate":
		if l != nil {
			l.renegotiated(m.SDP)
		}
	case "answer":
		if l != nil {
			l.answered(m.SDP)
		}
	case "candidate":
		if l != nil && m.Candidate != nil {
			if err := l.ep.AddCandidate(*m.Candidate); err != nil {
				r.f.Malformed.Add(1)
				l.log.Debug("candidate", "error", err)
			}
		}
	case "digit":
		if d, err := dtmf.Parse(m.Digit); err == nil && l != nil {
			length := min(max(time.Duration(m.Millis)*time.Millisecond, dtmf.DefaultDuration), dtmf.MaxDuration)
			l.post(call.Event{Signal: &call.Info{Digit: d, Length: length}})
		}
	case "decline":
		if l != nil {
			l.end(call.Cause{Status: 603, Q850: 21, Text: "declined"}, true)
		}
	case "hangup":
		if l != nil {
			l.end(call.NormalClearing, true)
		}
	default:
		r.f.Malformed.Add(1)
		r.f.answer(r.inv.Hash, r.epoch, message{Type: "error", Code: "bad-message"})
	}
}

// join is the patient's call. It needs mu.
func (r *room) join(offer string) {
	if r.leg != nil {
		return
	}
	if r.void() {
		r.turnAway(r.epoch)
		return
	}
	l, err := r.newLeg(false)
	if err != nil {
		r.f.o.Log.Error("join", "error", err)
		r.say(message{Type: "ended", Code: "failed"})
		return
	}
	if l.want, err = l.ep.SetOffer([]byte(offer)); err != nil {
		r.f.Malformed.Add(1)
		l.log.Info("join refused", "error", err)
		l.end(call.NotAcceptable, false)
		return
	}
	l.query = callQuery(r.inv)
	r.f.wg.Go(func() { r.f.o.Handle(l, call.Facts{Identity: call.Identity{Asserted: l.query.Call.From}}) })
}

// dial rings the patient.
func (r *room) dial(facts call.Facts, to policy.Target, offer sdp.Session) (call.Leg, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left {
		return nil, call.ShuttingDown
	}
	if r.leg != nil {
		return nil, call.Cause{Status: 486, Q850: 17, Text: "the patient is in another call"}
	}
	l, err := r.newLeg(true)
	if err != nil {
		return nil, err
	}
	l.offer, l.atOnce = offer, facts.AtOnce
	if !facts.Identity.Private {
		l.caller = to.From.Display
	}
	l.post(call.Event{Ringing: 180})
	if r.attached {
		l.ring(false)
	}
	return l, nil
}

// newLeg makes the room's leg. It needs mu.
func (r *room) newLeg(dialled bool) (*Leg, error) {
	ep, err := r.f.o.Browsers.NewWebRTC(func() []media.ICEServer { return r.relay().Own })
	if err != nil {
		return nil, err
	}
	l := &Leg{r: r, ep: ep, dialled: dialled, events: make(chan call.Event, eventQueue), done: make(chan struct{}),
		log: r.f.o.Log.With("leg", "browser", "visit", r.inv.ID)}
	r.leg = l
	r.f.wg.Go(func() { l.hear(ep.Events()) })
	return l, nil
}

var _ media.Endpoint = (*media.WebRTC)(nil)
