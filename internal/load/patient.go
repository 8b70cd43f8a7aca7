// Package load is many patients without browsers: each speaks the page's
// messages over a real WebSocket and real WebRTC, as a page does.
package load

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/dtls/v3"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// Patient is one page without a browser. It answers every call and
// sends back what it hears.
type Patient struct {
	api   *webrtc.API
	ws    *websocket.Conn
	codec string

	// Answered and Ended count calls; Received counts RTP packets.
	Answered, Ended, Received atomic.Int64

	latency []time.Duration // owned by the track's reader, then by whoever hung up

	// ---- owned by Run ----
	seq, ack uint64
	early    []string

	mu sync.Mutex // guards pc, and writes to the WebSocket
	pc *webrtc.PeerConnection
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

// Sound is what a patient has for it.
type Sound struct {
	Codec string // "PCMU" or "opus": the only one it answers with
	SRTP  string // "gcm" or "cm": the only profile it takes; "": any
}

// newPatient makes a patient who answers with one codec.
func newPatient(sound Sound) (*Patient, error) {
	params, ok := codecs[sound.Codec]
	if !ok {
		return nil, fmt.Errorf("load: no codec %q", sound.Codec)
	}
	profile, ok := profiles[sound.SRTP]
	if !ok {
		return nil, fmt.Errorf("load: no SRTP profile %q", sound.SRTP)
	}
	me := new(webrtc.MediaEngine)
	if err := me.RegisterCodec(params, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, err
	}
	var se webrtc.SettingEngine
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetSRTPProtectionProfiles(profile...)
	return &Patient{codec: sound.Codec, latency: make([]time.Duration, 0, maxSamples), api: webrtc.NewAPI(webrtc.WithMediaEngine(me), webrtc.WithSettingEngine(se), webrtc.WithInterceptorRegistry(new(interceptor.Registry)))}, nil
}

// Open opens a link and returns once the engine has welcomed the patient.
func Open(ctx context.Context, link string, sound Sound) (*Patient, error) {
	p, err := newPatient(sound)
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

// answer takes an offer and returns the answer, candidates included.
func (p *Patient) answer(offer string) (string, error) {
	pc, err := p.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	p.pc = pc
	p.mu.Unlock()
	track, err := webrtc.NewTrackLocalStaticRTP(codecs[p.codec].RTPCodecCapability, "audio", "patient")
	if err != nil {
		return "", err
	}
	if _, err = pc.AddTrack(track); err != nil {
		return "", err
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		buf := make([]byte, 1600)
		var pkt rtp.Packet
		for {
			n, _, err := t.Read(buf)
			if err != nil {
				return
			}
			p.Received.Add(1)
			p.clock(buf[:n])
			// The patient echoes: real frames of the codec without an encoder.
			if pkt.Unmarshal(buf[:n]) == nil && track.WriteRTP(&pkt) != nil {
				return
			}
		}
	})
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

// clock reads when a telephone sent a packet, where that crossed untouched.
func (p *Patient) clock(b []byte) {
	if p.codec != "PCMU" || len(b) < 12+160 {
		return
	}
	at := time.Now().UnixNano() - int64(binary.BigEndian.Uint64(b[len(b)-160:]))
	if at > 0 && at < int64(time.Minute) && len(p.latency) < cap(p.latency) {
		p.latency = append(p.latency, time.Duration(at))
	}
}

func (p *Patient) hangUp() {
	p.mu.Lock()
	pc := p.pc
	p.pc = nil
	p.mu.Unlock()
	if pc != nil {
		pc.Close()
	}
}
