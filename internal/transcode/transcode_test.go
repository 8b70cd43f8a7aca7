package transcode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

func sine(n, rate int, hz, amplitude float64) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(amplitude * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return pcm
}

// snr fits a sine of the given frequency and returns its level over the rest, in dB.
func snr(pcm []int16, rate int, hz float64) float64 {
	var re, im, power float64
	for i, s := range pcm {
		w := 2 * math.Pi * hz * float64(i) / float64(rate)
		re += float64(s) * math.Cos(w)
		im += float64(s) * math.Sin(w)
		power += float64(s) * float64(s)
	}
	n := float64(len(pcm))
	signal := 2 * (re*re + im*im) / n / n
	return 10 * math.Log10(signal/(power/n-signal+1e-9))
}

func format(name string) sdp.Format {
	for _, c := range Codecs {
		if c.Name == name {
			return c.Format
		}
	}
	panic(name)
}

// Every pair of codecs carries a tone at every packet time.
func TestEachPairCarriesATone(t *testing.T) {
	floor := map[string]float64{"PCMU": 30, "PCMA": 30, "G722": 30, "opus": 12}
	for _, from := range Codecs {
		for _, to := range Codecs {
			if from.Name == to.Name {
				continue
			}
			for _, in := range []int{10, 20, 30, 40, 60} {
				for _, out := range []int{10, 20, 40, 60} {
					if PacketTime(from, time.Duration(in)*time.Millisecond) != in {
						continue
					}
					tr, err := New(from.Format, to.Format, time.Duration(out)*time.Millisecond)
					if err != nil {
						t.Fatal(err)
					}
					enc, _ := from.NewEncoder(tr.inRate)
					dec, _ := to.NewDecoder(tr.outRate)
					src := sine(tr.inRate*3, tr.inRate, 1000, 8000)
					var got []int16
					var buf [MaxPayload]byte
					var pcm [maxSamples]int16
					step := tr.inRate / 1000 * in
					for i := 0; i+step <= len(src); i += step {
						n, err := enc.Encode(buf[:], src[i:i+step])
						if err != nil {
							t.Fatal(err)
						}
						if err := through(tr, buf[:n], func(f []byte) {
							k, err := dec.Decode(pcm[:], f)
							if err != nil {
								t.Fatal(err)
							}
							if k != tr.outRate/1000*out {
								t.Fatalf("%v: frame of %d samples, want %d ms", tr, k, out)
							}
							got = append(got, pcm[:k]...)
						}); err != nil {
							t.Fatal(err)
						}
					}
					if len(got) < len(src)*tr.outRate/tr.inRate*9/10 {
						t.Fatalf("%v %d>%d: %d samples came of %d", tr, in, out, len(got), len(src))
					}
					tail := got[len(got)/2:]
					if v := snr(tail, tr.outRate, 1000); v < min(floor[from.Name], floor[to.Name]) {
						t.Errorf("%v %d>%d ms: signal to noise %.1f dB", tr, in, out, v)
					}
				}
			}
		}
	}
}

func TestG711RoundTripsEveryCode(t *testing.T) {
	for _, c := range []Codec{pcmuCodec, pcmaCodec} {
		enc, _ := c.NewEncoder(8000)
		dec, _ := c.NewDecoder(8000)
		for b := range 256 {
			var pcm [1]int16
			var out [1]byte
			dec.Decode(pcm[:], []byte{byte(b)})
			enc.Encode(out[:], pcm[:])
			var again [1]int16
			dec.Decode(again[:], out[:])
			// mu-law has two zeros; the sound is the same.
			if again != pcm {
				t.Errorf("%s %#x: %d became %d", c.Name, b, pcm[0], again[0])
			}
		}
	}
}

// ffmpeg's encoders and decoders are the independent reference.
func TestAgainstFFmpeg(t *testing.T) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Skip("ffmpeg is not installed; make test installs it and runs this")
	}
	for _, c := range []struct {
		codec Codec
		name  string
		rate  int
	}{{g722Codec, "g722", 16000}, {pcmuCodec, "mulaw", 8000}, {pcmaCodec, "alaw", 8000}} {
		t.Run(c.name, func(t *testing.T) {
			pcm := append(sine(c.rate, c.rate, 440, 20000), sine(c.rate, c.rate, 3100, 9000)...)
			pcm = append(pcm, make([]int16, 1600)...)
			state := uint32(1)
			for range c.rate {
				state = state*1664525 + 1013904223
				pcm = append(pcm, int16(state>>16))
			}
			raw := new(bytes.Buffer)
			binary.Write(raw, binary.LittleEndian, pcm)
			dir := t.TempDir()
			in, coded, back := filepath.Join(dir, "in.raw"), filepath.Join(dir, "coded"), filepath.Join(dir, "back.raw")
			os.WriteFile(in, raw.Bytes(), 0o600)
			rate := map[int]string{8000: "8000", 16000: "16000"}[c.rate]
			muxer := c.name
			codec := map[string]string{"g722": "g722", "mulaw": "pcm_mulaw", "alaw": "pcm_alaw"}[c.name]
			run(t, ffmpeg, "-f", "s16le", "-ar", rate, "-ac", "1", "-i", in, "-c:a", codec, "-f", muxer, coded)
			want, err := os.ReadFile(coded)
			if err != nil {
				t.Fatal(err)
			}
			enc, _ := c.codec.NewEncoder(c.rate)
			got := make([]byte, len(pcm))
			n, err := enc.Encode(got, pcm)
			if err != nil {
				t.Fatal(err)
			}
			// ffmpeg rounds G.711 to the nearest step where G.711's own tables cut off;
			// G.722 leaves no such freedom.
			if diff := differing(got[:n], want); diff >= 0 && c.name == "g722" {
				t.Errorf("encoder differs from ffmpeg's at byte %d of %d", diff, len(want))
			}
			demux := []string{"-f", muxer, "-ar", rate, "-i", coded}
			if c.name == "g722" {
				demux = []string{"-f", muxer, "-i", coded}
			}
			run(t, ffmpeg, append(demux, "-f", "s16le", "-c:a", "pcm_s16le", back)...)
			b, _ := os.ReadFile(back)
			ref := make([]int16, len(b)/2)
			binary.Read(bytes.NewReader(b), binary.LittleEndian, ref)
			dec, _ := c.codec.NewDecoder(c.rate)
			out := make([]int16, 2*len(want))
			k, err := dec.Decode(out, want)
			if err != nil {
				t.Fatal(err)
			}
			if k != len(ref) {
				t.Fatalf("%d samples, ffmpeg made %d", k, len(ref))
			}
			for i := range ref {
				if out[i] != ref[i] {
					t.Fatalf("decoder differs from ffmpeg's at sample %d: %d, want %d", i, out[i], ref[i])
				}
			}
		})
	}
}

func differing(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, append([]string{"-hide_banner", "-loglevel", "error", "-y"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// through pushes one payload and emits the frames that became whole.
func through(tr *Transcoder, payload []byte, emit func([]byte)) error {
	if _, err := tr.Push(payload, Steady); err != nil {
		return err
	}
	for {
		f, err := tr.Frame()
		if err != nil || f == nil {
			return err
		}
		emit(f)
	}
}

func BenchmarkTranscode(b *testing.B) {
	for _, c := range []struct {
		from, to string
		loss     float64
	}{{"PCMU", "opus", 0}, {"PCMU", "opus", 0.05}, {"opus", "PCMU", 0}, {"G722", "opus", 0}, {"PCMU", "G722", 0}, {"PCMU", "PCMA", 0}} {
		b.Run(fmt.Sprintf("%s_%s/loss=%g", c.from, c.to, c.loss), func(b *testing.B) {
			tr, err := New(format(c.from), format(c.to), 20*time.Millisecond)
			if err != nil {
				b.Fatal(err)
			}
			if err := tr.Expect(c.loss); err != nil {
				b.Fatal(err)
			}
			enc, _ := tr.from.NewEncoder(tr.inRate)
			var buf [MaxPayload]byte
			n, _ := enc.Encode(buf[:], sine(tr.inRate/50, tr.inRate, 300, 9000))
			emit := func([]byte) {}
			b.ReportAllocs()
			for b.Loop() {
				if err := through(tr, buf[:n], emit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// voiced is something like a vowel: a pitch of 125 Hz with harmonics.
func voiced(n, rate int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		t := float64(i) / float64(rate)
		v := 0.0
		for k := 1; k <= 8; k++ {
			v += math.Sin(2*math.Pi*125*float64(k)*t+float64(k)) / float64(k)
		}
		pcm[i] = int16(v * 4000)
	}
	return pcm
}

// steepest is the largest step from one sample to the next: a click is one.
func steepest(pcm []int16) int {
	most := 0
	for i := 1; i < len(pcm); i++ {
		most = max(most, abs(int(pcm[i])-int(pcm[i-1])))
	}
	return most
}

func abs(v int) int { return max(v, -v) }

func TestALossIsHiddenWithoutAClickAndFadesAway(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		src := voiced(rate, rate)
		c := newConcealer(rate)
		frame := rate / 50
		var got []int16
		for i := 0; i+frame <= len(src); i += frame {
			pcm := append([]int16(nil), src[i:i+frame]...)
			if n := i / frame; n == 20 || n == 30 || n == 31 { // 20 ms, then 40 ms
				c.conceal(pcm)
			} else {
				c.heard(pcm)
			}
			got = append(got, pcm...)
		}
		if s, limit := steepest(got), steepest(src)*3/2; s > limit {
			t.Errorf("%d Hz: a step of %d where the sound has at most %d", rate, s, limit)
		}
		var want, left float64 // energy of the first loss, 10 ms of it: not faded yet
		for i := 20 * frame; i < 20*frame+frame/2; i++ {
			want += float64(src[i]) * float64(src[i])
			left += float64(got[i]) * float64(got[i])
		}
		if r := left / want; r < 0.7 || r > 1.3 {
			t.Errorf("%d Hz: what hides a loss has %.2f of the sound's energy", rate, r)
		}
		quiet := make([]int16, 4*frame)
		c.conceal(quiet)
		for _, s := range quiet[3*frame+frame/2:] {
			if s != 0 {
				t.Fatalf("%d Hz: after 70 ms there is still %d", rate, s)
			}
		}
	}
}

func TestTimeIsTakenOutAndPutInWithoutAClick(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		src := voiced(rate, rate)
		frame := rate / 50
		for name, change := range map[string]func([]int16, int) []int16{"shorter": shorten, "longer": stretch} {
			var got []int16
			changed := 0
			for i := 0; i+frame <= len(src); i += frame {
				pcm := append(make([]int16, 0, 2*frame), src[i:i+frame]...)
				if i/frame%10 == 5 {
					pcm = change(pcm, rate)
					changed += len(pcm) - frame
				}
				got = append(got, pcm...)
			}
			if s, limit := steepest(got), steepest(src)*5/4; s > limit {
				t.Errorf("%s at %d Hz: a step of %d where the sound has at most %d", name, rate, s, limit)
			}
			if ms := changed * 1000 / rate; name == "shorter" && ms > -20 || name == "longer" && ms < 20 {
				t.Errorf("%s at %d Hz: changed by %d ms", name, rate, ms)
			}
		}
		noise := make([]int16, frame)
		state := uint32(1)
		for i := range noise {
			state = state*1664525 + 1013904223
			noise[i] = int16(state >> 16)
		}
		if got := shorten(noise, rate); len(got) != frame {
			t.Errorf("at %d Hz sound that resembles nothing was cut", rate)
		}
	}
}

func TestAfterAFaxAnswersNothingIsMadeUpAndTimeIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		hz  float64
		fax bool
	}{"a fax's answer": {2100, true}, "a tone that is none": {1900, false}} {
		tr, err := New(format("PCMU"), format("PCMA"), 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := tr.from.NewEncoder(8000)
		if err != nil {
			t.Fatal(err)
		}
		src := sine(8000, 8000, c.hz, 8000)
		var buf [MaxPayload]byte
		for i := 0; i+160 <= len(src); i += 160 {
			n, err := enc.Encode(buf[:], src[i:i+160])
			if err != nil {
				t.Fatal(err)
			}
			if err := through(tr, buf[:n], func([]byte) {}); err != nil {
				t.Fatal(err)
			}
		}
		n, err := enc.Encode(buf[:], sine(160, 8000, 300, 8000))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Push(buf[:n], Shorter); err != nil {
			t.Fatal(err)
		}
		if kept := tr.Pending() == 20*time.Millisecond; kept != c.fax {
			t.Errorf("%s: of 20 ms that were to be shortened %v are left", name, tr.Pending())
		}
		tr.Drop()
		if err := tr.Conceal(20*time.Millisecond, nil); err != nil {
			t.Fatal(err)
		}
		silent := true
		for _, s := range tr.pending[:tr.n] {
			silent = silent && s == 0
		}
		if silent != c.fax {
			t.Errorf("%s: a gap is silent: %v", name, silent)
		}
	}
}

func TestOnlyAPauseIsTightened(t *testing.T) {
	for _, c := range []struct {
		loud  float64
		tempo Tempo
		full  bool
	}{{0, Tighter, false}, {100, Tighter, false}, {8000, Tighter, true}, {8000, Shorter, false}, {8000, Steady, true}} {
		tr, err := New(pcmaCodec.Format, opusCodec.Format, 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		var frame [160]byte
		for i := range frame {
			frame[i] = aEncode(int(c.loud * math.Sin(float64(i)*2*math.Pi/40)))
		}
		if _, err := tr.Push(frame[:], c.tempo); err != nil {
			t.Fatal(err)
		}
		if full := tr.Pending() == 20*time.Millisecond; full != c.full {
			t.Errorf("of a peak of %.0f, tempo %d, %v are left", c.loud, c.tempo, tr.Pending())
		}
	}
}
