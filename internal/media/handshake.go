package media

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/fingerprint"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/packetio"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// handshakeLimit is how long a DTLS handshake may take.
const handshakeLimit = 20 * time.Second

// waitingBytes bounds the handshake's packets that wait to be read, in bytes.
const waitingBytes = 64 << 10

// identity is the certificate that plain endpoints show in DTLS.
type identity struct {
	cert  tls.Certificate
	print string // as it stands in a=fingerprint (RFC 8122 §5)
}

func newIdentity() identity {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // no randomness: nothing is safe any more
	}
	cert, err := selfsign.SelfSign(key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		panic(err)
	}
	print, err := fingerprint.Fingerprint(leaf, crypto.SHA256)
	if err != nil {
		panic(err)
	}
	return identity{cert, "sha-256 " + strings.ToUpper(print)}
}

// validPrint reports whether a fingerprint names a hash that we know and that
// still means something.
func validPrint(s string) bool {
	name, value, ok := strings.Cut(s, " ")
	h, err := fingerprint.HashFromString(strings.ToLower(name))
	return ok && err == nil && h.Available() && h.Size() >= crypto.SHA256.Size() && len(strings.TrimSpace(value)) == 3*h.Size()-1
}

// handshakes are a line's: one on the port of RTP and, where RTCP has its own,
// one there (RFC 5764 §4.1).
type handshakes struct {
	theirs    sdp.Secrecy
	client    bool      // we begin (RFC 4145 §4, active)
	rtp, rtcp *dtlsPort // rtcp: nil where RTCP goes by RTP's port
}

// take hands over a packet of the handshake on a port.
func (h *handshakes) take(b []byte, from netip.AddrPort, rtcp bool) {
	on := h.rtp
	if rtcp {
		on = h.rtcp
	}
	if on != nil {
		on.take(b, from)
	}
}

func (h *handshakes) end() {
	h.rtp.Close()
	if h.rtcp != nil {
		h.rtcp.Close()
	}
}

// dtlsPort is one of them, as pion's DTLS sees it: a socket with one peer.
type dtlsPort struct {
	*packetio.Buffer
	sock *socket
	to   atomic.Pointer[netip.AddrPort] // where the peer is: as described, then as its packets say
	won  atomic.Bool                    // the peer has proved who it is
}

func (h *dtlsPort) take(b []byte, from netip.AddrPort) {
	if h.won.Load() && *h.to.Load() != from {
		return
	}
	h.to.Store(&from)
	_, _ = h.Write(b) // what finds no place is sent again
}

// ReadFrom implements net.PacketConn.
func (h *dtlsPort) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := h.Read(b)
	return n, h.addr(), err
}

// WriteTo implements net.PacketConn.
func (h *dtlsPort) WriteTo(b []byte, _ net.Addr) (int, error) {
	if to := h.to.Load(); to != nil {
		if err := h.sock.WriteTo(b, *to); errors.Is(err, net.ErrClosed) {
			return 0, err
		}
	}
	return len(b), nil // what is lost is sent again
}

func (h *dtlsPort) addr() net.Addr {
	if to := h.to.Load(); to != nil {
		return net.UDPAddrFromAddrPort(*to)
	}
	return &net.UDPAddr{}
}

// LocalAddr implements net.PacketConn.
func (h *dtlsPort) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(h.sock.local) }

// SetDeadline implements net.PacketConn: writing never waits.
func (h *dtlsPort) SetDeadline(t time.Time) error { return h.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (h *dtlsPort) SetWriteDeadline(time.Time) error { return nil }

// handshakes are those that the descriptions agreed on; shake begins them. One
// that is under way or over with the same peer goes on (RFC 8842 §5).
func (p *Plain) handshakes(theirs sdp.Secrecy, client, mux bool) *secured {
	if old := p.secured.Load(); old != nil && old.dtls != nil && strings.EqualFold(old.dtls.theirs.Fingerprint, theirs.Fingerprint) {
		return old
	}
	hs := &handshakes{theirs: theirs, client: client, rtp: &dtlsPort{Buffer: packetio.NewBuffer(), sock: p.rtp}}
	if !mux {
		hs.rtcp = &dtlsPort{Buffer: packetio.NewBuffer(), sock: p.rtcp}
	}
	return &secured{dtls: hs, mux: mux}
}

// shake makes the handshakes, once they and where the peer is are in force: their
// keys find no place before.
func (p *Plain) shake(hs *handshakes) {
	all := []*dtlsPort{hs.rtp}
	if hs.rtcp != nil {
		all = append(all, hs.rtcp)
	}
	p.wg.Go(func() {
		keys := make([]*srtp.Config, len(all))
		var conns []*dtls.Conn
		var wg sync.WaitGroup
		var failed atomic.Pointer[error]
		ctx, cancel := context.WithTimeout(context.Background(), handshakeLimit)
		defer cancel()
		var mu sync.Mutex // guards conns
		for i, h := range all {
			h.SetLimitSize(waitingBytes)
			wg.Go(func() {
				conn, c, err := p.handshake(ctx, h, hs.theirs.Fingerprint, hs.client)
				mu.Lock()
				defer mu.Unlock()
				if conn != nil {
					conns = append(conns, conn)
				}
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					cancel()
				}
				keys[i] = c
			})
		}
		wg.Wait()
		if err := failed.Load(); err != nil {
			p.cfg.Log.Info("DTLS with a telephone failed", "error", *err)
			p.tell(Event{Kind: Failed})
		} else if err := p.agreedByDTLS(hs, keys); err != nil {
			p.cfg.Log.Warn("SRTP", "error", err)
			p.tell(Event{Kind: Failed})
		}
		// The peer may repeat its last flight, and says when it is through.
		for _, c := range conns {
			wg.Go(func() {
				var buf [maxPacket]byte
				for {
					if _, err := c.Read(buf[:]); err != nil {
						c.Close()
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// handshake makes one, and returns the keys that came of it (RFC 5764 §4.2).
func (p *Plain) handshake(ctx context.Context, h *dtlsPort, print string, client bool) (*dtls.Conn, *srtp.Config, error) {
	own := p.cfg.Pool.own()
	shared := []dtls.Option{dtls.WithCertificates(own.cert), dtls.WithInsecureSkipVerify(true),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret), dtls.WithLoggerFactory(quiet()), dtls.WithFlightInterval(200 * time.Millisecond),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_256_GCM),
		dtls.WithVerifyConnection(func(s *dtls.State) error { return described(s.PeerCertificates, print) })}
	var conn *dtls.Conn
	var err error
	if client {
		if to := p.peer(); to != nil {
			at := *to
			if h.sock == p.rtcp {
				at = netip.AddrPortFrom(at.Addr(), at.Port()+1)
			}
			h.to.CompareAndSwap(nil, &at)
		}
		var options []dtls.ClientOption
		for _, o := range shared {
			options = append(options, o)
		}
		conn, err = dtls.ClientWithOptions(h, h.addr(), options...)
	} else {
		options := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert)}
		for _, o := range shared {
			options = append(options, o)
		}
		conn, err = dtls.ServerWithOptions(h, h.addr(), options...)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return conn, nil, err
	}
	h.won.Store(true)
	profile, ok := conn.SelectedSRTPProtectionProfile()
	state, ready := conn.ConnectionState()
	if !ok || !ready {
		return conn, nil, errNoKeys
	}
	c := &srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	return conn, c, c.ExtractSessionKeysFromDTLS(&state, client)
}

// described reports as an error that a certificate is not the one whose
// fingerprint was told.
func described(certs [][]byte, print string) error {
	name, want, _ := strings.Cut(print, " ")
	h, err := fingerprint.HashFromString(strings.ToLower(name))
	if err != nil || len(certs) == 0 {
		return ErrFingerprint
	}
	leaf, err := x509.ParseCertificate(certs[0])
	if err != nil {
		return errors.Join(ErrFingerprint, err)
	}
	if got, err := fingerprint.Fingerprint(leaf, h); err != nil || !strings.EqualFold(got, strings.TrimSpace(want)) {
		return ErrFingerprint
	}
	return nil
}

// agreedByDTLS puts the keys into force, unless others were agreed on meanwhile.
func (p *Plain) agreedByDTLS(hs *handshakes, keys []*srtp.Config) error {
	next := &secured{dtls: hs, mux: hs.rtcp == nil}
	rtcp := keys[len(keys)-1]
	var err [4]error
	next.in, err[0] = srtp.CreateContext(keys[0].Keys.RemoteMasterKey, keys[0].Keys.RemoteMasterSalt, keys[0].Profile, srtp.SRTPReplayProtection(replayWindow))
	next.out, err[1] = srtp.CreateContext(keys[0].Keys.LocalMasterKey, keys[0].Keys.LocalMasterSalt, keys[0].Profile)
	next.inRTCP, err[2] = srtp.CreateContext(rtcp.Keys.RemoteMasterKey, rtcp.Keys.RemoteMasterSalt, rtcp.Profile, srtp.SRTCPReplayProtection(replayWindow))
	next.outRTCP, err[3] = srtp.CreateContext(rtcp.Keys.LocalMasterKey, rtcp.Keys.LocalMasterSalt, rtcp.Profile)
	if err := errors.Join(err[:]...); err != nil {
		return err
	}
	if now := p.secured.Load(); now != nil && now.dtls == hs {
		p.secured.CompareAndSwap(now, next)
	}
	return nil
}
