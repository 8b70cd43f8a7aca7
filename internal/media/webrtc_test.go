package media

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// counter is a sink that keeps the last payload's first byte.
type counter struct{ n, last atomic.Int64 }

func (c *counter) WriteRTP(p *Packet) {
	c.n.Add(1)
	if len(p.Payload()) > 0 {
		c.last.Store(int64(p.Payload()[0]))
	}
}

func browsers(t *testing.T) *Browsers {
	t.Helper()
	b, err := NewBrowsers(BrowsersConfig{Loops: loops(t), Listen: netip.MustParseAddr("127.0.0.1"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// browser is a page's end, on pion alone.
type browser struct {
	pc    *webrtc.PeerConnection
	track *webrtc.TrackLocalStaticRTP
	heard counter
}

func newBrowser(t *testing.T, settings ...func(*webrtc.SettingEngine)) *browser {
	t.Helper()
	var se webrtc.SettingEngine
	se.SetIncludeLoopbackCandidate(true)
	for _, set := range settings {
		set(&se)
	}
	me := new(webrtc.MediaEngine)
	if err := me.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 0, RTPCodecCapability: pcmu}, webrtc.RTPCodecTypeAudio); err != nil {
		t.Fatal(err)
	}
	b := new(browser)
	var err error
	if b.pc, err = webrtc.NewAPI(webrtc.WithSettingEngine(se), webrtc.WithMediaEngine(me)).NewPeerConnection(webrtc.Configuration{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.pc.Close() })
	if b.track, err = webrtc.NewTrackLocalStaticRTP(pcmu, "a", "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pc.AddTrack(b.track); err != nil {
		t.Fatal(err)
	}
	b.pc.OnTrack(func(r *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := r.ReadRTP()
			if err != nil {
				return
			}
			b.heard.n.Add(1)
			b.heard.last.Store(int64(p.Payload[0]))
		}
	})
	return b
}

var pcmu = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}

// describe sets the browser's own description and returns it with its candidates.
func (b *browser) describe(t *testing.T, d webrtc.SessionDescription, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(b.pc)
	if err := b.pc.SetLocalDescription(d); err != nil {
		t.Fatal(err)
	}
	<-gathered
	return []byte(b.pc.LocalDescription().SDP)
}

// trickle gives the browser our candidates until the endpoint closes, and tells
// when the media is there.
func trickle(w *WebRTC, b *browser) (connected chan struct{}) {
	connected = make(chan struct{}, 8)
	go func() { // ends with the endpoint
		for e := range w.Events() {
			switch e.Kind {
			case Candidate:
				// One that comes before the description is offered again.
				for range 1000 {
					if e.Candidate == "" || b.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: e.Candidate}) == nil {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
			case Connected:
				connected <- struct{}{}
			}
		}
	}()
	return connected
}

// await waits for the media to be there.
func await(t *testing.T, connected <-chan struct{}) {
	t.Helper()
	select {
	case <-connected:
	case <-time.After(20 * time.Second):
		t.Fatal("ICE and DTLS came to nothing in 20 s")
	}
}

// offering makes an endpoint that a browser has offered to, answering that we
// offered to.
func offering(t *testing.T, w *WebRTC, b *browser) {
	t.Helper()
	d, err := b.pc.CreateOffer(nil)
	if _, err := w.SetOffer(b.describe(t, d, err)); err != nil {
		t.Fatal(err)
	}
	answer, err := w.Answer(context.Background(), sdp.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}); err != nil {
		t.Fatal(err)
	}
}

func answering(t *testing.T, w *WebRTC, b *browser) {
	t.Helper()
	offer, err := w.Offer(context.Background(), sdp.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(offer)}); err != nil {
		t.Fatal(err)
	}
	d, err := b.pc.CreateAnswer(nil)
	if _, err := w.SetAnswer(b.describe(t, d, err)); err != nil {
		t.Fatal(err)
	}
}

// crosses sends both ways until both ends have heard n more packets.
func crosses(t *testing.T, w *WebRTC, b *browser, n int64) {
	t.Helper()
	var in counter
	w.stream.Forward(&in)
	before := b.heard.n.Load()
	h := rtp.Header{PayloadType: 0}
	raw := make([]byte, Headroom+160)
	raw[Headroom] = 0x42
	for end := time.Now().Add(5 * time.Second); in.n.Load() < n || b.heard.n.Load()-before < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d packets came from the browser, %d reached it; %+v", in.n.Load(), b.heard.n.Load()-before, w.stream.Stats())
		}
		h.SequenceNumber = uint16(w.stream.seq.Add(1))
		h.Timestamp += 160
		w.stream.send(&h, raw)
		if err := b.track.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: h.SequenceNumber, Timestamp: h.Timestamp}, Payload: []byte{0x24, 1, 2}}); err != nil {
			t.Fatal(err)
		}
	}
	if in.last.Load() != 0x24 || b.heard.last.Load() != 0x42 {
		t.Errorf("%#x and %#x arrived", in.last.Load(), b.heard.last.Load())
	}
}

// joined is an endpoint and a browser that have found each other.
func joined(t *testing.T, negotiate func(*testing.T, *WebRTC, *browser), settings ...func(*webrtc.SettingEngine)) (*Browsers, *WebRTC, *browser) {
	t.Helper()
	all := browsers(t)
	w, err := all.NewWebRTC(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	b := newBrowser(t, settings...)
	connected := trickle(w, b)
	negotiate(t, w, b)
	await(t, connected)
	return all, w, b
}

func TestSoundGoesBesideThePeerConnection(t *testing.T) {
	cm := func(se *webrtc.SettingEngine) { se.SetSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80) }
	for _, c := range []struct {
		name      string
		negotiate func(*testing.T, *WebRTC, *browser)
		settings  []func(*webrtc.SettingEngine)
	}{{"the browser offers", offering, nil}, {"we offer", answering, nil}, {"the browser has only AES-CM", answering, []func(*webrtc.SettingEngine){cm}}} {
		t.Run(c.name, func(t *testing.T) {
			all, w, b := joined(t, c.negotiate, c.settings...)
			if w.peer.sound.Load() == nil || all.Through.Load() != 0 {
				t.Fatal("it goes through")
			}
			crosses(t, w, b, 20)
			w.peer.keys.mu.Lock()
			defer w.peer.keys.mu.Unlock()
			if w.peer.keys.master != nil {
				t.Error("the master secret was kept")
			}
		})
	}
}

func TestSoundGoesThroughThePeerConnectionWhereItsKeysAreNotKnown(t *testing.T) {
	server := func(se *webrtc.SettingEngine) {
		if err := se.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
			t.Fatal(err)
		}
	}
	all, w, b := joined(t, answering, server)
	if w.peer.sound.Load() != nil || all.Through.Load() != 1 {
		t.Fatal("it goes beside")
	}
	crosses(t, w, b, 20)
}

func TestSoundGoesOnUnderAFreshPeerConnection(t *testing.T) {
	_, w, b := joined(t, answering)
	crosses(t, w, b, 5)
	old := w.peer.sound.Load()
	if err := w.Renew(); err != nil {
		t.Fatal(err)
	}
	if way := old.way.Load(); way.door.table().find(way.to) != nil {
		t.Error("the old page still has its address")
	}
	again := newBrowser(t)
	offering(t, w, again)
	// trickle above gives the candidates to the first browser: the second one finds us by its own checks.
	if err := again.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: "candidate:1 1 udp 2130706431 127.0.0.1 " + strconv.Itoa(int(w.browsers.ports[0].local.Port())) + " typ host"}); err != nil {
		t.Fatal(err)
	}
	crosses(t, w, again, 20)
}

func TestSoundIsTakenFromAnyAddressThatHasTheKeys(t *testing.T) {
	_, w, b := joined(t, answering)
	crosses(t, w, b, 5)
	s := w.peer.sound.Load()
	key, salt := make([]byte, 16), make([]byte, 12)
	var err error
	if s.in, err = srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm); err != nil {
		t.Fatal(err)
	}
	w.browsers.know(77, s)
	elsewhere, err := net.Dial("udp4", w.browsers.ports[0].local.String())
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	from := elsewhere.LocalAddr().(*net.UDPAddr).AddrPort()
	var heard counter
	w.stream.Forward(&heard)
	send := func(seq uint16, salt []byte) {
		seal, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 77, SequenceNumber: seq}, Payload: []byte{9}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := seal.EncryptRTP(nil, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := elsewhere.Write(sealed); err != nil {
			t.Fatal(err)
		}
	}
	before := w.stream.Stats().Malformed
	send(1, []byte("another salt"))
	for end := time.Now().Add(5 * time.Second); w.stream.Stats().Malformed == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if heard.n.Load() != 0 || w.browsers.ports[0].flows.find(from) != nil {
		t.Error("a stranger was taken for the peer")
	}
	send(2, salt)
	for end := time.Now().Add(5 * time.Second); heard.n.Load() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if heard.n.Load() != 1 || w.browsers.ports[0].flows.find(from) != s {
		t.Errorf("%d packets were heard from the peer's other address", heard.n.Load())
	}
	s.end()
	if w.browsers.ports[0].flows.find(from) != nil || len(w.browsers.talkers) != 0 {
		t.Error("a call that is over keeps its addresses")
	}
}

func TestSoundFollowsICEToAnotherAddress(t *testing.T) {
	_, w, b := joined(t, answering)
	crosses(t, w, b, 5)
	s := w.peer.sound.Load()
	// The browser's packets arrive from elsewhere: a line between it and us.
	elsewhere, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	before := s.way.Load()
	s.move(before.door, elsewhere.LocalAddr().(*net.UDPAddr).AddrPort())
	if before.door.table().find(before.to) != nil {
		t.Error("the old address still stands for the call")
	}
	raw := make([]byte, Headroom+160)
	w.stream.send(&rtp.Header{SequenceNumber: uint16(w.stream.seq.Add(1))}, raw)
	var buf [maxPacket]byte
	if err := elsewhere.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := elsewhere.Read(buf[:])
	if err != nil || n != Headroom+160+sealing {
		t.Fatalf("%d bytes came to the new address: %v", n, err)
	}
	s.end()
	s.move(before.door, before.to)
	if before.door.table().find(before.to) != nil {
		t.Error("a call that is over took an address")
	}
}

// fewestAllocs is how often f allocates, once what else runs in the process has held
// still for a moment.
func fewestAllocs(f func()) float64 {
	fewest := testing.AllocsPerRun(1000, f)
	for range 9 {
		fewest = min(fewest, testing.AllocsPerRun(1000, f))
	}
	return fewest
}

func TestNothingIsAllocatedPerSealedPacket(t *testing.T) {
	_, w, b := joined(t, answering)
	crosses(t, w, b, 5)
	s := w.peer.sound.Load()
	// What we seal with our own key, a peer that had it could have sent.
	var err error
	key, salt := make([]byte, 16), make([]byte, 12)
	if s.in, err = srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm, srtp.SRTPReplayProtection(replayWindow)); err != nil {
		t.Fatal(err)
	}
	if s.out, err = srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm); err != nil {
		t.Fatal(err)
	}
	seal, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	w.stream.Forward(new(counter))
	h := rtp.Header{Version: 2}
	raw := make([]byte, Headroom+160)
	got := make([]byte, Headroom+maxPacket)
	received := w.stream.in.received.Load()
	n := fewestAllocs(func() {
		h.SequenceNumber++
		h.Timestamp += 160
		putHeader(&h, raw)
		sealed, err := seal.EncryptRTP(got[Headroom:Headroom], raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.receive(got[:Headroom+len(sealed)])
		w.stream.send(&h, raw)
	})
	if n > 1 { // one is the test's own: EncryptRTP without a header
		t.Errorf("%v allocations a packet", n)
	}
	if w.stream.in.received.Load()-received < 1000 {
		t.Errorf("%+v", w.stream.Stats())
	}
}

// FuzzSealed sends datagrams to the browsers' port: from a call's own address,
// and from a stranger's with its SSRC. Those that were sealed with its keys are
// heard; of the others nothing comes.
func FuzzSealed(f *testing.F) {
	key, salt := make([]byte, 16), make([]byte, 12)
	seal, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7, SequenceNumber: 1}, Payload: make([]byte, 160)}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := seal.EncryptRTP(nil, whole, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:20])
	f.Add([]byte{0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0xbe, 0xde, 0xff, 0xff})
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxPacket {
			return
		}
		for _, stranger := range []bool{false, true} {
			all := &Browsers{talkers: map[uint32]*sound{}}
			s := &sound{stream: newStream(nil, "srtp", nil), browsers: all}
			if s.in, err = srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm, srtp.SRTPReplayProtection(replayWindow)); err != nil {
				t.Fatal(err)
			}
			s.stream.settle(&Agreed{Send: codec("PCMU"), Receive: []sdp.Format{codec("PCMU")}, Direction: sdp.SendRecv})
			p := &browserPort{control: make(chan datagram, 4), stray: all.stray, sockets: []*socket{nil}}
			from := netip.AddrPortFrom(loopback, 5000)
			s.move(p, from)
			all.know(7, s)
			if stranger {
				from = netip.AddrPortFrom(loopback, 5001)
			}
			buf := append(make([]byte, Headroom, Headroom+maxPacket), b...)
			p.take(buf, from)
			heard := s.stream.in.received.Load() > 0
			if want := bytes.Equal(b, sealed); heard != want {
				t.Errorf("heard: %v, sealed with the call's keys: %v", heard, want)
			}
			s.end()
			if len(all.talkers) > 0 || p.flows.find(from) != nil {
				t.Error("a call that is over keeps its address")
			}
		}
	})
}
