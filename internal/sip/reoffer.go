package sip

import (
	"errors"
	"math/rand/v2"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// Offer implements call.Leg: a re-INVITE with the directions wanted (RFC 3261
// §14.1). Of several that wait only the last is sent.
func (l *Leg) Offer(want sdp.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == over {
		return
	}
	waiting := l.wanted != nil
	l.wanted = &want
	if !waiting && !l.offering {
		l.offering = true
		l.s.tx.Go(l.reoffer)
	}
}

// reoffer sends what is wanted until nothing is.
func (l *Leg) reoffer() {
	for {
		l.mu.Lock()
		want := l.wanted
		if want == nil || l.phase == over {
			l.offering = false
			l.mu.Unlock()
			return
		}
		if l.phase != confirmed || l.busy { // the peer's own offer goes first
			l.mu.Unlock()
			if !l.rest(call491(l.uas)) {
				return
			}
			continue
		}
		l.wanted, l.busy = nil, true
		l.mu.Unlock()
		status := l.propose(*want)
		l.mu.Lock()
		l.busy = false
		again := status == 491 && l.wanted == nil
		if again {
			l.wanted = want
		}
		if status == 481 || status == 408 { // RFC 3261 §12.2.1.2: there is no dialog any more
			l.end(call.Cause{Status: status, Q850: 102, Text: "the peer does not know the dialog"}, true)
		}
		l.mu.Unlock()
		if again && !l.rest(call491(l.uas)) {
			return
		}
	}
}

// call491 is how long to wait after both offered at once; whoever began the
// dialog waits longer (RFC 3261 §14.1).
func call491(uas bool) time.Duration {
	if uas {
		return time.Duration(rand.IntN(200)) * 10 * time.Millisecond
	}
	return 2100*time.Millisecond + time.Duration(rand.IntN(190))*10*time.Millisecond
}

// rest waits; false if the leg is over meanwhile.
func (l *Leg) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
	case <-l.s.ctx.Done():
	}
	return false
}

// propose sends one re-INVITE and returns the final status: 408 if none came, 503
// if it could not be made. A refusal leaves the session as it was.
func (l *Leg) propose(want sdp.Session) int {
	l.mu.Lock()
	if l.phase != confirmed {
		l.mu.Unlock()
		return 503
	}
	body, err := l.ep.Offer(l.s.ctx, want)
	if err != nil {
		l.mu.Unlock()
		l.log.Warn("re-INVITE not made", "error", err)
		return 503
	}
	req := l.request(sipmsg.INVITE)
	seq := l.cseq
	req.AppendHeader(l.contact())
	req.AppendHeader(header("Allow", allow))
	req.AppendHeader(header("Content-Type", "application/sdp"))
	req.SetBody(body)
	l.askTimer(req)
	l.mu.Unlock()
	res := l.await(req)
	for n := 0; n < tries; n++ {
		again := l.retried(req, res)
		if again == nil {
			break
		}
		req, seq = again, again.CSeq().SeqNo
		res = l.await(req)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case res == nil:
		l.rollBack()
		return 408
	case !res.IsSuccess():
		l.rollBack()
		return res.StatusCode
	}
	if c := res.Contact(); c != nil {
		l.target = c.Address // target refresh (RFC 3261 §12.2.1.2)
	}
	state := l.state()
	state.CSeq = seq
	l.acknowledge(state, req)
	if answer, err := l.ep.SetAnswer(res.Body()); err == nil {
		l.want, l.ours = answer, want
		l.takeTimer(res)
		l.s.o.Ledger.Open(l.state())
	} else {
		l.log.Info("answer to a re-INVITE refused", "error", err)
		l.rollBack()
	}
	return res.StatusCode
}

// await runs an INVITE's client transaction to its final response, nil if none
// came.
func (l *Leg) await(req *sipmsg.Request) *sipmsg.Response {
	tx, err := l.s.begin(l.s.ctx, l.hop, req)
	if err != nil {
		l.log.Debug("re-INVITE not sent", "error", err)
		return nil
	}
	for {
		select {
		case res := <-tx.Responses():
			if res.IsSuccess() {
				tx.Terminate() // should it come again, it is known by its dialog
			}
			if !res.IsProvisional() {
				return res
			}
		case <-tx.Done():
			return nil
		case <-l.s.ctx.Done():
			tx.Terminate()
			return nil
		}
	}
}

// unmet is how a call ends whose answer cannot be taken.
func unmet(err error) call.Cause {
	if errors.Is(err, media.ErrNotSecured) {
		return call.NotSecured
	}
	return call.NotAcceptable
}
