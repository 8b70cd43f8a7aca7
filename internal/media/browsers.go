package media

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// BrowsersConfig says how browsers' media is received.
type BrowsersConfig struct {
	Loops  *Loops
	Port   int        // one UDP port for every browser
	Listen netip.Addr // the address it is on; unspecified: every interface
	Public netip.Addr // 1:1 NAT address in front of it; zero: none
	Dialer Dialer     // the way to relays by TCP; nil: a plain one
	ICE    string     // "full", "lite" or "auto" (RFC 8445 §2.5): lite where every address is public
	Log    *slog.Logger
}

// Dialer opens connections to relays; where the relay speaks TLS, so does what is
// returned.
type Dialer interface {
	Dial(network, address string) (net.Conn, error)
}

// ICEServer is a relay as whoever uses it is told of it (RTCIceServer of the W3C).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Browsers is what all WebRTC endpoints share: one UDP port, one certificate.
type Browsers struct {
	loops    *Loops
	settings webrtc.SettingEngine // copied for each PeerConnection
	codecs   *webrtc.MediaEngine
	ports    []*browserPort
	mux      ice.UDPMux
	tcp      *overTCP
	cert     webrtc.Certificate
	public   netip.Addr
	log      *slog.Logger

	mu      sync.Mutex // guards talkers
	talkers map[uint32]*sound

	// Through counts calls whose packets had to go through their PeerConnection.
	Through atomic.Uint64
}

// The order a browser is offered encodings in: the best sound over a bad
// network first.
var browserOrder = []string{"opus", "G722", "PCMA", "PCMU"}

// NewBrowsers opens the port.
func NewBrowsers(cfg BrowsersConfig) (*Browsers, error) {
	b := &Browsers{loops: cfg.Loops, public: cfg.Public, log: cfg.Log, talkers: map[uint32]*sound{}}
	b.tcp = &overTCP{browsers: b, awaited: map[string]int{}, ports: map[netip.AddrPort]*tcpPort{}}
	if err := b.listen(cfg); err != nil {
		return nil, fmt.Errorf("media: browsers' UDP port %d: %w", cfg.Port, err)
	}
	if err := b.configure(cfg); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// listen opens the port on the address given, or on every one that a browser
// could reach.
func (b *Browsers) listen(cfg BrowsersConfig) error {
	b.settings.LoggerFactory = quiet()
	addresses := []netip.Addr{cfg.Listen}
	if !cfg.Listen.IsValid() || cfg.Listen.IsUnspecified() {
		var err error
		if addresses, err = localAddresses(); err != nil {
			return err
		}
	}
	var muxes []ice.UDPMux
	for _, a := range addresses {
		p, err := listenBrowsers(cfg.Loops, netip.AddrPortFrom(a, uint16(cfg.Port)), b.stray)
		switch {
		case errors.Is(err, syscall.EADDRNOTAVAIL) && len(addresses) > 1:
			cfg.Log.Warn("no browsers on an address that is not ready", "address", a)
			continue
		case err != nil:
			for _, m := range muxes {
				m.Close()
			}
			return err
		}
		b.ports = append(b.ports, p)
		muxes = append(muxes, ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: p, Logger: b.settings.LoggerFactory.NewLogger("mux")}))
	}
	if len(muxes) == 0 {
		return errors.New("this machine has no address to listen on")
	}
	b.mux = ice.NewMultiUDPMuxDefault(muxes...)
	return nil
}

// Addresses are where browsers' media is received: as they are told, one each, and on
// this machine.
func (b *Browsers) Addresses() map[netip.AddrPort]netip.AddrPort {
	out := map[netip.AddrPort]netip.AddrPort{}
	for _, p := range b.ports {
		told := p.local
		if b.public.IsValid() {
			told = netip.AddrPortFrom(b.public, p.local.Port())
		}
		out[told] = p.local
	}
	return out
}

// quiet is a logger for pion: its messages name addresses, one line a check.
func quiet() logging.LoggerFactory {
	f := logging.NewDefaultLoggerFactory()
	f.DefaultLogLevel = logging.LogLevelDisabled
	return f
}

// localAddresses are this machine's, but for the link-local ones: no browser
// reaches those.
func localAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}

const (
	// directFirst is how long a way through a NAT waits for one without.
	directFirst = 100 * time.Millisecond
	// relayAfter is how long a relay waits for a way without it: two round trips
	// over a bad line.
	relayAfter = 400 * time.Millisecond
	// silentAfter is how long a browser answers no check and sends none before its path
	// counts as gone: three of ours and two of its own may be lost.
	silentAfter = 7 * time.Second
	// silentLite is that where we send no checks: browsers send theirs every 2.5 to 6 s
	// (RFC 7675 §5.1).
	silentLite = 15 * time.Second
)

// configure sets what every PeerConnection has in common.
func (b *Browsers) configure(cfg BrowsersConfig) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return err
	}
	b.cert = *cert
	se := &b.settings
	se.SetICEUDPMux(b.mux)
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled) // .local names are passed over, never waited for
	se.SetIncludeLoopbackCandidate(true)
	se.SetSrflxAcceptanceMinWait(directFirst)
	se.SetPrflxAcceptanceMinWait(directFirst)
	se.SetRelayAcceptanceMinWait(relayAfter)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	se.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	se.SetFireOnTrackBeforeFirstRTP(true)
	if err := se.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return err
	}
	lite, silent := cfg.ICE == "lite" || cfg.ICE == "auto" && cfg.Dialer == nil && b.open(), silentAfter
	if lite {
		silent = silentLite
	}
	se.SetLite(lite)
	se.SetICETimeouts(silent, 20*time.Second, 2*time.Second)
	if cfg.Dialer != nil {
		se.SetICEProxyDialer(cfg.Dialer)
	}
	if cfg.Public.IsValid() {
		rule := webrtc.ICEAddressRewriteRule{External: []string{cfg.Public.String()}, AsCandidateType: webrtc.ICECandidateTypeHost}
		if err := se.SetICEAddressRewriteRules(rule); err != nil {
			return err
		}
	}
	b.codecs = new(webrtc.MediaEngine)
	for _, c := range parameters(able(browserOrder, nil, event48k(110), event8k(126))) {
		if err := b.codecs.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return err
		}
	}
	return nil
}

// shared is the space of addresses between carriers' NATs and their customers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// open reports whether the whole Internet can reach our addresses: no NAT, of ours or
// of a carrier, stands before them.
func (b *Browsers) open() bool {
	for _, p := range b.ports {
		if a := p.local.Addr(); !a.IsGlobalUnicast() || a.IsPrivate() || shared.Contains(a) {
			return false
		}
	}
	return !b.public.IsValid()
}

// peerConnection makes one for a peer, that may use relays.
func (b *Browsers) peerConnection(p *peer, relays []ICEServer) (*webrtc.PeerConnection, error) {
	se := b.settings
	se.SetDTLSKeyLogWriter(&p.keys)
	se.SetDTLSServerHelloMessageHook(p.keys.hello)
	se.SetICEBindingRequestHandler(p.obeys)
	api := webrtc.NewAPI(webrtc.WithSettingEngine(se), webrtc.WithMediaEngine(b.codecs), webrtc.WithInterceptorRegistry(new(interceptor.Registry)))
	cfg := webrtc.Configuration{Certificates: []webrtc.Certificate{b.cert}, BundlePolicy: webrtc.BundlePolicyMaxBundle}
	for _, r := range relays {
		cfg.ICEServers = append(cfg.ICEServers, webrtc.ICEServer{URLs: r.URLs, Username: r.Username, Credential: r.Credential})
	}
	return api.NewPeerConnection(cfg)
}

// door finds where the packets of a pair of ICE's come and go; nil if that is none of
// ours.
func (b *Browsers) door(local *webrtc.ICECandidate, peer netip.AddrPort) door {
	if local.Protocol == webrtc.ICEProtocolTCP {
		if p := b.tcp.port(peer); p != nil {
			return p
		}
		return nil
	}
	if p := b.port(local); p != nil {
		return p
	}
	return nil
}

// port finds our port behind a local candidate; nil if it is not on one of ours.
func (b *Browsers) port(c *webrtc.ICECandidate) *browserPort {
	if c.Typ == webrtc.ICECandidateTypeRelay || c.Protocol != webrtc.ICEProtocolUDP {
		return nil
	}
	own := c.Port
	if c.Typ != webrtc.ICECandidateTypeHost { // pion asks a relay how a NAT shows it from another socket
		own = c.RelatedPort
	}
	if len(b.ports) == 1 { // whatever address stands in front of it
		if own != b.ports[0].local.Port() {
			return nil
		}
		return b.ports[0]
	}
	a, err := netip.ParseAddr(c.Address)
	if err != nil {
		return nil
	}
	for _, p := range b.ports {
		if p.local.Addr() == a.Unmap() {
			return p
		}
	}
	return nil
}

// know remembers whose sound has an SSRC.
func (b *Browsers) know(ssrc uint32, s *sound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.talkers[ssrc] != nil {
		return // who comes second may have chosen it to take the first one's place
	}
	if b.talkers[s.ssrc] == s {
		delete(b.talkers, s.ssrc)
	}
	s.ssrc = ssrc
	b.talkers[ssrc] = s
}

func (b *Browsers) forget(ssrc uint32, s *sound) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.talkers[ssrc] == s {
		delete(b.talkers, ssrc)
	}
}

// stray takes sound from an address that no call has: if it opens with the keys
// of the call whose SSRC it bears, it is that peer's, and so is the address.
func (b *Browsers) stray(p door, buf []byte, from netip.AddrPort) bool {
	b.mu.Lock()
	s := b.talkers[binary.BigEndian.Uint32(buf[Headroom+8:])]
	b.mu.Unlock()
	if s == nil || !s.receive(buf) {
		return false
	}
	s.also(p, from)
	return true
}

// Dropped is how many control packets found no place in the queue.
func (b *Browsers) Dropped() uint64 {
	var n uint64
	for _, p := range b.ports {
		n += p.dropped.Load()
	}
	return n
}

// Close closes the port; every endpoint must be closed before.
func (b *Browsers) Close() error {
	err := b.mux.Close()
	if b.tcp.TCPMuxDefault != nil {
		err = errors.Join(err, b.tcp.Close())
	}
	for _, p := range b.ports {
		err = errors.Join(err, p.Close())
	}
	return err
}

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
