// Package transcode turns one codec's frames into another's.
//
// A codec is one file and one entry in [Codecs]. Opus runs at the other side's
// own sampling rate (8 or 16 kHz), so nothing is resampled; only G.711 <-> G.722
// takes a half-band filter. Nothing in here allocates per frame.
package transcode

import (
	"fmt"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// MaxFrame is the longest packet time read or made.
const MaxFrame = 120 * time.Millisecond

// maxSamples is MaxFrame at the highest rate, 16 kHz.
const maxSamples = 16 * 120

// MaxPayload bounds an encoded frame: G.711 at MaxFrame, the largest here.
const MaxPayload = 1500

// Encoder turns linear samples into one payload. It is used by one goroutine.
type Encoder interface {
	// Encode writes the frame to dst and returns its length in bytes.
	Encode(dst []byte, pcm []int16) (int, error)
}

// Decoder turns one payload into linear samples. It is used by one goroutine.
type Decoder interface {
	// Decode writes to pcm and returns the number of samples.
	Decode(pcm []int16, payload []byte) (int, error)
}

// Codec describes one encoding.
type Codec struct {
	sdp.Format       // payload type as offered, name, RTP clock, fmtp
	Rate       int   // sampling rate in Hz; 0: any of 8000 and 16000
	Frames     []int // packet times it can make, ms; nil: any multiple of 10
	NewEncoder func(rate int) (Encoder, error)
	NewDecoder func(rate int) (Decoder, error)
}

// Codecs is every codec we can take apart, in the order a browser is offered
// them: the best sound first.
var Codecs = []Codec{opusCodec, g722Codec, pcmaCodec, pcmuCodec}

// Find returns the codec for a format.
func Find(f sdp.Format) (Codec, bool) {
	for _, c := range Codecs {
		if c.Same(f) {
			return c, true
		}
	}
	return Codec{}, false
}

// Names are the encodings of the table.
func Names() []string {
	var out []string
	for _, c := range Codecs {
		out = append(out, c.Name)
	}
	return out
}

// Transcoder carries one direction's sound from one codec to another and
// changes its packet time. It belongs to one goroutine.
type Transcoder struct {
	from, to Codec
	dec      Decoder
	enc      Encoder
	inRate   int
	outRate  int
	up       *upsampler
	down     *downsampler
	frame    int // samples of one outgoing frame
	clock    int // RTP ticks of one outgoing frame

	// ---- owned by Push ----
	pcm     [maxSamples]int16
	conv    [2 * maxSamples]int16
	pending [4 * maxSamples]int16
	n       int // samples pending
	out     [MaxPayload]byte
}

// New makes a transcoder that emits frames of the given packet time. An error
// says which codec cannot run.
func New(from, to sdp.Format, packet time.Duration) (*Transcoder, error) {
	a, ok := Find(from)
	if !ok {
		return nil, fmt.Errorf("transcode: no decoder for %s/%d", from.Name, from.Clock)
	}
	b, ok := Find(to)
	if !ok {
		return nil, fmt.Errorf("transcode: no encoder for %s/%d", to.Name, to.Clock)
	}
	t := &Transcoder{from: a, to: b, inRate: a.Rate, outRate: b.Rate}
	switch {
	case t.inRate == 0 && t.outRate == 0:
		t.inRate, t.outRate = 16000, 16000
	case t.inRate == 0:
		t.inRate = t.outRate
	case t.outRate == 0:
		t.outRate = t.inRate
	}
	var err error
	if t.dec, err = a.NewDecoder(t.inRate); err != nil {
		return nil, fmt.Errorf("transcode: %s decoder: %w", a.Name, err)
	}
	if t.enc, err = b.NewEncoder(t.outRate); err != nil {
		return nil, fmt.Errorf("transcode: %s encoder: %w", b.Name, err)
	}
	switch {
	case t.inRate < t.outRate:
		t.up = new(upsampler)
	case t.inRate > t.outRate:
		t.down = new(downsampler)
	}
	ms := PacketTime(b, packet)
	t.frame = t.outRate / 1000 * ms
	t.clock = b.Clock / 1000 * ms
	return t, nil
}

// PacketTime returns the packet time in ms that a codec makes for a wish:
// the longest it can that is no longer, and 20 where nothing is wished.
func PacketTime(c Codec, wish time.Duration) int {
	ms := int(wish / time.Millisecond)
	if ms == 0 {
		ms = 20
	}
	ms = min(max(ms/10*10, 10), 60)
	best := 0
	for _, f := range c.Frames {
		if f <= ms {
			best = f
		}
	}
	if best > 0 {
		return best
	}
	return ms
}

// Ticks is the RTP timestamp step of one outgoing packet.
func (t *Transcoder) Ticks() int { return t.clock }

// Push decodes one payload and calls emit for each frame that became whole.
// emit's slice is only good during the call. A payload that cannot be decoded
// is an error and changes nothing.
func (t *Transcoder) Push(payload []byte, emit func(frame []byte)) error {
	n, err := t.dec.Decode(t.pcm[:], payload)
	if err != nil {
		return fmt.Errorf("transcode: decode %s: %w", t.from.Name, err)
	}
	pcm := t.pcm[:n]
	switch {
	case t.up != nil:
		pcm = t.up.run(t.conv[:], pcm)
	case t.down != nil:
		pcm = t.down.run(t.conv[:], pcm)
	}
	if t.n+len(pcm) > len(t.pending) {
		t.n = 0
	}
	t.n += copy(t.pending[t.n:], pcm)
	done := 0
	for t.n-done >= t.frame {
		k, err := t.enc.Encode(t.out[:], t.pending[done:done+t.frame])
		if err != nil {
			return fmt.Errorf("transcode: encode %s: %w", t.to.Name, err)
		}
		done += t.frame
		emit(t.out[:k])
	}
	t.n = copy(t.pending[:], t.pending[done:t.n])
	return nil
}

// Pending is the sound held back for the next frame, in RTP ticks of the
// outgoing clock.
func (t *Transcoder) Pending() int { return t.n * (t.to.Clock / 1000) / (t.outRate / 1000) }

// Drop forgets the sound held back: after a gap it belongs to no frame.
func (t *Transcoder) Drop() { t.n = 0 }

func (t *Transcoder) String() string { return t.from.Name + ">" + t.to.Name }
