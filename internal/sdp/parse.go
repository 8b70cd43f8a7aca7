package sdp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	psdp "github.com/pion/sdp/v3"
)

// Bounds on what a peer may make us hold.
const (
	MaxSize    = 64 << 10 // bytes; a UDP datagram can bring no more
	MaxMedia   = 32       // m= lines; CUCM needs five, a meeting page some twenty
	maxFormats = 64       // payload types of one line; there are 96 dynamic ones at most
	maxLines   = 2000     // all lines: many candidates and codecs stay far below
)

// Errors that Parse wraps.
var (
	ErrTooLarge = errors.New("sdp: description too large")
	ErrSyntax   = errors.New("sdp: cannot be read")
)

// static gives the rtpmap of the static payload types that telephones may use
// without naming them (RFC 3551 §6, tables 4 and 5).
var static = map[uint8]Format{
	0:  {PT: 0, Name: "PCMU", Clock: 8000, Channels: 1},
	3:  {PT: 3, Name: "GSM", Clock: 8000, Channels: 1},
	4:  {PT: 4, Name: "G723", Clock: 8000, Channels: 1},
	8:  {PT: 8, Name: "PCMA", Clock: 8000, Channels: 1},
	9:  {PT: 9, Name: "G722", Clock: 8000, Channels: 1},
	13: {PT: 13, Name: "CN", Clock: 8000, Channels: 1},
	15: {PT: 15, Name: "G728", Clock: 8000, Channels: 1},
	18: {PT: 18, Name: "G729", Clock: 8000, Channels: 1},
	31: {PT: 31, Name: "H261", Clock: 90000},
	34: {PT: 34, Name: "H263", Clock: 90000},
}

// Parse reads a description. It is tolerant where the field is sloppy: lines
// in the wrong order, missing s= or t=, bare line feeds and unknown line types
// are mended; unknown attributes and media are kept or passed over. What has no
// readable m= line at all, or exceeds the bounds, is an error.
func Parse(b []byte) (*Description, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(b))
	}
	clean, media, err := tidy(b)
	if err != nil {
		return nil, err
	}
	var raw psdp.SessionDescription
	if err := raw.Unmarshal(clean); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	d := &Description{User: raw.Origin.Username, ID: raw.Origin.SessionID, Version: raw.Origin.SessionVersion}
	d.Addr = address(raw.ConnectionInformation)
	d.Recorded = recorded(raw.Attributes)
	for i, m := range raw.MediaDescriptions {
		l, err := line(media[i], m, raw.Attributes)
		if err != nil {
			return nil, err
		}
		if !l.Transport.Addr.IsValid() {
			l.Transport.Addr = d.Addr
		}
		// RFC 3264 §8.4: the old way to hold is the unspecified address. With port
		// 9 it only says that ICE will find one (RFC 8839 §4.3.1).
		if a := l.Transport.Addr; a.IsValid() && a.IsUnspecified() && l.Transport.Port != 9 {
			l.Direction = l.Direction.And(SendOnly)
		}
		d.Recorded = d.Recorded || recorded(m.Attributes)
		d.Lines = append(d.Lines, l)
	}
	return d, nil
}

// recorded reports whether a session, or a line of it, is said to be recorded.
func recorded(attributes []psdp.Attribute) bool {
	return slices.ContainsFunc(attributes, func(a psdp.Attribute) bool { return a.Key == "record" && strings.TrimSpace(a.Value) == "on" })
}

// order is RFC 8866 §5's order of the session-level lines.
const order = "vosiuepcbtrzka"

// tidy puts the session's lines into the order the grammar wants and supplies
// those it demands. The m= lines come back apart: the library refuses media and
// protocols that it does not know, and one such line must not fail a call.
func tidy(b []byte) (clean []byte, mlines []string, err error) {
	head := map[byte][]string{}
	var body []string
	media := 0
	n := 0
	for raw := range bytes.Lines(b) {
		l := strings.TrimRight(string(raw), "\r\n \t\x00")
		if len(l) < 2 || l[1] != '=' {
			continue
		}
		if n++; n > maxLines {
			return nil, nil, fmt.Errorf("%w: more than %d lines", ErrTooLarge, maxLines)
		}
		switch {
		case l[0] == 'm':
			if media++; media > MaxMedia {
				return nil, nil, fmt.Errorf("%w: more than %d m= lines", ErrTooLarge, MaxMedia)
			}
			mlines = append(mlines, l[2:])
			body = append(body, "m=audio 9 RTP/AVP 0")
		case media == 0:
			head[l[0]] = append(head[l[0]], l)
		case strings.IndexByte("icbka", l[0]) >= 0:
			body = append(body, l)
		}
	}
	if media == 0 {
		return nil, nil, fmt.Errorf("%w: no m= line", ErrSyntax)
	}
	var out bytes.Buffer
	for _, t := range []byte(order) {
		lines := head[t]
		switch {
		case t == 'v':
			lines = []string{"v=0"}
		case t == 'o' && (len(lines) == 0 || len(strings.Fields(lines[0][2:])) != 6):
			lines = []string{"o=- 0 0 IN IP4 0.0.0.0"}
		case t == 's' && (len(lines) == 0 || len(lines[0]) == 2):
			lines = []string{"s=-"}
		case t == 't' && len(lines) == 0:
			lines = []string{"t=0 0"}
		case t == 'r' || t == 'z' || t == 'k' || t == 'i' || t == 'u' || t == 'e' || t == 'p' || t == 'b':
			continue // nothing here is needed, and much of it is written wrong
		case t != 'a' && len(lines) > 1:
			lines = lines[:1]
		}
		for _, l := range lines {
			out.WriteString(l)
			out.WriteString("\r\n")
		}
	}
	section(body, &out)
	return out.Bytes(), mlines, nil
}

// section writes the m= sections with each section's c= before its a= lines.
func section(body []string, out *bytes.Buffer) {
	for i := 0; i < len(body); {
		end := i + 1
		for end < len(body) && body[end][0] != 'm' {
			end++
		}
		out.WriteString(body[i] + "\r\n")
		for _, t := range []byte("ca") {
			for _, l := range body[i+1 : end] {
				if l[0] == t {
					out.WriteString(l + "\r\n")
				}
			}
		}
		i = end
	}
}

// line reads one m= section: its first line, and what the library made of the
// others and of the session's attributes.
func line(first string, m *psdp.MediaDescription, session []psdp.Attribute) (Line, error) {
	var l Line
	parts := strings.Fields(first)
	if len(parts) < 4 {
		return l, fmt.Errorf("%w: m=%.40q", ErrSyntax, first)
	}
	port, _, _ := strings.Cut(parts[1], "/")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return l, fmt.Errorf("%w: m=%.40q", ErrSyntax, first)
	}
	list := parts[3:]
	if len(list) > maxFormats {
		return l, fmt.Errorf("%w: more than %d formats on a line", ErrTooLarge, maxFormats)
	}
	l.Kind = Kind(strings.ToLower(parts[0]))
	l.Transport.Port = int(n)
	l.Transport.Protocol = parts[2]
	l.Transport.Formats = strings.Join(list, " ")
	l.Transport.Addr = address(m.ConnectionInformation)
	l.Refused = l.Transport.Port == 0
	l.Direction = attributeDirection(m.Attributes, attributeDirection(session, SendRecv))
	l.Transport.Secrecy = secrecy(m.Attributes, session)
	for _, a := range m.Attributes {
		switch a.Key {
		case "content":
			l.Content = a.Value
		case "label":
			l.Label = a.Value
		case "ptime":
			l.PTime = millis(a.Value)
		case "maxptime":
			l.MaxPTime = millis(a.Value)
		case "rtcp":
			port, _, _ := strings.Cut(a.Value, " ")
			if n, err := strconv.Atoi(port); err == nil && n > 0 && n < 65536 {
				l.Transport.RTCP = n
			}
		}
	}
	if strings.Contains(l.Transport.Protocol, "RTP/") {
		l.Formats = formats(list, m)
	}
	return l, nil
}

func formats(list []string, m *psdp.MediaDescription) []Format {
	var out []Format
	for _, s := range list {
		pt, err := strconv.ParseUint(s, 10, 7)
		if err != nil {
			continue
		}
		f, known := static[uint8(pt)]
		f.PT = uint8(pt)
		for _, a := range m.Attributes {
			id, value, ok := strings.Cut(a.Value, " ")
			if !ok || id != s {
				continue
			}
			switch a.Key {
			case "rtpmap":
				if name, clock, channels, ok := rtpmap(value); ok {
					f.Name, f.Clock, f.Channels, known = name, clock, channels, true
				}
			case "fmtp":
				f.Params = strings.TrimSpace(value)
			}
		}
		if known {
			out = append(out, f)
		}
	}
	return out
}

// rtpmap splits "opus/48000/2".
func rtpmap(s string) (name string, clock, channels int, ok bool) {
	parts := strings.Split(strings.TrimSpace(s), "/")
	if len(parts) < 2 {
		return "", 0, 0, false
	}
	clock, err := strconv.Atoi(parts[1])
	if err != nil || clock <= 0 || clock > 1_000_000 || parts[0] == "" {
		return "", 0, 0, false
	}
	channels = 1
	if len(parts) > 2 {
		if n, err := strconv.Atoi(parts[2]); err == nil && n > 0 && n <= 8 {
			channels = n
		}
	}
	return parts[0], clock, channels, true
}

func attributeDirection(attrs []psdp.Attribute, d Direction) Direction {
	for _, a := range attrs {
		for i, name := range directionNames {
			if a.Key == name {
				d = Direction(i)
			}
		}
	}
	return d
}

// millis reads a packet time; RFC 8866 §6.4 allows none beyond what we bound.
func millis(s string) time.Duration {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(f > 0 && f <= 1000) {
		return 0
	}
	return time.Duration(f * float64(time.Millisecond))
}

func address(c *psdp.ConnectionInformation) netip.Addr {
	if c == nil || c.Address == nil {
		return netip.Addr{}
	}
	host, _, _ := strings.Cut(c.Address.Address, "/")
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}
