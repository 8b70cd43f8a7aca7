package dtmf

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// detect runs sound through a detector, 20 ms at a time.
func detect(pcm []int16) string {
	d := NewDetector()
	var got []byte
	for len(pcm) > 0 {
		n := min(160, len(pcm))
		d.Hear(pcm[:n], func(k Digit) { got = append(got, byte(k)) })
		pcm = pcm[n:]
	}
	return string(got)
}

// press is a key's tones with their frequencies and levels bent, between
// silences.
func press(k Digit, ms int, bend, rowGain, columnGain float64, offset int) []int16 {
	t := NewTones(k, 8000)
	out := make([]int16, 400+offset)
	for i := range ms * 8 {
		at := float64(i)
		v := amplitude * (rowGain*math.Sin(t.row*bend*at) + columnGain*math.Sin(t.column*bend*at))
		out = append(out, int16(max(min(v, 32767), -32768)))
	}
	return append(out, make([]int16, 800)...)
}

func db(v float64) float64 { return math.Pow(10, v/20) }

func TestEveryKeyIsHeardWithinTheLimitsOfQ24(t *testing.T) {
	for i := range len(Digits) {
		k := Digit(Digits[i])
		for name, pcm := range map[string][]int16{
			"as made":              press(k, 100, 1, 1, 1, 0),
			"40 ms":                press(k, 40, 1, 1, 1, 0),
			"40 ms, off the block": press(k, 40, 1, 1, 1, 51),
			"1.5 % high":           press(k, 60, 1.015, 1, 1, 13),
			"1.5 % low":            press(k, 60, 0.985, 1, 1, 13),
			"row 4 dB stronger":    press(k, 60, 1, 1, db(-4), 7),
			"column 6 dB stronger": press(k, 60, 1, db(-6), 1, 7),
			"20 dB fainter":        press(k, 60, 1, db(-20), db(-20), 31),
		} {
			if got := detect(pcm); got != string(k) {
				t.Errorf("%c %s: %q", k, name, got)
			}
		}
	}
}

func TestWhatIsNoKeyIsNotHeard(t *testing.T) {
	single := make([]int16, 8000)
	for i := range single {
		single[i] = int16(9000 * math.Sin(2*math.Pi*770*float64(i)/8000))
	}
	fax := make([]int16, 8000)
	for i := range fax {
		fax[i] = int16(9000 * math.Sin(2*math.Pi*2100*float64(i)/8000))
	}
	noise := make([]int16, 80000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = int16(r.NormFloat64() * 4000)
	}
	for name, pcm := range map[string][]int16{
		"one tone": single, "a fax's answer tone": fax, "noise": noise,
		"20 ms":                 press('5', 20, 1, 1, 1, 0),
		"a row 12 dB stronger":  press('5', 100, 1, 1, db(-12), 0),
		"40 dB fainter":         press('5', 100, 1, db(-40), db(-40), 0),
		"between two keys' row": press('5', 100, 1.06, 1, 1, 0),
	} {
		if got := detect(pcm); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAKeyOutOfTuneIsNotHeard(t *testing.T) {
	for i := range len(Digits) {
		for _, bend := range []float64{0.965, 1.035} {
			for offset := 0; offset < block; offset += 17 {
				for name, in := range map[string][2]float64{"row": {bend, 1}, "column": {1, bend}, "both": {bend, bend}} {
					key := NewTones(Digit(Digits[i]), 8000)
					key.row *= in[0]
					key.column *= in[1]
					on := make([]int16, 800)
					key.Fill(on)
					if got := detect(append(append(make([]int16, 400+offset), on...), make([]int16, 800)...)); got != "" {
						t.Errorf("%c, its %s %.1f %% off: %q", Digits[i], name, (bend-1)*100, got)
					}
				}
			}
		}
	}
}

func TestTheSameKeyTwiceIsTwoPresses(t *testing.T) {
	var pcm []int16
	for range 3 {
		on := make([]int16, 50*8)
		NewTones('7', 8000).Fill(on)
		pcm = append(append(pcm, on...), make([]int16, 50*8)...)
	}
	if got := detect(pcm); got != "777" {
		t.Errorf("%q", got)
	}
}

func TestSpeechHoldsNoKeys(t *testing.T) {
	files, err := filepath.Glob("../../demo/prompts/*.ulaw")
	if err != nil || len(files) == 0 {
		t.Fatalf("no speech: %v", err)
	}
	seconds := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pcm := make([]int16, len(b))
		for i, u := range b { // ITU-T G.711 mu-law
			u = ^u
			v := (int(u&15)<<3+132)<<(u>>4&7) - 132
			if u&0x80 != 0 {
				v = -v
			}
			pcm[i] = int16(v)
		}
		seconds += len(pcm) / 8000
		for _, gain := range []float64{1, 0.25} {
			loud := make([]int16, len(pcm))
			for i := range pcm {
				loud[i] = int16(float64(pcm[i]) * gain)
			}
			if got := detect(loud); got != "" {
				t.Errorf("%s: %q", f, got)
			}
		}
	}
	t.Logf("%d s of speech", seconds)
}

func BenchmarkDetector(b *testing.B) {
	d := NewDetector()
	pcm := make([]int16, 160)
	for i := range pcm {
		pcm[i] = int16(i * 100)
	}
	b.ReportAllocs()
	for b.Loop() {
		d.Hear(pcm, func(Digit) {})
	}
}
