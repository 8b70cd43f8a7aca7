package transcode

import (
	"strconv"
	"strings"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
	opus "gopkg.in/hraban/opus.v2"
)

// Opus (RFC 6716, RFC 7587) by libopus. Its RTP clock is 48000 whatever the
// rate it runs at, and rtpmap says two channels even for mono sound.
var opusCodec = Codec{
	Format:     sdp.Format{PT: 111, Name: "opus", Clock: 48000, Channels: 2, Params: "minptime=10;useinbandfec=1"},
	Frames:     []int{10, 20, 40, 60},
	NewEncoder: newOpusEncoder,
	NewDecoder: newOpusDecoder,
}

// OpusComplexity is libopus' effort, 0 to 10. Five costs half of the default
// and cannot be told apart on telephone sound (docs/decisions/004-opus.md).
const OpusComplexity = 5

// opusEncoder is libopus in one of its two ways of coding (RFC 6716 §2.1): the
// transform (CELT) while nothing is lost and the line has room, for it costs half and is
// nearer to the original; linear prediction (SILK) as soon as something is lost, for it
// can repeat itself, where pauses are wanted, for it finds them, and where there is
// little room.
type opusEncoder struct {
	e          *opus.Encoder
	hz         int
	celt, silk int  // bit/s
	most       int  // that the peer takes; 0: it did not say
	spoken     bool // SILK even where nothing is lost
}

// What libopus is given, in bit/s: from here on more is not understood better.
const (
	celtNarrow, silkNarrow = 40_000, 24_000 // 8 kHz
	celtWide, silkWide     = 56_000, 32_000 // 16 kHz
)

// leastRepeated is the loss, in per cent, from which libopus goes over to SILK by
// itself; it repeats itself for less as if it were that.
const leastRepeated = 6

func newOpusEncoder(rate int) (Encoder, error) {
	o := &opusEncoder{hz: rate, celt: celtNarrow, silk: silkNarrow}
	if rate > 8000 {
		o.celt, o.silk = celtWide, silkWide
	}
	if err := o.begin(false); err != nil {
		return nil, err
	}
	return o, nil
}

// begin makes the encoder anew: libopus does not change its mind about what it is for.
func (o *opusEncoder) begin(spoken bool) error {
	application := opus.AppAudio // CELT from 18 kbit/s on
	if spoken {
		application = opus.AppVoIP // SILK up to 64 kbit/s
	}
	e, err := opus.NewEncoder(o.hz, 1, application)
	if err != nil {
		return err
	}
	o.e, o.spoken = e, spoken
	for _, set := range []func() error{
		func() error { return e.SetComplexity(OpusComplexity) },
		func() error { return e.SetBitrate(o.within(o.clear())) },
		func() error { return e.SetInBandFEC(true) },
	} {
		if err := set(); err != nil {
			return err
		}
	}
	return nil
}

// clear is what it may take where nothing is lost, in bit/s.
func (o *opusEncoder) clear() int {
	if o.spoken {
		return o.silk
	}
	return o.celt
}

func (o *opusEncoder) Encode(dst []byte, pcm []int16) (int, error) { return o.e.Encode(pcm, dst) }

// opusPause is the size up to which a packet holds no sound: it need not be sent.
const opusPause = 2

// Heed implements heeder: usedtx and maxaveragebitrate, the least of them (RFC 7587
// §6.1).
func (o *opusEncoder) Heed(to sdp.Format) error {
	pauses := false
	for p := range strings.SplitSeq(to.Params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		switch n, err := strconv.Atoi(value); {
		case err != nil:
		case name == "usedtx":
			pauses = n == 1
		case name == "maxaveragebitrate" && n >= 6000 && n <= 510_000 && (o.most == 0 || n < o.most):
			o.most = n
		}
	}
	if spoken := pauses || o.within(o.celt) < o.celt; spoken != o.spoken {
		if err := o.begin(spoken); err != nil {
			return err
		}
	}
	if err := o.e.SetBitrate(o.within(o.clear())); err != nil {
		return err
	}
	return o.e.SetDTX(pauses)
}

// within is a rate that the peer takes.
func (o *opusEncoder) within(rate int) int {
	if o.most > 0 {
		return min(rate, o.most)
	}
	return rate
}

// Pauses reports whether a packet need not be sent.
func (o *opusEncoder) Pauses(frame []byte) bool { return len(frame) <= opusPause }

// Spend sets libopus' effort.
func (o *opusEncoder) Spend(effort int) error { return o.e.SetComplexity(effort) }

// Expect sets how much of itself each packet repeats, and gives it the room:
// libopus repeats nothing where that would cost too much of the sound.
func (o *opusEncoder) Expect(loss float64) error {
	percent, rate := int(min(max(loss, 0), 1)*100+0.5), o.clear()
	if percent > 0 {
		percent, rate = max(percent, leastRepeated), o.silk*4/3
	}
	if err := o.e.SetBitrate(o.within(rate)); err != nil {
		return err
	}
	return o.e.SetPacketLossPerc(percent)
}

type opusDecoder struct {
	d    *opus.Decoder
	max  int // samples of MaxFrame
	step int // of 2.5 ms: Opus has no shorter frame
}

func newOpusDecoder(rate int) (Decoder, error) {
	d, err := opus.NewDecoder(rate, 1)
	if err != nil {
		return nil, err
	}
	return opusDecoder{d, rate / 1000 * int(MaxFrame/time.Millisecond), rate / 400}, nil
}

func (o opusDecoder) Decode(pcm []int16, payload []byte) (int, error) {
	if len(payload) == 0 {
		return 0, nil // DTX: nothing to say
	}
	return o.d.Decode(payload, pcm[:min(len(pcm), o.max)])
}

// Conceal implements Concealer: by what the next packet repeats, else by libopus'
// own extrapolation.
func (o opusDecoder) Conceal(pcm []int16, next []byte) error {
	n := len(pcm) / o.step * o.step
	if n == 0 {
		return nil
	}
	pcm = pcm[:n:n] // the library goes by the capacity
	if len(next) > 0 {
		return o.d.DecodeFEC(next, pcm)
	}
	return o.d.DecodePLC(pcm)
}
