package media

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// Path carries one direction of one medium, on the goroutine that reads its
// source: telephone-events are relayed, sound is passed untouched or
// transcoded, and every packet gets the destination's SSRC, sequence, timestamp
// and payload type. It builds itself anew when either end renegotiates. Its
// far side is swapped by giving the source another path.
type Path struct {
	src, dst *Stream
	deaf     bool // telephone-events end here
	now      func() time.Duration
	text     atomic.Pointer[string]

	// paced says that some sound is recoded: then a drum plays it, beside the
	// goroutine that brings it, and mu guards all below. Else they are the latter's
	// alone, and nothing is locked.
	paced atomic.Bool
	mu    sync.Mutex

	sa, da  *Agreed
	stages  []stage // the first one drops
	playing *stage  // what is recoded now
	drummed bool    // a drum has us
	ended   bool
	which   [128]uint8 // of them, by payload type
	line    timeline
	hdr     rtp.Header
	buf     [Headroom + transcode.MaxPayload]byte
	event   struct {
		in, out, ssrc uint32 // timestamps of the event being relayed, and its source
		on            bool
	}
}

// stage is what happens to one payload type.
type stage struct {
	kind   stageKind
	in     sdp.Format
	out    sdp.Format
	player *player
}

type stageKind uint8

const (
	drop stageKind = iota
	forward
	relayEvent
	recode
)

// timeline maps the source's clock to the destination's.
type timeline struct {
	begun   bool
	ssrc    uint32
	seq     uint16
	in, out uint32 // a pair of timestamps that mean the same instant
	expect  uint32 // the source's timestamp if nothing is missing
	started bool   // a packet went out since the last break: no marker
}

// NewPath makes the path from one stream to another. It moves nothing until
// src.Forward(path).
func NewPath(src, dst *Stream) *Path {
	p := &Path{src: src, dst: dst, now: since}
	p.build()
	return p
}

// end stops what the path still plays.
func (p *Path) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.src.onward.CompareAndSwap(&p.dst.far, nil)
}

// build lays out the stages for what both ends have agreed.
func (p *Path) build() {
	p.sa, p.da = p.src.agreed.Load(), p.dst.agreed.Load()
	p.stages, p.which = []stage{{}}, [128]uint8{}
	var names []string
	paced := false
	p.src.onward.Store(nil)
	if p.sa == nil || p.da == nil {
		p.paced.Store(false)
		p.describe("not negotiated")
		return
	}
	for _, f := range p.sa.Receive {
		st := stage{in: f}
		switch {
		case f.IsEvent():
			ev, ok := p.da.Event()
			if !ok || p.deaf {
				continue // the call passes the digit by signalling
			}
			st.kind, st.out = relayEvent, ev
			names = append(names, fmt.Sprintf("dtmf %d>%d", f.PT, ev.PT))
		case f.Same(p.da.Send):
			st.kind, st.out = forward, p.da.Send
		default:
			st.kind, st.out = recode, p.da.Send
			// What the peer may send and did not list first it mostly never does: its
			// coders are made when it does.
			if _, known := transcode.Find(f); !known || f.Same(p.sa.Send) && !p.equip(&st) {
				continue
			}
			paced = true
		}
		p.which[f.PT&127] = uint8(len(p.stages))
		p.stages = append(p.stages, st)
	}
	for _, f := range p.sa.Receive { // noise goes where the sound goes that it fills the pauses of
		for i, st := range p.stages {
			if f.IsNoise() && st.kind == recode && st.in.Clock == f.Clock {
				p.which[f.PT&127] = uint8(i)
			}
		}
	}
	p.src.reaches(p.da.Send)
	for _, st := range p.stages { // what the peer sends is what it listed first
		switch {
		case !st.in.Same(p.sa.Send):
		case st.kind == forward:
			names = append(names, st.in.Name)
			p.src.onward.Store(&p.dst.far)
		case st.kind == recode:
			names = append(names, "jitter", st.player.coder.String())
		}
	}
	p.line.begun, p.playing = false, nil
	p.paced.Store(paced)
	p.describe(strings.Join(append(names, "rewrite", p.dst.where()), " -> "))
}

// equip makes what a stage recodes with; false if it cannot be.
func (p *Path) equip(st *stage) bool {
	coder, err := transcode.New(st.in, st.out, p.da.PTime)
	if err != nil {
		return false
	}
	st.player = newPlayer(coder, st.in.Clock)
	return true
}

func (p *Path) describe(s string) { p.text.Store(&s) }

// String names the stages a packet takes: "dtmf 101>126 -> PCMU>opus ->
// rewrite -> srtp".
func (p *Path) String() string { return *p.text.Load() }

// WriteRTP takes one packet through. No allocation, no log, and where nothing is
// recoded no lock.
func (p *Path) WriteRTP(pkt *Packet) {
	if p.paced.Load() {
		p.mu.Lock()
		defer p.mu.Unlock()
	}
	if p.sa != p.src.agreed.Load() || p.da != p.dst.agreed.Load() {
		p.build()
	}
	st := &p.stages[p.which[pkt.PT&127]]
	switch st.kind {
	case forward:
		p.forward(st, pkt)
	case recode:
		p.recode(st, pkt)
	case relayEvent:
		p.relay(st, pkt)
	}
}

// place brings the timeline to this packet. It returns how far the source's
// sequence moved, and false for a packet that came twice.
func (p *Path) place(st *stage, pkt *Packet) (int16, bool) {
	l := &p.line
	if !l.begun || l.ssrc != pkt.SSRC {
		*l = timeline{begun: true, ssrc: pkt.SSRC, seq: pkt.Seq - 1, in: pkt.TS, expect: pkt.TS}
		l.out = p.dst.clockNow(st.out.Clock)
	}
	d := int16(pkt.Seq - l.seq)
	if d == 0 {
		return 0, false
	}
	if d > 0 {
		l.seq = pkt.Seq
	}
	// A source that jumps its clock by more than ten seconds has begun anew.
	if gap := int32(pkt.TS - l.expect); gap > 10*int32(st.in.Clock) || gap < -10*int32(st.in.Clock) {
		l.in, l.expect, l.started = pkt.TS, pkt.TS, false
		l.out = p.dst.clockNow(st.out.Clock)
	}
	return d, true
}

func (p *Path) forward(st *stage, pkt *Packet) {
	d, ok := p.place(st, pkt)
	if !ok || p.dst.pressed.Load() {
		return
	}
	ts := p.line.out + (pkt.TS - p.line.in)
	p.line.expect = pkt.TS
	var seq uint32
	if d > 0 {
		seq = p.dst.seq.Add(uint32(d)) // gaps stay gaps: the far end conceals them
		p.dst.lastTS.Store(ts)
		p.dst.lastAt.Store(now())
	} else {
		seq = p.dst.seq.Load() + uint32(int32(d)) // a late packet keeps its place
	}
	p.put(st.out.PT, uint16(seq), ts, pkt.Marker || !p.line.started, pkt.Raw)
}

// recode keeps a packet for the drum. It needs mu, but for the packet that made
// the path paced.
func (p *Path) recode(st *stage, pkt *Packet) {
	if st.player == nil && !p.equip(st) {
		st.kind = drop
		return
	}
	if p.playing != st {
		p.playing = st // another codec from now on
		st.player.silent = true
	}
	if !st.player.take(pkt, pkt.PT != st.in.PT, p.now()) {
		p.src.in.late.Add(1)
		return
	}
	if !p.drummed && p.dst.loops != nil {
		p.drummed = true
		p.dst.loops.drums.add(p)
	}
}

// play sends what is due; false when there has been nothing for long. It is the
// drum's.
func (p *Path) play(at time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.playing
	if st == nil || p.ended || st.player.silent && at > st.player.due+idle {
		p.drummed = false
		return false
	}
	pl := st.player
	pl.expect(p.dst.far.expected.Load())
	if p.dst.loops != nil {
		pl.spend(p.dst.loops.Effort())
	}
	for pl.due <= at {
		begins := pl.silent
		pt := st.out.PT
		frame := pl.frame(pl.due, p.src, p.da.Noise.Name != "")
		if frame == nil {
			break
		}
		if pl.described {
			pt = p.da.Noise.PT
		}
		if begins {
			p.line.out, p.line.started = p.dst.clockAt(st.out.Clock, at), false
		}
		if len(frame) > 0 && !p.dst.pressed.Load() {
			n := copy(p.buf[Headroom:], frame)
			p.put(pt, uint16(p.dst.seq.Add(1)), p.line.out, !p.line.started && !pl.described, p.buf[:Headroom+n])
			p.dst.lastTS.Store(p.line.out)
			p.dst.lastAt.Store(int64(at))
		}
		if len(frame) == 0 || pl.described {
			p.line.started = false // the marker is for what follows the pause (RFC 3551 §4.1)
		}
		p.line.out += uint32(pl.coder.Ticks())
		pl.due += pl.coder.Packet()
	}
	return true
}

// relay passes a telephone-event on with the far end's payload type, clock and
// timestamps. Every packet of a press carries the press's own timestamp.
func (p *Path) relay(st *stage, pkt *Packet) {
	var e dtmf.Event
	if e.Parse(pkt.Payload()) != nil {
		p.src.in.malformed.Add(1)
		return
	}
	ev := &p.event
	same := ev.on && ev.ssrc == pkt.SSRC
	fresh := !same || ev.in != pkt.TS
	if fresh {
		if same && int32(pkt.TS-ev.in) < 0 {
			return // a late packet of a press that is over
		}
		ts := p.dst.clockNow(st.out.Clock)
		if ev.on && int32(ts-ev.out) <= 0 {
			ts = ev.out + 1
		}
		ev.in, ev.out, ev.ssrc, ev.on = pkt.TS, ts, pkt.SSRC, true
	}
	marker := fresh // whatever the source marks: Chromium marks each of its ends, and Linphone counts marks
	p.line.seq = pkt.Seq
	e = e.Rescale(st.in.Clock, st.out.Clock)
	if fresh && e.End {
		// Chromium sends nothing but ends when it has Opus and the 8000 Hz event;
		// loss does the same. Telephones wait for a beginning.
		begin := e
		begin.End = false
		begin.Duration = min(begin.Duration, uint16(st.out.Clock/50))
		begin.Put(p.buf[Headroom:])
		p.put(st.out.PT, uint16(p.dst.seq.Add(1)), ev.out, true, p.buf[:Headroom+dtmf.EventSize])
		marker = false
	}
	e.Put(pkt.Raw[Headroom:])
	p.put(st.out.PT, uint16(p.dst.seq.Add(1)), ev.out, marker, pkt.Raw[:Headroom+dtmf.EventSize])
}

func (p *Path) put(pt uint8, seq uint16, ts uint32, marker bool, raw []byte) {
	p.hdr.PayloadType, p.hdr.SequenceNumber, p.hdr.Timestamp, p.hdr.Marker = pt, seq, ts, marker
	p.dst.send(&p.hdr, raw)
	p.line.started = true
}
