package edge

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/pion/turn/v5"
)

var (
	errNoRelayPort = errors.New("edge: every relay port is taken")
	errNoTCP       = errors.New("edge: TCP is not relayed")
)

// portTries is how often a free port is looked for.
const portTries = 50

// lender opens relay addresses.
type lender struct{ r *Relay }

// Validate implements turn.RelayAddressGenerator.
func (lender) Validate() error { return nil }

// AllocatePacketConn implements turn.RelayAddressGenerator.
func (l lender) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	lo, hi := l.r.o.Ports[0], l.r.o.Ports[1]
	if (c.Network == "udp6") != l.r.o.Listen.Is6() || c.RequestedPort != 0 {
		return nil, nil, errNoRelayPort
	}
	for range portTries {
		port := uint16(lo + rand.IntN(hi-lo+1))
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.r.o.Listen, port)))
		if err == nil {
			return &lentConn{conn, l.r, l.r.engines(c.UserID)}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.r.address(), port)), nil
		}
	}
	return nil, nil, errNoRelayPort
}

// AllocateListener implements turn.RelayAddressGenerator.
func (lender) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNoTCP
}

// AllocateConn implements turn.RelayAddressGenerator.
func (lender) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) { return nil, errNoTCP }

// engines is the visit of a user that is an engine; nil: it is a page.
func (r *Relay) engines(user string) *visit {
	name, engine := whose(user)
	if !engine {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.visit(name)
}

// lentConn is a relay address. Packets go to our media and to other relay
// addresses alone, and come from there alone: its port lies on our own machine,
// and others there believe what comes from it. An engine's reaches its patient,
// too.
type lentConn struct {
	*net.UDPConn
	r     *Relay
	visit *visit // of an engine; nil: a page has it
}

// inward is where a packet to an address goes; false: nowhere.
func (c *lentConn) inward(to netip.AddrPort) (netip.AddrPort, bool) {
	if at, ok := c.r.o.Own[to]; ok {
		return at, true
	}
	if c.visit != nil && c.visit.reaches(to.Addr()) {
		return to, true
	}
	lo, hi := c.r.o.Ports[0], c.r.o.Ports[1]
	return netip.AddrPortFrom(c.r.o.Listen, to.Port()), to.Addr() == c.r.address() && int(to.Port()) >= lo && int(to.Port()) <= hi
}

// outward is as whom a packet's sender is known; false: to nobody.
func (c *lentConn) outward(from netip.AddrPort) (netip.AddrPort, bool) {
	for told, at := range c.r.o.Own {
		if at == from {
			return told, true
		}
	}
	if c.visit != nil && c.visit.reaches(from.Addr()) {
		return from, true
	}
	as := netip.AddrPortFrom(c.r.address(), from.Port())
	_, ok := c.inward(as)
	return as, ok && from.Addr() == c.r.o.Listen
}

// WriteTo implements net.PacketConn.
func (c *lentConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if u, ok := to.(*net.UDPAddr); ok {
		a := u.AddrPort()
		if at, ok := c.inward(netip.AddrPortFrom(a.Addr().Unmap(), a.Port())); ok {
			return c.WriteToUDPAddrPort(b, at)
		}
	}
	c.r.Dropped.Add(1)
	return len(b), nil
}

// ReadFrom implements net.PacketConn.
func (c *lentConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return 0, nil, err
		}
		if as, ok := c.outward(netip.AddrPortFrom(from.Addr().Unmap(), from.Port())); ok {
			return n, net.UDPAddrFromAddrPort(as), nil
		}
		c.r.Dropped.Add(1)
	}
}
