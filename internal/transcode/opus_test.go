package transcode

import (
	"math"
	"os"
	"testing"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

func TestOpusRepairsALossFromTheNextPacket(t *testing.T) {
	const rate, frame = 8000, 160
	mulaw, err := os.ReadFile("../demo/prompts/greeting.ulaw") // speech: what was lost of it cannot be guessed
	if err != nil {
		t.Fatal(err)
	}
	src := make([]int16, len(mulaw))
	for i, b := range mulaw {
		src[i] = muToLinear[b]
	}
	distance := func(fec bool) float64 {
		e, err := newOpusEncoder(rate)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.(*opusEncoder).Expect(0.2); err != nil {
			t.Fatal(err)
		}
		whole, _ := newOpusDecoder(rate)
		torn, _ := newOpusDecoder(rate)
		var packets [][]byte
		for i := 0; i+frame <= len(src); i += frame {
			var buf [MaxPayload]byte
			n, err := e.Encode(buf[:], src[i:i+frame])
			if err != nil {
				t.Fatal(err)
			}
			packets = append(packets, buf[:n:n])
		}
		var a, b [maxSamples]int16
		var sum float64
		for i, p := range packets {
			n, err := whole.Decode(a[:], p)
			if err != nil {
				t.Fatal(err)
			}
			if i > 10 && i%5 == 0 && i+1 < len(packets) {
				var next []byte
				if fec {
					next = packets[i+1]
				}
				if err := torn.(Concealer).Conceal(b[:n], next); err != nil {
					t.Fatal(err)
				}
				for k := range n {
					d := float64(a[k]) - float64(b[k])
					sum += d * d
				}
			} else if _, err := torn.Decode(b[:], p); err != nil {
				t.Fatal(err)
			}
		}
		return sum
	}
	if with, without := distance(true), distance(false); with > without/2 {
		t.Errorf("the next packet repairs nothing: %.3g against %.3g", with, without)
	}
}

func TestOpusIsMadeAtTheRateThatThePeerTakes(t *testing.T) {
	tone := make([]int16, 160)
	size := func(params string) (bytes int) {
		e, err := newOpusEncoder(8000)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.(*opusEncoder).Heed(sdp.Format{Params: params}); err != nil {
			t.Fatal(err)
		}
		if err := e.(*opusEncoder).Expect(0.1); err != nil { // which wants more room
			t.Fatal(err)
		}
		var buf [MaxPayload]byte
		for i := range 200 {
			for k := range tone {
				tone[k] = int16(8000 * math.Sin(float64(i*160+k)*0.3*float64(1+i%7)))
			}
			n, err := e.Encode(buf[:], tone)
			if err != nil {
				t.Fatal(err)
			}
			bytes += n
		}
		return bytes * 8 / 4 // bit/s
	}
	free, bound := size("minptime=10;useinbandfec=1"), size("minptime=10;maxaveragebitrate=20000; maxaveragebitrate=12000;useinbandfec=1")
	if free < 24_000 || bound > 13_200 || bound < 9_000 {
		t.Errorf("%d bit/s where nothing is said, %d where 12000 are the most", free, bound)
	}
	if nonsense := size("maxaveragebitrate=12;usedtx=x;maxaveragebitrate"); nonsense != free {
		t.Errorf("%d bit/s, for a wish that is none", nonsense)
	}
}

func TestOpusCodesAsTheLineIs(t *testing.T) {
	for name, c := range map[string]struct {
		params    string
		loss      float64
		celt      bool
		at16, at8 int // the most bit/s
	}{
		"nothing is lost":               {"", 0, true, 60_000, 44_000},
		"a little is lost":              {"", 0.01, false, 50_000, 36_000},
		"much is lost":                  {"", 0.3, false, 50_000, 36_000},
		"the peer likes pauses":         {"usedtx=1", 0, false, 36_000, 26_000},
		"the line is narrow":            {"maxaveragebitrate=20000", 0, false, 23_000, 23_000},
		"the line has room for more":    {"maxaveragebitrate=64000", 0, true, 60_000, 44_000},
		"narrow, and something is lost": {"maxaveragebitrate=20000", 0.1, false, 23_000, 23_000},
	} {
		for hz, most := range map[int]int{8000: c.at8, 16000: c.at16} {
			e, err := newOpusEncoder(hz)
			if err != nil {
				t.Fatal(err)
			}
			o := e.(*opusEncoder)
			if err := o.Heed(sdp.Format{Params: c.params}); err != nil {
				t.Fatal(err)
			}
			if err := o.Expect(c.loss); err != nil {
				t.Fatal(err)
			}
			pcm := make([]int16, hz/50)
			bytes := 0
			var buf [MaxPayload]byte
			for i := range 100 {
				for k := range pcm {
					pcm[k] = int16(6000 * math.Sin(float64(i*len(pcm)+k)*0.11*float64(1+i%5)))
				}
				n, err := o.Encode(buf[:], pcm)
				if err != nil {
					t.Fatal(err)
				}
				bytes += n
				if celt := buf[0]>>3 >= 16; celt != c.celt { // RFC 6716 §3.1
					t.Fatalf("%s, %d Hz: configuration %d", name, hz, buf[0]>>3)
				}
			}
			if rate := bytes * 8 / 2; rate > most {
				t.Errorf("%s, %d Hz: %d bit/s", name, hz, rate)
			}
		}
	}
}
