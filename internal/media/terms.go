package media

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sipbridge/sipbridge/internal/sdp"
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

// narrow says in a description how much Opus may take (RFC 7587 §6.1). A b= line would
// undo it: Chromium takes what stands there for the encoder's own, less no headers, and
// goes up to it.
func narrow(description string, most int) string {
	if most == 0 {
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
			text += ";maxaveragebitrate=" + strconv.Itoa(opusRate(most))
		}
		out.WriteString(text + "\r\n")
	}
	return out.String()
}

// narrowed says the same of one format: what we describe to a telephone whose sound may
// cross untouched, or what our own encoder heeds.
func narrowed(f *sdp.Format, most int) {
	if most > 0 && strings.EqualFold(f.Name, "opus") {
		f.Params = strings.TrimPrefix(f.Params+";maxaveragebitrate="+strconv.Itoa(opusRate(most)), ";")
	}
}
