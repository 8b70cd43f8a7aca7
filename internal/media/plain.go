package media

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// lockAfter is how many packets in a row a source that was not signalled must
// send before it is taken for the peer behind NAT (RFC 7362 §4).
const lockAfter = 5

// PlainConfig says how a plain RTP endpoint is made.
type PlainConfig struct {
	Pool   *Pool
	Listen netip.Addr    // the address we receive on
	Public netip.Addr    // the address we name in SDP; zero: Listen
	Codecs []string      // this trunk's order of encodings; empty: g722OverG711
	Events bool          // offer telephone-event (off where digits go by INFO)
	Tones  bool          // hear and press keys in the sound where no events are agreed on
	SRTP   SRTP          // whether packets are kept secret; "": off
	Keys   Keys          // how keys are offered; "": in the description
	Suites []string      // the encryptions of keys in the description, in order; empty: those that Suites tells of
	Hold   string        // how the peer is told that the far end holds: "", "sendonly", "inactive" or "zero"
	Event  uint8         // the payload type of the telephone-events that we offer; 0: 101
	PTime  time.Duration // of packets, as we offer it; 0: 20 ms
	Log    *slog.Logger
}

// The order a telephone is offered encodings in. Opus comes last: it costs a
// browser nothing and a telephone, if it has it at all, most.
var plainOrder = []string{"G722", "PCMA", "PCMU", "opus"}

// Plain is an endpoint on its own pair of ports: RTP (RFC 3550, RFC 3551) or SRTP
// (RFC 3711), with no ICE.
// It sends to where the peer's packets come from (symmetric RTP, RFC 4961),
// once that source has proved to be the peer.
type Plain struct {
	cfg       PlainConfig
	rtp, rtcp *socket
	port      int
	stream    *Stream
	events    chan Event
	once      sync.Once
	cname     string
	stop      func() // ends the reports
	wg        sync.WaitGroup

	// ---- owned by the leg ----
	desc     sdp.Description
	offered  *sdp.Description // the peer's, waiting for our answer
	offering *sdp.Description // ours, waiting for the peer's answer
	audio    int              // slot of the sound
	secrets  secrets

	secured   atomic.Pointer[secured]        // nil: packets go in the clear
	signalled atomic.Pointer[netip.AddrPort] // where the peer's SDP says to send
	locked    atomic.Pointer[netip.AddrPort] // where its packets come from

	// ---- owned by the loop of rtp ----
	pkt       Packet
	candidate netip.AddrPort
	seen      int
}

// NewPlain opens the ports.
func NewPlain(cfg PlainConfig) (*Plain, error) {
	if !cfg.Public.IsValid() {
		cfg.Public = cfg.Listen
	}
	if len(cfg.Codecs) == 0 {
		cfg.Codecs = plainOrder
	}
	if cfg.SRTP == "" {
		cfg.SRTP = SRTPOff
	}
	cfg.Event, cfg.PTime = cmp.Or(cfg.Event, 101), cmp.Or(cfg.PTime, 20*time.Millisecond)
	p := &Plain{cfg: cfg, events: make(chan Event, eventQueue)}
	p.stream = newStream(cfg.Pool.loops, "rtp", func(d dtmf.Digit) { p.tell(Event{Kind: Digit, Digit: d}) })
	var t transmitter = p
	p.stream.below.Store(&t)
	if cfg.Tones {
		p.stream.listenForTones(func(d dtmf.Digit) { p.tell(Event{Kind: Digit, Digit: d, InBand: true}) })
	}
	var id [4]byte
	rand.Read(id[:])
	var name [6]byte
	rand.Read(name[:])
	p.cname = hex.EncodeToString(name[:]) // RFC 7022: says nothing about us
	p.desc = sdp.Description{ID: uint64(binary.BigEndian.Uint32(id[:])), Version: 1, Addr: cfg.Public}
	var err error
	if p.rtp, p.rtcp, err = cfg.Pool.listen(cfg.Listen, p.takeRTP, func(buf []byte, from netip.AddrPort) { p.takeRTCP(buf[Headroom:], from) }); err != nil {
		return nil, err
	}
	p.port = int(p.rtp.local.Port())
	p.stop = cfg.Pool.loops.rounds.every(p.report)
	return p, nil
}

// Offer describes one sound line (RFC 3264 §5).
func (p *Plain) Offer(_ context.Context, want sdp.Session) ([]byte, error) {
	p.heed(want)
	d := p.desc
	_, w, _ := want.First(sdp.Audio)
	var events []sdp.Format
	if p.cfg.Events {
		events = append(events, event8k(p.cfg.Event))
	}
	preferred := want.Terms.Codecs
	cur := p.stream.agreed.Load()
	if cur != nil && len(preferred) == 0 {
		preferred = []string{cur.Send.Name} // nobody asked for another one
	}
	formats := able(p.cfg.Codecs, preferred, events...)
	for i := range formats {
		narrowed(&formats[i], want.Terms.Bandwidth) // what crosses untouched ends on that line
	}
	if cur != nil {
		formats = keepTypes(formats, cur)
	}
	d.Addr = p.cfg.Public
	switch {
	case w.Direction != sdp.SendOnly:
	case p.cfg.Hold == "inactive":
		w.Direction = sdp.Inactive
	case p.cfg.Hold == "zero": // RFC 2543, which knew no directions
		d.Addr = netip.IPv4Unspecified()
	}
	protocol, secrecy := p.protect()
	line := sdp.Line{Media: sdp.Media{Kind: sdp.Audio, Direction: w.Direction, Formats: formats, PTime: p.cfg.PTime},
		Transport: sdp.Transport{Addr: p.cfg.Public, Port: p.port, Protocol: protocol, Secrecy: secrecy}}
	if len(d.Lines) > 0 { // RFC 3264 §8: the lines of a dialog keep their places
		d.Lines = append([]sdp.Line(nil), d.Lines...)
		d.Lines[p.audio] = line
	} else {
		d.Lines = []sdp.Line{line}
	}
	d.Version++
	p.offering = &d
	return d.Bytes(), nil
}

// keepTypes gives formats the payload types they already have in this dialog
// (RFC 3264 §8.3.2).
func keepTypes(formats []sdp.Format, cur *Agreed) []sdp.Format {
	for i := range formats {
		for _, f := range cur.Receive {
			if f.Same(formats[i]) {
				formats[i].PT = f.PT
			}
		}
	}
	return formats
}

// SetAnswer takes the peer's answer. A proxy that rings several telephones brings
// one of each: the last counts (RFC 3261 §13.2.2.4).
func (p *Plain) SetAnswer(b []byte) (sdp.Session, error) {
	if p.offering == nil {
		return sdp.Session{}, ErrNoOffer
	}
	d, err := sdp.Parse(b)
	if err != nil {
		return sdp.Session{}, err
	}
	slot, m, ok := d.Session().First(sdp.Audio)
	if !ok || slot >= len(p.offering.Lines) {
		return d.Session(), sdp.ErrNothingInCommon
	}
	local := p.offering.Lines[slot].Media
	a := agree(local, m)
	if a.Send.Name == "" {
		return d.Session(), sdp.ErrNothingInCommon
	}
	next, err := p.answeredKeys(p.offering.Lines[slot].Transport, d.Lines[slot].Transport)
	if err != nil {
		return d.Session(), err
	}
	p.desc, p.audio = *p.offering, slot
	p.settle(a, d.Lines[slot].Transport, next)
	return d.Session(), nil
}

// SetOffer takes the peer's offer. What cannot be met is known at Answer.
func (p *Plain) SetOffer(b []byte) (sdp.Session, error) {
	d, err := sdp.Parse(b)
	if err != nil {
		return sdp.Session{}, err
	}
	for i := range d.Lines {
		l := &d.Lines[i]
		// RFC 3264 §6: another profile cannot be answered with ours.
		known := p.acceptable(l.Transport)
		// RFC 6157 §4: nor another family's address, but for the one that says "nowhere".
		reached := l.Transport.Addr.Is4() == p.cfg.Public.Is4() || l.Transport.Addr.IsUnspecified() || !l.Transport.Addr.IsValid()
		l.Refused = l.Refused || !known || !reached
	}
	_, m, ok := d.Session().First(sdp.Audio)
	if !ok || !slices.ContainsFunc(m.Formats, func(f sdp.Format) bool { _, known := transcode.Find(f); return known }) {
		return d.Session(), sdp.ErrNothingInCommon
	}
	p.offered = d
	return d.Session(), nil
}

// Answer meets the last offer (RFC 3264 §6).
func (p *Plain) Answer(_ context.Context, want sdp.Session) ([]byte, error) {
	if p.offered == nil {
		return nil, ErrNoOffer
	}
	offer := p.offered
	_, w, _ := want.First(sdp.Audio)
	p.heed(want)
	order := slices.Clone(want.Terms.Codecs)
	if len(order) == 0 {
		for _, f := range w.Formats { // the far end's own choice first: nothing to transcode
			order = append(order, f.Name)
		}
	}
	var events []sdp.Format
	if p.cfg.Events {
		events = []sdp.Format{event8k(101), event48k(102)}
	}
	formats := able(p.cfg.Codecs, order, events...)
	for i := range formats {
		narrowed(&formats[i], want.Terms.Bandwidth)
	}
	slot, o, _ := offer.Session().First(sdp.Audio)
	if theirs, ok := w.Codec(); ok && !slices.ContainsFunc(o.Formats, theirs.Same) {
		// It will be recoded, and so its pauses can be filled. What crosses untouched
		// must not pause: the far end was not asked whether it minds.
		formats = append(formats, noise8k())
	}
	mine := sdp.Session{Media: make([]sdp.Media, len(offer.Lines))}
	mine.Media[slot].Direction = w.Direction
	s, err := sdp.Answer(offer.Session(), map[sdp.Kind][]sdp.Format{sdp.Audio: formats}, mine)
	if err != nil {
		return nil, err
	}
	d := sdp.Description{ID: p.desc.ID, Version: p.desc.Version + 1, Addr: p.cfg.Public, Wish: p.desc.Wish, Recorded: p.desc.Recorded, Lines: make([]sdp.Line, len(s.Media))}
	for i, m := range s.Media {
		t := offer.Lines[i].Transport
		d.Lines[i] = sdp.Line{Media: m, Transport: sdp.Transport{Protocol: t.Protocol, Formats: t.Formats}}
		if !m.Refused {
			d.Lines[i].Transport.Addr, d.Lines[i].Transport.Port = p.cfg.Public, p.port
		}
	}
	secrecy, next, err := p.answerKeys(offer.Lines[slot].Transport)
	if err != nil {
		return nil, err
	}
	d.Lines[slot].Transport.Secrecy = secrecy
	a := agree(d.Lines[slot].Media, s.Media[slot])
	a.Direction = s.Media[slot].Direction
	p.desc, p.offered, p.offering, p.audio = d, nil, nil, slot
	p.settle(a, offer.Lines[slot].Transport, next)
	return d.Bytes(), nil
}

// settle puts what was agreed into force.
func (p *Plain) settle(a *Agreed, t sdp.Transport, s *secured) {
	a.Secured = s != nil
	old := p.secured.Swap(s)
	if old != nil && old.dtls != nil && (s == nil || s.dtls != old.dtls) {
		old.dtls.end()
	}
	to := netip.AddrPortFrom(t.Addr, uint16(t.Port))
	if at := p.signalled.Load(); at == nil || *at != to {
		p.locked.Store(nil) // a new address must prove itself again
	}
	if t.Addr.IsValid() && !t.Addr.IsUnspecified() && t.Port > 0 {
		p.signalled.Store(&to)
	}
	if s != nil && s.dtls != nil && (old == nil || s.dtls != old.dtls) {
		p.shake(s.dtls)
	}
	p.stream.settle(a)
}

// Rollback forgets an offer that came to nothing: the session stays as it was.
func (p *Plain) Rollback() error {
	p.offered, p.offering = nil, nil
	return nil
}

// AddCandidate is for ICE, which plain RTP has not.
func (p *Plain) AddCandidate(string) error { return errors.New("media: plain RTP takes no candidates") }

// Stream returns the sound.
func (p *Plain) Stream(k sdp.Kind) *Stream {
	if k != sdp.Audio {
		return nil
	}
	return p.stream
}

// Events tells what happens; it is closed by Close.
func (p *Plain) Events() <-chan Event { return p.events }

// Close frees the ports, which rest before they are used again.
func (p *Plain) Close() error {
	p.once.Do(func() {
		p.stop()
		p.rtp.Close()
		p.rtcp.Close()
		if s := p.secured.Load(); s != nil && s.dtls != nil {
			s.dtls.end()
		}
		p.wg.Wait()
		close(p.events)
		p.cfg.Pool.give(p.port)
	})
	return nil
}

func (p *Plain) tell(e Event) {
	select {
	case p.events <- e:
	default: // a leg that does not listen loses digits, not the call
	}
}

// takeRTP is the packet path in.
func (p *Plain) takeRTP(buf []byte, from netip.AddrPort) {
	b := buf[Headroom:]
	if s := p.secured.Load(); s != nil {
		var ok bool
		if b, ok = p.open(s, b, from); !ok {
			return
		}
	} else if !p.admit(from) {
		p.stream.in.strangers.Add(1)
		return
	}
	off, size, ok := parseRTP(&p.pkt, b)
	if !ok {
		p.stream.in.malformed.Add(1)
		return
	}
	p.pkt.Raw = buf[off : Headroom+off+size]
	p.stream.receive(&p.pkt)
}

// open decrypts a packet in place; what is not sound goes its own way (RFC 7983
// §7). What decrypts is the peer's, wherever it comes from.
func (p *Plain) open(s *secured, b []byte, from netip.AddrPort) ([]byte, bool) {
	switch {
	case len(b) > 0 && b[0] >= 20 && b[0] <= 63:
		if s.dtls != nil {
			s.dtls.take(b, from, false)
		}
		return nil, false
	case s.mux && len(b) > 1 && b[1] >= 192 && b[1] <= 223: // RFC 5761 §4
		p.takeRTCP(b, from)
		return nil, false
	case s.in == nil:
		return nil, false // before the keys
	}
	plain, ok := s.open(b)
	if !ok {
		p.stream.in.strangers.Add(1)
		return nil, false
	}
	if l := p.locked.Load(); l == nil || *l != from {
		p.lock(from)
	}
	return plain, true
}

// admit tells the peer's packets from a stranger's.
func (p *Plain) admit(from netip.AddrPort) bool {
	if l := p.locked.Load(); l != nil {
		return *l == from
	}
	s := p.signalled.Load()
	if s == nil {
		return false // nothing was said yet: nobody can be the peer
	}
	if *s == from {
		p.lock(from)
		return true
	}
	if p.candidate != from {
		p.candidate, p.seen = from, 0
	}
	if p.seen++; p.seen >= lockAfter {
		p.lock(from)
		return true
	}
	return false
}

func (p *Plain) lock(from netip.AddrPort) {
	p.locked.Store(&from)
	p.seen = 0
}

// transmit sends one packet; the header is written into the headroom.
func (p *Plain) transmit(h *rtp.Header, raw []byte) error {
	to := p.locked.Load()
	if to == nil {
		if to = p.signalled.Load(); to == nil {
			return ErrNoOffer
		}
	}
	putHeader(h, raw)
	if s := p.secured.Load(); s != nil {
		var err error
		if raw, err = s.seal(raw); err != nil {
			return err
		}
	}
	return p.rtp.WriteTo(raw, *to)
}

func (p *Plain) takeRTCP(b []byte, from netip.AddrPort) {
	if s := p.secured.Load(); s != nil {
		if len(b) > 0 && b[0] >= 20 && b[0] <= 63 {
			if s.dtls != nil {
				s.dtls.take(b, from, true)
			}
			return
		}
		var ok bool
		if b, ok = s.openRTCP(b); !ok {
			p.stream.in.strangers.Add(1)
			return
		}
	} else if to := p.peer(); to == nil || to.Addr() != from.Addr() {
		p.stream.in.strangers.Add(1)
		return
	}
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		p.stream.in.malformed.Add(1)
		return
	}
	p.stream.hear(packets)
}

func (p *Plain) peer() *netip.AddrPort {
	if l := p.locked.Load(); l != nil {
		return l
	}
	return p.signalled.Load()
}

// report sends RTCP.
func (p *Plain) report() {
	if !p.stream.due(false) {
		return
	}
	to := p.peer()
	packets := p.stream.report(p.cname)
	if to == nil || packets == nil {
		return
	}
	b, err := rtcp.Marshal(packets)
	by, at := p.rtcp, netip.AddrPortFrom(to.Addr(), to.Port()+1)
	if s := p.secured.Load(); s != nil && err == nil {
		if s.mux {
			by, at = p.rtp, *to
		}
		b, err = s.sealRTCP(b)
	}
	if err == nil {
		err = by.WriteTo(b, at)
	}
	if err != nil {
		p.cfg.Log.Debug("rtcp report", "error", err)
	}
}

func (p *Plain) String() string { return fmt.Sprintf("rtp %v:%d", p.cfg.Public, p.port) }
