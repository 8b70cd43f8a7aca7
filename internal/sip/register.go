package sip

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

const (
	// The waits between attempts to register that fail (RFC 5626 §4.5).
	enrolFirst = 5 * time.Second
	enrolMost  = 10 * time.Minute
	// leaving bounds how long we take our leave of a registrar.
	leaving = time.Second
)

// enrolment is our registration with a trunk's address.
type enrolment struct {
	mu     sync.Mutex
	until  time.Time // we are registered; zero: we are not
	status int       // of the last refusal; 0: no answer
	routes []sipmsg.Uri
}

// route is what the registrar wants requests to go through (Service-Route, RFC 3608).
func (e *enrolment) route() []sipmsg.Uri {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.routes
}

// Registered is how a registration of ours stands when all is well.
const Registered = "registered"

// enrolled says how our registration with an address stands; "": none is to be.
func (h *hop) enrolled() string {
	if h.Register <= 0 {
		return ""
	}
	e := &h.enrolment
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case time.Now().Before(e.until):
		return Registered
	case e.status == 0 || e.status == 408:
		return "no answer"
	}
	return "refused with " + itoa(e.status)
}

// enrol keeps us registered with a trunk's address.
func (s *Server) enrol(h *hop) {
	callID, tag := randomHex(16), randomHex(8)
	cseq := uint32(0)
	next := func() uint32 { cseq++; return cseq }
	ask, wait := h.Register, enrolFirst
	for {
		granted, least, after := s.enlist(s.ctx, h, callID, tag, next, ask)
		switch {
		case granted > 0:
			wait = enrolFirst
			// Before it is over, and not all of many gateways at once.
			if !s.sleep(h, granted*8/10-rand.N(granted/10+1)) {
				s.leave(h, callID, tag, next)
				return
			}
			continue
		case least > ask: // 423
			ask = least
			continue
		}
		pause := max(after, wait/2+rand.N(wait/2))
		wait = min(2*wait, enrolMost)
		if !s.sleep(h, pause) {
			return
		}
	}
}

// sleep waits; false if the way is none any more.
func (s *Server) sleep(h *hop, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.gone:
	case <-s.closing:
	}
	return false
}

// leave takes our leave of a registrar.
func (s *Server) leave(h *hop, callID, tag string, next func() uint32) {
	ctx, cancel := context.WithTimeout(s.ctx, leaving)
	defer cancel()
	s.enlist(ctx, h, callID, tag, next, 0)
}

// enlist sends one REGISTER, answering challenges, and returns what was granted,
// the least that would be, and how long to stay away.
func (s *Server) enlist(ctx context.Context, h *hop, callID, tag string, next func() uint32, ask time.Duration) (granted, least, after time.Duration) {
	local, _ := s.local(h, h.net)
	registrar := sipmsg.Uri{Scheme: h.uri.Scheme, Host: h.uri.Host, Port: h.uri.Port}
	req := sipmsg.NewRequest(sipmsg.REGISTER, registrar)
	s.address(h, req, h.uri, h.net)
	req.SetDestination(h.dest)
	us := sipmsg.Uri{Scheme: h.uri.Scheme, User: h.Username, Host: h.uri.Host}
	from := &sipmsg.FromHeader{Params: sipmsg.NewParams(), Address: us}
	from.Params.Add("tag", tag)
	s.complete(req, from, &sipmsg.ToHeader{Address: us, Params: sipmsg.NewParams()}, callID, next(), maxForwards)
	contact := sipmsg.Uri{Scheme: h.uri.Scheme, User: h.Username, Host: host(local.Addr()), Port: int(local.Port()), UriParams: transportParam(h.net)}
	req.AppendHeader(&sipmsg.ContactHeader{Address: contact})
	req.AppendHeader(header("Expires", itoa(int(ask.Seconds()))))
	req.AppendHeader(header("Supported", "path"))
	req.AppendHeader(header("Allow", allow))
	res, status := s.settledExchange(ctx, h, req, next)
	e := &h.enrolment
	e.mu.Lock()
	defer e.mu.Unlock()
	before := !e.until.IsZero()
	switch {
	case res != nil && status/100 == 2:
		granted = ask
		if d, _, ok := seconds(res, "", "Expires"); ok {
			granted = d
		}
		for _, c := range res.GetHeaders("Contact") {
			if c, ok := c.(*sipmsg.ContactHeader); ok && c.Address.User == contact.User && c.Address.Host == contact.Host && c.Address.Port == contact.Port {
				if v, ok := c.Params.Get("expires"); ok {
					if d, _, ok := seconds(values{v}, "", ""); ok {
						granted = d
					}
				}
			}
		}
		e.routes = nil
		for _, r := range tokens(res, "Service-Route") {
			if u := parsed(strings.Trim(r, "<>")); u.Host != "" {
				e.routes = append(e.routes, u)
			}
		}
		if ask == 0 {
			granted = 0
		}
	case status == 423:
		least, _, _ = seconds(res, "", "Min-Expires")
		least = min(least, 24*time.Hour)
	default:
		if res != nil {
			after = retryAfter(res)
		}
	}
	e.status, e.until = status, time.Time{}
	if granted > 0 {
		e.status, e.until = 0, time.Now().Add(granted)
	}
	if now := granted > 0; now != before && ask > 0 && least == 0 {
		s.o.Log.Info("registration", "trunk", h.name, "address", h.address, "registered", now, "status", status)
	}
	return granted, least, after
}
