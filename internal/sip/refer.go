package sip

import (
	"fmt"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/policy"
)

// notices bounds what a referrer is told of one transfer, lastWord the time in
// which it hears of the end before the dialog is hung up.
const (
	notices  = 8
	lastWord = 2 * time.Second
)

// onRefer takes a transfer (RFC 3515, RFC 5589): the other end of the call is to
// talk to somebody else, who is reached through the referrer's own trunk, so that
// the PBX's rules on who may call whom hold for it, too. Whoever the referrer has
// talked to first is named by the dialog that the new one replaces.
func (s *Server) onRefer(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	// One outside a call would have us call whomever it names.
	l := s.leg(req, tx)
	if l == nil {
		return
	}
	to, dialog, status, why := referTo(req)
	if status != 0 {
		s.reply(req, tx, status, why)
		return
	}
	switch l.t.Refer {
	case "refuse":
		s.reply(req, tx, 603, "Decline")
		return
	case "pass":
		if far, ok := s.o.Far(l).(*Leg); ok {
			far.refer(l, req, tx)
			return
		}
	}
	wish := call.Transfer{Target: l.t.target(to)}
	if l.t.room { // it may go where it may call
		wish.Target = policy.Target{Name: "room", Number: to}
	}
	if dialog != "" {
		t, status := s.attended(l.t, to, dialog)
		if t == nil {
			s.reply(req, tx, status, reason(status))
			return
		}
		wish = *t
	}
	quiet := false
	if h := req.GetHeader("Refer-Sub"); h != nil { // RFC 4488 §4
		quiet = strings.EqualFold(strings.TrimSpace(h.Value()), "false")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase != confirmed && l.phase != answered { // its ACK may be overtaken
		s.reply(req, tx, 481, "Call/Transaction Does Not Exist")
		return
	}
	wish.Target.From = l.callerOf()
	if quiet {
		s.reply(req, tx, 202, "Accepted", header("Refer-Sub", "false"))
		wish.Told = func(int) {}
		l.post(call.Event{Transfer: &wish})
		return
	}
	s.reply(req, tx, 202, "Accepted")
	told, notified := make(chan int, notices), make(chan struct{})
	told <- 100 // RFC 3515 §2.4.4: the subscription begins with a word
	l.notified = notified
	l.s.tx.Go(func() {
		defer close(notified)
		l.notify(fmt.Sprint(req.CSeq().SeqNo), told)
	})
	wish.Told = func(status int) {
		if status >= 200 || len(told) < notices-1 { // the last place is kept for the end
			told <- status
		}
	}
	l.post(call.Event{Transfer: &wish})
}

// referTo is the number that a REFER names and the dialog to be replaced there, ""
// if there is none, or why it cannot be met.
func referTo(req *sipmsg.Request) (number, dialog string, status int, why string) {
	all := req.GetHeaders("Refer-To")
	if len(all) == 0 {
		all = req.GetHeaders("r")
	}
	if len(all) != 1 {
		return "", "", 400, "One Refer-To Is Wanted"
	}
	var u sipmsg.Uri
	params := sipmsg.NewParams()
	if _, err := sipmsg.ParseAddressValue(all[0].Value(), &u, &params); err != nil {
		return "", "", 400, "Malformed Refer-To"
	}
	if u.Scheme != "sip" && u.Scheme != "tel" {
		return "", "", 416, "Unsupported URI Scheme"
	}
	if u.User == "" || userPart(u.User) != u.User {
		return "", "", 484, "Address Incomplete"
	}
	dialog, _ = u.Headers.Get("Replaces")
	return u.User, dialog, 0, ""
}

// callerOf is whom the new target sees calling. It needs mu.
func (l *Leg) callerOf() policy.Address {
	if l.uas {
		return policy.Address{} // the patient was called: nothing is known of a number
	}
	u := parsed(l.localURI)
	return policy.Address{User: u.User, Host: u.Host}
}

// notify tells the referrer what becomes of its wish, in order, until that is
// settled, or the leg is over and nothing is left to tell.
func (l *Leg) notify(id string, told <-chan int) {
	for {
		var status int
		select {
		case status = <-told:
		case <-l.done:
			select {
			case status = <-told:
			default:
				return
			}
		case <-l.s.ctx.Done():
			return
		}
		l.mu.Lock()
		req := l.request(sipmsg.NOTIFY)
		l.mu.Unlock()
		state := "active;expires=180"
		if status >= 200 {
			state = "terminated;reason=noresource"
		}
		req.AppendHeader(l.contact())
		req.AppendHeader(header("Event", "refer;id="+id))
		req.AppendHeader(header("Subscription-State", state))
		req.AppendHeader(header("Content-Type", "message/sipfrag;version=2.0"))
		req.SetBody([]byte(fmt.Sprintf("SIP/2.0 %d %s\r\n", status, reason(status))))
		if got := l.transact(req); got >= 300 {
			l.log.Debug("NOTIFY refused", "status", got)
			return
		}
		if status >= 200 {
			return
		}
	}
}
