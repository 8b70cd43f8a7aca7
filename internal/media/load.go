package media

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sipbridge/sipbridge/internal/transcode"
)

// strain is how hard the process works, as its rounds see it. Sound suffers
// before the last of the processor is spent: from full on, no more calls are
// taken.
type strain struct {
	busy   atomic.Uint64 // share of the processors in use, 1/1000
	late   atomic.Int64  // ns by which a timer was missed
	since  atomic.Int64  // ns since the processors are full without a pause, as of the last measure; 0: they are not
	effort atomic.Int32  // what encoders may spend

	// ---- owned by measure ----
	spent, at time.Duration
}

const (
	// full is the share of the processors in use from which sound may suffer.
	full = 0.85
	// sustained is how long they must be: the garbage collector takes what is left
	// of them for half a second at a time, and gives way to whoever wants it.
	sustained = time.Second
	// tooLate is how late a timer may be before it does.
	tooLate = 40 * time.Millisecond
	// memory is the weight of one measure against all before it: a second or so.
	memory = 0.2
)

// measure is called a few times a second, by a timer that was as late as it says.
func (s *strain) measure(at, missed time.Duration) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return
	}
	spent := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	if s.at > 0 && at > s.at {
		share := float64(spent-s.spent) / float64(at-s.at) / float64(runtime.GOMAXPROCS(0))
		before := float64(s.busy.Load()) / 1000
		s.busy.Store(uint64((before + (share-before)*memory) * 1000))
		if s.Busy() > full {
			s.since.Add(int64(at - s.at))
		} else {
			s.since.Store(0)
		}
	}
	s.spent, s.at = spent, at
	s.effort.Store(int32(affordable(s.Busy(), int(s.effort.Load()))))
	late := time.Duration(s.late.Load())
	s.late.Store(int64(late + time.Duration(float64(max(missed, 0)-late)*memory)))
}

// Busy is the share of the processors in use over the last second or so, 0 to 1.
func (s *strain) Busy() float64 { return float64(s.busy.Load()) / 1000 }

// Busy is the share of the processors in use over the last second or so, 0 to 1.
func (l *Loops) Busy() float64 { return l.rounds.strain.Busy() }

// Effort is what encoders may spend, 1 to transcode.OpusComplexity.
func (l *Loops) Effort() int { return int(l.rounds.strain.effort.Load()) }

// affordable is the effort for a share of the processors in use: less from half
// of them on, the least before calls are refused, and back only when there is
// room to spare.
func affordable(busy float64, now int) int {
	for _, step := range []struct {
		from   float64
		effort int
	}{{0.75, 1}, {0.5, 3}} {
		if busy > step.from || now <= step.effort && busy > step.from-0.1 {
			return step.effort
		}
	}
	return transcode.OpusComplexity
}

// Full reports whether one more call could cost others their sound.
func (l *Loops) Full() bool {
	return time.Duration(l.rounds.strain.since.Load()) > sustained || time.Duration(l.rounds.strain.late.Load()) > tooLate
}
