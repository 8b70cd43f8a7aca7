package transcode

import "math"

// noise makes the comfort noise that a peer describes instead of sending its
// silence (RFC 3389).
type noise struct {
	gain  float64
	k     []float64 // reflection coefficients
	back  []float64 // the lattice's memory
	state uint32
}

// maxOrder bounds the filter: RFC 3389 §3.2 leaves the order to the sender.
const maxOrder = 16

// describe takes a payload: the level, then reflection coefficients.
func (n *noise) describe(payload []byte) {
	// RFC 3389 §3.1: 0 to 127 below the overload point, in dB.
	n.gain = math.MaxInt16 * math.Pow(10, -float64(payload[0]&0x7f)/20)
	n.k = n.k[:0]
	for _, c := range payload[1:min(len(payload), maxOrder+1)] {
		k := min(max(258*(float64(c)-127)/32768, -0.99), 0.99) // §3.2
		n.k = append(n.k, k)
		n.gain *= math.Sqrt(1 - k*k) // so that the filter leaves the level as it is
	}
	for len(n.back) < len(n.k)+1 {
		n.back = append(n.back, 0)
	}
}

// fill makes so much of it.
func (n *noise) fill(pcm []int16) {
	for i := range pcm {
		var u float64 // three uniform numbers are normal enough for noise
		for range 3 {
			n.state = n.state*1664525 + 1013904223
			u += float64(int32(n.state)) / (1 << 31)
		}
		f := u * n.gain // their variance is 1
		for j := len(n.k) - 1; j >= 0; j-- {
			f -= n.k[j] * n.back[j]
			n.back[j+1] = n.back[j] + n.k[j]*f
		}
		n.back[0] = f
		pcm[i] = int16(min(max(f, math.MinInt16), math.MaxInt16))
	}
}

// NoiseSize is the size of the comfort noise payload that Quiet makes.
const NoiseSize = 1

// loudness is the level of sound in RFC 3389's form.
func loudness(pcm []int16) byte {
	var e float64
	for _, s := range pcm {
		e += float64(s) * float64(s)
	}
	rms := math.Sqrt(e / float64(max(len(pcm), 1)))
	return byte(min(max(-20*math.Log10(max(rms, 0.01)/math.MaxInt16), 0), 127) + 0.5)
}
