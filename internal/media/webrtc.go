package media

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pion/webrtc/v4"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// WebRTC is a browser's endpoint: ICE, DTLS-SRTP and RTP on the shared port
// (RFC 8825). Its stream outlives the PeerConnection: Renew puts a new one
// under it when the page was loaded again.
type WebRTC struct {
	browsers *Browsers
	relays   func() []ICEServer // for the next PeerConnection; nil: none
	stream   *Stream
	events   chan Event
	wg       sync.WaitGroup

	// ---- owned by the leg ----
	peer    *peer
	early   []string // candidates that came before the description
	remote  bool     // the peer's description is in place
	offered sdp.Session
	most    int // kbit/s that sound may take; 0: what it likes

	wide atomic.Bool // the browser was told that not all of its sound is heard, and more was

	mu     sync.Mutex // guards closed and now against pion's callbacks
	closed bool
	now    *peer // who may speak for the endpoint
}

// NewWebRTC makes an endpoint. It opens sockets of its own to relays alone, which it
// asks for whenever it connects; nil: it uses none.
func (b *Browsers) NewWebRTC(relays func() []ICEServer) (*WebRTC, error) {
	w := &WebRTC{browsers: b, relays: relays, events: make(chan Event, eventQueue)}
	w.stream = newStream(b.loops, "srtp", func(d dtmf.Digit) { w.tell(nil, Event{Kind: Digit, Digit: d}) })
	w.stream.widen = func() {
		if !w.wide.Swap(true) {
			w.tell(nil, Event{Kind: Wider})
		}
	}
	if err := w.connect(); err != nil {
		return nil, err
	}
	return w, nil
}

// Renew drops the PeerConnection and begins with a fresh one: the page was
// loaded again and has new keys. The stream and its path stay.
func (w *WebRTC) Renew() error {
	if !w.drop() {
		return net.ErrClosed
	}
	return w.connect()
}

// drop parts from the PeerConnection, which ends by itself. It reports false if the
// endpoint is closed.
func (w *WebRTC) drop() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	old := w.peer
	w.stream.below.Store(nil)
	old.part()
	w.wg.Go(func() {
		if err := old.close(); err != nil {
			w.browsers.log.Debug("old PeerConnection", "error", err)
		}
	})
	return true
}

// Offer describes one sound line; candidates follow as events (RFC 8838).
func (w *WebRTC) Offer(_ context.Context, want sdp.Session) ([]byte, error) {
	limits := w.limits(want)
	if err := w.peer.audio.SetCodecPreferences(parameters(w.able(want.Terms.Codecs))); err != nil {
		return nil, fmt.Errorf("media: offer: %w", err)
	}
	d, err := w.peer.pc.CreateOffer(nil)
	if err != nil {
		return nil, fmt.Errorf("media: offer: %w", err)
	}
	if err := w.peer.pc.SetLocalDescription(d); err != nil {
		return nil, fmt.Errorf("media: offer: %w", err)
	}
	return []byte(limited(d.SDP, limits)), nil
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
	narrowed(&a.Send, w.most)
	w.stream.settle(a)
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
	if err := w.peer.pc.SetRemoteDescription(webrtc.SessionDescription{Type: t, SDP: string(b)}); err != nil {
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
	limits := w.limits(want)
	ours := w.able(want.Terms.Codecs)
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
	if err := w.peer.audio.SetCodecPreferences(parameters(formats)); err != nil {
		return nil, fmt.Errorf("media: answer: %w", err)
	}
	d, err := w.peer.pc.CreateAnswer(nil)
	if err != nil {
		return nil, fmt.Errorf("media: answer: %w", err)
	}
	if err := w.peer.pc.SetLocalDescription(d); err != nil {
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
	narrowed(&a.Send, w.most)
	w.stream.settle(a)
	return []byte(limited(d.SDP, limits)), nil
}

// Rollback forgets an offer of ours that came to nothing.
func (w *WebRTC) Rollback() error {
	return w.peer.pc.SetLocalDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeRollback})
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
	if err := w.peer.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c, SDPMid: &mid}); err != nil {
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
	err := w.peer.close()
	w.wg.Wait()
	return err
}

// tell passes on what a PeerConnection says, if it is still the endpoint's; nil
// speaks for none in particular.
func (w *WebRTC) tell(p *peer, e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || p != nil && p != w.now {
		return
	}
	select {
	case w.events <- e:
	default:
	}
}
