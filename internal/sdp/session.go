// Package sdp says what two ends can exchange: it turns session descriptions
// (RFC 8866) into one neutral form, answers offers (RFC 3264) and renders the
// result for either world.
//
// A [Session] is what the call sees: kinds of media, formats and directions,
// and nothing about addresses or keys. A [Description] is what crosses the
// wire: the same, plus each line's [Transport]. Lines keep their place for the
// life of a dialog, so a second video line or a BFCP line is one more slot and
// never another type.
package sdp

import (
	"net/netip"
	"strings"
	"time"
)

// Kind is the media type of an m= line (RFC 8866 §5.14).
type Kind string

// The kinds that RFC 8866 registers.
const (
	Audio       Kind = "audio"
	Video       Kind = "video"
	Text        Kind = "text"
	Image       Kind = "image"
	Application Kind = "application"
)

// Direction says who sends (RFC 3264 §5.1), seen from the describing end.
type Direction uint8

// The four directions; the zero value is the default of RFC 8866 §6.7.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

var directionNames = [...]string{"sendrecv", "sendonly", "recvonly", "inactive"}

func (d Direction) String() string { return directionNames[d&3] }

// Sends reports whether the describing end sends.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly }

// Receives reports whether the describing end receives.
func (d Direction) Receives() bool { return d == SendRecv || d == RecvOnly }

// Reverse is the same direction seen from the other end (RFC 3264 §6.1).
func (d Direction) Reverse() Direction { return direction(d.Receives(), d.Sends()) }

// And keeps what both directions allow, both seen from the same end.
func (d Direction) And(o Direction) Direction {
	return direction(d.Sends() && o.Sends(), d.Receives() && o.Receives())
}

func direction(sends, receives bool) Direction {
	switch {
	case sends && receives:
		return SendRecv
	case sends:
		return SendOnly
	case receives:
		return RecvOnly
	}
	return Inactive
}

// TelephoneEvent is the encoding name of RFC 4733 events.
const TelephoneEvent = "telephone-event"

// Format is one payload type of a line with its rtpmap and fmtp.
type Format struct {
	PT       uint8
	Name     string // encoding name, compared without regard to case (RFC 4855 §3)
	Clock    int    // RTP clock, Hz
	Channels int    // 0 or 1: mono
	Params   string // fmtp value, "" if none
}

// Same reports whether two formats name the same encoding, whatever their
// payload types.
func (f Format) Same(o Format) bool {
	return strings.EqualFold(f.Name, o.Name) && f.Clock == o.Clock && max(f.Channels, 1) == max(o.Channels, 1)
}

// IsEvent reports whether f carries telephone-events rather than sound.
func (f Format) IsEvent() bool { return strings.EqualFold(f.Name, TelephoneEvent) }

// ComfortNoise is the encoding name of RFC 3389.
const ComfortNoise = "CN"

// IsNoise reports whether f describes comfort noise rather than carrying sound.
func (f Format) IsNoise() bool { return strings.EqualFold(f.Name, ComfortNoise) }

// Media is one slot of a session.
type Media struct {
	Kind      Kind
	Content   string // a=content (RFC 4796)
	Label     string // a=label (RFC 4574)
	Direction Direction
	Formats   []Format
	PTime     time.Duration // a=ptime; 0: not said
	MaxPTime  time.Duration // a=maxptime; 0: not said
	Refused   bool          // port 0 (RFC 3264 §6)
	Keyed     bool          // keys are offered, or given; read off the wire, never written
}

// Event returns the telephone-event format with the given clock.
func (m Media) Event(clock int) (Format, bool) {
	for _, f := range m.Formats {
		if f.IsEvent() && f.Clock == clock {
			return f, true
		}
	}
	return Format{}, false
}

// Codec returns the first format that carries sound or pictures: the one this
// end sends.
func (m Media) Codec() (Format, bool) {
	for _, f := range m.Formats {
		if !f.IsEvent() && !f.IsNoise() {
			return f, true
		}
	}
	return Format{}, false
}

// Session is the neutral form: ordered slots.
type Session struct {
	Media    []Media
	Recorded bool  // this end, or who it talks to, is recorded (RFC 7866 §7.1.2)
	Terms    Terms // an administrator's; they are heeded and never read off the wire
}

// Terms are what an administrator wants of a session.
type Terms struct {
	Codecs    []string  // encodings wanted first, in order; empty: the endpoint's own order
	Secret    bool      // no packet in the clear
	Recording Recording // what the other end is asked for
	Bandwidth int       // what sound may take of a browser's line each way, in kbit/s with headers; 0: what it likes
	Blind     bool      // no camera
}

// Recording is what is wanted of an end that can record (RFC 7866 §7.3.2); "": its own
// choice.
type Recording string

// The two wishes.
const (
	Record     Recording = "on"
	DontRecord Recording = "off"
)

// First returns the first slot of a kind that is not refused, and its place.
func (s Session) First(k Kind) (int, Media, bool) {
	for i, m := range s.Media {
		if m.Kind == k && !m.Refused {
			return i, m, true
		}
	}
	return -1, Media{}, false
}

// Transport is where and how one line's packets go.
type Transport struct {
	Addr     netip.Addr // c=; the zero Addr: not said
	Port     int
	RTCP     int    // a=rtcp (RFC 3605); 0: Port+1
	Protocol string // "RTP/AVP", "UDP/TLS/RTP/SAVPF", ...
	Formats  string // the fmt list as it came, for lines that are not RTP
	Secrecy  Secrecy
}

// Line is one m= section.
type Line struct {
	Media
	Transport Transport
}

// Description is a whole session description.
type Description struct {
	User        string // o= username
	ID, Version uint64 // o= (RFC 3264 §8: the version goes up with each change)
	Addr        netip.Addr
	Wish        Recording // a=recordpref; written, never read
	Recorded    bool      // a=record
	Lines       []Line
}

// Session drops what only the wire needs.
func (d *Description) Session() Session {
	s := Session{Media: make([]Media, len(d.Lines)), Recorded: d.Recorded}
	for i := range d.Lines {
		s.Media[i] = d.Lines[i].Media
		keys := d.Lines[i].Transport.Secrecy
		s.Media[i].Keyed = len(keys.Crypto) > 0 || keys.Fingerprint != ""
	}
	return s
}
