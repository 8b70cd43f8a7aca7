package sip

import (
	"net/url"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
)

// replaces names a dialog whose place another is to take (RFC 3891 §6.1). The tags
// are as whoever reads it has them: to is its own.
type replaces struct {
	callID, to, from string
	early            bool // only if it has not been answered
}

// parseReplaces reads the header's value; false if it is malformed.
func parseReplaces(v string) (r replaces, ok bool) {
	id, rest, _ := strings.Cut(v, ";")
	r.callID = strings.TrimSpace(id)
	for p := range strings.SplitSeq(rest, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		switch strings.ToLower(name) {
		case "to-tag":
			r.to = value
		case "from-tag":
			r.from = value
		case "early-only":
			r.early = true
		}
	}
	return r, r.callID != "" && r.to != "" && r.from != "" && clean(v) == v && !strings.ContainsAny(v, ",<>")
}

func (r replaces) String() string {
	s := r.callID + ";to-tag=" + r.to + ";from-tag=" + r.from
	if r.early {
		s += ";early-only"
	}
	return s
}

// replaced is the leg that a Replaces header of one of our trunks names; nil if
// it names none of ours.
func (s *Server) replaced(t *trunk, r replaces) *Leg {
	s.mu.Lock()
	l := s.legs[key(r.callID, r.to)]
	s.mu.Unlock()
	if l == nil || l.t != t {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.remoteTag != r.from {
		return nil
	}
	return l
}

// toReplace is the leg whose place an INVITE wants (RFC 3891 §3), nil if it wants
// none; false if it has been refused.
func (s *Server) toReplace(t *trunk, req *sipmsg.Request, tx sipmsg.ServerTransaction) (*Leg, bool) {
	all := req.GetHeaders("Replaces")
	if len(all) == 0 {
		return nil, true
	}
	r, ok := parseReplaces(all[0].Value())
	if !ok || len(all) > 1 {
		s.malformed.Add(1)
		s.reply(req, tx, 400, "One Good Replaces Is Wanted")
		return nil, false
	}
	l := s.replaced(t, r)
	if l == nil {
		s.reply(req, tx, 481, "Call/Transaction Does Not Exist")
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.phase == over:
		s.reply(req, tx, 603, "Decline")
	case l.phase != confirmed: // an early dialog that the other end did not begin (RFC 3891 §3)
		s.reply(req, tx, 481, "Call/Transaction Does Not Exist")
	case r.early:
		s.reply(req, tx, 486, "Busy Here")
	default:
		return l, true
	}
	return nil, false
}

// attended is what a REFER wants whose Refer-To says which dialog the new one
// replaces (RFC 3891, RFC 5589 §7). One of ours stands for what is behind it: the
// far end is asked to replace the dialog that it has with us, or, where it is a
// patient's page, comes over itself. It is nil, with a status, if that cannot be.
func (s *Server) attended(t *trunk, number, escaped string) (*call.Transfer, int) {
	v, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, 400
	}
	r, ok := parseReplaces(v)
	if !ok {
		return nil, 400
	}
	ours := s.replaced(t, r)
	if ours == nil {
		if t.room {
			return nil, 481 // all its calls go through us
		}
		target := t.target(number)
		target.Replaces = r.String()
		return &call.Transfer{Target: target}, 0
	}
	if s.o.Far == nil {
		return nil, 501
	}
	page := s.o.Far(ours)
	far, ok := page.(*Leg)
	if !ok {
		if page == nil {
			return nil, 481
		}
		return &call.Transfer{With: page}, 0
	}
	far.mu.Lock()
	defer far.mu.Unlock()
	if far.phase != confirmed {
		return nil, 481
	}
	to := replaces{callID: far.callID, to: far.remoteTag, from: far.localTag}
	target := far.t.target(parsed(far.remoteURI).User)
	target.Replaces = to.String()
	return &call.Transfer{Target: target}, 0
}

// besides is an INVITE once more without Replaces, where whoever is called knows no
// such thing (RFC 3261 §8.2.2.3): it rings beside the call that it was to take the place
// of, which whoever transfers it hangs up. It is nil where that is not the matter.
func (l *Leg) besides(req *sipmsg.Request, res *sipmsg.Response) *sipmsg.Request {
	if res.StatusCode != 420 || req.GetHeader("Replaces") == nil || !lists(res, "replaces", "Unsupported") {
		return nil
	}
	again := renewed(req, l.nextCSeq)
	again.RemoveHeader("Replaces")
	var left []string
	for _, h := range again.GetHeaders("Require") {
		if !strings.EqualFold(strings.TrimSpace(h.Value()), "replaces") {
			left = append(left, h.Value())
		}
	}
	for again.RemoveHeader("Require") {
		continue
	}
	for _, v := range left {
		again.AppendHeader(header("Require", v))
	}
	return again
}
