package sip

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// forks bounds the early dialogs of one INVITE that are kept apart.
const forks = 8

// fork is an early dialog of an INVITE of ours (RFC 3261 §12.1): a proxy may have
// rung several telephones.
type fork struct {
	rseq   uint32 // of the last reliable response (RFC 3262 §4); 0: none
	answer []byte // its SDP
}

// fork is the early dialog of a response; nil if there are too many. It needs mu.
func (l *Leg) fork(res *sipmsg.Response) *fork {
	tag, _ := res.To().Params.Get("tag")
	f := l.forks[tag]
	if f == nil && len(l.forks) < forks {
		if l.forks == nil {
			l.forks = map[string]*fork{}
		}
		f = new(fork)
		l.forks[tag] = f
	}
	return f
}

// rings takes a provisional response: it is acknowledged if it asks for that, and
// its sound, if it brings any, is the call's until another one rings.
func (l *Leg) rings(res *sipmsg.Response) {
	if res.StatusCode == 100 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fork(res)
	if l.phase != early || f == nil {
		return
	}
	l.hears(res)
	if lists(res, "100rel", "Require") && !l.pracked(res, f) {
		return
	}
	e := call.Event{Ringing: res.StatusCode}
	if body := res.Body(); len(body) > 0 && isSDP(res) && l.t.EarlyMedia && !bytes.Equal(body, f.answer) {
		want, err := l.ep.SetAnswer(body)
		if err != nil {
			l.log.Info("sound before the answer not taken", "error", err)
		} else {
			f.answer, l.want, e.Sound = body, want, true
		}
	}
	l.post(e)
}

// pracked acknowledges a reliable response, and reports whether it is new (RFC
// 3262 §4). It needs mu.
func (l *Leg) pracked(res *sipmsg.Response, f *fork) bool {
	all := tokens(res, "RSeq")
	if len(all) == 0 {
		return false
	}
	n, err := strconv.ParseUint(all[0], 10, 32)
	if err != nil || n == 0 || f.rseq != 0 && uint32(n) != f.rseq+1 {
		return false // again, or out of turn: it comes once more
	}
	f.rseq = uint32(n)
	d := l.state()
	d.RemoteTag, _ = res.To().Params.Get("tag")
	if c := res.Contact(); c != nil {
		d.Target = c.Address.String()
	}
	d.Routes = nil
	for _, r := range routeSet(res, true) {
		d.Routes = append(d.Routes, r.String())
	}
	l.cseq++
	d.CSeq = l.cseq
	req := l.named(l.s.inDialog(l.hop, sipmsg.PRACK, d))
	req.AppendHeader(header("RAck", all[0]+" "+itoa(int(l.invite.CSeq().SeqNo))+" INVITE"))
	l.s.tx.Go(func() {
		if status := l.transact(req); status >= 300 {
			l.log.Debug("PRACK refused", "status", status)
		}
	})
	return true
}

// provisional is a reliable response of ours that waits for its PRACK.
type provisional struct {
	res   *sipmsg.Response
	rseq  uint32
	offer bool          // its SDP is an offer, which the PRACK answers
	heard chan struct{} // closed by the PRACK
}

// Progress implements call.Leg: 180, or 183 with the sound that the far end sends
// before it answers.
func (l *Leg) Progress(status int, far *sdp.Session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.uas || l.phase != early {
		return nil
	}
	if !l.t.EarlyMedia {
		far = nil
	}
	must, can := lists(l.invite, "100rel", "Require"), lists(l.invite, "100rel", "Supported", "k")
	var body []byte
	var err error
	offers := false
	switch {
	case l.described != nil: // the caller has a description and must get no other
		far = nil
	case l.delayed && must && len(l.reliable) == 0:
		// RFC 3261 §13.2.1: the first reliable message brings the offer.
		if far == nil {
			far = &sdp.Session{}
		}
		body, err = l.ep.Offer(l.s.ctx, *far)
		offers = true
		l.ours, l.described = *far, []byte{} // the PRACK answers: nothing is left for the 200
	case l.delayed:
		far = nil
	case far != nil:
		body, err = l.ep.Answer(l.s.ctx, *far)
		l.ours, l.described = *far, body
	}
	if err != nil {
		return err
	}
	if far == nil {
		status = 180
	}
	res := l.response(l.invite, status, body)
	if !must && (!can || body == nil) {
		return l.tx.Respond(res)
	}
	l.insist(res, offers)
	return nil
}

// insist sends a response that the caller must acknowledge, after those before
// it (RFC 3262 §3). It needs mu.
func (l *Leg) insist(res *sipmsg.Response, offers bool) {
	if l.rseq == 0 {
		l.rseq = rand.Uint32N(1 << 30)
	}
	l.rseq++
	res.AppendHeader(header("Require", "100rel"))
	res.AppendHeader(header("RSeq", strconv.FormatUint(uint64(l.rseq), 10)))
	p := &provisional{res: res, rseq: l.rseq, offer: offers, heard: make(chan struct{})}
	l.reliable = append(l.reliable, p)
	if len(l.reliable) == 1 {
		l.s.tx.Go(l.insistAll)
	}
}

// insistAll sends what waits, one after the other, each until it is acknowledged.
func (l *Leg) insistAll() {
	for {
		l.mu.Lock()
		if len(l.reliable) == 0 || l.phase == over {
			l.mu.Unlock()
			return
		}
		p := l.reliable[0]
		l.mu.Unlock()
		heard := l.repeat(p)
		l.mu.Lock()
		if heard {
			l.reliable = l.reliable[1:]
		} else {
			l.unpracked()
		}
		l.mu.Unlock()
	}
}

// unpracked gives up on a caller that acknowledges nothing (RFC 3262 §3). It needs
// mu.
func (l *Leg) unpracked() {
	for _, p := range l.reliable {
		select {
		case <-p.heard:
		default:
			close(p.heard)
		}
	}
	l.reliable = nil
	if l.phase == early {
		l.end(call.Cause{Status: 504, Q850: 102, Text: "a reliable response was never acknowledged"}, true)
	}
}

// repeat sends a response until its PRACK comes; false if it never does.
func (l *Leg) repeat(p *provisional) bool {
	limit := time.NewTimer(64 * timeT1)
	defer limit.Stop()
	for wait := timeT1; ; wait *= 2 {
		l.send(l.tx, p.res)
		select {
		case <-p.heard:
			return true
		case <-time.After(wait):
		case <-limit.C:
			return false
		case <-l.done:
			return false
		case <-l.s.ctx.Done():
			return false
		}
	}
}

// unheard is closed when no response with a description waits for its PRACK any
// more: no 2xx goes before (RFC 3262 §3). It needs mu.
func (l *Leg) unheard() <-chan struct{} {
	for _, p := range l.reliable {
		if len(p.res.Body()) > 0 {
			return p.heard
		}
	}
	none := make(chan struct{})
	close(none)
	return none
}

// onPrack takes the acknowledgement of a provisional response (RFC 3262 §3).
func (s *Server) onPrack(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	l := s.leg(req, tx)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.acknowledgedBy(req)
	switch {
	case p == nil:
		s.reply(req, tx, 481, "No Such Response")
		return
	case p.offer:
		want, err := l.ep.SetAnswer(req.Body())
		if err != nil {
			l.send(tx, l.response(req, 488, nil))
			close(p.heard)
			l.end(unmet(err), true)
			return
		}
		l.want, l.delayed = want, false
	case len(req.Body()) > 0: // an offer: the INVITE's own has just been answered
		l.send(tx, l.response(req, 488, nil))
		close(p.heard)
		return
	}
	close(p.heard)
	l.send(tx, l.response(req, 200, nil))
}

// acknowledgedBy is the response that a PRACK is for; nil if there is none. It
// needs mu.
func (l *Leg) acknowledgedBy(req *sipmsg.Request) *provisional {
	h := req.GetHeader("RAck")
	if h == nil || len(l.reliable) == 0 {
		return nil
	}
	p := l.reliable[0]
	f := strings.Fields(h.Value())
	if len(f) != 3 || f[0] != strconv.FormatUint(uint64(p.rseq), 10) || f[1] != itoa(int(l.invite.CSeq().SeqNo)) || f[2] != "INVITE" {
		return nil
	}
	select {
	case <-p.heard:
		return nil // twice
	default:
	}
	return p
}
