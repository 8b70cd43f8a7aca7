package load

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/sipbridge/sipbridge/internal/media"
)

// wire is a patient's UDP socket. STUN and DTLS are pion's; sound is heard and
// echoed on the goroutine that reads it, so that a patient costs little beside
// what is measured.
type wire struct {
	*socket
	patient *Patient
	mux     ice.UDPMux
	keys    media.DTLSKeys
	echo    atomic.Pointer[echo]
	control chan datagram
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex // held while sound is heard
	over bool       // guarded by mu
}

// datagram is one that is not sound.
type datagram struct {
	data []byte
	from netip.AddrPort
}

// echo is what a patient does with sound, once DTLS is through.
type echo struct {
	in, out       *srtp.Context
	ssrc          uint32
	inHdr, outHdr rtp.Header
	sealed        [1600]byte
}

func newWire(p *Patient) (*wire, error) {
	w := &wire{patient: p, control: make(chan datagram, 256), closed: make(chan struct{})}
	var err error
	if w.socket, err = listen(p.local, w.read); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	w.mux = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: w, Logger: quiet.NewLogger("mux")})
	return w, nil
}

// Close implements net.PacketConn; after it the patient hears nothing.
func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.once.Do(func() {
		close(w.closed)
		w.shut()
	})
	return nil
}

// peerConnection makes the one that goes over the wire.
func (w *wire) peerConnection() (*webrtc.PeerConnection, error) {
	codec := codecs[w.patient.sound.Codec]
	me := new(webrtc.MediaEngine)
	if err := me.RegisterCodec(codec, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, err
	}
	var se webrtc.SettingEngine
	se.SetICEUDPMux(w.mux)
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetSRTPProtectionProfiles(profiles[w.patient.sound.SRTP]...)
	se.SetDTLSKeyLogWriter(&w.keys)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(me), webrtc.WithSettingEngine(se), webrtc.WithInterceptorRegistry(new(interceptor.Registry)))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	track, err := webrtc.NewTrackLocalStaticRTP(codec.RTPCodecCapability, "audio", "patient")
	if err != nil {
		return nil, err
	}
	sender, err := pc.AddTrack(track)
	if err != nil {
		return nil, err
	}
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s != webrtc.PeerConnectionStateConnected || w.echo.Load() != nil {
			return
		}
		e := &echo{ssrc: uint32(sender.GetParameters().Encodings[0].SSRC)}
		var err error
		if e.in, e.out, err = w.keys.Contexts(true); err != nil {
			fmt.Println("load: a patient hears nothing:", err)
			return
		}
		w.echo.Store(e)
	})
	return pc, nil
}

// read takes a packet that reached the socket at a time.
func (w *wire) read(b []byte, from netip.AddrPort, at time.Time) {
	e := w.echo.Load()
	switch {
	case e == nil:
		w.keys.Hear(b)
	case len(b) >= 12 && b[0] >= 128 && b[0] <= 191 && (b[1] < 192 || b[1] > 223): // RFC 7983 §7, RFC 5761 §4
		w.take(e, b, from, at)
		return
	}
	select {
	case w.control <- datagram{append([]byte(nil), b...), from}:
	default: // pion will ask again
	}
}

// ReadFromAddrPort is how pion's mux reads what is not sound.
func (w *wire) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-w.control:
		return copy(b, d.data), d.from, nil
	case <-w.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

// take hears a packet and sends it back.
func (w *wire) take(e *echo, b []byte, from netip.AddrPort, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	e.inHdr = rtp.Header{}
	plain, err := e.in.DecryptRTP(b[:0], b, &e.inHdr)
	if err != nil {
		return // not the other's: what is lost is counted
	}
	w.patient.hear(plain, at)
	binary.BigEndian.PutUint32(plain[8:], e.ssrc)
	e.outHdr = rtp.Header{}
	if sealed, err := e.out.EncryptRTP(e.sealed[:0], plain, &e.outHdr); err == nil {
		_ = w.send(sealed, from) // what the kernel has no room for is lost, and counted
	}
}

// WriteToAddrPort is how pion's mux writes.
func (w *wire) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if err := w.send(b, to); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ReadFrom implements net.PacketConn; pion takes ReadFromAddrPort.
func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := w.ReadFromAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

// WriteTo implements net.PacketConn; pion takes WriteToAddrPort.
func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("load: %v is no UDP address", to)
	}
	return w.WriteToAddrPort(b, u.AddrPort())
}

// LocalAddr implements net.PacketConn.
func (w *wire) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(w.local) }

// SetDeadline implements net.PacketConn; pion sets none.
func (w *wire) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.PacketConn.
func (w *wire) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.PacketConn.
func (w *wire) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
