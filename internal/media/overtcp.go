package media

import (
	"net"
	"net/netip"
	"sync"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

// What one connection may have waiting, in packets to us and in bytes from us: a
// second or two of sound.
const tcpReads, tcpWrites = 128, 256 << 10

// mostTCP bounds the connections that one session may have had.
const mostTCP = 32

// overTCP is where browsers' media comes by TCP (RFC 6544). pion tells the
// connections apart and frames what goes over them (RFC 4571); sound is taken
// between the two.
type overTCP struct {
	*ice.TCPMuxDefault
	browsers *Browsers
	flows    flowTable
	mu       sync.Mutex                  // guards both below
	awaited  map[string]int              // connections that came, by username fragment
	ports    map[netip.AddrPort]*tcpPort // by the peers' ends
}

// OverTCP has browsers reach their media by connections of ln, too: those whose
// network lets no UDP out and needs no relay then. It must be called before the
// first call.
func (b *Browsers) OverTCP(ln net.Listener) {
	b.tcp.TCPMuxDefault = ice.NewTCPMuxDefault(ice.TCPMuxParams{Listener: ln, ReadBufferSize: tcpReads, WriteBufferSize: tcpWrites,
		Logger: b.settings.LoggerFactory.NewLogger("tcp")})
	b.settings.SetICETCPMux(b.tcp)
	b.settings.DisableActiveTCP(true)
	b.settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6})
	// Of our addresses browsers are told those alone that their media is on.
	b.settings.SetIPFilter(func(ip net.IP) bool {
		for _, p := range b.ports {
			if ip.Equal(p.local.Addr().AsSlice()) {
				return true
			}
		}
		return false
	})
}

// Admit reports whether a session of ours has that username fragment and may have
// one more connection.
func (b *Browsers) Admit(ufrag string) bool {
	b.tcp.mu.Lock()
	defer b.tcp.mu.Unlock()
	n, ok := b.tcp.awaited[ufrag]
	if !ok || n == mostTCP {
		return false
	}
	b.tcp.awaited[ufrag] = n + 1
	return true
}

// GetConnByUfrag implements ice.TCPMux.
func (o *overTCP) GetConnByUfrag(ufrag string, isIPv6 bool, local net.IP) (net.PacketConn, error) {
	o.mu.Lock()
	if _, known := o.awaited[ufrag]; !known {
		o.awaited[ufrag] = 0
	}
	o.mu.Unlock()
	c, err := o.TCPMuxDefault.GetConnByUfrag(ufrag, isIPv6, local)
	if err != nil {
		return nil, err
	}
	return &tcpPort{PacketConn: c, all: o}, nil
}

// RemoveConnByUfrag implements ice.TCPMux.
func (o *overTCP) RemoveConnByUfrag(ufrag string) {
	o.mu.Lock()
	delete(o.awaited, ufrag)
	o.mu.Unlock()
	o.TCPMuxDefault.RemoveConnByUfrag(ufrag)
}

// port is the one that a peer's connection came to; nil: there is none.
func (o *overTCP) port(peer netip.AddrPort) *tcpPort {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ports[peer]
}

// tcpPort is one session's connections, as pion reads and writes them.
type tcpPort struct {
	net.PacketConn
	all *overTCP
	buf [Headroom + maxPacket]byte // owned by the goroutine that reads
}

// ReadFrom implements net.PacketConn: sound of a call goes beside pion.
func (p *tcpPort) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := p.PacketConn.ReadFrom(b)
		t, ok := from.(*net.TCPAddr)
		if err != nil || !ok {
			return n, from, err
		}
		peer := netip.AddrPortFrom(t.AddrPort().Addr().Unmap(), t.AddrPort().Port())
		if !isSRTP(b[:n]) {
			p.all.mu.Lock()
			p.all.ports[peer] = p
			p.all.mu.Unlock()
			return n, from, nil
		}
		buf := p.buf[:Headroom+copy(p.buf[Headroom:], b[:n])]
		if s := p.all.flows.find(peer); s != nil {
			s.receive(buf)
			continue
		}
		if !p.all.browsers.stray(p, buf, peer) {
			return n, from, nil
		}
	}
}

// Close implements net.PacketConn.
func (p *tcpPort) Close() error {
	p.all.mu.Lock()
	for peer, of := range p.all.ports {
		if of == p {
			delete(p.all.ports, peer)
		}
	}
	p.all.mu.Unlock()
	return p.PacketConn.Close()
}

// table implements door.
func (p *tcpPort) table() *flowTable { return &p.all.flows }

// writer implements door.
func (p *tcpPort) writer(to netip.AddrPort) writer {
	return tcpWriter{p.PacketConn, net.TCPAddrFromAddrPort(to)}
}

type tcpWriter struct {
	c  net.PacketConn
	to net.Addr
}

// WriteTo implements writer. A line that is too slow loses packets, as any does.
func (w tcpWriter) WriteTo(b []byte, _ netip.AddrPort) error {
	_, err := w.c.WriteTo(b, w.to)
	return err
}
