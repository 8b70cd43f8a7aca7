package media

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Rest is how long a freed pair of ports is left alone, so that no patient
// hears another's late sound.
const Rest = 10 * time.Second

// ErrNoPorts is returned when every pair is in use or resting.
var ErrNoPorts = errors.New("media: no free RTP port")

// Pool hands out pairs of UDP ports, the even one for RTP and the next for RTCP
// (RFC 3550 §11).
type Pool struct {
	loops  *Loops
	lo, hi int
	rest   time.Duration
	own    func() identity // what its endpoints show in DTLS

	mu    sync.Mutex
	free  []int // even ports, longest rested first
	tired []resting
	taken int
}

type resting struct {
	port  int
	until time.Time
}

// NewPool makes a pool of the pairs between two ports, both included.
func NewPool(loops *Loops, lo, hi int, rest time.Duration) (*Pool, error) {
	if lo%2 == 1 {
		lo++
	}
	if lo < 1024 || hi > 65535 || hi <= lo {
		return nil, fmt.Errorf("media: %d-%d is no range of ports", lo, hi)
	}
	p := &Pool{loops: loops, lo: lo, hi: hi, rest: rest, own: sync.OnceValue(newIdentity)}
	for port := lo; port+1 <= hi; port += 2 {
		p.free = append(p.free, port)
	}
	return p, nil
}

// Taken is the number of pairs in use.
func (p *Pool) Taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// listen opens a pair on an address. Ports that another program holds are
// passed over.
func (p *Pool) listen(addr netip.Addr, rtp, rtcp taker) (a, b *socket, err error) {
	for range (p.hi - p.lo) / 2 {
		port, ok := p.take()
		if !ok {
			return nil, nil, ErrNoPorts
		}
		if a, err = p.loops.listenUDP(netip.AddrPortFrom(addr, uint16(port)), onePeer, rtp); err == nil {
			if b, err = p.loops.listenUDP(netip.AddrPortFrom(addr, uint16(port+1)), onePeer, rtcp); err == nil {
				return a, b, nil
			}
			a.Close()
		}
		p.give(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, nil, fmt.Errorf("media: open RTP ports: %w", err)
}

func (p *Pool) take() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := time.Now()
	for len(p.tired) > 0 && !p.tired[0].until.After(t) {
		p.free = append(p.free, p.tired[0].port)
		p.tired = p.tired[1:]
	}
	if len(p.free) == 0 {
		return 0, false
	}
	port := p.free[0]
	p.free = p.free[1:]
	p.taken++
	return port, true
}

func (p *Pool) give(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	p.tired = append(p.tired, resting{port, time.Now().Add(p.rest)})
}
