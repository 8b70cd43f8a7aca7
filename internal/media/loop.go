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
	dscp   int
	all    []*loop
	turn   atomic.Uint32
	wg     sync.WaitGroup
	rounds rounds
	drums  drums
}

// Expedited is the mark of sound for routers (EF, RFC 3246), which RFC 8837 wants of
// browsers, too.
const Expedited = 46

// NewLoops starts a loop for each processor. Their sockets mark what they send with
// dscp (RFC 2474), 0 to 63.
func NewLoops(dscp int) (*Loops, error) {
	l := &Loops{dscp: dscp}
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
// packet: sound waits two milliseconds at most, and the wake-ups, which cost more
// than the packets, are shared. Where a tick's packets themselves take long, it
// ticks faster: no packet waits longer for that.
const (
	tick    = 2 * time.Millisecond
	fast    = time.Millisecond
	span    = 50 * time.Millisecond // over which a loop is judged
	hurried = 50                    // packets in a span: from 1,000 a second on, it ticks
	relaxed = hurried * 7 / 10
	crowded = 1500 // packets in a span: from 30,000 a second on, it ticks fast
)

// loop is one epoll instance. While it has little to do it is itself waited for
// by Go's poller, through a second instance, so that an idle loop holds no
// thread.
type loop struct {
	fd      int // the sockets
	door    int // holds fd and clock while Go's poller watches
	clock   int // a timerfd: time.Sleep would add what the packets of a tick took
	file    *os.File
	wait    syscall.RawConn
	sockets table

	// ---- owned by run ----
	events [batch]unix.EpollEvent
	ready  int
	buf    [Headroom + maxPacket]byte
	taken  int // packets in this span
}

func newLoop() (*loop, error) {
	l := &loop{fd: -1, door: -1, clock: -1}
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("media: epoll: %w", err), l.close())
	}
	return l, nil
}

func (l *loop) open() error {
	var err error
	if l.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if l.clock, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return err
	}
	if l.door, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := unix.SetNonblock(l.door, true); err != nil { // what makes os.NewFile hand it to the poller
		return err
	}
	l.file = os.NewFile(uintptr(l.door), "epoll")
	if l.wait, err = l.file.SyscallConn(); err != nil {
		return err
	}
	return errors.Join(l.watch(unix.EPOLL_CTL_ADD, l.clock), l.watch(unix.EPOLL_CTL_ADD, l.fd))
}

func (l *loop) close() error {
	var err error
	if l.file != nil {
		err = l.file.Close()
		l.door = -1
	}
	for _, fd := range []int{l.door, l.clock, l.fd} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}

// watch puts a descriptor before Go's poller, or takes it away.
func (l *loop) watch(op, fd int) error {
	if err := unix.EpollCtl(l.door, op, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("media: epoll: %w", err)
	}
	return nil
}

// wind has the clock tick, or with 0 stand still.
func (l *loop) wind(every time.Duration) error {
	t := unix.NsecToTimespec(int64(every))
	if err := unix.TimerfdSettime(l.clock, 0, &unix.ItimerSpec{Interval: t, Value: t}, nil); err != nil {
		return fmt.Errorf("media: clock: %w", err)
	}
	return nil
}

// ticked reports whether the clock has ticked since it was last asked.
func (l *loop) ticked(uintptr) bool {
	var n uint64
	got, _, _ := syscall.RawSyscall(unix.SYS_READ, uintptr(l.clock), uintptr(unsafe.Pointer(&n)), unsafe.Sizeof(n))
	return got == unsafe.Sizeof(n)
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
	every := tick
	if l.wind(every) != nil {
		return true // then it is woken for each packet
	}
	defer func() { _ = l.wind(0) }() // a clock that goes on wakes us in vain, no more
	if l.watch(unix.EPOLL_CTL_DEL, l.fd) != nil {
		return true
	}
	for {
		l.taken = 0
		for began := time.Now(); time.Since(began) < span; {
			if l.wait.Read(l.ticked) != nil {
				return false
			}
			for l.look() {
				l.serve()
				if l.ready < batch {
					break // what came meanwhile is the next tick's
				}
			}
		}
		pace := tick
		if l.taken > crowded {
			pace = fast
		}
		if pace != every && l.wind(pace) == nil {
			every = pace
		}
		if l.taken < relaxed {
			return l.watch(unix.EPOLL_CTL_ADD, l.fd) == nil
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
