package sip

import (
	"math/rand/v2"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
)

// soon is the longest Retry-After, in seconds, for an offer that comes between
// another and its answer (RFC 3311 §5.2).
const soon = 10

// onUpdate takes a change of the session that needs no ACK (RFC 3311), or a mere
// sign of life.
func (s *Server) onUpdate(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	l := s.leg(req, tx)
	if l == nil {
		return
	}
	if tooShort(req) {
		s.reply(req, tx, 422, "Session Interval Too Small", minSE())
		return
	}
	offers := len(req.Body()) > 0
	l.mu.Lock()
	switch {
	case l.phase == over:
		l.mu.Unlock()
		s.reply(req, tx, 481, "Call/Transaction Does Not Exist")
		return
	case offers && (l.phase == early || l.phase == answered && l.delayed): // its ACK may be overtaken
		l.mu.Unlock()
		s.reply(req, tx, 500, "Another Offer Has No Answer Yet", header("Retry-After", itoa(rand.IntN(soon+1))))
		return
	case offers && l.busy:
		l.mu.Unlock()
		s.reply(req, tx, 491, "Request Pending")
		return
	}
	if c := req.Contact(); c != nil {
		l.target = c.Address // target refresh (RFC 3311 §5.2)
	}
	var body []byte
	if offers {
		l.busy = true
		l.mu.Unlock()
		var err error
		body, err = l.consider(req)
		l.mu.Lock()
		l.busy = false
		if err != nil {
			l.rollBack()
			l.send(tx, l.response(req, max(call.AsCause(err).Status, 400), nil))
			l.mu.Unlock()
			return
		}
	}
	defer l.mu.Unlock()
	res := l.response(req, 200, body)
	l.grantTimer(req, res)
	l.s.o.Ledger.Open(l.state())
	l.send(tx, res)
}

func minSE() sipmsg.Header { return header("Min-SE", itoa(int(shortest.Seconds()))) }
