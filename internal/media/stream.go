package media

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// Headroom is the space kept before each payload so that a new RTP header can
// be written in place.
const Headroom = 12

// maxPacket bounds a packet on either side; more than an Ethernet frame is
// never RTP sound.
const maxPacket = 1600

// Packet is one RTP packet on its way through a path. It belongs to the
// goroutine that read it and is valid during the call it is passed to.
type Packet struct {
	PT     uint8
	Marker bool
	Seq    uint16
	TS     uint32
	SSRC   uint32
	// Raw holds Headroom bytes to scribble on, then the payload.
	Raw []byte
}

// Payload is the packet's payload.
func (p *Packet) Payload() []byte { return p.Raw[Headroom:] }

// Sink takes packets. It must not keep them.
type Sink interface{ WriteRTP(*Packet) }

// Agreed is what an offer and its answer settled for one slot.
type Agreed struct {
	Send      sdp.Format   // the codec we send, with the peer's payload type
	Events    []sdp.Format // the telephone-events we may send, with the peer's payload types
	Noise     sdp.Format   // the comfort noise we may send; no name: none
	Receive   []sdp.Format // all that we may get, with our payload types
	Direction sdp.Direction
	PTime     time.Duration // of what we send; 0: 20 ms
	Secured   bool          // packets are SRTP, though the socket could carry plain RTP

	kinds []kind     // of Receive; the first is of no payload type
	which [128]uint8 // which of kinds a payload type is
}

// kind is what the packet path asks of a payload type.
type kind struct {
	clock uint32 // Hz; 0: not agreed
	event bool
	law   transcode.Decoder // of G.711, where keys are listened for in the sound
	hush  byte              // its silence
}

// settle puts what was negotiated into force.
func (s *Stream) settle(a *Agreed) {
	a.kinds = append(make([]kind, 0, len(a.Receive)+1), kind{})
	for _, f := range a.Receive {
		k := kind{clock: uint32(f.Clock), event: f.IsEvent()}
		if s.tones != nil {
			k.law, k.hush = law(f)
		}
		a.which[f.PT&127] = uint8(len(a.kinds))
		a.kinds = append(a.kinds, k)
	}
	s.agreed.Store(a)
}

// Event returns the telephone-event to send beside the codec: the one with the
// codec's own clock, else the 8000 Hz one.
func (a *Agreed) Event() (sdp.Format, bool) {
	var best sdp.Format
	for _, e := range a.Events {
		if e.Clock == a.Send.Clock {
			return e, true
		}
		best = e
	}
	return best, best.Name != ""
}

// Stream is one slot's packets, in and out. It outlives the sockets below it:
// a reload of the page puts a new PeerConnection under the same stream. All
// methods may be called from any goroutine; WriteRTP, from one at a time.
type Stream struct {
	name string // the last stage of a path into this stream, "rtp", say

	loops  *Loops // whose drums play what is recoded for this stream
	tones  *tones // nil: keys are neither heard nor pressed in the sound
	agreed atomic.Pointer[Agreed]
	sink   atomic.Pointer[Sink]
	below  atomic.Pointer[transmitter]
	digit  func(dtmf.Digit)
	enough atomic.Int32 // the sampling rate in Hz that the sender was told is enough; 0: it was told nothing
	widen  func()       // more than that is heard

	// What we send. The sequence number is shared by the path and by key
	// presses of our own, hence atomic; so that they need no lock.
	ssrc    atomic.Uint32
	seq     atomic.Uint32
	lastTS  atomic.Uint32
	lastAt  atomic.Int64 // ns since start
	pressed atomic.Bool  // a key press of ours is going out: sound waits
	sending atomic.Bool  // a packet is being sent

	in  reception
	out struct{ packets, octets atomic.Uint64 }
	far farReport

	// onward is what is heard of these packets farther on, where they cross untouched.
	onward atomic.Pointer[farReport]

	// When RTCP last reported, and what was counted then; owned by report.
	reported struct {
		expected, received int64
		at                 time.Duration
	}

	// ---- owned by the reading goroutine ----
	event    uint32 // timestamp of the last telephone-event
	eventOf  uint32 // the SSRC it came from
	hadEvent bool
}

// transmitter is the socket below a stream. raw has Headroom bytes before the
// payload.
type transmitter interface {
	transmit(h *rtp.Header, raw []byte) error
}

var started = time.Now()

func now() int64 { return int64(since()) }

func since() time.Duration { return time.Since(started) }

// newStream makes a stream; digit, if any, hears each key press that arrives, once.
func newStream(loops *Loops, name string, digit func(dtmf.Digit)) *Stream {
	s := &Stream{loops: loops, name: name, digit: digit}
	s.ssrc.Store(rand.Uint32())
	s.seq.Store(rand.Uint32() & 0x7fff) // RFC 3550 §5.1: random, and far from the wrap
	s.lastTS.Store(rand.Uint32())
	return s
}

// where is the last stage of a path into the stream.
func (s *Stream) where() string {
	if a := s.agreed.Load(); a != nil && a.Secured {
		return "srtp"
	}
	return s.name
}

// Agreed is what was negotiated; nil before that.
func (s *Stream) Agreed() *Agreed { return s.agreed.Load() }

// Forward sends what arrives from now on to a sink; nil: nowhere.
func (s *Stream) Forward(to Sink) {
	if to == nil {
		s.sink.Store(nil)
		return
	}
	s.sink.Store(&to)
}

// receive takes one packet from the socket below. Packet path: no lock, no
// allocation.
func (s *Stream) receive(p *Packet) {
	a := s.agreed.Load()
	if a == nil {
		return
	}
	k := a.kinds[a.which[p.PT&127]]
	if k.clock == 0 {
		s.in.unknown.Add(1)
		return
	}
	s.in.count(p, int(k.clock))
	switch {
	case k.event:
		s.tap(p)
	case k.law != nil && !s.hadEvent:
		s.tones.listen(p, k)
	}
	if !a.Direction.Receives() {
		return
	}
	if sink := s.sink.Load(); sink != nil {
		(*sink).WriteRTP(p)
	}
}

// tap reports each key press once: all packets of one press carry the timestamp
// of its beginning (RFC 4733 §2.2).
func (s *Stream) tap(p *Packet) {
	var e dtmf.Event
	if e.Parse(p.Payload()) != nil || (s.hadEvent && s.eventOf == p.SSRC && int32(p.TS-s.event) <= 0) {
		return
	}
	s.event, s.eventOf, s.hadEvent = p.TS, p.SSRC, true
	if d, ok := dtmf.FromCode(e.Code); ok && s.digit != nil {
		s.digit(d)
	}
}

// send passes a packet to the socket below. The header's sequence number,
// timestamp, payload type and marker are the caller's. It reports false, and
// sends nothing, while another goroutine sends: that is a key press of ours, or
// the moment in which one path takes over from another.
func (s *Stream) send(h *rtp.Header, raw []byte) bool {
	a := s.agreed.Load()
	t := s.below.Load()
	if a == nil || t == nil || !a.Direction.Sends() {
		return true
	}
	if !s.sending.CompareAndSwap(false, true) {
		return false
	}
	defer s.sending.Store(false)
	h.Version = 2
	h.SSRC = s.ssrc.Load()
	if (*t).transmit(h, raw) == nil {
		s.out.packets.Add(1)
		s.out.octets.Add(uint64(len(raw) - Headroom))
	}
	return true
}

// Press sends a key press of our own, as telephone-events or, where the peer
// takes none and the stream may, as tones: for digits that came by INFO or from
// the signalling. It returns false where neither can be. It runs for as long as
// the key is held.
func (s *Stream) Press(d dtmf.Digit, length time.Duration) bool {
	a := s.agreed.Load()
	if a == nil || !a.Direction.Sends() {
		return false
	}
	ev, ok := a.Event()
	if !ok && s.tones == nil {
		return false
	}
	for !s.pressed.CompareAndSwap(false, true) {
		time.Sleep(10 * time.Millisecond) // one key at a time, in the order of the callers
	}
	defer s.pressed.Store(false)
	if !ok {
		return s.sing(d, length, a)
	}
	const step = 20 * time.Millisecond
	h := rtp.Header{PayloadType: ev.PT, Timestamp: s.clockNow(ev.Clock), Marker: true}
	var raw [Headroom + dtmf.EventSize]byte
	e := dtmf.Event{Code: d.Code(), Volume: 10}
	put := func() {
		h.SequenceNumber = uint16(s.seq.Add(1))
		e.Put(raw[Headroom:])
		for !s.send(&h, raw[:]) {
			runtime.Gosched() // the packet of the path that is just going out
		}
		h.Marker = false
	}
	tick := time.NewTicker(step)
	defer tick.Stop()
	for held := step; ; held += step {
		e.Duration = uint16(min(held.Milliseconds()*int64(ev.Clock)/1000, 0xffff))
		if held >= length {
			break
		}
		put()
		<-tick.C
	}
	e.End = true
	for range 3 { // RFC 4733 §2.5.1.4: the end goes out three times
		put()
		<-tick.C
	}
	// A pause, so that the same key twice is two presses.
	<-tick.C
	<-tick.C
	s.lastTS.Store(h.Timestamp + uint32(length.Milliseconds()*int64(ev.Clock)/1000))
	s.lastAt.Store(now())
	return true
}

// clockNow is the timestamp that the stream's clock shows now.
func (s *Stream) clockNow(clock int) uint32 { return s.clockAt(clock, since()) }

func (s *Stream) clockAt(clock int, at time.Duration) uint32 {
	last := s.lastAt.Load()
	if last == 0 {
		return s.lastTS.Load()
	}
	return s.lastTS.Load() + uint32((int64(at)-last)/1000*int64(clock)/1_000_000)
}

// parseRTP reads a header (RFC 3550 §5.1) and returns where the payload is in
// b. Extensions and padding are passed over.
func parseRTP(pkt *Packet, b []byte) (off, size int, ok bool) {
	if len(b) < 12 || b[0]>>6 != 2 {
		return 0, 0, false
	}
	off = 12 + int(b[0]&0x0f)*4
	if b[0]&0x10 != 0 {
		if len(b) < off+4 {
			return 0, 0, false
		}
		off += 4 + int(binary.BigEndian.Uint16(b[off+2:]))*4
	}
	end := len(b)
	if b[0]&0x20 != 0 && end > 0 {
		end -= int(b[end-1])
	}
	if off > end {
		return 0, 0, false
	}
	pkt.Marker = b[1]&0x80 != 0
	pkt.PT = b[1] & 0x7f
	pkt.Seq = binary.BigEndian.Uint16(b[2:])
	pkt.TS = binary.BigEndian.Uint32(b[4:])
	pkt.SSRC = binary.BigEndian.Uint32(b[8:])
	return off, end - off, true
}
