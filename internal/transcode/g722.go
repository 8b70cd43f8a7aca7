package transcode

import (
	"errors"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// ITU-T G.722 at 64 kbit/s: 16 kHz sound, split by a quadrature mirror filter
// into two 8 kHz bands, each coded by ADPCM (6 bits below, 2 above). Its RTP
// clock is 8000 by an old mistake that RFC 3551 §4.5.2 keeps.
var g722Codec = Codec{
	Format:     sdp.Format{PT: 9, Name: "G722", Clock: 8000, Channels: 1},
	Rate:       16000,
	NewEncoder: func(int) (Encoder, error) { return newG722(), nil },
	NewDecoder: func(int) (Decoder, error) { return newG722(), nil },
}

var errFrameTooLong = errors.New("frame longer than 120 ms")

// g722 is one direction's state; the same struct serves either role.
type g722 struct {
	low, high band
	x         [24]int // QMF history, newest last
}

func newG722() *g722 {
	g := new(g722)
	g.low.det, g.high.det = 32, 8
	return g
}

// band is one sub-band's adaptive predictor and quantizer scale
// (G.722 §3.5, §3.6 and the block diagrams of §6.2).
type band struct {
	det int    // quantizer scale factor
	nb  int    // its logarithm
	s   int    // predicted signal
	sz  int    // its zero section
	r   [3]int // reconstructed signal
	p   [3]int // partially reconstructed signal
	a   [3]int // pole coefficients, from index 1
	b   [7]int // zero coefficients, from index 1
	d   [7]int // quantized differences
}

func sat16(v int) int { return min(max(v, -32768), 32767) }

// adapt is G.722's block 4: it takes the quantized difference and leaves the
// prediction for the next sample in s.
func (b *band) adapt(d int) {
	b.d[0] = d
	b.r[0] = sat16(b.s + d)
	b.p[0] = sat16(b.sz + d)

	// UPPOL2: second pole coefficient.
	same := func(x, y int) bool { return (x < 0) == (y < 0) }
	wd1 := sat16(b.a[1] << 2)
	wd2 := wd1
	if same(b.p[0], b.p[1]) {
		wd2 = -wd1
	}
	wd2 = min(wd2, 32767)
	wd3 := wd2 >> 7
	if same(b.p[0], b.p[2]) {
		wd3 += 128
	} else {
		wd3 -= 128
	}
	wd3 += b.a[2] * 32512 >> 15
	a2 := min(max(wd3, -12288), 12288)

	// UPPOL1: first pole coefficient.
	wd1 = -192
	if same(b.p[0], b.p[1]) {
		wd1 = 192
	}
	a1 := sat16(wd1 + b.a[1]*32640>>15)
	limit := sat16(15360 - a2)
	a1 = min(max(a1, -limit), limit)

	// UPZERO: zero coefficients.
	step := 128
	if d == 0 {
		step = 0
	}
	for i := 6; i >= 1; i-- {
		wd := -step
		if same(b.d[i], d) {
			wd = step
		}
		b.b[i] = sat16(wd + b.b[i]*32640>>15)
	}

	// DELAYA, FILTEP, FILTEZ, PREDIC.
	for i := 6; i >= 1; i-- {
		b.d[i] = b.d[i-1]
	}
	for i := 2; i >= 1; i-- {
		b.r[i], b.p[i] = b.r[i-1], b.p[i-1]
	}
	b.a[1], b.a[2] = a1, a2
	sp := sat16(a1*sat16(b.r[1]+b.r[1])>>15 + a2*sat16(b.r[2]+b.r[2])>>15)
	sz := 0
	for i := 6; i >= 1; i-- {
		sz += b.b[i] * sat16(b.d[i]+b.d[i]) >> 15
	}
	b.sz = sat16(sz)
	b.s = sat16(sp + b.sz)
}

// scale is LOGSCL/LOGSCH and SCALEL/SCALEH.
func (b *band) scale(step, limit, shift int) {
	b.nb = min(max(b.nb*127>>7+step, 0), limit)
	mantissa := g722Exp[b.nb>>6&31]
	if n := shift - b.nb>>11; n < 0 {
		b.det = mantissa << -n << 2
	} else {
		b.det = mantissa >> n << 2
	}
}

func (b *band) adaptLow(code6 int) {
	code4 := code6 >> 2
	d := b.det * g722Q4[code4] >> 15
	b.scale(g722W[g722R4[code4]], 18432, 8)
	b.adapt(d)
}

func (b *band) adaptHigh(code2 int) int {
	d := b.det * g722Q2[code2] >> 15
	b.scale(g722WH[code2&1], 22528, 10)
	r := sat16(b.s + d)
	b.adapt(d)
	return r
}

// Encode takes an even number of 16 kHz samples and makes one byte of two.
func (g *g722) Encode(dst []byte, pcm []int16) (int, error) {
	n := len(pcm) / 2
	if n > len(dst) {
		return 0, errFrameTooLong
	}
	for i := range n {
		copy(g.x[:], g.x[2:])
		g.x[22], g.x[23] = int(pcm[2*i]), int(pcm[2*i+1])
		odd, even := 0, 0
		for k := range 12 {
			odd += g.x[2*k] * g722QMF[k]
			even += g.x[2*k+1] * g722QMF[11-k]
		}
		xl, xh := sat16((even+odd)>>14), sat16((even-odd)>>14)

		// Lower band: 6-bit quantizer (QUANTL).
		e := sat16(xl - g.low.s)
		mag := e
		if e < 0 {
			mag = -(e + 1)
		}
		k := 1
		for k < 30 && mag >= g722Q6[k]*g.low.det>>12 {
			k++
		}
		code6 := g722Positive[k]
		if e < 0 {
			code6 = g722Negative[k]
		}
		g.low.adaptLow(code6)

		// Higher band: 2-bit quantizer (QUANTH).
		e = sat16(xh - g.high.s)
		mag = e
		if e < 0 {
			mag = -(e + 1)
		}
		big := mag >= 564*g.high.det>>12
		var code2 int
		switch {
		case e < 0 && big:
			code2 = 0
		case e < 0:
			code2 = 1
		case big:
			code2 = 2
		default:
			code2 = 3
		}
		g.high.adaptHigh(code2)
		dst[i] = byte(code2<<6 | code6)
	}
	return n, nil
}

// Decode makes two 16 kHz samples of each byte.
func (g *g722) Decode(pcm []int16, payload []byte) (int, error) {
	if 2*len(payload) > len(pcm) {
		return 0, errFrameTooLong
	}
	for i, c := range payload {
		code6, code2 := int(c&0x3f), int(c>>6)
		r := g.low.s + g.low.det*g722Inv6[code6]>>15
		rl := min(max(r, -16384), 16383)
		g.low.adaptLow(code6)
		rh := min(max(g.high.adaptHigh(code2), -16384), 16383)

		copy(g.x[:], g.x[2:])
		g.x[22], g.x[23] = rl+rh, rl-rh
		a, b := 0, 0
		for k := range 12 {
			a += g.x[2*k+1] * g722QMF[11-k]
			b += g.x[2*k] * g722QMF[k]
		}
		pcm[2*i], pcm[2*i+1] = int16(sat16(a>>11)), int16(sat16(b>>11))
	}
	return 2 * len(payload), nil
}
