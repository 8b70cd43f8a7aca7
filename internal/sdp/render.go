package sdp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bytes renders the description for a plain RTP peer. Nothing that belongs to
// browsers (bundle groups, rtcp-mux, candidates) is ever written here.
func (d *Description) Bytes() []byte {
	var b strings.Builder
	family, host := connection(d.Addr)
	user := d.User
	if user == "" {
		user = "-"
	}
	fmt.Fprintf(&b, "v=0\r\no=%s %d %d IN %s %s\r\ns=sipbridge\r\nc=IN %s %s\r\nt=0 0\r\n", user, d.ID, d.Version, family, host, family, host)
	if d.Wish != "" {
		fmt.Fprintf(&b, "a=recordpref:%s\r\n", d.Wish)
	}
	if d.Recorded {
		b.WriteString("a=record:on\r\n")
	}
	for i := range d.Lines {
		d.Lines[i].render(&b)
	}
	return []byte(b.String())
}

func (l *Line) render(b *strings.Builder) {
	protocol := l.Transport.Protocol
	if protocol == "" {
		protocol = "RTP/AVP"
	}
	if l.Refused {
		// RFC 3264 §6: a refused line keeps its place and its format list, with port 0.
		list := l.Transport.Formats
		if list == "" {
			list = "0"
		}
		fmt.Fprintf(b, "m=%s 0 %s %s\r\n", l.Kind, protocol, list)
		return
	}
	fmt.Fprintf(b, "m=%s %d %s", l.Kind, l.Transport.Port, protocol)
	for _, f := range l.Formats {
		b.WriteByte(' ')
		b.WriteString(strconv.Itoa(int(f.PT)))
	}
	b.WriteString("\r\n")
	for _, f := range l.Formats {
		fmt.Fprintf(b, "a=rtpmap:%d %s/%d", f.PT, f.Name, f.Clock)
		if f.Channels > 1 {
			fmt.Fprintf(b, "/%d", f.Channels)
		}
		b.WriteString("\r\n")
		if f.Params != "" {
			fmt.Fprintf(b, "a=fmtp:%d %s\r\n", f.PT, f.Params)
		}
	}
	if l.Content != "" {
		fmt.Fprintf(b, "a=content:%s\r\n", l.Content)
	}
	if l.Label != "" {
		fmt.Fprintf(b, "a=label:%s\r\n", l.Label)
	}
	if l.PTime > 0 {
		fmt.Fprintf(b, "a=ptime:%d\r\n", l.PTime/time.Millisecond)
	}
	if l.Transport.RTCP > 0 && l.Transport.RTCP != l.Transport.Port+1 {
		fmt.Fprintf(b, "a=rtcp:%d\r\n", l.Transport.RTCP)
	}
	l.Transport.Secrecy.render(b)
	fmt.Fprintf(b, "a=%s\r\n", l.Direction)
}

func connection(a netip.Addr) (family, host string) {
	if !a.IsValid() {
		return "IP4", "0.0.0.0"
	}
	if a.Is6() {
		return "IP6", a.String()
	}
	return "IP4", a.String()
}
