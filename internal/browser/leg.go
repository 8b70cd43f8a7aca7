package browser

import (
	"context"
	"log/slog"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// eventQueue bounds what a page may have to say before the call listens.
const eventQueue = 32

type phase uint8

const (
	ringing phase = iota
	talking
	over
)

// Leg is a patient's page in a call. It implements call.Leg. What changes is
// guarded by its room's mutex.
type Leg struct {
	r       *room
	ep      *media.WebRTC
	log     *slog.Logger
	dialled bool // we rang the patient
	events  chan call.Event
	done    chan struct{}
	query   policy.Query

	// ---- guarded by r.mu ----
	phase  phase
	rung   bool        // the page has our offer
	offer  sdp.Session // what the caller brings
	caller string      // its name, to be shown
	atOnce bool        // it asks to be answered without a ring
	far    sdp.Session // what the far end agreed to, once it answered or sounds
	early  bool        // the page's offer is answered
	want   sdp.Session
	held   bool

	recorded bool // the page is told that the far end is
}

// Kind implements call.Leg.
func (l *Leg) Kind() string { return "browser" }

// Peer names the visit.
func (l *Leg) Peer() string { return "visit " + l.r.inv.ID }

// Place implements call.Leg.
func (l *Leg) Place() string { return "browser" }

// Query implements call.Leg.
func (l *Leg) Query() policy.Query { return l.query }

// Media implements call.Leg.
func (l *Leg) Media() media.Streams { return l.ep }

// Events implements call.Leg.
func (l *Leg) Events() <-chan call.Event { return l.events }

// Done implements call.Leg.
func (l *Leg) Done() <-chan struct{} { return l.done }

// Want implements call.Leg.
func (l *Leg) Want() sdp.Session {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.want
}

// shown is the state a page is told on attaching.
func (l *Leg) shown() string {
	switch {
	case l.phase == talking && l.held:
		return "held"
	case l.phase == talking:
		return "connected"
	case l.dialled:
		return "incoming"
	}
	return "ringing"
}

// post queues an event. It needs the room's mutex.
func (l *Leg) post(e call.Event) {
	if l.phase == over {
		return
	}
	if len(l.events) >= eventQueue-1 { // the last place is kept for Ended
		l.end(call.Overflow, true)
		return
	}
	l.events <- e
}

// hear passes on what happens to the media until it is closed.
func (l *Leg) hear(events <-chan media.Event) {
	for e := range events {
		l.r.mu.Lock()
		switch e.Kind {
		case media.Candidate:
			if l.phase != over {
				c := e.Candidate
				l.r.say(message{Type: "candidate", Candidate: &c})
			}
		case media.Digit:
			l.post(call.Event{Signal: &call.Info{Digit: e.Digit, Length: dtmf.DefaultDuration, Carried: true}})
		case media.Moved, media.Disconnected: // a page that thinks that all is well is told
			if l.phase == talking {
				l.r.say(message{Type: "repair"})
			}
		case media.Wider:
			if l.phase != over {
				l.r.say(message{Type: "renegotiate"})
			}
		case media.Failed:
			if l.r.attached {
				l.end(call.MediaLost, true)
			}
		}
		l.r.mu.Unlock()
	}
}

// ring sends the page our offer; anew if the page was loaded again.
func (l *Leg) ring(anew bool) {
	if anew && l.rung {
		if err := l.ep.Renew(); err != nil {
			l.end(call.AsCause(err), true)
			return
		}
	}
	l.rung = true
	l.r.say(message{Type: "incoming", Peer: l.caller, AtOnce: l.atOnce})
	b, err := l.ep.Offer(context.Background(), l.offer)
	if err != nil {
		l.end(call.AsCause(err), true)
		return
	}
	l.r.say(message{Type: "offer", SDP: string(b)})
}

// answered takes the page's answer to our offer.
func (l *Leg) answered(answer string) {
	if !l.dialled || l.phase != ringing || !l.rung {
		return
	}
	want, err := l.ep.SetAnswer([]byte(answer))
	if err != nil {
		l.log.Info("answer refused", "error", err)
		l.end(call.NotAcceptable, true)
		return
	}
	l.want = want
	l.phase = talking
	l.connected()
	l.post(call.Event{Answered: true})
}

// rejoin takes the offer of a page that was loaded again: a new PeerConnection
// under the same stream.
func (l *Leg) rejoin(offer string) {
	if err := l.ep.Renew(); err != nil {
		l.end(call.AsCause(err), true)
		return
	}
	want, err := l.ep.SetOffer([]byte(offer))
	if err != nil {
		l.end(call.NotAcceptable, true)
		return
	}
	l.want = want
	if l.phase != talking && !l.early {
		return // the far end says nothing yet
	}
	if err := l.answer(l.opposite()); err != nil {
		l.end(call.AsCause(err), true)
		return
	}
	if l.phase != talking {
		l.r.say(message{Type: "ringing"})
		return
	}
	held := l.held
	l.recorded = false // the page has forgotten it
	l.connected()
	if held {
		l.r.say(message{Type: "held", Held: &held})
	}
	l.log.Info("page came back")
}

// renegotiated takes what the page describes anew on the connection that it has. Where
// nothing comes of it, the page is asked for another connection.
func (l *Leg) renegotiated(offer string) {
	if l.phase != talking && !l.early {
		return
	}
	want, err := l.ep.SetOffer([]byte(offer))
	if err == nil {
		l.want = want
		err = l.answer(l.opposite())
	}
	if err != nil {
		l.r.f.Malformed.Add(1)
		l.log.Info("renegotiation failed", "error", err)
		l.r.say(message{Type: "repair"})
	}
}

// opposite is what the page's answers and offers are for.
func (l *Leg) opposite() sdp.Session {
	if l.dialled {
		return l.offer
	}
	return l.far
}

// Progress implements call.Leg.
func (l *Leg) Progress(_ int, far *sdp.Session) error {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if l.phase != ringing || l.dialled {
		return nil
	}
	l.r.say(message{Type: "ringing"})
	if far == nil || l.early {
		return nil
	}
	return l.answer(*far)
}

// answer answers the page's offer, before the far end answers or when it does. It
// needs the room's mutex.
func (l *Leg) answer(far sdp.Session) error {
	b, err := l.ep.Answer(context.Background(), far)
	if err != nil {
		return err
	}
	l.early = true
	if !l.dialled {
		l.far = far
	}
	l.r.say(message{Type: "answer", SDP: string(b)})
	return nil
}

// Accept implements call.Leg.
func (l *Leg) Accept(far sdp.Session) error {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if l.phase != ringing || l.dialled {
		return call.Cancelled
	}
	if !l.early {
		if err := l.answer(far); err != nil {
			return err
		}
	}
	l.far, l.phase = far, talking
	l.connected()
	return nil
}

// connected tells the page that the two may talk, and on what terms. It needs the
// room's mutex.
func (l *Leg) connected() {
	far := l.opposite()
	m := message{Type: "connected"}
	if far.Terms.Blind {
		m.Camera = new(bool)
	}
	l.r.say(m)
	l.tellRecorded(far.Recorded)
}

// tellRecorded says on the page whether the far end is recorded (RFC 7866 §7.3.1). It
// needs the room's mutex.
func (l *Leg) tellRecorded(yes bool) {
	if yes != l.recorded {
		l.recorded = yes
		l.r.say(message{Type: "recording", Recorded: &yes})
	}
}

// Offer implements call.Leg: a hold is shown on the page, and that the far end is
// recorded; its own session stays.
func (l *Leg) Offer(want sdp.Session) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if l.phase == over {
		return
	}
	_, m, ok := want.First(sdp.Audio)
	if held := ok && !m.Direction.Receives(); held != l.held {
		l.held = held
		l.r.say(message{Type: "held", Held: &held})
	}
	if l.dialled {
		l.offer.Recorded = want.Recorded
	} else {
		l.far.Recorded = want.Recorded
	}
	l.tellRecorded(want.Recorded)
}

// Signal implements call.Leg: digits are shown on the page.
func (l *Leg) Signal(i call.Info) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if l.phase != over && i.Digit != 0 {
		l.r.say(message{Type: "digit", Digit: i.Digit.Key()})
	}
}

// Hangup implements call.Leg.
func (l *Leg) Hangup(c call.Cause) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.end(c, false)
}

// end is the one way out. It needs the room's mutex.
func (l *Leg) end(c call.Cause, tell bool) {
	if l.phase == over {
		return
	}
	l.phase = over
	if tell {
		l.events <- call.Event{Ended: &c}
	}
	close(l.events)
	l.r.leg = nil
	m := message{Type: "ended", Code: code(c)}
	if c.Urgent && l.r.f.o.Emergency != nil {
		m.Text = l.r.f.o.Emergency()
	}
	l.r.say(m)
	if !l.r.attached && l.r.tab == "" {
		l.r.leaveLocked()
	}
	l.r.f.wg.Go(func() {
		l.ep.Close()
		close(l.done)
	})
}

// code is the word by which the page chooses what to say.
func code(c call.Cause) string {
	switch {
	case c.Urgent:
		return "emergency"
	case c.Status == 486 || c.Status == 600:
		return "busy"
	case c.Status == 480 || c.Status == 408 || c.Status == 504:
		return "no-answer"
	case c.Status == 487:
		return "cancelled"
	case c == call.ShuttingDown:
		return "shutdown"
	case c == call.Busy:
		return "overload"
	case c == call.TimeLimit:
		return "limit"
	case c.Status == 488:
		return "no-codec"
	case c.Status >= 500 && c.Status < 600, c == call.MediaLost:
		return "failed"
	case c.Status >= 400:
		return "refused"
	}
	return "hangup"
}
