package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a socket may queue each way, in bytes: of one peer, and of many.
const (
	oneBuffer  = 256 << 10
	manyBuffer = 4 << 20
)

// taker is what a socket's packets are for. buf has Headroom bytes before the
// packet; it is the loop's, and valid during the call. It must not wait.
type taker func(buf []byte, from netip.AddrPort)

// socket is a UDP socket that a loop reads. Its calls to the kernel never wait,
// so the scheduler is not told of them: half of what a packet costs through the
// net package is that telling (docs/performance.md).
type socket struct {
	fd    int
	local netip.AddrPort
	loop  *loop
	take  taker
	most  int // packets to take in one turn

	// Users of the descriptor, and whether it is to be closed: the last one out
	// closes it, so that nobody reads or writes what another file was given.
	state    atomic.Int64
	released atomic.Bool
}

const closing = 1 << 32

// sharing says how many peers and how many sockets an address has.
type sharing uint8

const (
	onePeer     sharing = iota
	manyPeers           // one socket for all of them
	manySockets         // several, too; the kernel keeps a peer on one of them
)

// turn is how many packets a socket of many peers may have taken before it is
// another's turn.
const turn = 256

// listenUDP opens a socket on an address and has a loop read it.
func (l *Loops) listenUDP(at netip.AddrPort, of sharing, take taker) (*socket, error) {
	s := &socket{take: take, most: 1}
	if of != onePeer {
		s.most = turn
	}
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("media: socket: %w", err)
	}
	s.fd = fd
	if err := errors.Join(s.mark(family, l.dscp), s.bind(at, of)); err != nil {
		return nil, errors.Join(fmt.Errorf("media: listen on %v: %w", at, err), unix.Close(fd))
	}
	s.loop = l.next()
	if err := s.loop.add(s); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return s, nil
}

// mark has routers know what is sent.
func (s *socket) mark(family, dscp int) error {
	if family == unix.AF_INET6 {
		return unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, dscp<<2)
	}
	return unix.SetsockoptInt(s.fd, unix.IPPROTO_IP, unix.IP_TOS, dscp<<2)
}

func (s *socket) bind(at netip.AddrPort, of sharing) error {
	if of == manySockets {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
	}
	size := oneBuffer
	if of != onePeer {
		size = manyBuffer
	}
	for _, o := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o, size); err != nil {
			return err
		}
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: as4(at.Addr())}
	if at.Addr().Is6() {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	if err := unix.Bind(s.fd, sa); err != nil {
		return err
	}
	got, err := unix.Getsockname(s.fd)
	if err != nil {
		return err
	}
	switch got := got.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrPortFrom(netip.AddrFrom4(got.Addr), uint16(got.Port))
	case *unix.SockaddrInet6:
		s.local = netip.AddrPortFrom(netip.AddrFrom16(got.Addr), uint16(got.Port))
	}
	return nil
}

func as4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}

// enter takes the descriptor for a moment; false if it is closed.
func (s *socket) enter() bool {
	if s.state.Add(1) >= closing {
		s.leave()
		return false
	}
	return true
}

func (s *socket) leave() {
	if s.state.Add(-1) == closing {
		s.release()
	}
}

// Close closes the socket; what it was to take is taken no more once Close and
// the loop's present packet are over.
func (s *socket) Close() error {
	for {
		n := s.state.Load()
		if n >= closing {
			return net.ErrClosed
		}
		if s.state.CompareAndSwap(n, n|closing) {
			if n == 0 {
				s.release()
			}
			break
		}
	}
	for s.state.Load() > closing {
		runtime.Gosched() // a packet's time at most
	}
	return nil
}

// release gives the descriptor back, once: whoever comes late leaves last, too.
func (s *socket) release() {
	if !s.released.CompareAndSwap(false, true) {
		return
	}
	s.loop.remove(s)
	if err := unix.Close(s.fd); err != nil {
		panic(err) // a descriptor of ours that is not ours: nothing is safe any more
	}
}

// WriteTo sends one packet. No lock, no allocation; it never waits: what the
// kernel has no room for is lost, as in any queue.
func (s *socket) WriteTo(b []byte, to netip.AddrPort) error {
	if len(b) == 0 {
		return nil
	}
	if !s.enter() {
		return net.ErrClosed
	}
	defer s.leave()
	var errno syscall.Errno
	if to.Addr().Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], to.Port())
		_, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	} else {
		sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.Addr().As16()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], to.Port())
		_, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// receive takes one packet, and reports whether there was one. Only the
// socket's loop calls it.
func (s *socket) receive(buf []byte) bool {
	if !s.enter() {
		return false
	}
	defer s.leave()
	var sa unix.RawSockaddrInet6 // the larger of the two
	size := uint32(unsafe.Sizeof(sa))
	b := buf[Headroom:]
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return false // nothing there, or the ICMP error of a peer that is gone
	}
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	from := netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port)
	if sa.Family == unix.AF_INET {
		from = netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&sa)).Addr), port)
	}
	s.take(buf[:Headroom+int(n)], from)
	return true
}
