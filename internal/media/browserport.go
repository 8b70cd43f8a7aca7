package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// controlQueue bounds the STUN, DTLS and RTCP packets that wait for pion.
const controlQueue = 1024

// browserPort is the browsers' UDP port on one local address. What arrives is
// told apart as RFC 7983 says: sound of a call that goes beside its
// PeerConnection is taken on the goroutine that read it; STUN, DTLS, RTCP and
// the rest are pion's, which reads and writes here as on any socket.
type browserPort struct {
	local   netip.AddrPort
	sockets []*socket // one port; the kernel keeps a peer on one of them
	control chan datagram
	done    chan struct{}
	once    sync.Once
	flows   flowTable
	stray   func(p door, buf []byte, from netip.AddrPort) bool // takes sound from an address that no call has
	dropped atomic.Uint64                                      // control packets that found no place
}

// door is where packets of many browsers come and go, and whose they are.
type door interface {
	table() *flowTable
	writer(to netip.AddrPort) writer
}

// writer sends to a peer.
type writer interface {
	WriteTo(b []byte, to netip.AddrPort) error
}

// table implements door.
func (p *browserPort) table() *flowTable { return &p.flows }

// writer implements door.
func (p *browserPort) writer(to netip.AddrPort) writer { return p.socket(to) }

type datagram struct {
	data []byte
	from netip.AddrPort
}

// listenBrowsers opens the port on one address: a socket for each loop.
func listenBrowsers(loops *Loops, at netip.AddrPort, stray func(door, []byte, netip.AddrPort) bool) (*browserPort, error) {
	p := &browserPort{stray: stray, control: make(chan datagram, controlQueue), done: make(chan struct{})}
	// Alone first: sockets that share a port would also share it, in silence, with
	// another gateway that was started by mistake.
	readers := len(loops.all)
	alone, err := loops.listenUDP(at, manyPeers, p.take)
	if err != nil {
		return nil, err
	}
	p.local = alone.local
	if readers == 1 {
		p.sockets = []*socket{alone}
		return p, nil
	}
	alone.Close()
	for range readers {
		s, err := loops.listenUDP(p.local, manySockets, p.take)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.sockets = append(p.sockets, s)
	}
	return p, nil
}

// take is the packet path in from browsers: no lock, no allocation but for
// control packets.
func (p *browserPort) take(buf []byte, from netip.AddrPort) {
	if isSRTP(buf[Headroom:]) {
		if s := p.flows.find(from); s != nil {
			s.receive(buf)
			return
		}
		if p.stray != nil && p.stray(p, buf, from) {
			return
		}
	}
	select {
	case p.control <- datagram{append([]byte(nil), buf[Headroom:]...), from}:
	default:
		p.dropped.Add(1)
	}
}

// isSRTP tells sound from STUN, DTLS (RFC 7983 §7) and RTCP (RFC 5761 §4).
func isSRTP(b []byte) bool {
	return len(b) >= 12 && b[0] >= 128 && b[0] <= 191 && (b[1] < 192 || b[1] > 223)
}

// socket is the one that a peer is written to by.
func (p *browserPort) socket(to netip.AddrPort) *socket {
	return p.sockets[addressHash(to)%len(p.sockets)]
}

// ReadFromAddrPort is how pion reads what is not sound.
func (p *browserPort) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-p.control:
		return copy(b, d.data), d.from, nil
	case <-p.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

// WriteToAddrPort is how pion writes.
func (p *browserPort) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if err := p.socket(to).WriteTo(b, netip.AddrPortFrom(to.Addr().Unmap(), to.Port())); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ReadFrom implements net.PacketConn.
func (p *browserPort) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.ReadFromAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

// WriteTo implements net.PacketConn.
func (p *browserPort) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("media: %v is no UDP address", to)
	}
	return p.WriteToAddrPort(b, u.AddrPort())
}

// Close closes the port.
func (p *browserPort) Close() error {
	var err error
	p.once.Do(func() {
		close(p.done)
		for _, s := range p.sockets {
			err = errors.Join(err, s.Close())
		}
	})
	return err
}

// LocalAddr implements net.PacketConn.
func (p *browserPort) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.local) }

// SetDeadline implements net.PacketConn; pion sets none.
func (p *browserPort) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.PacketConn.
func (p *browserPort) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.PacketConn.
func (p *browserPort) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// flowBuckets is a few times the calls that one machine carries.
const flowBuckets = 4096

// flowTable finds a call by where its packets come from. It is read without a
// lock: a bucket is never changed, only replaced.
type flowTable struct {
	mu      sync.Mutex // one writer at a time
	buckets [flowBuckets]atomic.Pointer[[]flow]
}

type flow struct {
	from netip.AddrPort
	to   *sound
}

func addressHash(a netip.AddrPort) int {
	b := a.Addr().As16()
	h := uint32(a.Port()) * 2654435761
	for i := 8; i < 16; i++ {
		h = (h ^ uint32(b[i])) * 16777619
	}
	return int(h >> 8)
}

func (t *flowTable) find(from netip.AddrPort) *sound {
	bucket := t.buckets[addressHash(from)%flowBuckets].Load()
	if bucket == nil {
		return nil
	}
	for i := range *bucket {
		if (*bucket)[i].from == from {
			return (*bucket)[i].to
		}
	}
	return nil
}

// put gives an address to a call, from whoever had it.
func (t *flowTable) put(from netip.AddrPort, to *sound) {
	t.replace(from, nil, to)
}

// drop takes an address from a call, if the call still has it.
func (t *flowTable) drop(from netip.AddrPort, of *sound) {
	t.replace(from, of, nil)
}

// replace sets an address's call; with of, only if the call is that one.
func (t *flowTable) replace(from netip.AddrPort, of, to *sound) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &t.buckets[addressHash(from)%flowBuckets]
	var now []flow
	if old := b.Load(); old != nil {
		for _, f := range *old {
			if f.from != from || of != nil && f.to != of {
				now = append(now, f)
			}
		}
	}
	if to != nil {
		now = append(now, flow{from, to})
	}
	if len(now) == 0 {
		b.Store(nil)
		return
	}
	b.Store(&now)
}
