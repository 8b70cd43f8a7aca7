package media

import (
	"time"

	"github.com/pion/rtcp"
)

// reportEvery is the RTCP interval of a two-party session (RFC 3550 §6.2).
const reportEvery = 5 * time.Second

// due reports whether a report should go out: each reportEvery and, where the
// profile has early feedback (RFC 4585 §3.5), as soon as more than one packet in
// fifty is lost, so that the peer can do something about it.
func (s *Stream) due(early bool) bool {
	if s.reported.at == 0 || since()-s.reported.at > reportEvery-round/2 {
		return true
	}
	if !early || s.in.received.Load() == 0 {
		return false
	}
	expected, received := s.in.counted()
	span := expected - s.reported.expected
	return (span-(received-s.reported.received))*50 > span
}

// counted is how many packets of this source were sent, as far as can be told, and
// how many came.
func (r *reception) counted() (expected, received int64) {
	return int64(r.extended.Load()-r.base.Load()) + 1, int64(r.received.Load())
}

// ntp is the wall clock in RTCP's form: seconds since 1900 in 32.32 bits.
func ntp(t time.Time) uint64 {
	const epoch = 2208988800
	return uint64(t.Unix()+epoch)<<32 | uint64(t.Nanosecond())<<32/1_000_000_000
}

// report is the compound packet that describes this stream now.
func (s *Stream) report(cname string) []rtcp.Packet {
	a := s.agreed.Load()
	if a == nil {
		return nil
	}
	var blocks []rtcp.ReceptionReport
	if r := &s.in; r.received.Load() > 0 {
		b := rtcp.ReceptionReport{
			SSRC:               r.ssrc.Load(),
			LastSequenceNumber: r.extended.Load() - 1<<16,
			Jitter:             r.jitter.Load() / 16,
			TotalLost:          uint32(min(max(r.lostHere(), 0), 0x7fffff)),
			LastSenderReport:   r.lastSR.Load(),
		}
		// RFC 3550 §A.3: of what was expected since the last report.
		expected, received := r.counted()
		span, got := expected-s.reported.expected, received-s.reported.received
		s.reported.expected, s.reported.received = expected, received
		if span > 0 {
			b.FractionLost = uint8(min(max(span-got, 0)*256/span, 255))
		}
		if at := r.lastSRAt.Load(); at > 0 {
			b.Delay = uint32((now() - at) * 65536 / int64(time.Second))
		}
		if far := s.onward.Load(); far != nil {
			far.answerFor(&b)
		}
		blocks = append(blocks, b)
	}
	s.reported.at = since()
	sdes := &rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
		Source: s.ssrc.Load(), Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: cname}}}}}
	if s.out.packets.Load() == 0 {
		return []rtcp.Packet{&rtcp.ReceiverReport{SSRC: s.ssrc.Load(), Reports: blocks}, sdes}
	}
	return []rtcp.Packet{&rtcp.SenderReport{
		SSRC: s.ssrc.Load(), NTPTime: ntp(time.Now()), RTPTime: s.clockNow(a.Send.Clock),
		PacketCount: uint32(s.out.packets.Load()), OctetCount: uint32(s.out.octets.Load()), Reports: blocks,
	}, sdes}
}

// answerFor makes a report on a stream that crosses untouched one on its whole way:
// the far end's word on our packets counts what was lost before us, too, and its
// round trip comes on top of ours (RFC 3550 §7.2).
func (f *farReport) answerFor(b *rtcp.ReceptionReport) {
	b.FractionLost = max(b.FractionLost, uint8(f.loss.Load()))
	b.TotalLost = max(b.TotalLost, f.lost.Load())
	b.Jitter = max(b.Jitter, f.jitter.Load())
	b.Delay -= min(b.Delay, uint32(f.rtt.Load()*65536/int64(time.Second)))
}

// hear takes the peer's RTCP.
func (s *Stream) hear(packets []rtcp.Packet) {
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			s.in.lastSR.Store(uint32(p.NTPTime >> 16))
			s.in.lastSRAt.Store(now())
			s.heard(p.Reports)
		case *rtcp.ReceiverReport:
			s.heard(p.Reports)
		}
	}
}

func (s *Stream) heard(reports []rtcp.ReceptionReport) {
	for _, r := range reports {
		if r.SSRC != s.ssrc.Load() {
			continue
		}
		s.far.loss.Store(uint32(r.FractionLost))
		s.far.lost.Store(r.TotalLost)
		s.far.jitter.Store(r.Jitter)
		s.far.expected.Store(max(uint32(r.FractionLost), s.far.expected.Load()*7/8))
		if r.LastSenderReport == 0 {
			continue
		}
		// RFC 3550 §6.4.1: A - LSR - DLSR, all in 1/65536 s.
		trip := int32(uint32(ntp(time.Now())>>16) - r.LastSenderReport - r.Delay)
		if trip >= 0 && trip < 60<<16 {
			s.far.rtt.Store(int64(trip) * int64(time.Second) / 65536)
		}
	}
}
