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

type opusEncoder struct {
	e    *opus.Encoder
	rate int // bit/s where nothing is lost
	most int // that the peer takes; 0: it did not say
}

func newOpusEncoder(rate int) (Encoder, error) {
	e, err := opus.NewEncoder(rate, 1, opus.AppVoIP)
	if err != nil {
		return nil, err
	}
	bitrate := 24_000 // from here on more is not understood better
	if rate > 8000 {
		bitrate = 32_000
	}
	for _, set := range []func() error{
		func() error { return e.SetComplexity(OpusComplexity) },
		func() error { return e.SetBitrate(bitrate) },
		func() error { return e.SetInBandFEC(true) },
	} {
		if err := set(); err != nil {
			return nil, err
		}
	}
	return &opusEncoder{e: e, rate: bitrate}, nil
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
	if err := o.e.SetBitrate(o.within(o.rate)); err != nil {
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
	percent := int(min(max(loss, 0), 1)*100 + 0.5)
	rate := o.rate
	if percent > 0 {
		rate = rate * 4 / 3
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
