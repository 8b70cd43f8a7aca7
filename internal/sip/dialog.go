package sip

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

func itoa(n int) string { return strconv.Itoa(n) }

func host(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// request builds the next request of the dialog (RFC 3261 §12.2.1.1). It needs mu.
func (l *Leg) request(m sipmsg.RequestMethod) *sipmsg.Request {
	l.cseq++
	return l.named(l.s.inDialog(l.hop, m, l.state()))
}

// state is the dialog as it stands. It needs mu.
func (l *Leg) state() DialogState {
	d := DialogState{CallID: l.callID, LocalTag: l.localTag, RemoteTag: l.remoteTag, LocalURI: l.localURI, RemoteURI: l.remoteURI,
		Target: l.target.String(), CSeq: l.cseq, Trunk: l.t.name, Network: l.network}
	switch {
	case len(l.routes) > 0:
	case l.uas && (l.network != "UDP" || l.t.room):
		d.Connection = l.invite.Source()
	case l.t.room: // its Contact may lie behind a NAT
		d.Connection = l.hop.dest
	}
	for _, r := range l.routes {
		d.Routes = append(d.Routes, r.String())
	}
	return d
}

// inDialog builds a request from a dialog's state, so that one left in the
// ledger is ended by the same code that ends one of our own.
func (s *Server) inDialog(hop *hop, m sipmsg.RequestMethod, d DialogState) *sipmsg.Request {
	target := parsed(d.Target)
	req := sipmsg.NewRequest(m, target)
	next := target
	for i, r := range d.Routes {
		u := parsed(r)
		if i == 0 {
			next = u // loose routing (RFC 3261 §16.12); strict routers are history
		}
		req.AppendHeader(&sipmsg.RouteHeader{Address: u})
	}
	s.address(hop, req, next, d.Network)
	if d.Connection != "" {
		req.SetDestination(d.Connection)
	}
	from := &sipmsg.FromHeader{Address: parsed(d.LocalURI), Params: sipmsg.NewParams()}
	from.Params.Add("tag", d.LocalTag)
	to := &sipmsg.ToHeader{Address: parsed(d.RemoteURI), Params: sipmsg.NewParams()}
	if d.RemoteTag != "" {
		to.Params.Add("tag", d.RemoteTag)
	}
	s.complete(req, from, to, d.CallID, d.CSeq, maxForwards)
	return req
}

// parsed reads back a URI that was printed by us. One that a torn ledger holds
// comes back empty, and the request to it cannot be sent.
func parsed(s string) sipmsg.Uri {
	var u sipmsg.Uri
	if err := sipmsg.ParseUri(s, &u); err != nil {
		return sipmsg.Uri{}
	}
	return u
}

const maxForwards = 70

// complete adds the headers that every request carries (RFC 3261 §8.1.1).
func (s *Server) complete(req *sipmsg.Request, from *sipmsg.FromHeader, to *sipmsg.ToHeader, callID string, cseq uint32, hops int) {
	id := sipmsg.CallIDHeader(callID)
	mf := sipmsg.MaxForwardsHeader(hops)
	for _, h := range []sipmsg.Header{from, to, &id, &sipmsg.CSeqHeader{SeqNo: cseq, MethodName: req.Method}, &mf, header("User-Agent", "sipbridge")} {
		req.AppendHeader(h)
	}
	req.SetBody(nil)
}

// address sets where a request goes and the Via it comes back by. A next hop
// that names no transport is reached by network: RFC 3261 §18.1.1 would say UDP,
// but a telephone that called over TCP wants its BYE there.
func (s *Server) address(hop *hop, req *sipmsg.Request, next sipmsg.Uri, network string) {
	if v, ok := next.UriParams.Get("transport"); ok && v != "" {
		network = strings.ToUpper(v)
	}
	if network != "TCP" && network != "TLS" {
		network = "UDP"
	}
	port := next.Port
	if port == 0 {
		port = defaultPort(network)
	}
	req.SetTransport(network)
	req.SetDestination(net.JoinHostPort(strings.Trim(next.Host, "[]"), itoa(port)))
	local, k := s.local(hop, network)
	if k != nil && network == "UDP" {
		a := k.Addr
		req.Laddr = sipmsg.Addr{IP: net.IP(a.Addr().AsSlice()), Port: int(a.Port())}
	}
	via := &sipmsg.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: network, Host: host(local.Addr()), Port: int(local.Port()),
		Params: sipmsg.NewParams()}
	via.Params.Add("branch", sipmsg.GenerateBranch())
	via.Params.Add("rport", "")
	req.PrependHeader(via)
}

// transact runs a non-INVITE transaction to its end, answering a challenge on the
// way, and returns the final status: 408 if none came, 503 if the request could
// not be sent. next numbers the requests that follow.
func (s *Server) transact(hop *hop, req *sipmsg.Request, next func() uint32) int {
	_, status := s.settledExchange(s.ctx, hop, req, next)
	return status
}

// settledExchange does so and returns the final response, too; nil if none came.
func (s *Server) settledExchange(ctx context.Context, hop *hop, req *sipmsg.Request, next func() uint32) (*sipmsg.Response, int) {
	for n := 0; ; n++ {
		res, status := s.exchange(ctx, hop, req)
		if n == tries {
			return res, status
		}
		if req = hop.authorized(req, res, next); req == nil {
			return res, status
		}
	}
}

// exchange runs one non-INVITE transaction.
func (s *Server) exchange(ctx context.Context, hop *hop, req *sipmsg.Request) (*sipmsg.Response, int) {
	ctx, cancel := context.WithTimeout(ctx, 64*timeT1)
	defer cancel()
	tx, err := s.begin(ctx, hop, req)
	if err != nil {
		s.o.Log.Debug("request not sent", "method", req.Method, "error", err)
		return nil, 503
	}
	defer tx.Terminate()
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return res, res.StatusCode
			}
		case <-tx.Done():
			return nil, 408
		case <-ctx.Done():
			return nil, 408
		}
	}
}

// Bury says BYE in a dialog that a gateway before this one left behind. It
// returns when the peer has answered, or never will.
func (s *Server) Bury(d DialogState) {
	t := s.trunks[d.Trunk]
	if t == nil {
		return
	}
	hop := t.by(d.Connection)
	if hop == nil {
		return // it is nowhere now
	}
	d.CSeq += 100 // beyond whatever was sent after the state was written
	bye := s.inDialog(hop, sipmsg.BYE, d)
	bye.AppendHeader(header("Reason", `SIP;cause=503;text="the gateway was restarted"`))
	status := s.transact(hop, bye, func() uint32 { d.CSeq++; return d.CSeq })
	s.o.Log.Info("dialog of an earlier run ended", "trunk", d.Trunk, "status", status)
	s.o.Ledger.Close(d.CallID, d.LocalTag)
}

// deliver sends a 2xx and repeats it until its ACK comes (RFC 3261 §13.3.1.4).
// It returns nil if none came in 64*T1.
func (l *Leg) deliver(tx sipmsg.ServerTransaction, res *sipmsg.Response) *sipmsg.Request {
	l.send(tx, res)
	wait := timeT1
	resend := time.NewTimer(wait)
	defer resend.Stop()
	limit := time.NewTimer(64 * timeT1)
	defer limit.Stop()
	for {
		select {
		case ack := <-l.acks:
			return ack
		case ack := <-tx.Acks():
			return ack // an ACK with the INVITE's own branch, as old telephones send it
		case <-resend.C:
			l.send(tx, res)
			wait = min(2*wait, timeT2)
			resend.Reset(wait)
		case <-limit.C:
			return nil
		case <-l.done:
			return nil
		case <-l.s.ctx.Done():
			return nil
		}
	}
}

func (l *Leg) send(tx sipmsg.ServerTransaction, res *sipmsg.Response) {
	if err := tx.Respond(res); err != nil {
		l.log.Debug("response not sent", "status", res.StatusCode, "error", err)
	}
}

// acked takes an ACK for a 2xx.
func (l *Leg) acked(req *sipmsg.Request) {
	l.mu.Lock()
	expected := req.CSeq() != nil && req.CSeq().SeqNo == l.ackOf
	l.mu.Unlock()
	if !expected {
		return
	}
	select {
	case l.acks <- req:
	default:
	}
}

// routeSet reads the Record-Route headers of a message in the order given, or
// reversed as a UAC must (RFC 3261 §12.1).
func routeSet(m message, reverse bool) []sipmsg.Uri {
	var out []sipmsg.Uri
	for _, h := range m.GetHeaders("Record-Route") {
		if rr, ok := h.(*sipmsg.RecordRouteHeader); ok {
			out = append(out, rr.Address)
		}
	}
	if reverse {
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}
