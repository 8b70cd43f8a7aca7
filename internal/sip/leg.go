package sip

import (
	"log/slog"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// eventQueue bounds what a peer may have to say before the call listens.
const eventQueue = 32

// digitQueue bounds the key presses that wait for the one going out.
const digitQueue = 32

// phase is how far an INVITE has come; hanging up depends on it.
type phase uint8

const (
	early     phase = iota // no final response yet
	answered               // 200 sent, no ACK yet (UAS)
	confirmed              // the dialog stands
	over
)

// way is how a digit arrived. The first way a peer uses is the one that counts,
// so that a telephone which sends both forms presses each key once.
type way uint32

const (
	byMedia way = 1 + iota
	byInfo
	byTone
)

// Leg is one SIP dialog with its media (RFC 3261 §12). It implements call.Leg.
type Leg struct {
	s        *Server
	t        *trunk
	hop      *hop
	log      *slog.Logger
	uas      bool
	ep       media.Endpoint
	events   chan call.Event
	done     chan struct{}
	settled  chan struct{} // the initial INVITE's transaction is needed no longer
	query    policy.Query
	identity call.Identity
	peer     string
	session  *call.Session
	network  string // "UDP", "TCP" or "TLS": what the dialog was begun over
	digitsBy string // how digits go out: the trunk's way, or the route's

	callID, localTag    string
	localURI, remoteURI string // as in From and To, without tags

	mu        sync.Mutex // guards all below
	phase     phase
	remoteTag string
	peerID    string       // what the peer says that it is (Session-ID); "": nothing
	target    sipmsg.Uri   // the peer's Contact
	routes    []sipmsg.Uri // in the order they are visited
	cseq      uint32
	remote    uint32 // the peer's last CSeq
	want      sdp.Session
	ours      sdp.Session      // what it was last offered or answered with
	timer     *timer           // nil: the session does not expire
	least     time.Duration    // the shortest session that the peer takes (Min-SE); 0: it has not said
	updates   bool             // the peer takes UPDATE
	forks     map[string]*fork // UAC: early dialogs, by the peer's tag
	described []byte           // UAS: what the 200 says again of a provisional response; nil: none said anything
	rseq      uint32           // UAS: of the last reliable response
	reliable  []*provisional   // UAS: those not acknowledged, the first of them sent
	invite    *sipmsg.Request  // the peer's (UAS) or ours (UAC)
	ack       *sipmsg.Request  // of the last 2xx to an INVITE of ours; nil: there was none
	tx        sipmsg.ServerTransaction
	delayed   bool // the INVITE had no offer
	acks      chan *sipmsg.Request
	ackOf     uint32       // the CSeq whose ACK is awaited
	busy      bool         // a re-INVITE is under way, the peer's or ours
	wanted    *sdp.Session // to be offered to the peer
	offering  bool         // somebody sees to wanted
	ending    *call.Cause
	giveUp    chan struct{} // closed to cancel a dialled INVITE
	way       way
	digits    []call.Info   // key presses that wait for the one going out
	pressing  bool          // somebody presses them
	referrer  *Leg          // whose REFER was passed on to the peer; nil: nobody's
	notified  chan struct{} // closed when a referrer has heard what became of its last wish; nil: it had none
}

func (s *Server) newLeg(hop *hop, uas bool, ep media.Endpoint) *Leg {
	return &Leg{s: s, t: hop.trunk, hop: hop, uas: uas, ep: ep, events: make(chan call.Event, eventQueue), done: make(chan struct{}),
		digitsBy: hop.DTMF, settled: make(chan struct{}), acks: make(chan *sipmsg.Request, 4),
		giveUp: make(chan struct{}), log: s.o.Log.With("leg", "sip", "trunk", hop.name)}
}

var _ call.Leg = (*Leg)(nil)

// begin starts what runs beside the dialog; finish ends it.
func (l *Leg) begin() {
	l.s.tx.Go(func() {
		for e := range l.ep.Events() {
			switch {
			case e.Kind == media.Failed:
				l.mu.Lock()
				l.end(call.Cause{Status: 500, Q850: 41, Text: "the sound could not be kept secret"}, true)
				l.mu.Unlock()
			case e.Kind != media.Digit:
			case e.InBand:
				l.digit(byTone, call.Info{Digit: e.Digit, Length: dtmf.DefaultDuration})
			default:
				l.digit(byMedia, call.Info{Digit: e.Digit, Length: dtmf.DefaultDuration, Carried: true})
			}
		}
	})
}

// Kind implements call.Leg.
func (l *Leg) Kind() string { return "sip" }

// Peer names the trunk and the party.
func (l *Leg) Peer() string { return l.peer }

// Place implements call.Leg.
func (l *Leg) Place() string { return l.t.source() }

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
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.want
}

// post queues an event. It needs mu.
func (l *Leg) post(e call.Event) {
	if l.phase == over {
		return
	}
	if len(l.events) >= eventQueue-1 { // the last place is kept for Ended
		l.log.Warn("leg overflows its event queue")
		l.end(call.Overflow, true)
		return
	}
	l.events <- e
}

// digit takes one key press of the peer.
func (l *Leg) digit(w way, info call.Info) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.way == 0 {
		l.way = w
	}
	if l.way != w {
		return
	}
	l.post(call.Event{Signal: &info})
}

// Signal implements call.Leg: a digit that does not cross in the media is
// pressed here, in the form this trunk takes.
func (l *Leg) Signal(i call.Info) {
	if i.Digit == 0 || i.Carried {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.phase == over:
	case len(l.digits) >= digitQueue:
		l.log.Warn("digits come faster than they can be pressed")
	default:
		l.digits = append(l.digits, i)
		if !l.pressing {
			l.pressing = true
			l.s.tx.Go(l.pressAll)
		}
	}
}

// pressAll presses what waits, one key after the other.
func (l *Leg) pressAll() {
	for {
		l.mu.Lock()
		if len(l.digits) == 0 || l.phase == over {
			l.digits, l.pressing = nil, false
			l.mu.Unlock()
			return
		}
		next := l.digits[0]
		l.digits = l.digits[1:]
		l.mu.Unlock()
		l.press(next)
	}
}

func (l *Leg) press(i call.Info) {
	length := i.Length
	if length == 0 {
		length = dtmf.DefaultDuration
	}
	if s := l.ep.Stream(sdp.Audio); l.digitsBy != "info" && s.Press(i.Digit, length) {
		return
	}
	l.mu.Lock()
	if l.phase != confirmed {
		l.mu.Unlock()
		return
	}
	req := l.request(sipmsg.INFO)
	l.mu.Unlock()
	req.AppendHeader(header("Content-Type", dtmf.RelayType))
	req.SetBody(dtmf.InfoBody(i.Digit, length))
	if status := l.transact(req); status >= 300 {
		l.log.Debug("INFO refused", "status", status)
	}
}

// Hangup implements call.Leg.
func (l *Leg) Hangup(c call.Cause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(c, false)
}

// end ends the dialog as its phase demands. tell says whether the call is to
// hear of it. It needs mu.
func (l *Leg) end(c call.Cause, tell bool) {
	switch l.phase {
	case over:
		return
	case early:
		if l.uas {
			l.refuse(c)
		} else {
			close(l.giveUp)
		}
	case answered:
		// RFC 3261 §15: no BYE before the ACK, or before its time is up.
		if l.ending == nil {
			l.ending = &c
		}
		if tell {
			l.post(call.Event{Ended: &c})
		}
		return
	case confirmed:
		notified := l.notified
		l.s.tx.Go(func() { l.bye(c, notified) })
	}
	l.finish(c, tell)
}

// bye ends the dialog, once a referrer has heard what became of its wish.
func (l *Leg) bye(c call.Cause, notified <-chan struct{}) {
	if notified != nil {
		select {
		case <-notified:
		case <-time.After(lastWord):
		case <-l.s.ctx.Done():
		}
	}
	l.mu.Lock()
	req := l.request(sipmsg.BYE)
	l.mu.Unlock()
	if c.Q850 > 0 {
		req.AppendHeader(header("Reason", "Q.850;cause="+itoa(c.Q850)+`;text="`+clean(c.Text)+`"`))
	}
	l.transact(req)
}

// refuse sends the final response of a call that came to nothing. It needs mu.
func (l *Leg) refuse(c call.Cause) {
	status := c.Status
	if status < 400 || status > 699 {
		status = 480
	}
	res := l.response(l.invite, status, nil)
	if c.Q850 > 0 {
		res.AppendHeader(header("Reason", "Q.850;cause="+itoa(c.Q850)+`;text="`+clean(c.Text)+`"`))
	}
	if c.RetryAfter > 0 {
		res.AppendHeader(header("Retry-After", itoa(int(c.RetryAfter/time.Second))))
	}
	if status == 405 {
		res.AppendHeader(header("Allow", allow))
	}
	if err := l.tx.Respond(res); err != nil {
		l.log.Debug("final response", "status", status, "error", err)
	}
}

// finish gives back what the leg held. It needs mu.
func (l *Leg) finish(c call.Cause, tell bool) {
	l.phase = over
	l.setTimer(0, false)
	if tell {
		l.events <- call.Event{Ended: &c}
	}
	close(l.events)
	l.settle()
	l.s.remove(l)
	l.s.tx.Go(func() {
		l.ep.Close()
		close(l.done)
	})
}

// settle lets the initial INVITE's handler return. It needs mu.
func (l *Leg) settle() {
	select {
	case <-l.settled:
	default:
		close(l.settled)
	}
}

// byed takes the peer's BYE.
func (l *Leg) byed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == over {
		return
	}
	l.finish(call.NormalClearing, true)
}

// isPeer reports whether an in-dialog request comes from this dialog's peer: its
// tag fits, and it comes by the trunk.
func (l *Leg) isPeer(req *sipmsg.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, _ := req.From().Params.Get("tag")
	return from == l.remoteTag && l.s.source(req) == l.t
}

// inOrder takes a request's place in the peer's sequence (RFC 3261 §12.2.2).
func (l *Leg) inOrder(req *sipmsg.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if req.CSeq().SeqNo <= l.remote {
		return false
	}
	l.remote = req.CSeq().SeqNo
	l.hears(req)
	return true
}

// response answers a request of this dialog. It needs mu.
func (l *Leg) response(req *sipmsg.Request, status int, body []byte) *sipmsg.Response {
	res := sipmsg.NewResponseFromRequest(req, status, reason(status), body)
	if to := res.To(); to != nil && status > 100 {
		to.Params.Add("tag", l.localTag)
	}
	if status > 100 && status < 300 && (req.IsInvite() || req.Method == sipmsg.UPDATE) {
		res.AppendHeader(l.contact())
		res.AppendHeader(header("Allow", allow))
	}
	res.AppendHeader(l.sessionHeader())
	if len(body) > 0 {
		res.AppendHeader(header("Content-Type", "application/sdp"))
	}
	return res
}

// contact is where the peer finds us in this dialog.
func (l *Leg) contact() *sipmsg.ContactHeader {
	local, _ := l.s.local(l.hop, l.network)
	u := sipmsg.Uri{Scheme: l.hop.uri.Scheme, Host: host(local.Addr()), Port: int(local.Port())}
	u.UriParams = transportParam(l.network)
	return &sipmsg.ContactHeader{Address: u}
}
