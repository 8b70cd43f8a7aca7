// Package transcode turns one codec's frames into another's, and hides what was
// lost of them.
//
// A codec is one file and one entry in [Codecs]. Opus runs at the other side's
// own sampling rate (8 or 16 kHz), so nothing is resampled; only G.711 <-> G.722
// takes a half-band filter. Nothing in here allocates per frame.
package transcode

import (
	"errors"
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

// Concealer is a decoder that hides losses by itself.
type Concealer interface {
	// Conceal fills pcm with what may have been said. next is the packet after the
	// loss if it has come; what it repeats of the lost one is used (RFC 6716
	// §2.1.7).
	Conceal(pcm []int16, next []byte) error
}

// Transcoder carries one direction's sound from one codec to another, changes
// its packet time, hides losses and makes up for clocks that differ. It belongs
// to one goroutine.
type Transcoder struct {
	from, to Codec
	dec      Decoder
	enc      Encoder
	hide     *concealer // nil where the decoder hides losses itself
	answer   answerTone
	pausing  bool   // the encoder has nothing to send
	noise    *noise // what the peer described; nil: nothing
	inRate   int
	outRate  int
	up       *upsampler
	down     *downsampler
	frame    int // samples of one outgoing frame
	clock    int // RTP ticks of one outgoing frame

	pcm     [maxSamples + maxSamples/10]int16 // room to stretch
	conv    [2 * maxSamples]int16
	pending [4 * maxSamples]int16
	n       int // samples pending
	out     [MaxPayload]byte
}

// New makes a transcoder that makes frames of the given packet time. An error
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
	if h, ok := t.enc.(heeder); ok {
		if err := h.Heed(to); err != nil {
			return nil, fmt.Errorf("transcode: %s encoder: %w", b.Name, err)
		}
	}
	if _, ok := t.dec.(Concealer); !ok {
		t.hide = newConcealer(t.inRate)
	}
	t.answer = newAnswerTone(t.inRate)
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

// Ticks is the RTP timestamp step of one outgoing packet; Packet its time.
func (t *Transcoder) Ticks() int { return t.clock }

// Packet is the time of one outgoing packet.
func (t *Transcoder) Packet() time.Duration {
	return time.Duration(t.frame) * time.Second / time.Duration(t.outRate)
}

// Tempo says whether sound is to last as long as it did.
type Tempo int8

// The tempi. The two others change a frame by 10 ms at most, and only where it
// cannot be heard.
const (
	Steady  Tempo = iota
	Tighter       // more waits than should: pauses may last less
	Shorter       // much more does: words, too
	Longer        // less does
)

// Push decodes one payload and returns the time it lasts, as it was sent. A
// payload that cannot be decoded is an error and changes nothing.
func (t *Transcoder) Push(payload []byte, tempo Tempo) (time.Duration, error) {
	n, err := t.dec.Decode(t.pcm[:maxSamples], payload)
	if err != nil {
		return 0, fmt.Errorf("transcode: decode %s: %w", t.from.Name, err)
	}
	pcm := t.pcm[:n]
	t.answer.hear(pcm)
	if t.hide != nil {
		t.hide.heard(pcm)
	}
	switch {
	case t.answer.heard: // data keeps its time
	case tempo == Shorter, tempo == Tighter && quiet(pcm):
		pcm = shorten(pcm, t.inRate)
	case tempo == Longer:
		pcm = stretch(pcm, t.inRate)
	}
	t.keep(pcm)
	return time.Duration(n) * time.Second / time.Duration(t.inRate), nil
}

// Conceal puts something in the place of sound that was lost. next is the packet
// after it, nil if that has not come.
func (t *Transcoder) Conceal(lost time.Duration, next []byte) error {
	pcm := t.pcm[:min(int(lost*time.Duration(t.inRate)/time.Second), maxSamples)]
	if t.answer.heard {
		clear(pcm) // a modem knows better what to do about a gap
	} else if t.hide != nil {
		t.hide.conceal(pcm)
	} else if err := t.dec.(Concealer).Conceal(pcm, next); err != nil {
		return fmt.Errorf("transcode: conceal %s: %w", t.from.Name, err)
	}
	t.keep(pcm)
	return nil
}

// heeder is an encoder to which a peer may say how it wants its sound.
type heeder interface {
	Heed(to sdp.Format) error
}

// pauser is an encoder that sends nothing while nothing is said, if the peer likes
// that.
type pauser interface {
	Pauses(frame []byte) bool
}

// Pause reports whether a payload says that its sender pauses (RFC 7587 §3.1.3).
func (t *Transcoder) Pause(payload []byte) bool {
	return t.hide == nil && len(payload) > 0 && len(payload) <= opusPause
}

// Calm takes a comfort noise payload (RFC 3389): Noise sounds like it from now on.
// An empty one is an error.
func (t *Transcoder) Calm(payload []byte) error {
	if len(payload) == 0 {
		return errors.New("transcode: empty comfort noise")
	}
	if t.noise == nil {
		t.noise = &noise{state: 1}
	}
	t.noise.describe(payload)
	return nil
}

// Noise fills a pause that the sender makes by sending nothing: with the noise it
// described, else with its codec's own.
func (t *Transcoder) Noise(d time.Duration) error {
	if t.noise == nil || t.answer.heard {
		return t.Conceal(d, nil)
	}
	pcm := t.pcm[:min(int(d*time.Duration(t.inRate)/time.Second), maxSamples)]
	t.noise.fill(pcm)
	t.keep(pcm)
	return nil
}

// Quiet describes the next frame as comfort noise instead of encoding it; nil if
// none is whole. It is good until the next call.
func (t *Transcoder) Quiet() []byte {
	if t.n < t.frame {
		return nil
	}
	t.out[0] = loudness(t.pending[:t.frame])
	t.n = copy(t.pending[:], t.pending[t.frame:t.n])
	return t.out[:NoiseSize]
}

// keep adds samples to what waits for the next frame.
func (t *Transcoder) keep(pcm []int16) {
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
}

// Frame encodes the next frame; nil if none is whole, and empty if the encoder
// pauses. It is good until the next call.
func (t *Transcoder) Frame() ([]byte, error) {
	if t.n < t.frame {
		return nil, nil
	}
	k, err := t.enc.Encode(t.out[:], t.pending[:t.frame])
	t.n = copy(t.pending[:], t.pending[t.frame:t.n])
	if err != nil {
		return nil, fmt.Errorf("transcode: encode %s: %w", t.to.Name, err)
	}
	if p, ok := t.enc.(pauser); ok {
		pauses := p.Pauses(t.out[:k])
		if pauses && t.pausing {
			k = 0 // the first one tells the far end that a pause begins
		}
		t.pausing = pauses
	}
	return t.out[:k], nil
}

// Repeats reports whether a packet that comes in may carry the one before it once
// more (RFC 6716 §2.1.7).
func (t *Transcoder) Repeats() bool { return t.hide == nil }

// Pending is the sound held back for the next frame.
func (t *Transcoder) Pending() time.Duration {
	return time.Duration(t.n) * time.Second / time.Duration(t.outRate)
}

// Drop forgets the sound held back: after a pause it belongs to no frame.
func (t *Transcoder) Drop() { t.n = 0 }

// Expect tells the encoder which share of its packets is lost on the way, 0 to
// 1, so that it can repeat itself (RFC 7587 §4.1).
func (t *Transcoder) Expect(loss float64) error {
	if e, ok := t.enc.(interface{ Expect(loss float64) error }); ok {
		return e.Expect(loss)
	}
	return nil
}

// Spend says how much processor time the encoder may take, 1 to 10 (libopus'
// complexity). Encoders that have no choice do not mind.
func (t *Transcoder) Spend(effort int) error {
	if e, ok := t.enc.(interface{ Spend(effort int) error }); ok {
		return e.Spend(effort)
	}
	return nil
}

func (t *Transcoder) String() string { return t.from.Name + ">" + t.to.Name }
