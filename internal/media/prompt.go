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
	Feed(ctx, to, func(frame []byte) bool {
		if len(mulaw) < len(frame) {
			return false
		}
		mulaw = mulaw[copy(frame, mulaw):]
		return true
	})
}

// Feed asks for 20 ms of G.711 mu-law at 8000 Hz, 160 bytes, every 20 ms and
// sends them into a stream, until next has no more or ctx is over.
func Feed(ctx context.Context, to *Stream, next func(frame []byte) bool) {
	pcmu := sdp.Format{PT: 0, Name: "PCMU", Clock: 8000, Channels: 1}
	src := newStream(to.loops, "prompt", nil)
	src.settle(&Agreed{Receive: []sdp.Format{pcmu}, Direction: sdp.RecvOnly})
	src.Forward(NewPath(src, to))
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
