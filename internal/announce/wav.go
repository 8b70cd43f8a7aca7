package announce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/sipbridge/sipbridge/internal/transcode"
)

// rate is that of a telephone, in samples a second.
const rate = 8000

// The encodings of a WAV file that are read (RFC 2361).
const (
	wavePCM   = 1
	waveALaw  = 6
	waveMulaw = 7
)

var errNotWAV = errors.New("it is no WAV file")

// decode reads a WAV file as G.711 mu-law.
func decode(b []byte) ([]byte, error) {
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, errNotWAV
	}
	var format []byte
	for b = b[12:]; len(b) >= 8; {
		name, size := string(b[:4]), int(binary.LittleEndian.Uint32(b[4:]))
		b = b[8:]
		if name == "data" {
			return convert(format, b[:min(size, len(b))]) // a writer that was broken off left the size at its most
		}
		if size > len(b) {
			return nil, errors.New("the file is cut off")
		}
		if name == "fmt " {
			format = b[:size]
		}
		b = b[min(size+size&1, len(b)):]
	}
	return nil, errors.New("the file holds no sound")
}

func convert(format, data []byte) ([]byte, error) {
	if len(format) < 16 {
		return nil, errNotWAV
	}
	kind, channels := binary.LittleEndian.Uint16(format), binary.LittleEndian.Uint16(format[2:])
	hz, bits := binary.LittleEndian.Uint32(format[4:]), binary.LittleEndian.Uint16(format[14:])
	if channels != 1 || hz != rate {
		return nil, fmt.Errorf("it has %d Hz and %d channels, not 8000 and 1", hz, channels)
	}
	switch {
	case kind == waveMulaw && bits == 8:
		return data, nil
	case kind == waveALaw && bits == 8:
		from, err := codec("PCMA").NewDecoder(len(data))
		if err != nil {
			return nil, err
		}
		pcm := make([]int16, len(data))
		if _, err := from.Decode(pcm, data); err != nil {
			return nil, err
		}
		return mulaw(pcm)
	case kind == wavePCM && bits == 16:
		pcm := make([]int16, len(data)/2)
		for i := range pcm {
			pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
		}
		return mulaw(pcm)
	}
	return nil, fmt.Errorf("format %d with %d bits is none of PCM with 16, A-law and mu-law with 8", kind, bits)
}

func mulaw(pcm []int16) ([]byte, error) {
	to, err := codec("PCMU").NewEncoder(len(pcm))
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(pcm))
	_, err = to.Encode(out, pcm)
	return out, err
}

// codec is one of G.711's.
func codec(name string) transcode.Codec {
	return transcode.Codecs[slices.IndexFunc(transcode.Codecs, func(c transcode.Codec) bool { return c.Name == name })]
}
