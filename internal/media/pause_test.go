package media

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
)

// pausing is a talker who says for two seconds of every four, but for one
// description, nothing: pt is the payload type of that.
func pausing(t *testing.T, all []arrival, pt uint8, description []byte) []arrival {
	t.Helper()
	var out []arrival
	seq := all[0].pkt.Seq
	for n, a := range all {
		if n%200 > 100 {
			continue
		}
		if n%200 == 100 {
			a.pkt.PT, a.pkt.Raw = pt, append(make([]byte, Headroom), description...)
		}
		a.pkt.Seq = seq
		seq++
		out = append(out, a)
	}
	return out
}

// level is what a piece of sound measures, in dB below the overload point.
func level(pcm []int16) float64 {
	var e float64
	for _, s := range pcm {
		e += float64(s) * float64(s)
	}
	return -10 * math.Log10(e/float64(len(pcm))/math.MaxInt16/math.MaxInt16)
}

// A telephone that pauses says what its room sounds like; the patient hears that
// and not a dead line (RFC 3389).
func TestAPauseSoundsAsItIsDescribed(t *testing.T) {
	all := pausing(t, talker(t, 800), 13, []byte{50, 200, 100})
	got, s := carryFrom([]sdp.Format{codec("PCMA"), noise8k()}, &Agreed{Send: codec("PCMU")}, all)
	continuous(t, got)
	if s.Concealed > giveUp || s.Late > 0 || s.Unknown > 0 {
		t.Errorf("%+v", s)
	}
	pcm := listened(got)
	for second := range 14 {
		at := second*8000 + 2000
		if l := level(pcm[at : at+4000]); second%4 > 1 && math.Abs(l-50) > 1.5 || second%4 < 2 && l > 30 {
			t.Errorf("second %d is %.1f dB below the overload point", second, l)
		}
	}
	if c := click(pcm); c > smooth {
		t.Errorf("a step of %d", c)
	}
}

// A browser that pauses sends next to nothing (RFC 7587 §3.1.3). A telephone that
// may be told of it is, any other one hears the room.
func TestAPauseOfOpusIsDescribedOrHeard(t *testing.T) {
	coder, err := transcode.New(codec("PCMA"), sdp.Format{Name: "opus", Clock: 48000, Channels: 2, Params: "minptime=10;usedtx=1"}, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	speech := talker(t, 1000)
	hush := make([]byte, 160)
	for i := range hush {
		hush[i] = 0xd5
	}
	var all []arrival
	pauses := 0
	for n, a := range speech {
		in := a.pkt.Payload()
		if n%200 >= 50 && n >= 200 {
			in = hush
		}
		if _, err := coder.Push(in, transcode.Steady); err != nil {
			t.Fatal(err)
		}
		f, err := coder.Frame()
		if err != nil {
			t.Fatal(err)
		}
		if len(f) == 0 {
			pauses++
			continue
		}
		a.pkt = Packet{PT: 111, Seq: uint16(len(all)), TS: uint32(n) * 960, SSRC: 7, Raw: append(make([]byte, Headroom), f...)}
		all = append(all, a)
	}
	if pauses < 300 {
		t.Fatalf("the encoder paused %d times", pauses)
	}
	got, s := carryFrom([]sdp.Format{codec("opus")}, &Agreed{Send: codec("PCMU")}, slices.Clone(all))
	continuous(t, got)
	if s.Concealed > giveUp {
		t.Errorf("%v were made up for what nobody said", s.Concealed)
	}
	told, _ := carryFrom([]sdp.Format{codec("opus")}, &Agreed{Send: codec("PCMU"), Noise: noise8k()}, all)
	descriptions := 0
	for n, g := range told {
		if g.PayloadType != 13 {
			continue
		}
		descriptions++
		spoken := int(g.at / (20 * time.Millisecond))
		hushed := spoken > 250 && spoken%200 > 75
		if len(g.payload) != transcode.NoiseSize || hushed && g.payload[0] < 50 || g.Marker {
			t.Errorf("frame %d: a description of %v, marker %v", spoken, g.payload, g.Marker)
		}
		if n+1 < len(told) && told[n+1].PayloadType == 0 && !told[n+1].Marker {
			t.Error("the talk spurt after a pause has no marker")
		}
	}
	if descriptions < 10 || descriptions > 60 || len(told)+pauses/3 > len(got) {
		t.Errorf("%d packets, %d of them descriptions, instead of %d; %d frames were pauses", len(told), descriptions, len(got), pauses)
	}
}

// Comfort noise is taken where the sound is recoded and nowhere else.
func TestPausesAreAgreedOnWhereTheyCanBeFilled(t *testing.T) {
	offer := []byte("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 13 101\r\na=rtpmap:101 telephone-event/8000\r\n")
	pool, err := NewPool(loops(t), 47400, 47499, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for far, want := range map[string]bool{"opus": true, "PCMA": false} {
		p := plain(t, pool)
		if _, err := p.SetOffer(offer); err != nil {
			t.Fatal(err)
		}
		b, err := p.Answer(t.Context(), sdp.Session{Media: []sdp.Media{{Kind: sdp.Audio, Formats: []sdp.Format{codec(far)}}}})
		if err != nil {
			t.Fatal(err)
		}
		d, err := sdp.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(d.Lines[0].Formats, sdp.Format.IsNoise); got != want || (p.stream.Agreed().Noise.Name != "") != want {
			t.Errorf("towards %s: %s", far, b)
		}
	}
}
