package main

import (
	"container/heap"
	"encoding/binary"
	"log"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// order is what a way is to do to the frames on it.
type order struct {
	Way       string  // "ab", "ba"; "": both
	Delay     float64 // ms
	Jitter    float64 // ms; what comes on top of the delay, exponentially distributed with this mean
	Loss      float64 // share of frames, 0 to 1
	Burst     float64 // mean length of a loss, frames; 1: independent of one another
	Reorder   float64 // share that arrives 25 ms later than its turn
	Duplicate float64 // share that arrives twice
	Rate      float64 // kbit/s; 0: unlimited. A second's worth waits, more is lost
	Seed      uint64  // the same seed loses the same packets of every flow
	All       bool    // every frame suffers; else RTP alone, and the rest is only delayed
}

// late is what a reordered frame waits.
const late = 25 * time.Millisecond

// counts say what happened to the frames that could suffer.
type counts struct{ Frames, Lost, Reordered, Duplicated, Overflowed int }

// flow is one direction between two sockets: its losses are its own, so that
// flows side by side suffer alike.
type flow struct {
	dice *rand.Rand
	bad  bool
}

// way is one direction.
type way struct {
	to   int
	wake chan struct{}

	mu      sync.Mutex // guards all below
	order   order
	dice    *rand.Rand
	flows   map[[12]byte]*flow
	counts  counts
	last    time.Time // when the last frame in order is due
	free    time.Time // when the rate allows another
	waiting queue
	n       int
}

func newWay(to int) *way {
	w := &way{to: to, wake: make(chan struct{}, 1)}
	w.obey(order{})
	return w
}

// obey takes a new order, and returns what happened under the old one.
func (w *way) obey(o order) counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.counts
	w.order, w.counts, w.flows = o, counts{}, map[[12]byte]*flow{}
	w.dice = rand.New(rand.NewPCG(o.Seed, 1))
	return was
}

// carry takes frames in.
func (w *way) carry(from int) {
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(from, buf)
		if err == unix.EINTR || err == unix.ENETDOWN {
			continue
		}
		if err != nil {
			log.Fatal("read: ", err)
		}
		w.take(append([]byte(nil), buf[:n]...), time.Now())
	}
}

// vnet is the size of the kernel's word before a frame (struct virtio_net_hdr).
const vnet = 10

func (w *way) take(frame []byte, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &w.order
	key, sound := rtp(frame[vnet:])
	due := at.Add(ms(o.Delay))
	copies := 1
	if suffers := sound || o.All; suffers {
		w.counts.Frames++
		if w.lost(key) {
			w.counts.Lost++
			return
		}
		due = due.Add(ms(o.Jitter * w.dice.ExpFloat64()))
		if w.dice.Float64() < o.Duplicate {
			w.counts.Duplicated++
			copies = 2
		}
		if w.dice.Float64() < o.Reorder {
			w.counts.Reordered++
			w.push(due.Add(late), frame, copies)
			return
		}
	}
	if o.Rate > 0 {
		if w.free.Before(at) {
			w.free = at
		}
		if w.free.Sub(at) > time.Second {
			w.counts.Overflowed++
			return
		}
		w.free = w.free.Add(time.Duration(float64(len(frame)-vnet) * 8 / o.Rate * float64(time.Millisecond)))
		if t := w.free.Add(ms(o.Delay)); t.After(due) {
			due = t
		}
	}
	if due.Before(w.last) {
		due = w.last // jitter alone keeps the order
	}
	w.last = due
	w.push(due, frame, copies)
}

// lost draws once a packet of the flow (Gilbert's model: a bad state loses all).
func (w *way) lost(key [12]byte) bool {
	o := &w.order
	if o.Loss <= 0 {
		return false
	}
	f := w.flows[key]
	if f == nil {
		f = &flow{dice: rand.New(rand.NewPCG(o.Seed, 0))}
		w.flows[key] = f
	}
	draw := f.dice.Float64()
	switch {
	case o.Burst <= 1:
		f.bad = draw < o.Loss
	case f.bad:
		f.bad = draw >= 1/o.Burst
	default:
		f.bad = draw < o.Loss/(o.Burst*(1-o.Loss))
	}
	return f.bad
}

func (w *way) push(due time.Time, frame []byte, copies int) {
	for range copies {
		w.n++
		heap.Push(&w.waiting, item{due, w.n, frame})
	}
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// deliver sends what is due.
func (w *way) deliver() {
	timer := time.NewTimer(time.Hour)
	for {
		w.mu.Lock()
		rest := time.Hour
		for len(w.waiting) > 0 {
			if rest = time.Until(w.waiting[0].due); rest > 0 {
				break
			}
			frame := heap.Pop(&w.waiting).(item).frame
			w.mu.Unlock()
			if _, err := unix.Write(w.to, frame); err != nil && err != unix.ENOBUFS && err != unix.ENETDOWN {
				log.Print("write: ", err)
			}
			w.mu.Lock()
			rest = time.Hour
		}
		w.mu.Unlock()
		timer.Reset(rest)
		select {
		case <-timer.C:
		case <-w.wake:
		}
	}
}

func ms(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }

// rtp reports whether an Ethernet frame is IPv4, UDP and RTP (RFC 7983), and
// between whom.
func rtp(f []byte) (key [12]byte, ok bool) {
	if len(f) < 34 || binary.BigEndian.Uint16(f[12:]) != 0x0800 || f[23] != unix.IPPROTO_UDP {
		return key, false
	}
	udp := 14 + int(f[14]&15)*4
	if len(f) < udp+8+12 {
		return key, false
	}
	copy(key[:], f[26:34])
	copy(key[8:], f[udp:udp+4])
	first, second := f[udp+8], f[udp+9]
	return key, first >= 128 && first <= 191 && (second < 192 || second > 223) // RFC 5761 §4: these are RTCP
}

type item struct {
	due   time.Time
	n     int
	frame []byte
}

// queue is a heap of frames, the first due first.
type queue []item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].n < q[j].n
	}
	return q[i].due.Before(q[j].due)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(item)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
