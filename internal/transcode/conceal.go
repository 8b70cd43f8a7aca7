package transcode

import "math"

// concealer hides what was lost (the method of ITU-T G.711 Appendix I): it
// repeats the last pitch periods, joined by overlapping, fades them out in 60 ms
// and blends back into what arrives next. It serves any codec without
// concealment of its own, at 8 or 16 kHz.
type concealer struct {
	rate  int
	past  [historyMS * 16]int16 // the last sound that was heard, newest last
	n     int                   // of past in use: historyMS at the rate
	lost  int                   // samples concealed since
	pitch int
	cycle [3 * maxPitchMS * 16]int16 // what is repeated, its end blended into its beginning
	size  int
	at    int // position in cycle
}

// In milliseconds: how much is remembered, the longest and the shortest pitch
// (66 and 200 Hz), the window in which it is looked for, and the steps of the
// fade.
const (
	historyMS  = 50
	maxPitchMS = 15
	minPitchMS = 5
	windowMS   = 20
	stepMS     = 10
	fadeMS     = 60
)

func newConcealer(rate int) *concealer { return &concealer{rate: rate, n: historyMS * rate / 1000} }

func (c *concealer) ms(n int) int { return n * c.rate / 1000 }

// heard takes sound that arrived; after a loss its beginning is blended in place
// with what was being repeated.
func (c *concealer) heard(pcm []int16) {
	if c.lost > 0 {
		// The longer the loss, the longer the way back (Appendix I §I.2.7).
		over := min(len(pcm), c.pitch/4+min(c.lost/c.ms(stepMS)*c.ms(4), c.ms(6)))
		for i := range over {
			pcm[i] = int16((int(c.next())*(over-i) + int(pcm[i])*i) / over)
		}
		c.lost = 0
	}
	past := c.past[:c.n]
	if len(pcm) >= c.n {
		copy(past, pcm[len(pcm)-c.n:])
		return
	}
	copy(past, past[len(pcm):])
	copy(past[c.n-len(pcm):], pcm)
}

// conceal fills pcm with what may have been said.
func (c *concealer) conceal(pcm []int16) {
	if c.lost == 0 {
		c.pitch = c.findPitch()
		c.at = 0
		c.repeat(1)
	}
	for i := range pcm {
		if c.lost > 0 && c.lost%c.ms(stepMS) == 0 && c.lost/c.ms(stepMS) < 3 {
			c.repeat(c.lost/c.ms(stepMS) + 1) // more periods, or it buzzes
		}
		pcm[i] = c.next()
	}
}

// next is the next sample of the repetition, faded.
func (c *concealer) next() int16 {
	s := int(c.cycle[c.at])
	c.at = (c.at + 1) % c.size
	if over := c.lost - c.ms(stepMS); over > 0 {
		whole := c.ms(fadeMS - stepMS)
		s = s * max(whole-over, 0) / whole
	}
	c.lost++
	return int16(s)
}

// repeat takes so many periods from the past.
func (c *concealer) repeat(periods int) {
	c.size = periods * c.pitch
	past := c.past[:c.n]
	copy(c.cycle[:c.size], past[c.n-c.size:])
	// The last quarter of a period glides into what came before the first.
	over := c.pitch / 4
	before := past[c.n-c.size-over : c.n-c.size]
	for i := range over {
		k := c.size - over + i
		c.cycle[k] = int16((int(c.cycle[k])*(over-i) + int(before[i])*i) / over)
	}
	c.at %= c.size
}

// findPitch is the lag at which the end of the past resembles itself most.
func (c *concealer) findPitch() int {
	past := c.past[:c.n]
	window := past[c.n-c.ms(windowMS):]
	best, found := 0.0, c.ms(maxPitchMS)
	for lag := c.ms(minPitchMS); lag <= c.ms(maxPitchMS); lag++ {
		if r := resemblance(window, past[c.n-c.ms(windowMS)-lag:]); r > best {
			best, found = r, lag
		}
	}
	return found
}

// resemblance is the normalized correlation of a with the beginning of b, 0 to 1;
// 0 where they have nothing in common.
func resemblance(a, b []int16) float64 {
	var ab, bb, aa int64
	for i, x := range a {
		y := int64(b[i])
		ab += int64(x) * y
		bb += y * y
		aa += int64(x) * int64(x)
	}
	if ab <= 0 {
		return 0
	}
	return float64(ab) / (1 + math.Sqrt(float64(aa))*math.Sqrt(float64(bb)))
}

// alike is the resemblance from which two pieces of sound may be laid over each
// other unheard; what is quieter than hushed may always.
const (
	alike  = 0.7
	hushed = 160
)

// blendMS is the length over which two pieces of sound are laid over each other.
const (
	blendMS  = 5
	maxBlend = blendMS * 16
)

// reach finds the lag between 2.5 and 10 ms at which a piece of sound resembles
// its own beginning, and the length over which the two may be blended. ok is
// false where it resembles nothing.
func reach(pcm []int16, rate int) (lag, over int, ok bool) {
	over = blendMS * rate / 1000
	least, most := rate/400, min(rate/100, len(pcm)-over)
	best := 0.0
	for l := least; l <= most; l++ {
		if r := resemblance(pcm[:over], pcm[l:l+over]); r > best {
			best, lag = r, l
		}
	}
	if best >= alike {
		return lag, over, true
	}
	return most, over, most >= least && quiet(pcm)
}

// quiet reports whether nothing is said in a piece of sound.
func quiet(pcm []int16) bool {
	for _, s := range pcm {
		if s > hushed || s < -hushed {
			return false
		}
	}
	return true
}

// shorten takes up to 10 ms out of a piece of sound without a click (WSOLA). It
// returns what is left, in place.
func shorten(pcm []int16, rate int) []int16 {
	lag, over, ok := reach(pcm, rate)
	if !ok {
		return pcm
	}
	for i := range over {
		pcm[i] = int16((int(pcm[i])*(over-i) + int(pcm[lag+i])*i) / over)
	}
	return pcm[:over+copy(pcm[over:], pcm[lag+over:])]
}

// stretch adds up to 10 ms to a piece of sound without a click; pcm needs the
// room beyond its length.
func stretch(pcm []int16, rate int) []int16 {
	lag, over, ok := reach(pcm, rate)
	if !ok || len(pcm)+lag > cap(pcm) {
		return pcm
	}
	var was [maxBlend]int16 // what stood where the beginning comes once more
	copy(was[:over], pcm[lag:lag+over])
	out := pcm[:len(pcm)+lag]
	copy(out[lag:], pcm)
	for i := range over {
		out[lag+i] = int16((int(was[i])*(over-i) + int(out[lag+i])*i) / over)
	}
	return out
}
