package media

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// BrowsersConfig says how browsers' media is received.
type BrowsersConfig struct {
	Port   int        // one UDP port for every browser
	Listen netip.Addr // the address it is on; unspecified: every interface
	Public netip.Addr // 1:1 NAT address in front of it; zero: none
	Log    *slog.Logger
}

// Browsers is what all WebRTC endpoints share: one UDP port, one certificate.
type Browsers struct {
	api  *webrtc.API
	mux  ice.UDPMux
	cert webrtc.Certificate
	log  *slog.Logger
}

// The order a browser is offered encodings in: the best sound over a bad
// network first.
var browserOrder = []string{"opus", "G722", "PCMA", "PCMU"}

// NewBrowsers opens the port.
func NewBrowsers(cfg BrowsersConfig) (*Browsers, error) {
	b := &Browsers{log: cfg.Log}
	lf := logging.NewDefaultLoggerFactory()
	lf.DefaultLogLevel = logging.LogLevelDisabled // its messages name addresses, one line a check
	var err error
	if !cfg.Listen.IsValid() || cfg.Listen.IsUnspecified() {
		b.mux, err = ice.NewMultiUDPMuxFromPort(cfg.Port, ice.UDPMuxFromPortWithLoopback(),
			ice.UDPMuxFromPortWithIPFilter(func(ip net.IP) bool { return !ip.IsLinkLocalUnicast() }), // no browser reaches those
			ice.UDPMuxFromPortWithReadBufferSize(4<<20), ice.UDPMuxFromPortWithLogger(lf.NewLogger("mux")))
	} else {
		var conn *net.UDPConn
		if conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(cfg.Listen, uint16(cfg.Port)))); err == nil {
			b.mux = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: lf.NewLogger("mux")})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("media: browsers' UDP port %d: %w", cfg.Port, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, err
	}
	b.cert = *cert

	var se webrtc.SettingEngine
	se.LoggerFactory = lf
	se.SetICEUDPMux(b.mux)
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled) // .local names are passed over, never waited for
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	se.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	se.SetICETimeouts(5*time.Second, 20*time.Second, 2*time.Second)
	se.SetFireOnTrackBeforeFirstRTP(true)
	if err := se.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, err
	}
	if cfg.Public.IsValid() {
		rule := webrtc.ICEAddressRewriteRule{External: []string{cfg.Public.String()}, AsCandidateType: webrtc.ICECandidateTypeHost}
		if err := se.SetICEAddressRewriteRules(rule); err != nil {
			return nil, err
		}
	}
	me := new(webrtc.MediaEngine)
	for _, c := range parameters(able(browserOrder, nil, event48k(110), event8k(126))) {
		if err := me.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, err
		}
	}
	b.api = webrtc.NewAPI(webrtc.WithSettingEngine(se), webrtc.WithMediaEngine(me),
		webrtc.WithInterceptorRegistry(new(interceptor.Registry)))
	return b, nil
}

// Close closes the port; every endpoint must be closed before.
func (b *Browsers) Close() error { return b.mux.Close() }

func parameters(formats []sdp.Format) []webrtc.RTPCodecParameters {
	var out []webrtc.RTPCodecParameters
	for _, f := range formats {
		c := webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(f.PT), RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: "audio/" + f.Name, ClockRate: uint32(f.Clock), SDPFmtpLine: f.Params}}
		if f.Channels > 1 {
			c.Channels = uint16(f.Channels)
		}
		out = append(out, c)
	}
	return out
}

// WebRTC is a browser's endpoint: ICE, DTLS-SRTP and RTP on the shared port
// (RFC 8825). Its stream outlives the PeerConnection: Renew puts a new one
// under it when the page was loaded again.
type WebRTC struct {
	browsers *Browsers
	stream   *Stream
	events   chan Event
	wg       sync.WaitGroup

	// ---- owned by the leg ----
	pc      *webrtc.PeerConnection
	audio   *webrtc.RTPTransceiver
	early   []string // candidates that came before the description
	remote  bool     // the peer's description is in place
	offered sdp.Session
	stop    chan struct{} // ends what runs beside this PeerConnection

	mu     sync.Mutex // guards closed and gen against pion's callbacks
	closed bool
	gen    int
}

// NewWebRTC makes an endpoint; it opens no socket of its own.
func (b *Browsers) NewWebRTC() (*WebRTC, error) {
	w := &WebRTC{browsers: b, events: make(chan Event, eventQueue)}
	w.stream = newStream("srtp", func(d dtmf.Digit) { w.tell(anyPC, Event{Kind: Digit, Digit: d}) })
	if err := w.connect(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *WebRTC) connect() error {
	pc, err := w.browsers.api.NewPeerConnection(webrtc.Configuration{
		Certificates: []webrtc.Certificate{w.browsers.cert}, BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return fmt.Errorf("media: %w", err)
	}
	w.mu.Lock()
	w.gen++
	gen := w.gen
	w.mu.Unlock()
	stop := make(chan struct{})
	w.pc, w.remote, w.early, w.audio, w.stop = pc, false, nil, nil, stop
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		e := Event{Kind: Candidate}
		if c != nil {
			e.Candidate = c.ToJSON().Candidate
		}
		w.tell(gen, e)
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			w.tell(gen, Event{Kind: Connected})
		case webrtc.PeerConnectionStateDisconnected:
			w.tell(gen, Event{Kind: Disconnected})
		case webrtc.PeerConnectionStateFailed:
			w.tell(gen, Event{Kind: Failed})
		}
	})
	pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		if t.Kind() != webrtc.RTPCodecTypeAudio {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.closed {
			return
		}
		w.wg.Go(func() { w.readRTP(t) })
		w.wg.Go(func() { w.readRTCP(r.ReadRTCP) })
	})
	sender, err := pc.AddTrack(&localTrack{w: w})
	if err != nil {
		pc.Close()
		return fmt.Errorf("media: %w", err)
	}
	for _, t := range pc.GetTransceivers() {
		if t.Sender() == sender {
			w.audio = t
		}
	}
	w.wg.Go(func() { w.readRTCP(sender.ReadRTCP) })
	w.wg.Go(func() { w.reports(pc, stop) })
	return nil
}

// Renew drops the PeerConnection and begins with a fresh one: the page was
// loaded again and has new keys. The stream and its path stay.
func (w *WebRTC) Renew() error {
	old := w.pc
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	close(w.stop)
	old.Close()
	return w.connect()
}

// Offer describes one sound line; candidates follow as events (RFC 8838).
func (w *WebRTC) Offer(_ context.Context, want sdp.Session) ([]byte, error) {
	_, m, _ := want.First(sdp.Audio)
	if err := w.audio.SetCodecPreferences(parameters(able(browserOrder, m.Preferred, event48k(110), event8k(126)))); err != nil {
		return nil, fmt.Errorf("media: offer: %w", err)
	}
	d, err := w.pc.CreateOffer(nil)
	if err != nil {
		return nil, fmt.Errorf("media: offer: %w", err)
	}
	if err := w.pc.SetLocalDescription(d); err != nil {
		return nil, fmt.Errorf("media: offer: %w", err)
	}
	return []byte(d.SDP), nil
}

// SetAnswer takes the browser's answer.
func (w *WebRTC) SetAnswer(b []byte) (sdp.Session, error) {
	d, err := sdp.Parse(b)
	if err != nil {
		return sdp.Session{}, err
	}
	s := d.Session()
	_, m, ok := s.First(sdp.Audio)
	if !ok {
		return s, sdp.ErrNothingInCommon
	}
	a := agree(m, m)
	a.Direction = m.Direction.Reverse()
	if a.Send.Name == "" {
		return s, sdp.ErrNothingInCommon
	}
	if err := w.describe(webrtc.SDPTypeAnswer, b); err != nil {
		return s, err
	}
	w.stream.agreed.Store(a)
	return s, nil
}

// SetOffer takes the browser's offer.
func (w *WebRTC) SetOffer(b []byte) (sdp.Session, error) {
	d, err := sdp.Parse(b)
	if err != nil {
		return sdp.Session{}, err
	}
	s := d.Session()
	if _, _, ok := s.First(sdp.Audio); !ok {
		return s, sdp.ErrNothingInCommon
	}
	if err := w.describe(webrtc.SDPTypeOffer, b); err != nil {
		return s, err
	}
	w.offered = s
	return s, nil
}

// describe hands the peer's description to the PeerConnection, and the
// candidates that had come before it.
func (w *WebRTC) describe(t webrtc.SDPType, b []byte) error {
	if err := w.pc.SetRemoteDescription(webrtc.SessionDescription{Type: t, SDP: string(b)}); err != nil {
		return fmt.Errorf("media: the browser's %s: %w", t, err)
	}
	w.remote = true
	for _, c := range w.early {
		if err := w.AddCandidate(c); err != nil {
			w.browsers.log.Debug("candidate", "error", err)
		}
	}
	w.early = nil
	return nil
}

// Answer answers the browser's offer. The first encoding in the answer is what
// both ends send.
func (w *WebRTC) Answer(_ context.Context, want sdp.Session) ([]byte, error) {
	_, offered, ok := w.offered.First(sdp.Audio)
	if !ok {
		return nil, ErrNoOffer
	}
	_, m, _ := want.First(sdp.Audio)
	ours := able(browserOrder, m.Preferred, event48k(110), event8k(126))
	var formats []sdp.Format
	for _, f := range ours {
		for _, o := range offered.Formats {
			if o.Same(f) {
				f.PT = o.PT
				formats = append(formats, f)
			}
		}
	}
	if _, ok := (sdp.Media{Formats: formats}).Codec(); !ok {
		return nil, sdp.ErrNothingInCommon
	}
	if err := w.audio.SetCodecPreferences(parameters(formats)); err != nil {
		return nil, fmt.Errorf("media: answer: %w", err)
	}
	d, err := w.pc.CreateAnswer(nil)
	if err != nil {
		return nil, fmt.Errorf("media: answer: %w", err)
	}
	if err := w.pc.SetLocalDescription(d); err != nil {
		return nil, fmt.Errorf("media: answer: %w", err)
	}
	local, err := sdp.Parse([]byte(d.SDP))
	if err != nil {
		return nil, err
	}
	_, lm, ok := local.Session().First(sdp.Audio)
	if !ok {
		return nil, sdp.ErrNothingInCommon
	}
	a := agree(lm, lm)
	a.Direction = lm.Direction
	w.stream.agreed.Store(a)
	return []byte(d.SDP), nil
}

// Rollback forgets an offer of ours that came to nothing.
func (w *WebRTC) Rollback() error {
	return w.pc.SetLocalDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeRollback})
}

// AddCandidate takes one trickled candidate; "" ends them. Names ending in
// .local are passed over: they can be resolved only on the browser's own link,
// and its checks reach us without (RFC 8445 §7.3.1.3).
func (w *WebRTC) AddCandidate(c string) error {
	if c == "" || strings.Contains(c, ".local ") {
		return nil
	}
	if !w.remote {
		if len(w.early) >= eventQueue {
			return errors.New("media: too many candidates before the description")
		}
		w.early = append(w.early, c)
		return nil
	}
	mid := ""
	if err := w.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c, SDPMid: &mid}); err != nil {
		return fmt.Errorf("media: candidate: %w", err)
	}
	return nil
}

// Stream returns the sound.
func (w *WebRTC) Stream(k sdp.Kind) *Stream {
	if k != sdp.Audio {
		return nil
	}
	return w.stream
}

// Events tells what happens; it is closed by Close.
func (w *WebRTC) Events() <-chan Event { return w.events }

// Close ends the PeerConnection and waits for its goroutines.
func (w *WebRTC) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	close(w.events)
	w.mu.Unlock()
	close(w.stop)
	err := w.pc.Close()
	w.wg.Wait()
	return err
}

// anyPC is the generation of what no PeerConnection says by itself.
const anyPC = 0

func (w *WebRTC) tell(gen int, e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || gen != anyPC && gen != w.gen {
		return
	}
	select {
	case w.events <- e:
	default:
	}
}

// readRTP is the packet path in; it ends when the PeerConnection closes.
func (w *WebRTC) readRTP(t *webrtc.TrackRemote) {
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
			w.stream.in.malformed.Add(1)
			continue
		}
		pkt.Raw = buf[off : Headroom+off+size]
		w.stream.receive(&pkt)
	}
}

func (w *WebRTC) readRTCP(read func() ([]rtcp.Packet, interceptor.Attributes, error)) {
	for {
		packets, _, err := read()
		if err != nil {
			return
		}
		w.stream.hear(packets)
	}
}

func (w *WebRTC) reports(pc *webrtc.PeerConnection, stop <-chan struct{}) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if packets := w.stream.report("sipbridge"); packets != nil {
			if err := pc.WriteRTCP(packets); err != nil {
				w.browsers.log.Debug("rtcp report", "error", err)
			}
		}
	}
}

// localTrack is the way out: it takes the bare writer from the PeerConnection,
// so that a packet is encrypted and sent on the goroutine that brought it.
type localTrack struct {
	w      *WebRTC
	writer webrtc.TrackLocalWriter
}

func (t *localTrack) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	t.writer = c.WriteStream()
	t.w.stream.ssrc.Store(uint32(c.SSRC()))
	var below transmitter = t
	t.w.stream.below.Store(&below)
	codecs := c.CodecParameters()
	if len(codecs) == 0 {
		return webrtc.RTPCodecParameters{}, sdp.ErrNothingInCommon
	}
	return codecs[0], nil
}

func (t *localTrack) transmit(h *rtp.Header, raw []byte) error {
	_, err := t.writer.WriteRTP(h, raw[Headroom:])
	return err
}

func (t *localTrack) Unbind(webrtc.TrackLocalContext) error { return nil }
func (t *localTrack) ID() string                            { return "audio" }
func (t *localTrack) RID() string                           { return "" }
func (t *localTrack) StreamID() string                      { return "sipbridge" }
func (t *localTrack) Kind() webrtc.RTPCodecType             { return webrtc.RTPCodecTypeAudio }
