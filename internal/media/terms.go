package media

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
)

// heed takes the terms of whoever has some, whatever the trunk's own word is: from now
// on nothing passes in the clear, and recording is asked for or forbidden.
func (p *Plain) heed(want sdp.Session) {
	if want.Terms.Secret {
		p.cfg.SRTP = SRTPRequired
	}
	if want.Terms.Recording != "" {
		p.desc.Wish = want.Terms.Recording
	}
	p.desc.Recorded = want.Recorded
}

// What sound takes of a line beside the encoding's own bits, at 50 packets a second:
// IPv4, UDP, RTP and the tag of SRTP; and the least of all that Opus is intelligible
// with (RFC 6716 §2.1.1). All in bit/s.
const (
	headers   = (20 + 8 + 12 + sealing) * 8 * 50
	leastOpus = 6_000
	constant  = 64_000 // G.711 and G.722
)

// Fits reports whether an encoding can do with so many kbit/s, headers included; 0 is as
// much as it likes.
func Fits(codec string, most int) bool {
	need := headers + constant
	if strings.EqualFold(codec, "opus") {
		need = headers + leastOpus
	}
	return most == 0 || most*1000 >= need
}

// able are the formats for a browser, those preferred first, that fit its line.
func (w *WebRTC) able(preferred []string) []sdp.Format {
	all := able(browserOrder, preferred, event48k(110), event8k(126))
	return slices.DeleteFunc(all, func(f sdp.Format) bool { return !f.IsEvent() && !Fits(f.Name, w.most) })
}

// opusRate is what is left for Opus, in bit/s.
func opusRate(most int) int { return max(most*1000-headers, leastOpus) }

// enoughOpus is what Opus may take, in bit/s, where but a part of its band is heard: left
// alone, browsers spend less on less band, and speech has more to gain than the line.
const enoughOpus = 40_000

// limits are what a browser is told about the Opus that it sends (RFC 7587 §6.1): how
// much of its line, in kbit/s, that may take and up to which sampling rate, in Hz, it is
// heard. 0: as it likes.
func limits(most, hz int) string {
	text, rate := "", 0
	if hz > 0 {
		text, rate = ";maxplaybackrate="+strconv.Itoa(hz), enoughOpus
	}
	if most > 0 {
		rate = min(cmp.Or(rate, opusRate(most)), opusRate(most))
	}
	if rate > 0 {
		text += ";maxaveragebitrate=" + strconv.Itoa(rate)
	}
	return text
}

// heard is the sampling rate, in Hz, that is enough for an end with these formats; 0: it
// may hear all.
func heard(formats []sdp.Format) int {
	hz := 0
	for _, f := range formats {
		if c, ok := transcode.Find(f); ok {
			if c.Rate == 0 {
				return 0
			}
			hz = max(hz, c.Rate)
		}
	}
	return hz
}

// limits are those of the next description for a far end, and are remembered.
func (w *WebRTC) limits(far sdp.Session) string {
	w.most = far.Terms.Bandwidth
	hz := 0
	if !w.wide.Load() {
		_, m, _ := far.First(sdp.Audio)
		hz = heard(m.Formats)
	}
	w.stream.enough.Store(int32(hz))
	return limits(w.most, hz)
}

// reaches looks whether an end that hears this format hears more than the sender of
// these packets was told.
func (s *Stream) reaches(f sdp.Format) {
	told, hz := int(s.enough.Load()), heard([]sdp.Format{f})
	if told > 0 && (hz == 0 || hz > told) {
		s.widen()
	}
}

// limited puts limits into a description. A b= line would undo them: Chromium takes what
// stands there for the encoder's own, less no headers, and goes up to it.
func limited(description, limits string) string {
	if limits == "" {
		return description
	}
	var out strings.Builder
	opus := ""
	for l := range strings.Lines(description) {
		text := strings.TrimRight(l, "\r\n")
		if pt, name, ok := strings.Cut(strings.TrimPrefix(text, "a=rtpmap:"), " "); ok && strings.HasPrefix(strings.ToLower(name), "opus/") {
			opus = "a=fmtp:" + pt + " "
		}
		if opus != "" && strings.HasPrefix(text, opus) {
			text += limits
		}
		out.WriteString(text + "\r\n")
	}
	return out.String()
}

// narrowed says of one format how much it may take: what we describe to a telephone whose
// sound may cross untouched, or what our own encoder heeds.
func narrowed(f *sdp.Format, most int) {
	if strings.EqualFold(f.Name, "opus") {
		f.Params = strings.TrimPrefix(f.Params+limits(most, 0), ";")
	}
}
