package sip

import (
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
)

const (
	// shortest is the shortest session that we agree to (RFC 4028 §5).
	shortest = 90 * time.Second
	// shortestOfAll bounds how often one that was set by the peer alone is refreshed.
	shortestOfAll = 2 * time.Second
	// lastChance is how long before its end a session is given up that the other end
	// should have refreshed (RFC 4028 §10).
	lastChance = 32 * time.Second
	// retryRefresh is the least time between two tries to refresh.
	retryRefresh = 2 * time.Second
)

// timer is what both ends agreed on: the session is over unless it is refreshed
// in time (RFC 4028).
type timer struct {
	expires time.Duration
	ours    bool      // we refresh it
	end     time.Time // when it is given up
	alarm   *time.Timer
}

// expiry reads Session-Expires.
func expiry(m message) (expires time.Duration, refresher string, ok bool) {
	return seconds(m, "refresher", "Session-Expires", "x")
}

func knowsTimers(m message) bool { return lists(m, "timer", "Supported", "k", "Require") }

// tooShort reports whether a request asks for a shorter session than we take. One
// that a proxy asked for on behalf of a peer that knows no timers cannot be
// refused (RFC 4028 §9).
func tooShort(req *sipmsg.Request) bool {
	expires, _, ok := expiry(req)
	return ok && expires < shortest && knowsTimers(req)
}

// askTimer asks for the timer in an INVITE or UPDATE of ours: the trunk's in the
// first, what was agreed in the others. It needs mu.
func (l *Leg) askTimer(req *sipmsg.Request) {
	expires, refresher := l.t.SessionExpires, ""
	if l.phase != early {
		expires = 0
	}
	if l.timer != nil {
		expires, refresher = l.timer.expires, ";refresher=uas"
		if l.timer.ours {
			refresher = ";refresher=uac"
		}
	}
	req.AppendHeader(header("Supported", l.t.supports()))
	if expires > 0 {
		expires = max(expires, l.least)
		req.AppendHeader(header("Session-Expires", itoa(int(expires/time.Second))+refresher))
		req.AppendHeader(header("Min-SE", itoa(int(max(l.least, shortest)/time.Second))))
	}
}

// prolonged is a request once more, with the longer session that its 422 asks for
// (RFC 4028 §7.3); nil if there is nothing to change.
func (l *Leg) prolonged(req *sipmsg.Request, res *sipmsg.Response) *sipmsg.Request {
	if res == nil || res.StatusCode != 422 {
		return nil
	}
	least, _, ok := seconds(res, "", "Min-SE")
	asked, _, _ := expiry(req)
	if !ok || least <= asked {
		return nil
	}
	again := renewed(req, l.nextCSeq)
	again.RemoveHeader("Session-Expires")
	again.RemoveHeader("Min-SE")
	again.RemoveHeader("Supported")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.least = least
	if l.timer != nil {
		l.timer.expires = max(l.timer.expires, least)
	}
	l.askTimer(again)
	return again
}

// grantTimer answers what an INVITE or UPDATE of the peer says of the timer, in
// the 2xx to it (RFC 4028 §9). It needs mu.
func (l *Leg) grantTimer(req *sipmsg.Request, res *sipmsg.Response) {
	l.heed(req)
	expires, refresher, asked := expiry(req)
	knows := knowsTimers(req)
	switch {
	case !asked && knows:
		expires, refresher = l.t.SessionExpires, "uac"
		if l.timer != nil {
			expires = l.timer.expires
		}
	case asked && knows && refresher == "":
		refresher = "uac" // who asks for it can tell best that it still wants it
	case asked && !knows:
		refresher = "uas"
	}
	if expires < shortest {
		l.setTimer(0, false)
		return
	}
	res.AppendHeader(header("Supported", supported))
	res.AppendHeader(header("Session-Expires", itoa(int(expires/time.Second))+";refresher="+refresher))
	if refresher == "uac" {
		res.AppendHeader(header("Require", "timer"))
	}
	l.setTimer(expires, refresher == "uas")
}

// takeTimer takes what the 2xx to an INVITE or UPDATE of ours says of the timer
// (RFC 4028 §7.2). It needs mu.
func (l *Leg) takeTimer(res *sipmsg.Response) {
	l.heed(res)
	expires, refresher, ok := expiry(res)
	if !ok {
		l.setTimer(0, false)
		return
	}
	l.setTimer(max(expires, shortestOfAll), refresher != "uas")
}

// heed learns whether the peer takes UPDATE. It needs mu.
func (l *Leg) heed(m message) {
	if allowed := tokens(m, "Allow"); len(allowed) > 0 {
		l.updates = lists(m, "UPDATE", "Allow")
	}
}

// setTimer begins the timer anew; 0 ends it. It needs mu.
func (l *Leg) setTimer(expires time.Duration, ours bool) {
	if l.timer != nil {
		l.timer.alarm.Stop()
		l.timer = nil
	}
	if expires == 0 || l.phase == over {
		return
	}
	t := &timer{expires: expires, ours: ours, end: time.Now().Add(expires - min(lastChance, expires/3))}
	wait := time.Until(t.end)
	if ours {
		wait = expires / 2
	}
	t.alarm = time.AfterFunc(wait, func() { l.s.tx.Go(func() { l.alarmed(t) }) })
	l.timer = t
}

// alarmed refreshes the session, or ends it.
func (l *Leg) alarmed(t *timer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := time.Until(t.end)
	switch {
	case l.timer != t || l.phase == over:
		return
	case left <= 0:
		l.end(call.Cause{Status: 408, Q850: 102, Text: "the session was not refreshed"}, true)
		return
	}
	t.alarm.Reset(min(max(left/2, retryRefresh), left)) // should this try come to nothing
	if l.phase != confirmed || l.busy {
		return
	}
	if !l.updates {
		want := l.ours
		l.wanted = &want
		if !l.offering {
			l.offering = true
			l.s.tx.Go(l.reoffer)
		}
		return
	}
	req := l.request(sipmsg.UPDATE)
	req.AppendHeader(l.contact())
	l.askTimer(req)
	l.s.tx.Go(func() { l.refresh(req) })
}

// refresh sends an UPDATE without an offer (RFC 4028 §7.4).
func (l *Leg) refresh(req *sipmsg.Request) {
	var res *sipmsg.Response
	for n := 0; ; n++ {
		var status int
		res, status = l.s.exchange(l.s.ctx, l.hop, req)
		if req = l.retried(req, res); req == nil || n == tries {
			l.refreshed(res, status)
			return
		}
	}
}

func (l *Leg) refreshed(res *sipmsg.Response, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.phase != confirmed:
	case status < 300:
		if c := res.Contact(); c != nil {
			l.target = c.Address
		}
		l.takeTimer(res)
		l.s.o.Ledger.Open(l.state())
	case status == 405 || status == 501:
		l.updates = false
	case status == 408 || status == 481: // RFC 4028 §10
		l.end(call.Cause{Status: status, Q850: 102, Text: "the peer does not know the dialog"}, true)
	}
}
