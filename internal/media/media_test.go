package media

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func loops(t testing.TB) *Loops {
	t.Helper()
	l, err := NewLoops(Expedited)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

var loopback = netip.MustParseAddr("127.0.0.1")

func codec(name string) sdp.Format {
	for _, c := range transcode.Codecs {
		if c.Name == name {
			return c.Format
		}
	}
	panic(name)
}

// sent is one packet that reached the far socket.
type sent struct {
	rtp.Header
	payload []byte
}

// wire keeps what a stream sends.
type wire struct{ got []sent }

func (w *wire) transmit(h *rtp.Header, raw []byte) error {
	w.got = append(w.got, sent{*h, append([]byte(nil), raw[Headroom:]...)})
	return nil
}

// pair is a source that speaks one codec and a destination that wants another.
func pair(from, to sdp.Format, events ...sdp.Format) (*Stream, *Stream, *wire, *[]dtmf.Digit) {
	var digits []dtmf.Digit
	src := newStream(nil, "rtp", func(d dtmf.Digit) { digits = append(digits, d) })
	src.settle(&Agreed{Send: from, Receive: append([]sdp.Format{from}, events...), Direction: sdp.SendRecv})
	dst := newStream(nil, "srtp", nil)
	w := new(wire)
	var below transmitter = w
	dst.below.Store(&below)
	a := &Agreed{Send: to, Receive: []sdp.Format{to}, Direction: sdp.SendRecv, PTime: 20 * time.Millisecond}
	if len(events) > 0 {
		a.Events = []sdp.Format{event48k(110), event8k(126)}
	}
	dst.settle(a)
	src.Forward(NewPath(src, dst))
	return src, dst, w, &digits
}

func packet(pt uint8, seq uint16, ts uint32, payload []byte) *Packet {
	return &Packet{PT: pt, Seq: seq, TS: ts, SSRC: 7, Raw: append(make([]byte, Headroom), payload...)}
}

func TestPassthroughKeepsGapsAndOrder(t *testing.T) {
	src, _, w, _ := pair(codec("PCMU"), codec("PCMU"))
	for _, seq := range []uint16{65534, 65535, 2, 1, 2, 3} { // 0 is lost, 1 is late, 2 comes twice
		src.receive(packet(0, seq, uint32(seq)*160, []byte{1, 2, 3}))
	}
	if len(w.got) != 5 {
		t.Fatalf("%d packets, want each once", len(w.got))
	}
	first := w.got[0]
	if !first.Marker || w.got[1].Marker {
		t.Error("the first packet, and only that, begins a talk spurt")
	}
	for i, want := range []uint16{0, 1, 4, 3} {
		if d := w.got[i].SequenceNumber - first.SequenceNumber; d != want {
			t.Errorf("packet %d went out %d after the first, want %d", i, d, want)
		}
	}
	if s := src.Stats(); s.Received != 6 || s.Lost != 0 { // RFC 3550 §6.4.1: one lost, one twice
		t.Errorf("%+v", s)
	}
}

func TestEachKeyIsHeardOnceAndRescaled(t *testing.T) {
	src, _, w, digits := pair(codec("PCMU"), codec("opus"), event8k(101))
	seq := uint16(0)
	press := func(d dtmf.Digit, ts uint32, packets ...dtmf.Event) {
		for _, e := range packets {
			e.Code = d.Code()
			var b [dtmf.EventSize]byte
			e.Put(b[:])
			seq++
			p := packet(101, seq, ts, b[:])
			p.Marker = e.End // as Chromium does
			src.receive(p)
		}
	}
	press('5', 1000, dtmf.Event{Duration: 160}, dtmf.Event{Duration: 320}, dtmf.Event{Duration: 480, End: true}, dtmf.Event{Duration: 480, End: true})
	press('5', 3000, dtmf.Event{Duration: 160}, dtmf.Event{Duration: 320, End: true})
	press('5', 1000, dtmf.Event{Duration: 480, End: true})                                       // late: it is over
	press('#', 5000, dtmf.Event{Duration: 480, End: true}, dtmf.Event{Duration: 480, End: true}) // the beginning was lost
	if len(*digits) != 3 || (*digits)[0] != '5' || (*digits)[1] != '5' || (*digits)[2] != '#' {
		t.Fatalf("%d digits", len(*digits))
	}
	var stamps []uint32
	begun := map[uint32]bool{}
	for _, p := range w.got {
		var e dtmf.Event
		if err := e.Parse(p.payload); err != nil || p.PayloadType != 110 {
			t.Fatalf("%+v %v", p.Header, err)
		}
		first := len(stamps) == 0 || stamps[len(stamps)-1] != p.Timestamp
		if first {
			stamps = append(stamps, p.Timestamp)
		}
		if p.Marker != first { // RFC 4733 §2.3: Linphone hears a key for each mark
			t.Errorf("a packet of a press is marked: %v; the first: %v", p.Marker, first)
		}
		if e.End && !begun[p.Timestamp] {
			t.Error("a press ends that never began")
		}
		begun[p.Timestamp] = begun[p.Timestamp] || !e.End
		if e.Duration%6 != 0 {
			t.Errorf("duration %d is not rescaled to 48000", e.Duration)
		}
	}
	if len(stamps) != 3 {
		t.Errorf("%d presses went out, want 3", len(stamps))
	}
}

func TestPathPrintsItself(t *testing.T) {
	src, dst, _, _ := pair(codec("PCMU"), codec("opus"), event8k(101))
	p := NewPath(src, dst)
	if got := p.String(); got != "dtmf 101>110 -> jitter -> PCMU>opus -> rewrite -> srtp" {
		t.Error(got)
	}
	dst.settle(&Agreed{Send: codec("PCMU"), Direction: sdp.SendRecv})
	p.WriteRTP(packet(0, 1, 1, []byte{1}))
	if got := p.String(); got != "PCMU -> rewrite -> srtp" {
		t.Errorf("after renegotiating: %s", got)
	}
}

func TestNothingIsAllocatedPerPacket(t *testing.T) {
	for _, pair2 := range [][2]string{{"PCMU", "PCMU"}, {"PCMU", "opus"}, {"opus", "PCMU"}, {"PCMU", "G722"}} {
		from, to := codec(pair2[0]), codec(pair2[1])
		src, dst, _, _ := pair(from, to)
		var below transmitter = discard{}
		dst.below.Store(&below)
		pkt := voice(from)
		at := time.Duration(0)
		path := (*src.sink.Load()).(*Path)
		path.now = func() time.Duration { return at }
		step := func() {
			pkt.Seq++
			pkt.TS += uint32(from.Clock / 50)
			at += 20 * time.Millisecond
			src.receive(pkt)
			path.play(at)
		}
		for range held { // each slot finds its size once
			step()
		}
		if n := testing.AllocsPerRun(200, step); n != 0 {
			t.Errorf("%v: %v allocations a packet", pair2, n)
		}
	}
}

type discard struct{}

func (discard) transmit(*rtp.Header, []byte) error { return nil }

// voice is 20 ms of something in a codec.
func voice(f sdp.Format) *Packet {
	c, _ := transcode.Find(f)
	rate := c.Rate
	if rate == 0 {
		rate = 8000
	}
	e, err := c.NewEncoder(rate)
	if err != nil {
		panic(err)
	}
	pcm := make([]int16, rate/50)
	for i := range pcm {
		pcm[i] = int16(i * 37)
	}
	var buf [transcode.MaxPayload]byte
	n, err := e.Encode(buf[:], pcm)
	if err != nil {
		panic(err)
	}
	return packet(f.PT, 0, 0, buf[:n])
}

func BenchmarkPath(b *testing.B) {
	for _, pair2 := range [][2]string{{"PCMU", "PCMU"}, {"PCMU", "opus"}, {"opus", "PCMU"}} {
		b.Run(pair2[0]+"_"+pair2[1], func(b *testing.B) {
			from := codec(pair2[0])
			src, dst, _, _ := pair(from, codec(pair2[1]))
			var below transmitter = discard{}
			dst.below.Store(&below)
			pkt := voice(from)
			at := time.Duration(0)
			path := (*src.sink.Load()).(*Path)
			path.now = func() time.Duration { return at }
			b.ReportAllocs()
			for b.Loop() {
				pkt.Seq++
				pkt.TS += uint32(from.Clock / 50)
				at += 20 * time.Millisecond
				src.receive(pkt)
				path.play(at)
			}
		})
	}
}

func TestPortsRestBeforeTheyAreUsedAgain(t *testing.T) {
	p, err := NewPool(nil, 47000, 47003, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := p.take()
	p.give(first)
	second, _ := p.take()
	if first == second {
		t.Error("a port was used again without a rest")
	}
	if _, ok := p.take(); ok {
		t.Error("a resting port was handed out")
	}
}

func plain(t *testing.T, pool *Pool) *Plain {
	t.Helper()
	p, err := NewPlain(PlainConfig{Pool: pool, Listen: loopback, Events: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestAStrangersPacketsAreDroppedAndCounted(t *testing.T) {
	pool, _ := NewPool(loops(t), 47100, 47199, time.Second)
	p := plain(t, pool)
	peer, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	stranger, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	d := sdp.Description{Addr: loopback, Lines: []sdp.Line{{Media: sdp.Media{Kind: sdp.Audio, Formats: []sdp.Format{codec("PCMU")}},
		Transport: sdp.Transport{Port: peer.LocalAddr().(*net.UDPAddr).Port}}}}
	if _, err := p.SetOffer(d.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Answer(context.Background(), sdp.Session{}); err != nil {
		t.Fatal(err)
	}
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: p.port}
	send := func(c *net.UDPConn, seq uint16, size int) {
		b := make([]byte, 12+size)
		b[0] = 0x80
		binary.BigEndian.PutUint16(b[2:], seq)
		if _, err := c.WriteToUDP(b, to); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(what string, f func(Stats) bool) {
		t.Helper()
		for range 500 {
			if f(p.stream.Stats()) {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
		t.Fatalf("%s: %+v", what, p.stream.Stats())
	}
	send(peer, 1, 160)
	wait("the peer is heard", func(s Stats) bool { return s.Received == 1 })
	for i := range uint16(20) {
		send(stranger, i, 160)
	}
	wait("the stranger is counted", func(s Stats) bool { return s.Strangers == 20 && s.Received == 1 })
	// Wild sizes from the peer itself.
	if _, err := peer.WriteToUDP([]byte{0x80}, to); err != nil {
		t.Fatal(err)
	}
	send(peer, 2, 0)
	send(peer, 3, 1500)
	send(peer, 4, 160)
	wait("the peer is heard still", func(s Stats) bool { return s.Received == 4 && s.Malformed == 1 })
}

// FuzzRTP: no datagram makes the parser read outside itself.
func FuzzRTP(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9})
	f.Add([]byte{0xbf, 0xff, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		if off, size, ok := parseRTP(&p, b); ok && (off < 12 || size < 0 || off+size > len(b)) {
			t.Fatalf("payload at %d of %d in %d bytes", off, size, len(b))
		}
	})
}

func TestSoundIsMarkedForRouters(t *testing.T) {
	l := loops(t)
	for _, c := range []struct {
		at             string
		level, receive int
	}{{"127.0.0.1", unix.IPPROTO_IP, unix.IP_RECVTOS}, {"::1", unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS}} {
		peer, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.at), 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		raw, err := peer.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), c.level, c.receive, 1) }); err != nil {
			t.Fatal(err)
		}
		s, err := l.listenUDP(netip.AddrPortFrom(netip.MustParseAddr(c.at), 0), onePeer, func([]byte, netip.AddrPort) {})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.WriteTo([]byte("x"), peer.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
			t.Fatal(err)
		}
		oob := make([]byte, 64)
		_, n, _, _, err := peer.ReadMsgUDPAddrPort(make([]byte, 10), oob)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) == 0 || messages[0].Data[0] != Expedited<<2 {
			t.Errorf("%s: marked %v, %v", c.at, messages, err)
		}
	}
}
