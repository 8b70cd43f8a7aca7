package media

import (
	"context"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// promptFrame is 20 ms of a prompt, in bytes and in ticks.
const promptFrame = 160

// Play speaks a prompt of G.711 mu-law at 8000 Hz into a stream, at the speed of
// speech. It returns when the prompt or ctx is over.
func Play(ctx context.Context, to *Stream, mulaw []byte) {
	Feed(ctx, to, frames(mulaw))
}

// frames cuts a prompt up.
func frames(mulaw []byte) func(frame []byte) bool {
	return func(frame []byte) bool {
		if len(mulaw) < len(frame) {
			return false
		}
		mulaw = mulaw[copy(frame, mulaw):]
		return true
	}
}

// Announcement is a prompt that calls are joined to, as to an endpoint.
type Announcement struct{ stream *Stream }

// NewAnnouncement makes one that says nothing yet.
func NewAnnouncement(loops *Loops) *Announcement {
	s := newStream(loops, "announcement", nil)
	s.settle(&Agreed{Send: spoken, Receive: []sdp.Format{spoken}, Direction: sdp.RecvOnly})
	return &Announcement{s}
}

// Stream implements Streams.
func (a *Announcement) Stream(kind sdp.Kind) *Stream {
	if kind != sdp.Audio {
		return nil
	}
	return a.stream
}

// joinWithin is how long an announcement waits for somebody to hear it.
const joinWithin = 5 * time.Second

// Play speaks a prompt of G.711 mu-law at 8000 Hz to whoever is joined. It returns
// when the prompt or ctx is over, or nobody came to hear it.
func (a *Announcement) Play(ctx context.Context, mulaw []byte) {
	silence := int(joinWithin / (20 * time.Millisecond))
	next := frames(mulaw)
	feed(ctx, a.stream, func(frame []byte) bool {
		if a.stream.sink.Load() != nil {
			return next(frame)
		}
		silence--
		for i := range frame {
			frame[i] = 0xff
		}
		return silence > 0
	})
}

// Feed asks for 20 ms of G.711 mu-law at 8000 Hz, 160 bytes, every 20 ms and
// sends them into a stream, until next has no more or ctx is over.
func Feed(ctx context.Context, to *Stream, next func(frame []byte) bool) {
	src := newStream(to.loops, "prompt", nil)
	src.settle(&Agreed{Receive: []sdp.Format{spoken}, Direction: sdp.RecvOnly})
	src.Forward(NewPath(src, to))
	feed(ctx, src, next)
}

var spoken = sdp.Format{PT: 0, Name: "PCMU", Clock: 8000, Channels: 1}

// feed has a stream receive what next gives, every 20 ms.
func feed(ctx context.Context, src *Stream, next func(frame []byte) bool) {
	raw := make([]byte, Headroom+promptFrame)
	pkt := Packet{Raw: raw, SSRC: src.ssrc.Load(), Marker: true}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for next(raw[Headroom:]) {
		pkt.Seq++
		src.receive(&pkt)
		pkt.TS += promptFrame
		pkt.Marker = false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Echo sends the sound that a stream receives back into it; key presses are not
// pressed back.
func Echo(s *Stream) {
	p := &Path{src: s, dst: s, deaf: true, now: since}
	p.build()
	s.Forward(p)
}
