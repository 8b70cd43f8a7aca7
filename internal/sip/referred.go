package sip

import (
	"net/url"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

// refer passes a REFER on: the leg's own peer is asked to call whom the other
// end's names, and what it says of that goes back by NOTIFY. A dialog to be
// replaced is named as the peer knows it.
func (l *Leg) refer(by *Leg, asked *sipmsg.Request, tx sipmsg.ServerTransaction) {
	to, dialog, status, why := referTo(asked)
	if status != 0 {
		l.s.reply(asked, tx, status, why)
		return
	}
	uri := sipmsg.Uri{Scheme: "sip", User: to, Host: l.hop.uri.Host, Port: l.hop.uri.Port}
	if dialog != "" {
		t, status := l.s.attended(by.t, to, dialog)
		if t != nil && t.With != nil {
			t, status = nil, 501 // a page that this end has no dialog with
		}
		if t == nil {
			l.s.reply(asked, tx, status, reason(status))
			return
		}
		uri.User = t.Target.Number
		uri.Headers = sipmsg.NewParams()
		uri.Headers.Add("Replaces", url.QueryEscape(t.Target.Replaces))
	}
	l.mu.Lock()
	if l.phase != confirmed {
		l.mu.Unlock()
		l.s.reply(asked, tx, 491, reason(491))
		return
	}
	l.referrer = by
	req := l.request(sipmsg.REFER)
	req.AppendHeader(l.contact())
	req.AppendHeader(header("Refer-To", "<"+uri.String()+">"))
	req.AppendHeader(header("Referred-By", "<"+l.localURI+">"))
	l.mu.Unlock()
	status = l.transact(req)
	switch {
	case status == 408 || status == 481:
		status = 503 // of the far end's dialog: the referrer's own stands
	case status/100 == 2:
		status = 202
	}
	by.mu.Lock()
	defer by.mu.Unlock()
	by.send(tx, by.response(asked, status, nil))
}

// onNotify takes what a telephone says of a REFER that was passed on to it
// (RFC 3515 §2.4.4), and tells whoever asked.
func (s *Server) onNotify(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	if to := req.To(); to != nil {
		if _, within := to.Params.Get("tag"); !within {
			s.onOther(req, tx)
			return
		}
	}
	l := s.leg(req, tx)
	if l == nil {
		return
	}
	l.mu.Lock()
	by := l.referrer
	l.mu.Unlock()
	event := req.GetHeader("Event")
	if by == nil || event == nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(event.Value())), "refer") {
		s.reply(req, tx, 489, "Bad Event")
		return
	}
	s.reply(req, tx, 200, "OK")
	by.mu.Lock()
	if by.phase != confirmed {
		by.mu.Unlock()
		return
	}
	notice := by.request(sipmsg.NOTIFY)
	notice.AppendHeader(by.contact())
	for _, name := range []string{"Event", "Subscription-State", "Content-Type"} {
		if h := req.GetHeader(name); h != nil {
			v := h.Value()
			if name == "Event" {
				v = "refer" // its id is of our own REFER
			}
			notice.AppendHeader(header(name, v))
		}
	}
	notice.SetBody(req.Body())
	by.mu.Unlock()
	by.s.tx.Go(func() { by.transact(notice) })
}
