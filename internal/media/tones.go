package media

import (
	"runtime"
	"time"

	"github.com/pion/rtp"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// tones hears key presses in a stream's sound (ITU-T Q.23). They are told once
// each, and what may be one is muted, so that nobody further on hears it again.
// Only G.711 carries them faithfully.
type tones struct {
	pressed func(dtmf.Digit)

	// ---- owned by the reading goroutine ----
	detector *dtmf.Detector
	pcm      [maxPacket]int16
}

// listenForTones has a stream hear and press keys in the sound.
func (s *Stream) listenForTones(pressed func(dtmf.Digit)) {
	s.tones = &tones{pressed: pressed, detector: dtmf.NewDetector()}
}

// law is the decoder of a G.711 format and its silence; nil for any other.
func law(f sdp.Format) (transcode.Decoder, byte) {
	hush := map[string]byte{"PCMU": 0xff, "PCMA": 0xd5}[f.Name]
	c, ok := transcode.Find(f)
	if !ok || hush == 0 {
		return nil, 0
	}
	d, err := c.NewDecoder(c.Rate)
	if err != nil {
		return nil, 0
	}
	return d, hush
}

// listen hears one packet, and mutes it if it may hold a key.
func (t *tones) listen(p *Packet, k kind) {
	n, err := k.law.Decode(t.pcm[:], p.Payload())
	if err != nil {
		return
	}
	t.detector.Hear(t.pcm[:n], t.pressed)
	if t.detector.Suspects() {
		for i := range p.Payload() {
			p.Payload()[i] = k.hush
		}
	}
}

// sing presses a key in the sound: its tones, and the pause that tells it from
// the next one.
func (s *Stream) sing(d dtmf.Digit, length time.Duration, a *Agreed) bool {
	c, ok := transcode.Find(a.Send)
	if !ok {
		return false
	}
	rate := c.Rate
	if rate == 0 {
		rate = 16000
	}
	e, err := c.NewEncoder(rate)
	if err != nil {
		return false
	}
	const step = 20 * time.Millisecond
	var (
		pcm   = make([]int16, rate/50)
		raw   = make([]byte, Headroom+transcode.MaxPayload)
		key   = dtmf.NewTones(d, rate)
		h     = rtp.Header{PayloadType: a.Send.PT, Timestamp: s.clockNow(a.Send.Clock), Marker: true}
		whole = (length + step - 1) / step * step
	)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for at := time.Duration(0); at < whole+dtmf.Pause; at += step {
		if at < whole {
			key.Fill(pcm)
		} else {
			clear(pcm)
		}
		n, err := e.Encode(raw[Headroom:], pcm)
		if err != nil {
			return false
		}
		h.SequenceNumber = uint16(s.seq.Add(1))
		for !s.send(&h, raw[:Headroom+n]) {
			runtime.Gosched() // the packet of the path that is just going out
		}
		h.Marker = false
		h.Timestamp += uint32(a.Send.Clock / 50)
		s.lastTS.Store(h.Timestamp)
		s.lastAt.Store(now())
		<-tick.C
	}
	return true
}
