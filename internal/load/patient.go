// Package load is many patients without browsers: each speaks the page's
// messages over a real WebSocket and real WebRTC, as a page does.
package load

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/dtls/v3"
	"github.com/pion/webrtc/v4"
)

// Patient is one page without a browser. It answers every call and
// sends back what it hears.
type Patient struct {
	ws    *websocket.Conn
	sound Sound
	local netip.Addr // where its sound is

	// Answered and Ended count calls; Received counts RTP packets.
	Answered, Ended, Received atomic.Int64

	latency []time.Duration // guarded by the wire's mu until that is closed
	steady  int             // where in latency the calls were all up

	// ---- owned by Run ----
	seq, ack uint64
	early    []string

	mu   sync.Mutex // guards pc and wire, and writes to the WebSocket
	pc   *webrtc.PeerConnection
	wire *wire
}

// maxSamples bounds the latencies a patient keeps: three minutes of packets.
const maxSamples = 9000

type message struct {
	Seq       uint64  `json:"seq,omitempty"`
	Ack       uint64  `json:"ack,omitempty"`
	Type      string  `json:"type"`
	Tab       string  `json:"tab,omitempty"`
	Fresh     bool    `json:"fresh,omitempty"`
	SDP       string  `json:"sdp,omitempty"`
	Candidate *string `json:"candidate,omitempty"`
	Code      string  `json:"code,omitempty"`
}

// codecs are what a patient may answer with.
var codecs = map[string]webrtc.RTPCodecParameters{
	"PCMU": {PayloadType: 0, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}},
	"opus": {PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}},
}

// profiles are the SRTP profiles that a patient may insist on; "" has none.
var profiles = map[string][]dtls.SRTPProtectionProfile{
	"": nil, "gcm": {dtls.SRTP_AEAD_AES_128_GCM}, "cm": {dtls.SRTP_AES128_CM_HMAC_SHA1_80},
}

// Sound is what a call's ends have for it.
type Sound struct {
	Codec  string // "PCMU" or "opus": the only one that the patient answers with
	SRTP   string // "gcm" or "cm": the only profile that the patient takes; "": any
	Speech []byte // G.711 mu-law that the telephone plays over and over; nil: silence that tells when it was sent
}

// newPatient makes a patient who answers with one codec, from the address that
// leads to the other's host and port.
func newPatient(sound Sound, other string) (*Patient, error) {
	if _, ok := codecs[sound.Codec]; !ok {
		return nil, fmt.Errorf("load: no codec %q", sound.Codec)
	}
	if _, ok := profiles[sound.SRTP]; !ok {
		return nil, fmt.Errorf("load: no SRTP profile %q", sound.SRTP)
	}
	c, err := net.Dial("udp4", other) // sends nothing
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer c.Close()
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return &Patient{sound: sound, local: local.Addr(), latency: make([]time.Duration, 0, maxSamples)}, nil
}

// Open opens a link and returns once the engine has welcomed the patient.
func Open(ctx context.Context, link string, sound Sound) (*Patient, error) {
	u, err := url.Parse(link)
	if err != nil {
		return nil, fmt.Errorf("load: link: %w", err)
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme
	}
	p, err := newPatient(sound, net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if p.ws, _, err = websocket.Dial(ctx, "ws"+strings.TrimPrefix(link, "http")+"/signal", nil); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	p.ws.SetReadLimit(1 << 20)
	if err := p.put(ctx, message{Type: "hello", Tab: "load", Fresh: true}); err != nil {
		return nil, err
	}
	m, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	if m.Type != "welcome" {
		return nil, fmt.Errorf("load: %s %s", m.Type, m.Code)
	}
	return p, nil
}

func (p *Patient) put(ctx context.Context, m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ws.Write(ctx, websocket.MessageText, b)
}

func (p *Patient) say(ctx context.Context, m message) error {
	p.seq++
	m.Seq, m.Ack = p.seq, p.ack
	return p.put(ctx, m)
}

func (p *Patient) read(ctx context.Context) (message, error) {
	var m message
	_, b, err := p.ws.Read(ctx)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(b, &m)
}

// Run answers calls until ctx is over or the link is.
func (p *Patient) Run(ctx context.Context) error {
	ping := time.NewTicker(5 * time.Second)
	defer ping.Stop()
	defer p.ws.CloseNow()
	defer p.hangUp()
	in := make(chan message)
	fail := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with ctx or the WebSocket
		for {
			m, err := p.read(ctx)
			if err != nil {
				fail <- err
				return
			}
			select {
			case in <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-fail:
			return err
		case <-ping.C:
			if err := p.put(ctx, message{Type: "ping", Ack: p.ack}); err != nil {
				return err
			}
		case m := <-in:
			if m.Seq > 0 {
				p.ack = m.Seq
			}
			if err := p.take(ctx, m); err != nil {
				return err
			}
		}
	}
}

func (p *Patient) take(ctx context.Context, m message) error {
	switch m.Type {
	case "incoming":
		p.early = nil
	case "offer":
		answer, err := p.answer(m.SDP)
		if err != nil {
			return err
		}
		return p.say(ctx, message{Type: "answer", SDP: answer})
	case "candidate":
		if m.Candidate == nil || *m.Candidate == "" {
			return nil
		}
		p.mu.Lock()
		pc := p.pc
		p.mu.Unlock()
		if pc == nil {
			p.early = append(p.early, *m.Candidate)
			return nil
		}
		return pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: *m.Candidate})
	case "connected":
		p.Answered.Add(1)
	case "ended":
		p.hangUp()
		p.Ended.Add(1)
	case "error":
		return fmt.Errorf("load: %s", m.Code)
	}
	return nil
}

// answer takes an offer and returns the answer, candidates included. The patient
// echoes what it hears: real frames of the codec without an encoder.
func (p *Patient) answer(offer string) (string, error) {
	w, err := newWire(p)
	if err != nil {
		return "", err
	}
	pc, err := w.peerConnection()
	if err != nil {
		w.Close()
		return "", err
	}
	p.mu.Lock()
	p.pc, p.wire = pc, w
	p.mu.Unlock()
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	for _, c := range p.early {
		if err := pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c}); err != nil {
			return "", err
		}
	}
	p.early = nil
	d, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		return "", err
	}
	<-gathered // host candidates alone: a millisecond
	return pc.LocalDescription().SDP, nil
}

// hear counts a packet and, where it crossed untouched, reads when the telephone
// sent it.
func (p *Patient) hear(b []byte, now time.Time) {
	p.Received.Add(1)
	if p.sound.Codec != "PCMU" || len(b) < 12+160 {
		return
	}
	at := now.UnixNano() - int64(binary.BigEndian.Uint64(b[len(b)-160:]))
	if at > 0 && at < int64(time.Minute) && len(p.latency) < cap(p.latency) {
		p.latency = append(p.latency, time.Duration(at))
	}
}

// up marks the moment from which all calls are up.
func (p *Patient) up() {
	p.mu.Lock()
	w := p.wire
	p.mu.Unlock()
	if w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		p.steady = len(p.latency)
	}
}

func (p *Patient) hangUp() {
	p.mu.Lock()
	pc, w := p.pc, p.wire
	p.pc, p.wire = nil, nil
	p.mu.Unlock()
	if pc != nil {
		pc.Close()
		w.mux.Close()
	}
}
