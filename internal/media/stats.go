package media

import (
	"math"
	"sync/atomic"
	"time"
)

// Stats are one stream's figures, both ways (RFC 3550 §6.4).
type Stats struct {
	Received, Sent uint64        // packets
	Octets         uint64        // payload bytes sent
	Lost           int64         // packets that never came
	Late           uint64        // packets that came too late to be used, or twice
	Concealed      time.Duration // sound made up in the place of what was lost
	Strangers      uint64        // packets from a source that is not the peer
	Unknown        uint64        // packets of a payload type that was not negotiated
	Malformed      uint64        // datagrams that are not RTP
	Jitter         time.Duration // interarrival jitter
	FarLoss        float64       // share of our packets the peer reports lost, 0 to 1
	FarJitter      time.Duration // of our packets, as the peer reports it
	RTT            time.Duration // round trip by RTCP; 0: not known
	Last           time.Duration // since the last packet came; -1: none came
}

// Loss is the share of expected packets that never came, 0 to 1.
func (s Stats) Loss() float64 {
	if expected := float64(s.Received) + float64(s.Lost); expected > 0 {
		return max(float64(s.Lost), 0) / expected
	}
	return 0
}

// MOS estimates listening quality from loss, jitter and round trip with the
// E-model's default parameters (ITU-T G.107), 1 to 4.5. ie and bpl are the
// codec's equipment impairment and loss robustness (G.113).
func (s Stats) MOS(ie, bpl float64) float64 {
	delay := float64(s.RTT)/2e6 + 2*float64(s.Jitter)/1e6 + 20
	id := 0.024 * delay
	if delay > 177.3 {
		id += 0.11 * (delay - 177.3)
	}
	ppl := s.Loss() * 100
	r := 93.2 - id - (ie + (95-ie)*ppl/(ppl+bpl))
	if r <= 0 {
		return 1
	}
	r = min(r, 100)
	return math.Round((1+0.035*r+r*(r-60)*(100-r)*7e-6)*100) / 100
}

// Since is what was new after an earlier snapshot of the same stream: counts are those
// of the time between, the rest is as it is now.
func (s Stats) Since(was Stats) Stats {
	s.Received -= was.Received
	s.Sent -= was.Sent
	s.Octets -= was.Octets
	s.Lost -= was.Lost
	s.Late -= was.Late
	s.Concealed -= was.Concealed
	s.Strangers -= was.Strangers
	s.Unknown -= was.Unknown
	s.Malformed -= was.Malformed
	return s
}

// reception counts what arrives. count is called by the reading goroutine
// alone; the rest is for others to read.
type reception struct {
	received, late, strangers, unknown, malformed atomic.Uint64
	concealed                                     atomic.Int64  // ns
	extended                                      atomic.Uint32 // highest sequence number with its wraps
	jitter                                        atomic.Uint32 // in ticks, times 16
	clock                                         atomic.Uint32
	ssrc                                          atomic.Uint32
	last                                          atomic.Int64
	base                                          atomic.Uint32
	lostBefore                                    atomic.Int64 // by sources that came before this SSRC
	countBefore                                   atomic.Uint64
	lastSR                                        atomic.Uint32 // middle bits of the NTP time of the peer's last SR
	lastSRAt                                      atomic.Int64

	// ---- owned by count ----
	begun   bool
	transit uint32
}

// count follows RFC 3550 appendix A.1 and A.8.
func (r *reception) count(p *Packet, clock int) {
	at := now()
	n := r.received.Add(1)
	if !r.begun || r.ssrc.Load() != p.SSRC {
		if r.begun {
			r.lostBefore.Add(r.lostHere())
			r.countBefore.Store(n - 1)
		}
		r.begun = true
		r.ssrc.Store(p.SSRC)
		r.base.Store(uint32(p.Seq) | 1<<16)
		r.extended.Store(uint32(p.Seq) | 1<<16)
		r.transit = 0
	}
	ext := r.extended.Load()
	if d := int16(p.Seq - uint16(ext)); d > 0 {
		r.extended.Store(ext + uint32(d))
	}
	arrival := uint32(at / 1000 * int64(clock) / 1_000_000)
	transit := arrival - p.TS
	if r.transit != 0 && int(r.clock.Load()) == clock {
		d := int32(transit - r.transit)
		if d < 0 {
			d = -d
		}
		if d < int32(clock)*2 { // a jump of the sender's clock is no jitter
			j := r.jitter.Load()
			r.jitter.Store(j + uint32(d) - (j+8)>>4)
		}
	}
	r.transit = transit
	r.clock.Store(uint32(clock))
	r.last.Store(at)
}

func (r *reception) lostHere() int64 {
	if r.received.Load() == 0 {
		return 0
	}
	expected := int64(r.extended.Load()-r.base.Load()) + 1
	return expected - int64(r.received.Load()-r.countBefore.Load())
}

// farReport is what the peer's RTCP says of our packets.
type farReport struct {
	loss     atomic.Uint32 // fraction lost, 1/256
	lost     atomic.Uint32 // in all
	jitter   atomic.Uint32 // in ticks of our clock
	expected atomic.Uint32 // what it may be next, 1/256: networks that lost go on losing
	rtt      atomic.Int64  // ns
}

// Stats is a snapshot.
func (s *Stream) Stats() Stats {
	r := &s.in
	st := Stats{
		Received: r.received.Load(), Sent: s.out.packets.Load(), Octets: s.out.octets.Load(),
		Lost: r.lostHere() + r.lostBefore.Load(), Late: r.late.Load(), Concealed: time.Duration(r.concealed.Load()), Strangers: r.strangers.Load(),
		Unknown: r.unknown.Load(), Malformed: r.malformed.Load(),
		FarLoss: float64(s.far.loss.Load()) / 256, RTT: time.Duration(s.far.rtt.Load()), Last: -1,
	}
	if c := r.clock.Load(); c > 0 {
		st.Jitter = time.Duration(r.jitter.Load()/16) * time.Second / time.Duration(c)
	}
	if a := s.agreed.Load(); a != nil && a.Send.Clock > 0 {
		st.FarJitter = time.Duration(s.far.jitter.Load()) * time.Second / time.Duration(a.Send.Clock)
	}
	if at := r.last.Load(); at > 0 {
		st.Last = time.Duration(now() - at)
	}
	return st
}
