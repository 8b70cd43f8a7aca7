package sip

import (
	"slices"
	"strings"
	"sync/atomic"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// reply answers a request that belongs to no leg.
func (s *Server) reply(req *sipmsg.Request, tx sipmsg.ServerTransaction, status int, reason string, headers ...sipmsg.Header) {
	res := sipmsg.NewResponseFromRequest(req, status, reason, nil)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	if err := tx.Respond(res); err != nil {
		s.o.Log.Debug("respond", "status", status, "error", err)
	}
}

// valid makes the checks of RFC 3261 §8.2 that hold for every request; it
// answers those that fail.
func (s *Server) valid(req *sipmsg.Request, tx sipmsg.ServerTransaction) bool {
	if req.CallID() == nil || req.From() == nil || req.To() == nil || req.CSeq() == nil || req.Via() == nil {
		s.malformed.Add(1)
		s.reply(req, tx, 400, "Missing Header")
		return false
	}
	if req.CSeq().MethodName != req.Method {
		s.malformed.Add(1)
		s.reply(req, tx, 400, "CSeq Method Mismatch")
		return false
	}
	if req.Recipient.Scheme != "sip" && req.Recipient.Scheme != "sips" {
		s.reply(req, tx, 416, "Unsupported URI Scheme")
		return false
	}
	// RFC 3261 §8.2.2.3: what is not supported is named back.
	if bad := unsupported(req); bad != "" {
		s.reply(req, tx, 420, "Bad Extension", header("Unsupported", bad))
		return false
	}
	return true
}

// unsupported are the extensions that a request requires and we do not have.
func unsupported(req *sipmsg.Request) string {
	names := slices.DeleteFunc(tokens(req, "Require"), func(n string) bool { return slices.Contains(strings.Split(supported, ", "), strings.ToLower(n)) })
	return strings.Join(names, ", ")
}

func isSDP(m interface {
	ContentType() *sipmsg.ContentTypeHeader
}) bool {
	ct := m.ContentType()
	if ct == nil {
		return false
	}
	media, _, _ := strings.Cut(ct.Value(), ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/sdp")
}

// onInvite blocks until the INVITE's transaction needs it no longer.
func (s *Server) onInvite(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	if !s.valid(req, tx) {
		return
	}
	if _, ok := req.To().Params.Get("tag"); ok {
		l := s.find(req)
		if l == nil {
			s.reply(req, tx, 481, "Call/Transaction Does Not Exist")
			return
		}
		l.reinvite(req, tx)
		return
	}
	t := s.source(req)
	if t == nil {
		return // the filter has let it pass; by now the trunk is gone: silence
	}
	if mf := req.MaxForwards(); mf != nil && mf.Val() == 0 {
		s.reply(req, tx, 483, "Too Many Hops")
		return
	}
	if len(req.Body()) > 0 && !isSDP(req) {
		s.reply(req, tx, 415, "Unsupported Media Type", header("Accept", "application/sdp"))
		return
	}
	if req.Contact() == nil {
		s.malformed.Add(1)
		s.reply(req, tx, 400, "Missing Contact")
		return
	}
	if tooShort(req) {
		s.reply(req, tx, 422, "Session Interval Too Small", minSE())
		return
	}
	old, ok := s.toReplace(t, req, tx)
	if !ok {
		return
	}
	s.reply(req, tx, 100, "Trying")
	l, err := s.incoming(t, req, tx)
	if err != nil {
		c := call.AsCause(err)
		headers := []sipmsg.Header{header("Warning", `399 sipbridge "`+clean(c.Text)+`"`)}
		if c.RetryAfter > 0 {
			headers = append(headers, header("Retry-After", itoa(int(c.RetryAfter.Seconds()))))
		}
		s.reply(req, tx, c.Status, reason(c.Status), headers...)
		return
	}
	// The transaction may last longer than the leg, and keeps nothing of it.
	var ringing atomic.Pointer[Leg]
	ringing.Store(l)
	defer ringing.Store(nil)
	if !tx.OnCancel(func(*sipmsg.Request) {
		if l := ringing.Load(); l != nil {
			l.cancelled()
		}
	}) {
		l.cancelled()
	}
	hops := 0
	if mf := req.MaxForwards(); mf != nil {
		hops = int(min(mf.Val(), 255))
	}
	switch {
	case old == nil:
		s.o.Handle(l, call.Facts{Session: l.session, Hops: hops, Identity: l.identity, AtOnce: answerAtOnce(req), Headers: others(req)})
	case s.o.Replace == nil || !s.o.Replace(l, old):
		l.Hangup(call.Cause{Status: 481, Q850: 101, Text: "the call is over"})
	}
	select {
	case <-l.settled:
	case <-s.ctx.Done():
	}
}

func (s *Server) onAck(req *sipmsg.Request, _ sipmsg.ServerTransaction) {
	if l := s.find(req); l != nil {
		l.acked(req)
	}
}

// leg is the one that a request of its dialog is for (RFC 3261 §12.2.2); nil if
// the request has been refused.
func (s *Server) leg(req *sipmsg.Request, tx sipmsg.ServerTransaction) *Leg {
	if !s.valid(req, tx) {
		return nil
	}
	l := s.find(req)
	if l == nil {
		s.reply(req, tx, 481, "Call/Transaction Does Not Exist")
		return nil
	}
	if !l.inOrder(req) {
		s.reply(req, tx, 500, "Out of Order")
		return nil
	}
	return l
}

func (s *Server) onBye(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	l := s.leg(req, tx)
	if l == nil {
		return
	}
	s.reply(req, tx, 200, "OK")
	l.byed()
}

// onCancel sees only the CANCELs that match no INVITE (RFC 3261 §9.2).
func (s *Server) onCancel(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	s.reply(req, tx, 481, "Call/Transaction Does Not Exist")
}

func (s *Server) onInfo(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	l := s.leg(req, tx)
	if l == nil {
		return
	}
	if len(req.Body()) == 0 {
		s.reply(req, tx, 200, "OK") // RFC 6086 §4.2.2: an empty INFO asks whether we live
		return
	}
	ct := ""
	if h := req.ContentType(); h != nil {
		ct = h.Value()
	}
	digit, length, err := dtmf.ParseInfo(ct, req.Body())
	if err != nil {
		s.reply(req, tx, 415, "Unsupported Media Type", header("Accept", dtmf.RelayType+", "+dtmf.PlainType))
		return
	}
	// Taken before it is answered: the answer lets the peer send the next one.
	l.digit(byInfo, call.Info{Digit: digit, Length: length})
	s.reply(req, tx, 200, "OK")
}

func (s *Server) onOptions(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	if !s.valid(req, tx) {
		return
	}
	if _, ok := req.To().Params.Get("tag"); ok && s.find(req) == nil {
		s.reply(req, tx, 481, "Call/Transaction Does Not Exist")
		return
	}
	s.reply(req, tx, 200, "OK", header("Allow", allow), header("Supported", supported), header("Accept", "application/sdp, "+dtmf.RelayType+", "+dtmf.PlainType))
}

func (s *Server) onOther(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	s.reply(req, tx, 405, "Method Not Allowed", header("Allow", allow))
}

// query is what the policy is asked about an INVITE.
func query(t *trunk, req *sipmsg.Request, id call.Identity) policy.Query {
	from := policy.Address{User: req.From().Address.User, Host: req.From().Address.Host, Display: req.From().DisplayName}
	if id.Asserted.User != "" {
		from = id.Asserted
	}
	trunk := t.name
	if t.room {
		trunk = ""
	}
	return policy.Query{Call: policy.Call{Source: t.source(), Trunk: trunk, From: from,
		To: policy.Address{User: req.Recipient.User, Host: req.Recipient.Host, Display: req.To().DisplayName},
	}}
}

// clean makes text safe for a quoted string.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return ' '
		}
		return r
	}, s)
}

var reasons = map[int]string{
	100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
	408: "Request Timeout", 422: "Session Interval Too Small", 423: "Interval Too Brief", 480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 486: "Busy Here", 501: "Not Implemented",
	487: "Request Terminated", 488: "Not Acceptable Here", 491: "Request Pending", 500: "Server Internal Error",
	503: "Service Unavailable", 504: "Server Time-out", 603: "Decline",
}

func reason(status int) string {
	if r, ok := reasons[status]; ok {
		return r
	}
	return "Refused"
}
