package sip

import (
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// incoming makes a leg of an INVITE. An error is what the INVITE is answered with.
func (s *Server) incoming(t *trunk, req *sipmsg.Request, tx sipmsg.ServerTransaction) (_ *Leg, err error) {
	hop := s.cameBy(t, req)
	who := identity(t, req)
	asked := query(t, req, who)
	if err := s.take(t, s.o.Urgent != nil && s.o.Urgent(asked)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.give(t)
		}
	}()
	local, _ := s.local(hop, hop.net)
	ep, err := s.o.Endpoint(t.Trunk, local.Addr())
	if err != nil {
		return nil, err
	}
	l := s.newLeg(hop, true, ep)
	if body := req.Body(); len(body) > 0 {
		if l.want, err = ep.SetOffer(body); err != nil {
			ep.Close()
			return nil, err
		}
	} else {
		l.delayed = true
	}
	l.identity, l.query = who, asked
	l.peer = t.name + " " + l.query.Call.From.URI()
	l.invite, l.tx = req, tx
	l.network = sipmsg.NetworkToUpper(req.Transport())
	l.callID = req.CallID().Value()
	l.localTag = randomHex(8)
	l.remoteTag, _ = req.From().Params.Get("tag")
	l.localURI, l.remoteURI = req.To().Address.String(), req.From().Address.String()
	l.remote = req.CSeq().SeqNo
	l.target = req.Contact().Address
	l.routes = routeSet(req, false)
	l.session = call.NewSession(sessionID(req))
	l.hears(req)
	if !s.add(l) {
		ep.Close()
		return nil, call.ShuttingDown
	}
	l.begin()
	return l, nil
}

// cancelled takes the caller's CANCEL; sipgo has answered it and the INVITE.
func (l *Leg) cancelled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == early {
		l.finish(call.Cancelled, true)
	}
}

// Accept implements call.Leg: 200 with our answer, or with our offer if the
// INVITE had none; then the ACK brings the peer's answer (RFC 3261 §13.2.1).
func (l *Leg) Accept(far sdp.Session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.uas || l.phase != early {
		return call.Cancelled
	}
	var body []byte
	var err error
	switch {
	case l.described != nil:
		body = l.described // as in the provisional response
	case l.delayed:
		body, err = l.ep.Offer(l.s.ctx, far)
		l.ours = far
	default:
		body, err = l.ep.Answer(l.s.ctx, far)
		l.ours = far
	}
	if err != nil {
		return err
	}
	l.phase = answered
	l.ackOf = l.invite.CSeq().SeqNo
	res := l.response(l.invite, 200, body)
	l.grantTimer(l.invite, res)
	l.s.o.Ledger.Open(l.state())
	unheard := l.unheard()
	l.s.tx.Go(func() {
		select {
		case <-unheard:
		case <-time.After(64 * timeT1):
		case <-l.s.ctx.Done():
		}
		l.conclude(l.deliver(l.tx, res))
	})
	return nil
}

// conclude takes the ACK of the first 200, nil if none came.
func (l *Leg) conclude(ack *sipmsg.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase != answered {
		return
	}
	l.phase = confirmed
	l.settle()
	if ack == nil {
		l.end(call.Cause{Status: 408, Q850: 102, Text: "the 200 was never acknowledged"}, true)
		return
	}
	if l.delayed {
		want, err := l.ep.SetAnswer(ack.Body())
		if err != nil {
			l.end(unmet(err), true)
			return
		}
		l.want = want
	}
	if l.ending != nil {
		l.end(*l.ending, false)
	}
}

// reinviteLimit is how long the call may think about an offer.
const reinviteLimit = 5 * time.Second

// reinvite answers a re-INVITE (RFC 3261 §14.2). One that cannot be met is
// refused and the session stays as it was.
func (l *Leg) reinvite(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	if !l.inOrder(req) {
		l.s.reply(req, tx, 500, "Out of Order")
		return
	}
	if tooShort(req) {
		l.s.reply(req, tx, 422, "Session Interval Too Small", minSE())
		return
	}
	l.mu.Lock()
	if l.phase != confirmed || l.busy {
		l.mu.Unlock()
		l.s.reply(req, tx, 491, "Request Pending")
		return
	}
	l.busy = true
	if c := req.Contact(); c != nil {
		l.target = c.Address // target refresh (RFC 3261 §12.2.2)
	}
	l.ackOf = req.CSeq().SeqNo
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.busy = false
		l.mu.Unlock()
	}()
	l.s.reply(req, tx, 100, "Trying")
	body, err := l.consider(req)
	if err != nil {
		c := call.AsCause(err)
		l.mu.Lock()
		l.rollBack()
		res := l.response(req, max(c.Status, 400), nil)
		l.mu.Unlock()
		l.send(tx, res)
		return
	}
	l.mu.Lock()
	res := l.response(req, 200, body)
	l.grantTimer(req, res)
	l.s.o.Ledger.Open(l.state())
	l.mu.Unlock()
	ack := l.deliver(tx, res)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.phase != confirmed:
	case ack == nil:
		l.end(call.Cause{Status: 408, Q850: 102, Text: "a re-INVITE's 200 was never acknowledged"}, true)
	case len(req.Body()) == 0:
		if want, err := l.ep.SetAnswer(ack.Body()); err == nil {
			l.want = want
		} else {
			l.rollBack()
		}
	}
}

// rollBack puts the session back to what it was before an offer. It needs mu.
func (l *Leg) rollBack() {
	if err := l.ep.Rollback(); err != nil {
		l.log.Warn("offer not rolled back", "error", err)
	}
}

// consider puts an offer to the call and returns our answer.
func (l *Leg) consider(req *sipmsg.Request) ([]byte, error) {
	l.mu.Lock()
	if len(req.Body()) == 0 {
		defer l.mu.Unlock()
		return l.ep.Offer(l.s.ctx, sdp.Session{Media: []sdp.Media{{Kind: sdp.Audio}}})
	}
	if !isSDP(req) {
		l.mu.Unlock()
		return nil, call.Cause{Status: 415, Q850: 79, Text: "not SDP"}
	}
	want, err := l.ep.SetOffer(req.Body())
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	var body []byte
	outcome := make(chan error, 1)
	l.post(call.Event{Offered: &call.Offered{
		Want: want,
		Accept: func(far sdp.Session) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			var err error
			if body, err = l.ep.Answer(l.s.ctx, far); err != nil {
				return err
			}
			l.want, l.ours = want, far
			outcome <- nil
			return nil
		},
		Reject: func(c call.Cause) { outcome <- c },
	}})
	l.mu.Unlock()
	select {
	case err := <-outcome:
		return body, err
	case <-l.done:
		return nil, call.Cause{Status: 481, Text: "the call is over"}
	case <-time.After(reinviteLimit):
		return nil, call.Cause{Status: 500, Q850: 41, Text: "the call did not answer"}
	}
}
