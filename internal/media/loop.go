package media

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sipbridge/sipbridge/internal/transcode"
)

// Loops read every media socket of the process: one goroutine a processor
// instead of one a socket, so that a wake-up serves all packets that are there.
type Loops struct {
	all    []*loop
	turn   atomic.Uint32
	wg     sync.WaitGroup
	rounds rounds
	drums  drums
}

// NewLoops starts a loop for each processor.
func NewLoops() (*Loops, error) {
	l := new(Loops)
	for range runtime.GOMAXPROCS(0) {
		one, err := newLoop()
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.all = append(l.all, one)
		l.wg.Go(one.run)
		d := newDrum()
		l.drums.all = append(l.drums.all, d)
		l.wg.Go(d.run)
	}
	l.rounds.over = make(chan struct{})
	l.rounds.strain.effort.Store(transcode.OpusComplexity)
	l.wg.Go(l.rounds.run)
	return l, nil
}

// Close ends the loops; their sockets must have been closed before.
func (l *Loops) Close() error {
	var err error
	for _, d := range l.drums.all {
		close(d.over)
	}
	if l.rounds.over != nil {
		close(l.rounds.over)
	}
	for _, one := range l.all {
		one.over.Store(true)
		err = errors.Join(err, one.file.SetReadDeadline(time.Unix(1, 0)))
	}
	l.wg.Wait()
	for _, one := range l.all {
		err = errors.Join(err, one.close())
	}
	return err
}

func (l *Loops) next() *loop { return l.all[int(l.turn.Add(1))%len(l.all)] }

// batch is how many sockets one look at the kernel may find ready.
const batch = 128

// A loop that has much to do looks once a tick instead of being woken for each
// packet: sound waits a millisecond at most, and the wake-ups, which cost more
// than the packets, are shared.
const (
	tick    = time.Millisecond
	span    = 50 * tick // over which a loop is judged
	hurried = 100       // packets in a span: from 2,000 a second on, it ticks
	relaxed = hurried * 7 / 10
)

// loop is one epoll instance. While it has little to do it is itself waited for
// by Go's poller, through a second instance, so that an idle loop holds no
// thread.
type loop struct {
	fd      int // the sockets
	door    int // holds fd while Go's poller watches
	file    *os.File
	wait    syscall.RawConn
	sockets table
	over    atomic.Bool

	// ---- owned by run ----
	events [batch]unix.EpollEvent
	ready  int
	buf    [Headroom + maxPacket]byte
	taken  int // packets in this span
}

func newLoop() (*loop, error) {
	l := new(loop)
	var err error
	if l.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("media: epoll: %w", err)
	}
	if l.door, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("media: epoll: %w", err), unix.Close(l.fd))
	}
	if err := unix.SetNonblock(l.door, true); err != nil { // what makes os.NewFile hand it to the poller
		return nil, errors.Join(fmt.Errorf("media: epoll: %w", err), unix.Close(l.fd), unix.Close(l.door))
	}
	l.file = os.NewFile(uintptr(l.door), "epoll")
	if l.wait, err = l.file.SyscallConn(); err == nil {
		err = l.watch(unix.EPOLL_CTL_ADD)
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *loop) close() error { return errors.Join(l.file.Close(), unix.Close(l.fd)) }

// watch puts the sockets before Go's poller, or takes them away.
func (l *loop) watch(op int) error {
	if err := unix.EpollCtl(l.door, op, l.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.fd)}); err != nil {
		return fmt.Errorf("media: epoll: %w", err)
	}
	return nil
}

// run reads until the loop is over.
func (l *loop) run() {
	look := func(uintptr) bool { return l.look() }
	began := time.Now()
	for l.wait.Read(look) == nil {
		for l.ready > 0 {
			l.serve()
			runtime.Gosched() // a loop that is never idle lets the others have their turn
			l.look()
		}
		if t := time.Now(); t.Sub(began) > span {
			began, l.taken = t, 0
		}
		if l.taken > hurried {
			if !l.hurry() {
				return
			}
			began, l.taken = time.Now(), 0
		}
	}
}

// hurry looks once a tick for as long as there is much to do; false if the loop
// is over.
func (l *loop) hurry() bool {
	if l.watch(unix.EPOLL_CTL_DEL) != nil {
		return true // then it is woken for each packet
	}
	for {
		l.taken = 0
		for began := time.Now(); time.Since(began) < span; {
			if l.over.Load() {
				return false
			}
			time.Sleep(tick)
			for l.look() {
				l.serve()
				if l.ready < batch {
					break // what came meanwhile is the next tick's
				}
			}
		}
		if l.taken < relaxed {
			return l.watch(unix.EPOLL_CTL_ADD) == nil
		}
	}
}

// serve takes a packet from each socket that has one; from one that many peers
// share, all there are.
func (l *loop) serve() {
	for i := range l.ready {
		s := l.sockets.get(int(l.events[i].Fd))
		if s == nil {
			continue
		}
		for left := s.most; left > 0 && s.receive(l.buf[:]); left-- {
			l.taken++
		}
	}
}

// look asks the kernel which sockets have packets, and whether any has.
func (l *loop) look() bool {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])), batch, 0, 0, 0)
	l.ready = 0
	if errno == 0 {
		l.ready = int(n)
	}
	return l.ready > 0
}

func (l *loop) add(s *socket) error {
	l.sockets.set(s.fd, s)
	// Level-triggered: one packet a turn for each socket, and none is forgotten.
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}); err != nil {
		l.sockets.set(s.fd, nil)
		return fmt.Errorf("media: epoll: %w", err)
	}
	return nil
}

// remove is called before the descriptor is closed, which takes it out of the
// epoll set.
func (l *loop) remove(s *socket) { l.sockets.set(s.fd, nil) }

// table finds a socket by its descriptor, without a lock.
type table struct {
	mu     sync.Mutex // one grows it at a time
	chunks [4096]atomic.Pointer[chunk]
}

type chunk [256]atomic.Pointer[socket]

func (t *table) get(fd int) *socket {
	c := t.chunks[fd>>8&4095].Load()
	if c == nil {
		return nil
	}
	return c[fd&255].Load()
}

func (t *table) set(fd int, s *socket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := &t.chunks[fd>>8&4095]
	c := at.Load()
	if c == nil {
		c = new(chunk)
		at.Store(c)
	}
	c[fd&255].Store(s)
}
