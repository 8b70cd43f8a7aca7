package media

import "time"

// held is how many packets a jitter buffer keeps: more than a second of the
// usual ones.
const held = 64

// The delay a jitter buffer aims at.
const (
	leastDelay = 10 * time.Millisecond
	mostDelay  = 300 * time.Millisecond
	grain      = 10 * time.Millisecond // the histogram's step
	grains     = int(mostDelay / grain)
	covered    = 0.99  // share of packets that come within the delay
	forgetting = 0.995 // per packet: about four seconds of them count
)

// jitterBuffer puts packets in order and says how long to wait for the late
// ones. It has no clock and no goroutine of its own; times are since any fixed
// instant.
type jitterBuffer struct {
	clock int // Hz of the packets' timestamps
	slots [held]slot
	ssrc  uint32
	begun bool
	next  uint16  // to be played next
	count int     // packets that wait
	loss  float32 // share of the last packets that were lost

	// How late packets come, against the earliest of the last seconds.
	origin    uint32 // timestamp that stands for the time first
	first     time.Duration
	earliest  [2]time.Duration // of this window and the one before
	windowEnd time.Duration
	histogram [grains]float32
}

type slot struct {
	full bool
	seq  uint16
	ts   uint32
	data []byte

	noise bool // data describes noise
}

// window is how long the earliest packet counts: a path that became longer, and
// clocks that drift, are noticed after two.
const window = 2 * time.Second

// put keeps a packet. It reports false for one that is of no use: it came twice,
// or after its time.
func (b *jitterBuffer) put(p *Packet, noise bool, at time.Duration) bool {
	if b.begun && (b.ssrc != p.SSRC || farApart(p.Seq, b.next)) {
		b.reset()
	}
	if !b.begun {
		b.begun, b.ssrc, b.next = true, p.SSRC, p.Seq
		b.origin, b.first, b.windowEnd = p.TS, at, at+window
		b.earliest = [2]time.Duration{0, 0}
	}
	if int16(p.Seq-b.next) < 0 {
		return false
	}
	s := &b.slots[p.Seq%held]
	if s.full && s.seq == p.Seq {
		return false
	}
	if !s.full {
		b.count++
	}
	s.full, s.seq, s.ts, s.noise = true, p.Seq, p.TS, noise
	s.data = append(s.data[:0], p.Payload()...)
	b.learn(p.TS, at)
	return true
}

// farApart tells a sender that began anew from a packet that is early or late.
func farApart(a, b uint16) bool {
	d := int16(a - b)
	return d >= held || d < -held
}

// sent is when a packet was sent, by its sender's clock, since the origin.
func (b *jitterBuffer) sent(ts uint32) time.Duration {
	return time.Duration(int32(ts-b.origin)) * time.Second / time.Duration(b.clock)
}

// late is how much longer a packet has been under way than the first one.
func (b *jitterBuffer) late(ts uint32, at time.Duration) time.Duration {
	return at - b.first - b.sent(ts)
}

// learn keeps account of how late packets come.
func (b *jitterBuffer) learn(ts uint32, at time.Duration) {
	if b.sent(ts) > time.Hour { // long before the difference of two timestamps overflows
		b.first += b.sent(ts)
		b.origin = ts
	}
	late := b.late(ts, at)
	if at > b.windowEnd {
		b.earliest[1], b.earliest[0] = b.earliest[0], late
		b.windowEnd = at + window
	}
	b.earliest[0] = min(b.earliest[0], late)
	late -= min(b.earliest[0], b.earliest[1])
	for i := range b.histogram {
		b.histogram[i] *= forgetting
	}
	b.histogram[min(int(late/grain), grains-1)] += 1 - forgetting
}

// delay is how long a packet should wait so that most others have come.
func (b *jitterBuffer) delay() time.Duration {
	var sum, all float32
	for _, v := range b.histogram {
		all += v
	}
	for i, v := range b.histogram {
		if sum += v; sum >= covered*all {
			return max(leastDelay, time.Duration(i+1)*grain)
		}
	}
	return leastDelay
}

// fetched is what there is to play.
type fetched uint8

const (
	nothing fetched = iota // no packet waits
	arrived                // here it is
	lost                   // it did not come, but later ones did
	calm                   // here is what the pause that begins now sounds like
)

// fetch takes the next packet out, and says how long after the quickest of
// packets would have come it is played. What it returns is good until the next
// put. For one that was lost it returns the packet after it, if that is there.
func (b *jitterBuffer) fetch(at time.Duration) (data []byte, after time.Duration, what fetched) {
	if b.count == 0 {
		return nil, 0, nothing
	}
	s := &b.slots[b.next%held]
	b.next++
	b.loss *= forgetting
	if s.full && s.seq == b.next-1 {
		s.full = false
		b.count--
		if s.noise {
			return s.data, 0, calm
		}
		return s.data, b.late(s.ts, at) - min(b.earliest[0], b.earliest[1]), arrived
	}
	b.loss += 1 - forgetting
	if n := &b.slots[b.next%held]; n.full && n.seq == b.next {
		return n.data, 0, lost
	}
	return nil, 0, lost
}

// skip passes over up to most packets that were lost, and leaves keep of those
// before the next one that is there. It returns how many.
func (b *jitterBuffer) skip(most, keep int) int {
	if b.count == 0 {
		return 0
	}
	missing := 0
	for ; missing < held; missing++ {
		if s := &b.slots[(b.next+uint16(missing))%held]; s.full && s.seq == b.next+uint16(missing) {
			break
		}
	}
	n := min(most, max(missing-keep, 0))
	b.next += uint16(n)
	for range n {
		b.loss = b.loss*forgetting + 1 - forgetting
	}
	return n
}

// losing reports whether one packet in a hundred is lost.
func (b *jitterBuffer) losing() bool { return b.loss > 0.01 }

// reset forgets the packets, not what was learned of the network.
func (b *jitterBuffer) reset() {
	for i := range b.slots {
		b.slots[i].full = false
	}
	b.count, b.begun = 0, false
}
