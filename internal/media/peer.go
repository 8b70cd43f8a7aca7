package media

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// peer is one PeerConnection under an endpoint. It negotiates, keeps ICE and
// DTLS going and carries RTCP; sound goes beside it where it can.
type peer struct {
	w     *WebRTC
	pc    *webrtc.PeerConnection
	audio *webrtc.RTPTransceiver
	keys  DTLSKeys
	stop  func()    // ends the reports
	once  sync.Once // the way of the packets is chosen once: no SSRC has two senders
	sound atomic.Pointer[sound]

	writer atomic.Pointer[webrtc.TrackLocalWriter] // the way out through the PeerConnection
}

// connect puts a fresh PeerConnection under the endpoint.
func (w *WebRTC) connect() error {
	p := &peer{w: w}
	var relays []ICEServer
	if w.relays != nil {
		relays = w.relays()
	}
	var err error
	if p.pc, err = w.browsers.peerConnection(p, relays); err != nil {
		return fmt.Errorf("media: %w", err)
	}
	sender, err := p.pc.AddTrack(p)
	if err != nil {
		p.pc.Close()
		return fmt.Errorf("media: %w", err)
	}
	for _, t := range p.pc.GetTransceivers() {
		if t.Sender() == sender {
			p.audio = t
		}
	}
	// Known before anything is described: sound beside the PeerConnection may
	// begin before pion binds the track.
	w.stream.ssrc.Store(uint32(sender.GetParameters().Encodings[0].SSRC))
	w.mu.Lock()
	w.now = p
	w.mu.Unlock()
	w.peer, w.remote, w.early = p, false, nil
	p.pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		e := Event{Kind: Candidate}
		if c != nil {
			e.Candidate = c.ToJSON().Candidate
		}
		w.tell(p, e)
	})
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			p.begin()
			w.tell(p, Event{Kind: Connected})
		case webrtc.PeerConnectionStateDisconnected:
			w.tell(p, Event{Kind: Disconnected})
		case webrtc.PeerConnectionStateFailed:
			w.tell(p, Event{Kind: Failed})
		}
	})
	p.pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		if t.Kind() != webrtc.RTPCodecTypeAudio {
			return
		}
		p.begin()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.closed {
			return
		}
		if s := p.sound.Load(); s != nil {
			w.browsers.know(uint32(t.SSRC()), s)
		} else {
			w.wg.Go(func() { p.readRTP(t) })
		}
		w.wg.Go(func() { p.readRTCP(r.ReadRTCP) })
	})
	w.wg.Go(func() { p.readRTCP(sender.ReadRTCP) })
	p.stop = w.browsers.loops.rounds.every(p.report)
	return nil
}

// part takes the sound away from the PeerConnection for good.
func (p *peer) part() {
	p.stop()
	p.once.Do(func() {}) // whoever has not begun never will
	if s := p.sound.Load(); s != nil {
		s.end()
	}
}

// close ends the PeerConnection and gives back its address. It may take seconds: a
// relay that does not answer is waited for.
func (p *peer) close() error {
	err := p.pc.Close()
	p.part()
	return err
}

// begin chooses the packets' way, once DTLS is through: beside the
// PeerConnection where ICE chose our port and the keys are known, else through
// it.
func (p *peer) begin() {
	p.once.Do(func() {
		var below transmitter = p
		s, err := p.beside()
		if err == nil {
			p.sound.Store(s)
			below = s
		} else {
			p.w.browsers.Through.Add(1)
			p.w.browsers.log.Debug("sound goes through the PeerConnection", "reason", err)
		}
		p.w.stream.below.Store(&below)
	})
}

var errNotReady = errors.New("media: the PeerConnection is not ready for sound")

var errNotOurs = errors.New("media: the chosen path is not on the browsers' port")

func (p *peer) beside() (*sound, error) {
	transport := p.audio.Sender().Transport().ICETransport()
	pair, err := transport.GetSelectedCandidatePair()
	if err != nil {
		return nil, err
	}
	s := &sound{stream: p.w.stream, browsers: p.w.browsers}
	if s.in, s.out, err = p.keys.Contexts(false); err != nil {
		return nil, err
	}
	if err := p.follow(s, pair); err != nil {
		return nil, err
	}
	transport.OnSelectedCandidatePairChange(func(pair *webrtc.ICECandidatePair) {
		if err := p.follow(s, pair); err != nil {
			p.w.browsers.log.Info("sound cannot follow ICE", "error", err)
			p.w.tell(p, Event{Kind: Moved})
		}
	})
	// Once more: the choice may have changed before we listened.
	if pair, err = transport.GetSelectedCandidatePair(); err == nil {
		err = p.follow(s, pair)
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// obeys reports whether ICE is to go over to a pair that pion would not choose by
// itself, its priority being less: the browser, whose choice it is (RFC 8445 §8.1.1),
// names it and sends its sound by it. The relay of the one before has died, say.
func (p *peer) obeys(m *stun.Message, _, remote ice.Candidate, pair *ice.CandidatePair) bool {
	s := p.sound.Load()
	if s == nil || !m.Contains(stun.AttrUseCandidate) || pair.ResponsesReceived() == 0 {
		return false
	}
	a, err := netip.ParseAddr(remote.Address())
	return err == nil && s.comesFrom(netip.AddrPortFrom(a.Unmap(), uint16(remote.Port())))
}

// follow sends a call's sound the way that ICE chose.
func (p *peer) follow(s *sound, pair *webrtc.ICECandidatePair) error {
	if pair == nil {
		return errNotOurs
	}
	a, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return fmt.Errorf("media: candidate: %w", err)
	}
	to := netip.AddrPortFrom(a.Unmap(), pair.Remote.Port)
	door := p.w.browsers.door(pair.Local, to)
	if door == nil {
		return errNotOurs
	}
	s.move(door, to)
	return nil
}

// readRTP is the packet path in through the PeerConnection; it ends when that
// closes.
func (p *peer) readRTP(t *webrtc.TrackRemote) {
	s := p.w.stream
	var buf [Headroom + maxPacket]byte
	var pkt Packet
	for {
		n, _, err := t.Read(buf[Headroom:])
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed):
			return
		case err != nil && n == 0:
			return
		}
		off, size, ok := parseRTP(&pkt, buf[Headroom:Headroom+n])
		if !ok {
			s.in.malformed.Add(1)
			continue
		}
		pkt.Raw = buf[off : Headroom+off+size]
		s.receive(&pkt)
	}
}

func (p *peer) readRTCP(read func() ([]rtcp.Packet, interceptor.Attributes, error)) {
	for {
		packets, _, err := read()
		if err != nil {
			return
		}
		p.w.stream.hear(packets)
	}
}

func (p *peer) report() {
	if !p.w.stream.due(true) {
		return
	}
	if packets := p.w.stream.report("sipbridge"); packets != nil {
		if err := p.pc.WriteRTCP(packets); err != nil {
			p.w.browsers.log.Debug("rtcp report", "error", err)
		}
	}
}

// Bind implements webrtc.TrackLocal: it takes the bare writer, so that a packet
// that goes through the PeerConnection is encrypted and sent on the goroutine
// that brought it.
func (p *peer) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	writer := c.WriteStream()
	p.writer.Store(&writer)
	codecs := c.CodecParameters()
	if len(codecs) == 0 {
		return webrtc.RTPCodecParameters{}, sdp.ErrNothingInCommon
	}
	return codecs[0], nil
}

// transmit implements transmitter, through the PeerConnection.
func (p *peer) transmit(h *rtp.Header, raw []byte) error {
	writer := p.writer.Load()
	if writer == nil {
		return errNotReady
	}
	_, err := (*writer).WriteRTP(h, raw[Headroom:])
	return err
}

// Unbind implements webrtc.TrackLocal.
func (p *peer) Unbind(webrtc.TrackLocalContext) error { return nil }

// ID implements webrtc.TrackLocal.
func (p *peer) ID() string { return "audio" }

// RID implements webrtc.TrackLocal.
func (p *peer) RID() string { return "" }

// StreamID implements webrtc.TrackLocal.
func (p *peer) StreamID() string { return "sipbridge" }

// Kind implements webrtc.TrackLocal.
func (p *peer) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }
