package transcode

import "github.com/sipbridge/sipbridge/internal/sdp"

// ITU-T G.711: A-law and mu-law at 8000 Hz, one byte a sample.
var (
	pcmuCodec = Codec{
		Format:     sdp.Format{PT: 0, Name: "PCMU", Clock: 8000, Channels: 1},
		Rate:       8000,
		NewEncoder: func(int) (Encoder, error) { return &g711{encode: &linearToMu, decode: &muToLinear}, nil },
		NewDecoder: func(int) (Decoder, error) { return &g711{encode: &linearToMu, decode: &muToLinear}, nil },
	}
	pcmaCodec = Codec{
		Format:     sdp.Format{PT: 8, Name: "PCMA", Clock: 8000, Channels: 1},
		Rate:       8000,
		NewEncoder: func(int) (Encoder, error) { return &g711{encode: &linearToA, decode: &aToLinear}, nil },
		NewDecoder: func(int) (Decoder, error) { return &g711{encode: &linearToA, decode: &aToLinear}, nil },
	}
)

// Tables: 256 values for decoding; for encoding one byte for each 14-bit
// (mu-law) or 13-bit (A-law) magnitude step, so that a sample costs one load.
var (
	muToLinear = decodeTable(muDecode)
	aToLinear  = decodeTable(aDecode)
	linearToMu = encodeTable(muEncode)
	linearToA  = encodeTable(aEncode)
)

type g711 struct {
	encode *[1 << 14]byte
	decode *[256]int16
}

func (c *g711) Encode(dst []byte, pcm []int16) (int, error) {
	dst = dst[:len(pcm)]
	for i, s := range pcm {
		dst[i] = c.encode[uint16(s)>>2]
	}
	return len(pcm), nil
}

func (c *g711) Decode(pcm []int16, payload []byte) (int, error) {
	if len(payload) > len(pcm) {
		return 0, errFrameTooLong
	}
	pcm = pcm[:len(payload)]
	for i, b := range payload {
		pcm[i] = c.decode[b]
	}
	return len(payload), nil
}

func decodeTable(f func(byte) int16) (t [256]int16) {
	for i := range t {
		t[i] = f(byte(i))
	}
	return t
}

func encodeTable(f func(int) byte) (t [1 << 14]byte) {
	for i := range t {
		t[i] = f(int(int16(uint16(i) << 2)))
	}
	return t
}

// muDecode expands one mu-law byte (G.711 table 2b) to 16 bits.
func muDecode(b byte) int16 {
	b = ^b
	v := (int(b&0x0f)<<3+0x84)<<(b>>4&7) - 0x84
	if b&0x80 != 0 {
		return int16(-v)
	}
	return int16(v)
}

func muEncode(s int) byte {
	const bias, clip = 0x84, 32635
	sign := byte(0)
	if s < 0 {
		s, sign = -s, 0x80
	}
	s = min(s, clip) + bias
	seg := 7
	for m := 0x4000; seg > 0 && s&m == 0; m >>= 1 {
		seg--
	}
	return ^(sign | byte(seg<<4) | byte(s>>(seg+3)&0x0f))
}

// aDecode expands one A-law byte (G.711 table 1b) to 16 bits.
func aDecode(b byte) int16 {
	b ^= 0x55
	v := int(b&0x0f)<<4 + 8
	if seg := b >> 4 & 7; seg > 0 {
		v = (v + 0x100) << (seg - 1)
	}
	if b&0x80 != 0 {
		return int16(v)
	}
	return int16(-v)
}

func aEncode(s int) byte {
	sign := byte(0x80)
	if s < 0 {
		s, sign = -s-1, 0 // one's complement, so that -1 falls on the smallest negative step
	}
	s >>= 3 // 13-bit magnitude scale: 12 bits and sign
	s = min(s, 0xfff)
	seg := 0
	for m := s >> 5; m > 0; m >>= 1 {
		seg++
	}
	mantissa := s >> 1
	if seg > 1 {
		mantissa = s >> seg
	}
	return (sign | byte(seg<<4) | byte(mantissa&0x0f)) ^ 0x55
}
