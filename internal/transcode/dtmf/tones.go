package dtmf

import (
	"math"
	"math/cmplx"
	"time"
)

// The two frequencies of each key in Hz (ITU-T Q.23): a row and a column of
// the keypad.
var (
	rows    = [4]float64{697, 770, 852, 941}
	columns = [4]float64{1209, 1336, 1477, 1633}
)

const keypad = "123A456B789C*0#D"

// Tones makes a key's two tones.
type Tones struct {
	row, column, at float64 // radians a sample; samples made
}

// amplitude of each tone: -9 dBm0, within Q.23's and every PBX's bounds.
const amplitude = 8100

// NewTones begins a key's tones at a sampling rate in Hz.
func NewTones(d Digit, rate int) *Tones {
	for i := range len(keypad) {
		if keypad[i] == byte(d) {
			return &Tones{row: 2 * math.Pi * rows[i/4] / float64(rate), column: 2 * math.Pi * columns[i%4] / float64(rate)}
		}
	}
	return &Tones{}
}

// Fill writes what comes next.
func (t *Tones) Fill(pcm []int16) {
	for i := range pcm {
		pcm[i] = int16(amplitude * (math.Sin(t.row*t.at) + math.Sin(t.column*t.at)))
		t.at++
	}
}

// block is how many samples at 8000 Hz are looked at together: 12.75 ms, in
// which the frequencies of the keypad can be told apart. A key of 40 ms, the
// shortest that must be heard (ITU-T Q.24), holds two whole blocks.
const block = 102

// outOf is how much louder a key is than the quiet it comes out of, in energy: 9 dB.
const outOf = 8

// steady bounds how much a tone may change from one block to the next, as a ratio
// of amplitudes: a key sounds as it began, a voice does not.
const steady = 1.4

// offKey is how far a tone may be from its frequency: keys within 1.5 % must be
// heard, beyond 3.5 % they must not (ITU-T Q.24).
const offKey = 0.025

// The limits of a detection. Levels are of linear 16-bit samples.
const (
	faintest    = 350  // amplitude of one tone: -36 dBm0
	normalTwist = 2.6  // column over row, amplitudes: 8 dB
	reverse     = 1.8  // row over column: 5 dB
	apart       = 2.5  // the strongest of a group over the others, amplitudes: 8 dB
	share       = 0.75 // of the energy that the two tones must have: speech has more than two
	overtone    = 0.25 // of a column's amplitude, that its second harmonic may have: a voice's has more
)

// Detector hears keys in sound at 8000 Hz. It belongs to one goroutine.
type Detector struct {
	bank   [12]resonator // rows, columns, the columns' second harmonics (the rows' lie among the columns)
	energy float64
	n      int

	levels   [2]float64 // of the row and the column in this block
	before   [2]float64 // and in the one before
	phase    [2]complex128
	wasPhase [2]complex128
	tuned    [2]float64 // their frequencies as they should be, radians a sample
	loud     [3]float64 // energy of this block and of the two before
	hits     int        // blocks in a row with the same key
	sure     int        // how many it takes
	key      Digit      // being pressed; 0: none
	last     Digit      // of the block before
	misses   int        // blocks without the key that is being pressed
	suspects bool
}

// resonator measures one frequency (Goertzel).
type resonator struct{ omega, coefficient, s1, s2 float64 }

// phase is the tone's at the end of the block.
func (r *resonator) phase() complex128 {
	return complex(r.s1-r.s2*math.Cos(r.omega), r.s2*math.Sin(r.omega))
}

// NewDetector makes a detector.
func NewDetector() *Detector {
	d := new(Detector)
	for i := range 4 {
		for k, hz := range []float64{rows[i], columns[i], 2 * columns[i]} {
			omega := 2 * math.Pi * hz / 8000
			d.bank[4*k+i].omega, d.bank[4*k+i].coefficient = omega, 2*math.Cos(omega)
		}
	}
	return d
}

// Hear takes sound and calls pressed for each key when it is sure of it.
func (d *Detector) Hear(pcm []int16, pressed func(Digit)) {
	for _, s := range pcm {
		x := float64(s)
		d.energy += x * x
		for i := range d.bank {
			r := &d.bank[i]
			r.s1, r.s2 = x+r.coefficient*r.s1-r.s2, r.s1
		}
		if d.n++; d.n == block {
			if k := d.step(d.decide()); k != 0 {
				pressed(k)
			}
		}
	}
}

// Suspects reports whether what was heard last may be a key: it is to be muted
// before somebody else hears it too.
func (d *Detector) Suspects() bool { return d.suspects }

// step follows a key from block to block and returns one that has just become
// certain.
func (d *Detector) step(k Digit) Digit {
	switch {
	case k == 0:
		d.hits = 0
	case k == d.last && alike(d.levels[0], d.before[0]) && alike(d.levels[1], d.before[1]):
		if d.inTune(0) && d.inTune(1) {
			d.hits++
		}
	default:
		// A key comes out of the quiet. In the midst of a voice, two harmonics of which
		// can sound like one, it takes longer to be sure.
		d.hits, d.sure = 1, 2
		if min(d.loud[1], d.loud[2])*outOf > d.loud[0] {
			d.sure = 4
		}
	}
	d.last, d.before, d.wasPhase = k, d.levels, d.phase
	d.suspects = k != 0 || d.key != 0
	switch {
	case d.key != 0 && k == d.key:
		d.misses = 0
	case d.key != 0:
		if d.misses++; d.misses == 2 { // a gap of one block is a glitch
			d.key, d.misses = 0, 0
			d.suspects = k != 0
		}
	case d.hits >= d.sure && k != 0:
		d.key = k
		return k
	}
	return 0
}

// inTune tells a tone's frequency from how its phase went on since the block before.
func (d *Detector) inTune(tone int) bool {
	went := cmplx.Phase(d.phase[tone] * cmplx.Conj(d.wasPhase[tone]) * cmplx.Rect(1, -d.tuned[tone]*block))
	return math.Abs(went) < offKey*d.tuned[tone]*block
}

func alike(a, b float64) bool { return a < b*steady && b < a*steady }

// decide looks at one block, and begins the next.
func (d *Detector) decide() Digit {
	var level [12]float64 // amplitudes
	var phase [12]complex128
	for i := range d.bank {
		r := &d.bank[i]
		phase[i] = r.phase()
		level[i] = math.Sqrt(max(r.s1*r.s1+r.s2*r.s2-r.coefficient*r.s1*r.s2, 0)) * 2 / block
		r.s1, r.s2 = 0, 0
	}
	energy := d.energy
	d.loud = [3]float64{energy, d.loud[0], d.loud[1]}
	d.energy, d.n = 0, 0
	row, ok1 := strongest(level[0:4])
	column, ok2 := strongest(level[4:8])
	r, c := level[row], level[4+column]
	d.levels = [2]float64{r, c}
	d.phase = [2]complex128{phase[row], phase[4+column]}
	d.tuned = [2]float64{d.bank[row].omega, d.bank[4+column].omega}
	switch {
	case !ok1, !ok2, r < faintest, c < faintest, c > r*normalTwist, r > c*reverse,
		(r*r+c*c)*block/2 < share*energy,
		level[8+column] > c*overtone:
		return 0
	}
	return Digit(keypad[4*row+column])
}

// strongest finds the one that stands out.
func strongest(level []float64) (int, bool) {
	best := 0
	for i, v := range level {
		if v > level[best] {
			best = i
		}
	}
	for i, v := range level {
		if i != best && v*apart > level[best] {
			return 0, false
		}
	}
	return best, true
}

// Pause is how long the sound between two keys must last to tell them apart.
const Pause = 60 * time.Millisecond
