package media

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// sealing is room for what SRTP adds to a packet: a GCM tag (RFC 7714 §7.1).
const sealing = 16

// sound is a browser's packets beside its PeerConnection: decrypted on the
// goroutine that read them, encrypted on the one that brings them, and no queue
// between (docs/decisions/006-beside-the-peerconnection.md).
type sound struct {
	stream   *Stream
	browsers *Browsers
	way      atomic.Pointer[way]
	mu       sync.Mutex // one change of the way at a time
	ended    bool       // guarded by mu
	others   []way      // where its packets came from beside it; guarded by mu
	ssrc     uint32     // of the peer, once known; guarded by mu

	// ---- owned by whoever reads ----
	reading atomic.Bool // two readers can meet while the peer changes its address
	in      *srtp.Context
	pkt     Packet
	inHdr   rtp.Header

	// ---- owned by the stream's sender ----
	out    *srtp.Context
	outHdr rtp.Header
	sealed [maxPacket + sealing]byte
}

// way is the path that ICE chose: one of our doors, and the peer's address.
type way struct {
	door door
	out  writer
	to   netip.AddrPort
}

// receive takes one packet, which has Headroom bytes before it, and reports
// whether it was the peer's.
func (s *sound) receive(buf []byte) bool {
	if !s.reading.CompareAndSwap(false, true) {
		return false
	}
	defer s.reading.Store(false)
	b := buf[Headroom:]
	s.inHdr = rtp.Header{}
	b, err := s.in.DecryptRTP(b[:0], b, &s.inHdr)
	if err != nil {
		s.stream.in.malformed.Add(1)
		return false
	}
	off, size, ok := parseRTP(&s.pkt, b)
	if !ok {
		s.stream.in.malformed.Add(1)
		return true
	}
	s.pkt.Raw = buf[off : Headroom+off+size]
	s.stream.receive(&s.pkt)
	return true
}

// mostOthers bounds the addresses that one peer may send from.
const mostOthers = 8

// also remembers another address of the peer's: a browser may send by one of the
// pairs that it nominated, and we by another (RFC 8445 §8.1.1).
func (s *sound) also(at door, from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if len(s.others) == mostOthers {
		s.others[0].door.table().drop(s.others[0].to, s)
		s.others = s.others[1:]
	}
	s.others = append(s.others, way{door: at, to: from})
	at.table().put(from, s)
}

// comesFrom reports whether the peer sends from an address that we do not send to:
// the last one from which it began.
func (s *sound) comesFrom(at netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.others)
	return n > 0 && s.others[n-1].to == at && s.way.Load().to != at
}

// transmit implements transmitter.
func (s *sound) transmit(h *rtp.Header, raw []byte) error {
	putHeader(h, raw)
	s.outHdr = rtp.Header{}
	b, err := s.out.EncryptRTP(s.sealed[:0], raw, &s.outHdr)
	if err != nil {
		return err
	}
	w := s.way.Load()
	return w.out.WriteTo(b, w.to)
}

// move follows ICE to another path (RFC 8445 §8.1.1).
func (s *sound) move(at door, to netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	at.table().put(to, s)
	old := s.way.Swap(&way{at, at.writer(to), to})
	if old != nil && (old.door != at || old.to != to) {
		old.door.table().drop(old.to, s)
	}
}

// end gives the address back.
func (s *sound) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, w := range append(s.others, *s.way.Load()) {
		w.door.table().drop(w.to, s)
	}
	s.browsers.forget(s.ssrc, s)
}

// putHeader writes an RTP header into the headroom (RFC 3550 §5.1).
func putHeader(h *rtp.Header, raw []byte) {
	raw[0] = 2 << 6
	raw[1] = h.PayloadType
	if h.Marker {
		raw[1] |= 0x80
	}
	binary.BigEndian.PutUint16(raw[2:], h.SequenceNumber)
	binary.BigEndian.PutUint32(raw[4:], h.Timestamp)
	binary.BigEndian.PutUint32(raw[8:], h.SSRC)
}
