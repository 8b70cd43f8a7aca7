package transcode

// taps is the number of non-zero outer coefficients on each side of the centre.
const taps = 12

// side is the half-band low-pass at a quarter of the higher sampling rate, in
// Q14 for a centre of one: every second coefficient is zero, so only these
// remain, nearest to the centre first (windowed sinc, Blackman; -0.0 dB at
// 3.2 kHz, -6.0 at 4 kHz, -55 at 4.8 kHz).
var side = [taps]int{10357, -3263, 1747, -1048, 643, -387, 223, -120, 58, -24, 7, -1}

// upsampler doubles 8 kHz to 16 kHz.
type upsampler struct{ x [2 * taps]int }

func (u *upsampler) run(dst, pcm []int16) []int16 {
	for i, s := range pcm {
		copy(u.x[:], u.x[1:])
		u.x[2*taps-1] = int(s)
		dst[2*i] = int16(u.x[taps-1])
		sum := 0
		for k := range taps {
			sum += side[k] * (u.x[taps-1-k] + u.x[taps+k])
		}
		dst[2*i+1] = int16(sat16(sum >> 14))
	}
	return dst[:2*len(pcm)]
}

// downsampler halves 16 kHz to 8 kHz. It takes an even number of samples.
type downsampler struct{ x [4 * taps]int }

func (d *downsampler) run(dst, pcm []int16) []int16 {
	n := len(pcm) / 2
	for i := range n {
		copy(d.x[:], d.x[2:])
		d.x[4*taps-2], d.x[4*taps-1] = int(pcm[2*i]), int(pcm[2*i+1])
		const mid = 2*taps - 1
		sum := d.x[mid] << 14
		for k := range taps {
			sum += side[k] * (d.x[mid-1-2*k] + d.x[mid+1+2*k])
		}
		dst[i] = int16(sat16(sum >> 15))
	}
	return dst[:n]
}
