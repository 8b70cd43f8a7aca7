package dtmf

import (
	"errors"
	"testing"
	"time"
)

var bodies = []struct {
	name, contentType, body string
	key                     string
	length                  time.Duration
}{
	{"Cisco's form", RelayType, "Signal=5\r\nDuration=160\r\n", "5", 160 * time.Millisecond},
	{"with spaces", RelayType, "Signal= #\nDuration= 250", "#", 250 * time.Millisecond},
	{"an event code", RelayType, "Signal=11\r\n", "#", DefaultDuration},
	{"the plain form", PlainType, "D", "D", DefaultDuration},
	{"a small letter", PlainType, "c\r\n", "C", DefaultDuration},
	{"with a charset", "Application/DTMF; charset=utf-8", "*", "*", DefaultDuration},
	{"a duration of an hour is cut", RelayType, "Signal=1\nDuration=3600000", "1", MaxDuration},
	{"a duration of nothing is lengthened", RelayType, "Signal=1\nDuration=0", "1", MinDuration},
}

func TestInfoBodies(t *testing.T) {
	for _, c := range bodies {
		d, length, err := ParseInfo(c.contentType, []byte(c.body))
		if err != nil || d.Key() != c.key || length != c.length {
			t.Errorf("%s: %s for %v, %v", c.name, d.Key(), length, err)
		}
	}
	for _, body := range []string{"", "Signal=", "Signal=hello", "Duration=100", "E", "16", "99"} {
		if _, _, err := ParseInfo(RelayType, []byte("Signal="+body)); !errors.Is(err, ErrNotADigit) {
			t.Errorf("%q: %v", body, err)
		}
	}
	if _, _, err := ParseInfo("text/plain", []byte("5")); err == nil {
		t.Error("text/plain was read")
	}
}

func TestEveryDigitHasItsCodeAndBack(t *testing.T) {
	for i := range Digits {
		d, ok := FromCode(uint8(i))
		if !ok || d.Code() != uint8(i) {
			t.Errorf("code %d", i)
		}
		got, _, err := ParseInfo(RelayType, InfoBody(d, 100*time.Millisecond))
		if err != nil || got != d {
			t.Errorf("%s came back as %s, %v", d.Key(), got.Key(), err)
		}
	}
	if _, ok := FromCode(16); ok {
		t.Error("the flash hook is no digit")
	}
}

func TestDigitsDoNotShowInLogs(t *testing.T) {
	if s := Digit('5').String(); s == "5" {
		t.Error("a digit prints itself")
	}
}

func TestDurationsAreRescaled(t *testing.T) {
	for _, c := range []struct{ in, from, to, want int }{{800, 8000, 48000, 4800}, {4800, 48000, 8000, 800}, {60000, 8000, 48000, 65535}, {0, 8000, 48000, 0}} {
		if got := (Event{Duration: uint16(c.in)}).Rescale(c.from, c.to).Duration; int(got) != c.want {
			t.Errorf("%d at %d is %d at %d, want %d", c.in, c.from, got, c.to, c.want)
		}
	}
}

// FuzzParseInfo: what is read can be written and read again.
func FuzzParseInfo(f *testing.F) {
	for _, c := range bodies {
		f.Add(c.contentType, []byte(c.body))
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		d, length, err := ParseInfo(contentType, body)
		if err != nil {
			return
		}
		again, l, err := ParseInfo(RelayType, InfoBody(d, length))
		if err != nil || again != d || l != length {
			t.Fatalf("%s for %v came back as %s for %v, %v", d.Key(), length, again.Key(), l, err)
		}
	})
}

// FuzzEvent: parse, print, parse.
func FuzzEvent(f *testing.F) {
	f.Add([]byte{5, 0x8a, 3, 0x20})
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again Event
		if e.Parse(b) != nil {
			return
		}
		var out [EventSize]byte
		e.Put(out[:])
		if err := again.Parse(out[:]); err != nil || again != e {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
