// Package dtmf reads and writes one digit in each form it takes on the wire:
// RFC 4733 telephone-events and the two bodies that SIP INFO carries.
package dtmf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Digit is one of the sixteen DTMF keys: '0'-'9', '*', '#', 'A'-'D'.
type Digit byte

// Digits in the order of their event codes (RFC 4733 §3.2, table 3).
const Digits = "0123456789*#ABCD"

// Bounds on the length of a key press.
const (
	DefaultDuration = 100 * time.Millisecond
	MinDuration     = 40 * time.Millisecond // ITU-T Q.24
	MaxDuration     = 5 * time.Second
)

// ErrNotADigit is wrapped where input holds no DTMF digit.
var ErrNotADigit = errors.New("dtmf: not a digit")

// Parse reads one key as people write it; letters may be small.
func Parse(s string) (Digit, error) {
	if len(s) == 1 {
		if i := strings.IndexByte(Digits, strings.ToUpper(s)[0]); i >= 0 {
			return Digit(Digits[i]), nil
		}
	}
	return 0, ErrNotADigit
}

// Code is the digit's telephone-event code, 0 to 15.
func (d Digit) Code() uint8 { return uint8(strings.IndexByte(Digits, byte(d))) }

// String shows a digit's presence and hides which it was: digits are PINs and
// record numbers. Use Key where the digit itself is wanted.
func (d Digit) String() string { return "·" }

// Key is the digit as a one-character string.
func (d Digit) Key() string { return string(rune(d)) }

// FromCode returns the digit of an event code; ok is false for events that are
// not keys (flash hook, fax tones).
func FromCode(code uint8) (d Digit, ok bool) {
	if int(code) >= len(Digits) {
		return 0, false
	}
	return Digit(Digits[code]), true
}

// Event is the payload of one telephone-event packet (RFC 4733 §2.3).
type Event struct {
	Code     uint8
	End      bool
	Volume   uint8  // -dBm0, 0 to 63
	Duration uint16 // in ticks of the stream's clock
}

// EventSize is the length of the payload in bytes.
const EventSize = 4

// Parse reads a payload. Longer ones carry further events in the same packet
// (RFC 4733 §2.5.1.5), which no telephone sends; the first is read.
func (e *Event) Parse(b []byte) error {
	if len(b) < EventSize {
		return fmt.Errorf("dtmf: telephone-event of %d bytes", len(b))
	}
	e.Code = b[0]
	e.End = b[1]&0x80 != 0
	e.Volume = b[1] & 0x3f
	e.Duration = binary.BigEndian.Uint16(b[2:])
	return nil
}

// Put writes the payload into b, which holds at least EventSize bytes.
func (e Event) Put(b []byte) {
	b[0] = e.Code
	b[1] = e.Volume & 0x3f
	if e.End {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], e.Duration)
}

// Rescale converts the duration from one clock to another; what does not fit
// in 16 bits stays at the longest (1.365 s at 48000; RFC 4733 §2.5.1.3's
// segments come out of the far end's own timestamps).
func (e Event) Rescale(from, to int) Event {
	e.Duration = uint16(min(uint64(e.Duration)*uint64(to)/uint64(from), 0xffff))
	return e
}

// Content types of the two INFO bodies (Cisco's and the plain one).
const (
	RelayType = "application/dtmf-relay"
	PlainType = "application/dtmf"
)

// maxBody bounds an INFO body: both forms fit in a few dozen bytes.
const maxBody = 256

// ParseInfo reads an INFO body of one of the two types. The duration is
// DefaultDuration where the body names none, and stays within Min and Max.
func ParseInfo(contentType string, body []byte) (Digit, time.Duration, error) {
	if len(body) > maxBody {
		return 0, 0, fmt.Errorf("dtmf: INFO body of %d bytes", len(body))
	}
	media, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case PlainType:
		d, err := infoDigit(strings.TrimSpace(string(body)))
		return d, DefaultDuration, err
	case RelayType:
		return parseRelay(body)
	}
	return 0, 0, fmt.Errorf("dtmf: unknown INFO type %q", media)
}

func parseRelay(body []byte) (Digit, time.Duration, error) {
	var digit Digit
	length := DefaultDuration
	err := ErrNotADigit
	for l := range bytes.Lines(body) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(l)), "=")
		if !ok {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "signal":
			digit, err = infoDigit(strings.TrimSpace(value))
		case "duration":
			if ms, e := strconv.Atoi(strings.TrimSpace(value)); e == nil {
				length = min(max(time.Duration(ms)*time.Millisecond, MinDuration), MaxDuration)
			}
		}
	}
	return digit, length, err
}

// infoDigit takes the key itself or, as some telephones write it, the event code.
func infoDigit(s string) (Digit, error) {
	if d, err := Parse(s); err == nil {
		return d, nil
	}
	switch s {
	case "10":
		return '*', nil
	case "11":
		return '#', nil
	case "12", "13", "14", "15":
		return Digit(Digits[10+s[1]-'0']), nil
	}
	return 0, ErrNotADigit
}

// InfoBody renders the application/dtmf-relay form, which every PBX that takes
// INFO understands.
func InfoBody(d Digit, length time.Duration) []byte {
	return fmt.Appendf(nil, "Signal=%c\r\nDuration=%d\r\n", byte(d), length.Milliseconds())
}
