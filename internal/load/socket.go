package load

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A sender pays for waking whoever waits for its packet. In a hospital that is a
// network card; here it would be this generator, and the bill the gateway's. So
// patients' sockets wake nobody: they are looked at once a tick, and the kernel
// says when a packet reached them.
const tick = time.Millisecond

// socket is a patient's, one of those that the reader looks at.
type socket struct {
	fd    int
	local netip.AddrPort
	take  func(b []byte, from netip.AddrPort, at time.Time)
}

// reader looks at every patient's socket, one for the process.
type reader struct {
	epoll int

	mu      sync.Mutex // held while a packet is taken
	sockets map[int32]*socket
}

var reading = sync.OnceValues(func() (*reader, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	r := &reader{epoll: fd, sockets: map[int32]*socket{}}
	go r.run() // ends with the process
	return r, nil
})

// listen opens a socket; take is called for each packet, by one goroutine.
func listen(at netip.Addr, take func(b []byte, from netip.AddrPort, at time.Time)) (*socket, error) {
	r, err := reading()
	if err != nil {
		return nil, err
	}
	s := &socket{take: take}
	if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := s.open(r, at); err != nil {
		unix.Close(s.fd)
		return nil, err
	}
	return s, nil
}

func (s *socket) open(r *reader, at netip.Addr) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(s.fd, &unix.SockaddrInet4{Addr: at.As4()}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	got, err := unix.Getsockname(s.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	local, ok := got.(*unix.SockaddrInet4)
	if !ok {
		return fmt.Errorf("a socket of another family: %T", got)
	}
	s.local = netip.AddrPortFrom(netip.AddrFrom4(local.Addr), uint16(local.Port))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	r.sockets[int32(s.fd)] = s
	return nil
}

// shut gives the socket back. A packet may be taken meanwhile, by whoever holds
// what take needs: so it waits for nobody.
func (s *socket) shut() {
	go func() {
		r, _ := reading()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.sockets, int32(s.fd))
		unix.Close(s.fd)
	}()
}

func (r *reader) run() {
	events := make([]unix.EpollEvent, 1024)
	in := newInbox()
	for {
		time.Sleep(tick)
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(r.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		if errno != 0 {
			continue
		}
		r.mu.Lock()
		for _, e := range events[:n] {
			if s := r.sockets[e.Fd]; s != nil {
				for in.receive(s) {
					continue
				}
			}
		}
		r.mu.Unlock()
	}
}

// send sends one packet; it never waits.
func (s *socket) send(b []byte, to netip.AddrPort) error {
	sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().Unmap().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], to.Port())
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return errno
	}
	return nil
}

// inbox is what recvmsg writes into.
type inbox struct {
	buf  [1600]byte
	oob  [64]byte
	from unix.RawSockaddrInet4
	part unix.Iovec
	msg  unix.Msghdr
}

func newInbox() *inbox {
	in := new(inbox)
	in.part.Base = &in.buf[0]
	in.part.SetLen(len(in.buf))
	in.msg.Name = (*byte)(unsafe.Pointer(&in.from))
	in.msg.Iov = &in.part
	in.msg.SetIovlen(1)
	in.msg.Control = &in.oob[0]
	return in
}

// receive takes one packet, and reports whether there was one.
func (in *inbox) receive(s *socket) bool {
	in.msg.Namelen = unix.SizeofSockaddrInet4
	in.msg.SetControllen(len(in.oob))
	n, _, errno := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&in.msg)), 0)
	if errno != 0 {
		return false
	}
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&in.from.Port))[:])
	s.take(in.buf[:n], netip.AddrPortFrom(netip.AddrFrom4(in.from.Addr), port), in.arrival())
	return true
}

// arrival is the kernel's time of a packet; now, if it gave none.
func (in *inbox) arrival() time.Time {
	const head = unix.SizeofCmsghdr
	if in.msg.Controllen < head+16 || binary.NativeEndian.Uint32(in.oob[12:]) != unix.SO_TIMESTAMPNS_NEW {
		return time.Now()
	}
	return time.Unix(int64(binary.NativeEndian.Uint64(in.oob[head:])), int64(binary.NativeEndian.Uint64(in.oob[head+8:])))
}
