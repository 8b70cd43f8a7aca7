package sip

import (
	"context"
	"strings"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// Dial implements call.Dialer: it sends an INVITE to a trunk.
func (s *Server) Dial(_ context.Context, to policy.Target, facts call.Facts, offer sdp.Session) (_ call.Leg, err error) {
	t := s.party(to)
	if t == nil {
		return nil, call.Cause{Status: 404, Q850: 1, Text: "no such trunk or room"}
	}
	hop := t.way(to.Way)
	if hop == nil {
		return nil, t.absent()
	}
	if facts.Hops <= 0 {
		return nil, call.Cause{Status: 483, Q850: 25, Text: "too many hops"}
	}
	if cause, no := hop.health.refuses(); no {
		return nil, cause
	}
	if err := s.take(t, facts.Urgent); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.give(t)
		}
	}()
	local, _ := s.local(hop, hop.net)
	as := t.Trunk
	if to.DTMF != "" {
		as.DTMF = to.DTMF
	}
	ep, err := s.o.Endpoint(as, local.Addr())
	if err != nil {
		return nil, err
	}
	body, err := ep.Offer(s.ctx, offer)
	if err != nil {
		ep.Close()
		return nil, err
	}
	l := s.newLeg(hop, false, ep)
	l.peer = t.name
	if !t.room {
		l.peer += "/" + to.Number
	}
	l.network, l.digitsBy = hop.net, as.DTMF
	l.callID = randomHex(16)
	l.localTag = randomHex(8)
	l.session = facts.Session
	l.cseq = 1
	recipient := *hop.uri.Clone()
	if !t.room {
		recipient.User = to.Number
	}
	from := &sipmsg.FromHeader{DisplayName: clean(to.From.Display), Params: sipmsg.NewParams(),
		Address: sipmsg.Uri{Scheme: recipient.Scheme, User: userPart(to.From.User), Host: host(local.Addr())}}
	toURI := sipmsg.Uri{Scheme: recipient.Scheme, User: recipient.User, Host: recipient.Host, Port: recipient.Port}
	req := sipmsg.NewRequest(sipmsg.INVITE, recipient)
	t.present(req, from, facts.Identity)
	l.localURI, l.remoteURI = from.Address.String(), toURI.String()
	from.Params.Add("tag", l.localTag)
	l.target = recipient
	for _, r := range hop.through() {
		req.AppendHeader(&sipmsg.RouteHeader{Address: r})
	}
	s.address(hop, req, hop.uri, hop.net)
	req.SetDestination(hop.dest)
	s.complete(req, from, &sipmsg.ToHeader{Address: toURI, Params: sipmsg.NewParams()}, l.callID, 1, facts.Hops)
	req.AppendHeader(l.contact())
	req.AppendHeader(header("Allow", allow))
	req.AppendHeader(l.sessionHeader())
	req.AppendHeader(header("Content-Type", "application/sdp"))
	req.SetBody(body)
	if facts.AtOnce {
		atOnce(req, host(local.Addr()))
	}
	t.pass(req, facts.Headers)
	for name, v := range to.Headers {
		for req.RemoveHeader(name) {
		}
		req.AppendHeader(header(name, v))
	}
	for q := range t.quirks() {
		if q.Out != nil {
			q.Out(req)
		}
	}
	if t.Reliable == "required" {
		req.AppendHeader(header("Require", "100rel"))
	}
	l.askTimer(req)
	if to.Replaces != "" {
		req.AppendHeader(header("Replaces", to.Replaces))
		req.AppendHeader(header("Require", "replaces"))
	}
	l.invite, l.ours = req, offer
	if !s.add(l) {
		ep.Close()
		return nil, call.ShuttingDown
	}
	l.begin()
	s.tx.Go(l.dial)
	return l, nil
}

// userPart keeps a user part that any PBX reads; others become "anonymous".
func userPart(s string) string {
	if s == "" {
		return "anonymous"
	}
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-_.*#") != "" {
		return "anonymous"
	}
	return s
}

// dial runs the INVITE to its end, doing what a refusal demands on the way.
func (l *Leg) dial() {
	for n := 0; ; n++ {
		res := l.try()
		if res == nil {
			return
		}
		if n == tries || !l.again(res) {
			l.over(refusal(res))
			return
		}
	}
}

// again readies the INVITE that follows a refused one, if the call still wants it.
func (l *Leg) again(res *sipmsg.Response) bool {
	select {
	case <-l.giveUp:
		return false
	default:
	}
	req := l.retried(l.invite, res)
	if req == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.invite = req
	return true
}

// try runs one INVITE transaction: answered, refused, given up or without any
// response (RFC 3261 §13.2, §9.1). It returns a final response that refuses.
func (l *Leg) try() *sipmsg.Response {
	tx, err := l.s.begin(l.s.ctx, l.hop, l.invite)
	if err != nil {
		l.log.Info("the trunk cannot be reached", "address", l.hop.address, "error", err)
		l.hop.health.ignored()
		l.over(call.Cause{Status: 503, Q850: 38, Text: "the trunk cannot be reached"})
		return nil
	}
	refused := false
	defer func() {
		if !refused { // a refusal that comes again is acknowledged by its transaction, a 2xx by its dialog
			tx.Terminate()
		}
	}()
	giveUp := l.giveUp
	provisional, cancelSent := false, false
	var limit <-chan time.Time
	first := time.After(patience)
	for {
		select {
		case <-first:
			// Another way may be quicker. What comes of this one is cancelled or hung up.
			l.hop.health.ignored()
			l.over(noAnswer)
			if giveUp != nil {
				giveUp, limit = nil, time.After(64*timeT1)
			}
		case <-giveUp:
			giveUp = nil
			limit = time.After(64 * timeT1)
			if provisional {
				cancelSent = true
				l.cancel()
			}
		case <-limit:
			return nil
		case <-l.s.ctx.Done():
			return nil
		case <-tx.Done():
			l.hop.health.ignored()
			l.over(noAnswer)
			return nil
		case res := <-tx.Responses():
			first = nil
			if !res.IsProvisional() {
				l.hop.health.answered(res, 0)
			}
			switch {
			case res.IsProvisional():
				provisional = true
				if giveUp == nil && !cancelSent {
					cancelSent = true
					l.cancel()
				}
				l.rings(res)
			case res.IsSuccess():
				l.stands(res)
				return nil
			default:
				refused = true
				return res
			}
		}
	}
}

var noAnswer = call.Cause{Status: 504, Q850: 102, Text: "the trunk does not answer"}

// stands takes the 200: the dialog is confirmed and acknowledged. If the call
// has gone on without it, it is hung up at once.
func (l *Leg) stands(res *sipmsg.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := l.phase != early
	l.remoteTag, _ = res.To().Params.Get("tag")
	if c := res.Contact(); c != nil {
		l.target = c.Address
	}
	l.routes = routeSet(res, true)
	l.network = l.invite.Transport() // by TCP, where the INVITE was too long for UDP
	state := l.state()
	state.CSeq = l.invite.CSeq().SeqNo // a PRACK may have been sent since (RFC 3261 §13.2.2.4)
	l.hears(res)
	l.acknowledge(state, l.invite)
	if late {
		bye := l.request(sipmsg.BYE)
		l.s.tx.Go(func() { l.transact(bye) })
		return
	}
	l.phase = confirmed
	if err := l.settleAnswer(res); err != nil {
		l.end(unmet(err), true)
		return
	}
	l.takeTimer(res)
	l.s.o.Ledger.Open(l.state())
	l.post(call.Event{Answered: true})
}

// settleAnswer takes the description of a 200; one that brings none had its say
// in a provisional response of its dialog (RFC 3262 §5). It needs mu.
func (l *Leg) settleAnswer(res *sipmsg.Response) error {
	body := res.Body()
	if f := l.forks[l.remoteTag]; len(body) == 0 && f != nil {
		body = f.answer
	}
	want, err := l.ep.SetAnswer(body)
	if err == nil {
		l.want = want
	}
	return err
}

// acknowledge sends the ACK of a 2xx to an INVITE of ours, and keeps it for a 2xx that
// comes again. It needs mu.
func (l *Leg) acknowledge(d DialogState, invite *sipmsg.Request) {
	l.ack = vouched(l.named(l.s.inDialog(l.hop, sipmsg.ACK, d)), invite)
	l.s.put(l.ack.Clone())
}

// put sends what has no transaction: an ACK.
func (s *Server) put(ack *sipmsg.Request) {
	if err := s.ua.TransportLayer().WriteMsg(ack); err != nil {
		s.o.Log.Debug("ACK not sent", "error", err)
	}
}

// A transaction of ours that brought a 2xx need not wait for another (RFC 6026 §7.2): it
// would hold all that was said for half a minute, and stray knows as much.
// The timer is sipgo's for all.
var forget = sync.OnceFunc(func() { sipmsg.Timer_M = timeT1 })

// stray takes a response whose transaction is over. A 2xx to an INVITE comes again
// where its ACK was lost; or it is that of another telephone that a proxy rang, too,
// which is hung up (RFC 3261 §13.2.2.4).
func (s *Server) stray(res *sipmsg.Response) {
	seq, id, from, to := res.CSeq(), res.CallID(), res.From(), res.To()
	if !res.IsSuccess() || seq == nil || seq.MethodName != sipmsg.INVITE || id == nil || from == nil || to == nil {
		return
	}
	ours, _ := from.Params.Get("tag")
	s.mu.Lock()
	l := s.legs[key(id.Value(), ours)]
	s.mu.Unlock()
	if l == nil {
		return
	}
	theirs, _ := to.Params.Get("tag")
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ack == nil || l.ack.CSeq().SeqNo != seq.SeqNo:
	case theirs == l.remoteTag:
		s.put(l.ack.Clone())
	case !l.uas && res.Contact() != nil:
		l.decline(res, theirs)
	}
}

// decline acknowledges the 2xx of another end than the one that we talk to, and hangs
// it up. It needs mu.
func (l *Leg) decline(res *sipmsg.Response, tag string) {
	d := l.state()
	d.RemoteTag, d.Target, d.Routes, d.CSeq = tag, res.Contact().Address.String(), nil, l.ack.CSeq().SeqNo
	for _, r := range routeSet(res, true) {
		d.Routes = append(d.Routes, r.String())
	}
	l.s.put(vouched(l.named(l.s.inDialog(l.hop, sipmsg.ACK, d)), l.invite))
	d.CSeq++
	bye := l.named(l.s.inDialog(l.hop, sipmsg.BYE, d))
	l.log.Info("another telephone answered, too, and is hung up")
	l.s.tx.Go(func() { l.transact(bye) })
}

// over takes the end of a call that never stood.
func (l *Leg) over(c call.Cause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == early {
		l.finish(c, true)
	}
}

// cancel sends the CANCEL of the INVITE (RFC 3261 §9.1).
func (l *Leg) cancel() {
	inv := l.invite
	req := sipmsg.NewRequest(sipmsg.CANCEL, inv.Recipient)
	req.AppendHeader(inv.Via().Clone())
	id, mf := *inv.CallID(), sipmsg.MaxForwardsHeader(maxForwards)
	for _, h := range []sipmsg.Header{sipmsg.HeaderClone(inv.From()), sipmsg.HeaderClone(inv.To()), &id, inv.GetHeader("Session-ID"),
		&sipmsg.CSeqHeader{SeqNo: inv.CSeq().SeqNo, MethodName: sipmsg.CANCEL}, &mf} {
		req.AppendHeader(h)
	}
	req.SetBody(nil)
	req.SetTransport(inv.Transport())
	req.SetDestination(inv.Destination())
	req.Laddr = inv.Laddr
	l.s.tx.Go(func() { l.s.exchange(l.s.ctx, l.hop, req) })
}

// refusal turns a final response into the cause the caller hears.
func refusal(res *sipmsg.Response) call.Cause {
	status := res.StatusCode
	switch {
	case status < 400: // a redirection is not followed without a rule that says so
		return call.Cause{Status: 480, Q850: 23, Text: "redirected"}
	case status == 401 || status == 407:
		return call.Cause{Status: 503, Q850: 57, Text: "the trunk does not take our credentials, or has none"}
	}
	q := map[int]int{404: 1, 480: 18, 486: 17, 487: 16, 488: 88, 503: 41, 600: 17, 603: 21, 604: 1}[status]
	if q == 0 {
		q = 31
	}
	return call.Cause{Status: status, Q850: q, Text: reason(status)}
}
