package media

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	pionturn "github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// After an ICE restart (RFC 8839 §4.4.1.1.1) the sound follows the browser to its
// new address, under the same keys.
func TestSoundFollowsAnICERestart(t *testing.T) {
	_, w, b := joined(t, offering)
	crosses(t, w, b, 10)
	s := w.peer.sound.Load()
	before := s.way.Load().to
	d, err := b.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if _, err := w.SetOffer(b.describe(t, d, err)); err != nil {
		t.Fatal(err)
	}
	answer, err := w.Answer(t.Context(), sdp.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); s.way.Load().to == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the sound still goes to %v", before)
		}
	}
	crosses(t, w, b, 20)
	if w.peer.sound.Load() != s {
		t.Error("the keys are others")
	}
}

// A browser whose network lets no UDP out reaches the port by TCP.
func TestSoundGoesBesideThePeerConnectionOverTCP(t *testing.T) {
	all := browsers(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	all.OverTCP(l)
	w, err := all.NewWebRTC(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	b := newBrowser(t, func(se *webrtc.SettingEngine) {
		se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4}) // UDP is blocked
	})
	connected := trickle(w, b)
	offering(t, w, b)
	await(t, connected)
	if w.peer.sound.Load() == nil || all.Through.Load() != 0 {
		t.Fatal("it goes through")
	}
	crosses(t, w, b, 20)
	if len(all.tcp.awaited) != 1 || len(all.tcp.ports) == 0 {
		t.Errorf("%d sessions, %d connections", len(all.tcp.awaited), len(all.tcp.ports))
	}
	for ufrag := range all.tcp.awaited {
		for range mostTCP {
			if !all.Admit(ufrag) {
				t.Fatal("a session may not have its connections")
			}
		}
		if all.Admit(ufrag) {
			t.Error("a session may have any number of connections")
		}
	}
	if all.Admit("stranger") {
		t.Error("a stranger may have a connection")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if len(all.tcp.awaited) != 0 || len(all.tcp.ports) != 0 {
		t.Errorf("%d sessions and %d connections are left", len(all.tcp.awaited), len(all.tcp.ports))
	}
}

// A browser behind a TURN server costs no more than any other: its relay is an
// address like all.
func TestSoundGoesBesideToARelay(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	relay, err := pionturn.NewServer(pionturn.ServerConfig{
		Realm: "test", LoggerFactory: quiet(),
		AuthHandler: func(*pionturn.RequestAttributes) (string, []byte, bool) {
			return "u", pionturn.GenerateAuthKey("u", "test", "p"), true
		},
		PacketConnConfigs: []pionturn.PacketConnConfig{{PacketConn: server,
			RelayAddressGenerator: &pionturn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	all := browsers(t)
	w, err := all.NewWebRTC(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	b := newBrowser(t)
	if err := b.pc.SetConfiguration(webrtc.Configuration{ICETransportPolicy: webrtc.ICETransportPolicyRelay, ICEServers: []webrtc.ICEServer{
		{URLs: []string{"turn:" + server.LocalAddr().String()}, Username: "u", Credential: "p"}}}); err != nil {
		t.Fatal(err)
	}
	connected := trickle(w, b)
	offering(t, w, b)
	await(t, connected)
	if w.peer.sound.Load() == nil {
		t.Fatal("it goes through")
	}
	if at := w.peer.sound.Load().way.Load().to; at.Port() == netip.MustParseAddrPort(server.LocalAddr().String()).Port() {
		t.Errorf("the peer is the TURN server itself, %v", at)
	}
	crosses(t, w, b, 20)
}

// A data channel shares the port with the sound that goes beside it.
func TestADataChannelWorksBesideTheSound(t *testing.T) {
	all := browsers(t)
	w, err := all.NewWebRTC(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	w.peer.pc.OnDataChannel(func(c *webrtc.DataChannel) {
		c.OnMessage(func(m webrtc.DataChannelMessage) { c.SendText("heard " + string(m.Data)) })
	})
	b := newBrowser(t)
	c, err := b.pc.CreateDataChannel("text", nil)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1)
	c.OnOpen(func() { c.SendText("hello") })
	c.OnMessage(func(m webrtc.DataChannelMessage) { heard <- string(m.Data) })
	connected := trickle(w, b)
	offering(t, w, b)
	await(t, connected)
	crosses(t, w, b, 20)
	select {
	case got := <-heard:
		if got != "heard hello" {
			t.Errorf("%q came back", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came back")
	}
	if w.peer.sound.Load() == nil {
		t.Error("the sound goes through")
	}
}

// Behind 1:1 NAT browsers are told the outer address alone, each once: a relay of ours
// that knew one of our sockets by two addresses would not know as which it speaks.
func TestEachOfOurAddressesIsToldOnce(t *testing.T) {
	public := netip.MustParseAddr("203.0.113.9")
	b, err := NewBrowsers(BrowsersConfig{Loops: loops(t), Listen: netip.MustParseAddr("127.0.0.1"), Public: public, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	all := b.Addresses()
	for told, at := range all {
		if told.Addr() != public || told.Port() != at.Port() || !at.Addr().IsLoopback() {
			t.Errorf("%v is told as %v", at, told)
		}
	}
	if len(all) != 1 {
		t.Errorf("%v", all)
	}
}
