package sip

import (
	"context"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

const (
	// mostDatagram is the longest request that UDP may carry, in bytes
	// (RFC 3261 §18.1.1): a longer one could be cut to pieces, and firewalls drop those.
	mostDatagram = 1300
	// connectLimit is how long a connection may take to stand.
	connectLimit = 4 * time.Second
	// hastyLimit is that of one that UDP could do without.
	hastyLimit = time.Second
	// withoutTCP is for how long a place that took no connection is not asked again.
	withoutTCP = 5 * time.Minute
)

// begin starts a request's client transaction. A request that is too long for UDP
// goes by TCP, unless its destination takes none.
func (s *Server) begin(ctx context.Context, hop *hop, req *sipmsg.Request) (*sipmsg.ClientTx, error) {
	if req.Transport() == "UDP" && time.Now().UnixNano() > hop.noTCP.Load() && len(req.String()) > mostDatagram {
		long := req.Clone()
		long.SetTransport("TCP")
		long.SetDestination(req.Destination())
		long.Laddr = sipmsg.Addr{} // any port of ours will do
		via := long.Via()
		via.Transport = "TCP"
		if local, _ := s.local(hop, "TCP"); local.IsValid() {
			via.Port = int(local.Port())
		}
		soon, cancel := context.WithTimeout(ctx, hastyLimit)
		defer cancel()
		tx, err := s.ua.TransactionLayer().Request(soon, long)
		if err == nil {
			*req = *long // what follows, an ACK or a CANCEL, belongs to it
			return tx, nil
		}
		hop.noTCP.Store(time.Now().Add(withoutTCP).UnixNano())
		s.o.Log.Info("a long request goes by UDP: no TCP there", "trunk", hop.name, "address", hop.address)
	}
	if req.Transport() == "UDP" {
		return s.ua.TransactionLayer().Request(ctx, req)
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	if req.Transport() == "TLS" && req.Destination() == hop.dest { // not by a connection that it made
		conn, err := s.ua.TransportLayer().ClientRequestConnection(ctx, req)
		if err != nil {
			return nil, err
		}
		defer func() { _, _ = conn.TryClose() }() // the transaction holds it from here on
		if err := hop.belongs(conn); err != nil {
			return nil, err
		}
	}
	return s.ua.TransactionLayer().Request(ctx, req)
}

// transportParam names a transport in a URI; UDP needs no naming.
func transportParam(network string) sipmsg.HeaderParams {
	p := sipmsg.NewParams()
	if network != "UDP" {
		p.Add("transport", strings.ToLower(network))
	}
	return p
}
