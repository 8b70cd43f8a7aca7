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
)

// Loops read every media socket of the process: one goroutine a processor
// instead of one a socket, so that a wake-up serves all packets that are there.
type Loops struct {
	all  []*loop
	turn atomic.Uint32
	wg   sync.WaitGroup
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
	}
	return l, nil
}

// Close ends the loops; their sockets must have been closed before.
func (l *Loops) Close() error {
	var err error
	for _, one := range l.all {
		err = errors.Join(err, one.file.SetReadDeadline(time.Unix(1, 0)))
	}
	l.wg.Wait()
	for _, one := range l.all {
		err = errors.Join(err, one.file.Close())
	}
	return err
}

func (l *Loops) next() *loop { return l.all[int(l.turn.Add(1))%len(l.all)] }

// batch is how many sockets one look at the kernel may find ready.
const batch = 128

// loop is one epoll instance. It is itself waited for by Go's poller, so that an
// idle loop holds no thread.
type loop struct {
	fd      int
	file    *os.File
	wait    syscall.RawConn
	sockets table

	// ---- owned by run ----
	events [batch]unix.EpollEvent
	ready  int
	buf    [Headroom + maxPacket]byte
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("media: epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // what makes os.NewFile hand it to the poller
		return nil, errors.Join(fmt.Errorf("media: epoll: %w", err), unix.Close(fd))
	}
	l := &loop{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if l.wait, err = l.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("media: epoll: %w", err), l.file.Close())
	}
	return l, nil
}

// run reads until Close.
func (l *loop) run() {
	look := func(uintptr) bool { return l.look() }
	for l.wait.Read(look) == nil {
		for l.ready > 0 {
			for i := range l.ready {
				if s := l.sockets.get(int(l.events[i].Fd)); s != nil {
					s.receive(l.buf[:])
				}
			}
			runtime.Gosched() // a loop that is never idle lets the others have their turn
			l.look()
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
