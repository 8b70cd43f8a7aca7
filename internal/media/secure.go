package media

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// SRTP says whether a trunk's sound is kept secret.
type SRTP string

// What a trunk may want of SRTP. Optional is RFC 8643's: keys are offered under
// the plain profile, and taken where they are offered.
const (
	SRTPOff      SRTP = "off"
	SRTPOptional SRTP = "optional"
	SRTPRequired SRTP = "required"
)

// Keys says how keys are offered. Both ways are answered.
type Keys string

// The ways: in the session description (RFC 4568), which the signalling must keep
// secret, or by a handshake in the media (RFC 5764).
const (
	KeysSDES Keys = "sdes"
	KeysDTLS Keys = "dtls"
)

// Suites are the encryptions of SDES by the names that RFC 4568 §6.2, RFC 6188
// and RFC 7714 gave them, in the order in which we offer those that we offer
// unasked: the first three. What is left must be named by the administrator, or
// be offered to us.
var Suites = []string{"AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_256_GCM", "AES_256_CM_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_32"}

const offeredUnasked = 3

var profiles = map[string]srtp.ProtectionProfile{
	"AEAD_AES_128_GCM":        srtp.ProtectionProfileAeadAes128Gcm,
	"AEAD_AES_256_GCM":        srtp.ProtectionProfileAeadAes256Gcm,
	"AES_CM_128_HMAC_SHA1_80": srtp.ProtectionProfileAes128CmHmacSha1_80,
	"AES_CM_128_HMAC_SHA1_32": srtp.ProtectionProfileAes128CmHmacSha1_32,
	"AES_256_CM_HMAC_SHA1_80": srtp.ProtectionProfileAes256CmHmacSha1_80,
	"AES_256_CM_HMAC_SHA1_32": srtp.ProtectionProfileAes256CmHmacSha1_32,
	// As the drafts of RFC 6188 had them, and telephones still do.
	"AES_CM_256_HMAC_SHA1_80": srtp.ProtectionProfileAes256CmHmacSha1_80,
	"AES_CM_256_HMAC_SHA1_32": srtp.ProtectionProfileAes256CmHmacSha1_32,
}

// Errors of a session that would have to go on in the clear, or cannot.
var (
	ErrNotSecured  = errors.New("media: the trunk demands SRTP and the other end offers none that we have")
	ErrFingerprint = errors.New("media: the certificate is not the one that was described")
)

// secured is what keeps a line's packets secret from one agreement to the next.
// Without contexts (a handshake is under way) nothing passes.
type secured struct {
	dtls *handshakes // nil: the keys were in the description
	mux  bool        // RTCP comes and goes by the port of RTP

	// ---- owned by the loop of rtp ----
	in, old *srtp.Context // old: of the key before, for what is still on its way
	heard   int           // packets that came by the new key
	inHdr   rtp.Header

	// ---- owned by the stream's sender ----
	out    *srtp.Context
	outHdr rtp.Header
	sealed [maxPacket + sealing]byte

	// RTCP goes by contexts of its own: another goroutine sees to it.
	inRTCP, outRTCP *srtp.Context
}

// mostMKI bounds the name of a key in each packet (RFC 4568 §6.1).
const mostMKI = 128

// retire is after how many packets by a new key the old one is forgotten.
const retire = 50

// measure is a key's profile and the length of its first part; false if we cannot
// take it.
func measure(c sdp.Crypto) (profile srtp.ProtectionProfile, size int, ok bool) {
	profile, known := profiles[strings.ToUpper(c.Suite)]
	if !known || len(c.MKI) > mostMKI {
		return 0, 0, false
	}
	size, e1 := profile.KeyLen()
	salt, e2 := profile.SaltLen()
	return profile, size, e1 == nil && e2 == nil && len(c.Key) == size+salt
}

// contexts makes a pair for one key: packets' and reports'.
func contexts(c sdp.Crypto, receive bool) (rtp, rtcp *srtp.Context, err error) {
	profile, size, ok := measure(c)
	if !ok {
		return nil, nil, ErrNotSecured
	}
	options := []srtp.ContextOption{srtp.MasterKeyIndicator(c.MKI)}
	if receive {
		options = append(options, srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	}
	if rtp, err = srtp.CreateContext(c.Key[:size], c.Key[size:], profile, options...); err != nil {
		return nil, nil, err
	}
	rtcp, err = srtp.CreateContext(c.Key[:size], c.Key[size:], profile, options...)
	return rtp, rtcp, err
}

// usable reports whether we can take a key.
func usable(c sdp.Crypto, suites []string) bool {
	profile, _, ok := measure(c)
	return ok && (len(suites) == 0 || slices.ContainsFunc(suites, func(s string) bool { return profiles[strings.ToUpper(s)] == profile }))
}

// newKey is a fresh key for a suite.
func newKey(suite string) sdp.Crypto {
	profile := profiles[strings.ToUpper(suite)]
	size, _ := profile.KeyLen()
	salt, _ := profile.SaltLen()
	key := make([]byte, size+salt)
	rand.Read(key)
	return sdp.Crypto{Suite: suite, Key: key}
}

// open decrypts a packet in place, by the new key or, for a while, by the old.
func (s *secured) open(b []byte) ([]byte, bool) {
	if s.in == nil {
		return nil, false
	}
	s.inHdr = rtp.Header{}
	if s.old == nil {
		out, err := s.in.DecryptRTP(b[:0], b, &s.inHdr)
		return out, err == nil
	}
	// What fails may have been overwritten: it is tried on a copy.
	var again [maxPacket]byte
	n := copy(again[:], b)
	if out, err := s.in.DecryptRTP(b[:0], b, &s.inHdr); err == nil {
		if s.heard++; s.heard == retire {
			s.old = nil
		}
		return out, true
	}
	s.inHdr = rtp.Header{}
	out, err := s.old.DecryptRTP(b[:0], again[:n], &s.inHdr)
	return out, err == nil
}

// seal encrypts what goes out.
func (s *secured) seal(raw []byte) ([]byte, error) {
	if s.out == nil {
		return nil, errNotReady
	}
	s.outHdr = rtp.Header{}
	return s.out.EncryptRTP(s.sealed[:0], raw, &s.outHdr)
}

// openRTCP decrypts reports.
func (s *secured) openRTCP(b []byte) ([]byte, bool) {
	if s.inRTCP == nil {
		return nil, false
	}
	var h rtcp.Header
	out, err := s.inRTCP.DecryptRTCP(nil, b, &h)
	return out, err == nil
}

// sealRTCP encrypts reports.
func (s *secured) sealRTCP(b []byte) ([]byte, error) {
	if s.outRTCP == nil {
		return nil, errNotReady
	}
	var h rtcp.Header
	return s.outRTCP.EncryptRTCP(nil, b, &h)
}

// secrets is what an endpoint knows of its keys. The leg owns it.
type secrets struct {
	mine   map[string]sdp.Crypto // by suite; kept for the dialog, unless the peer changes its own
	now    sdp.Crypto            // mine, in force
	theirs sdp.Crypto            // in force
}

// key is ours for a suite: the same all through the dialog, for a packet's index
// goes on with it (RFC 3711 §3.3.1).
func (s *secrets) key(suite string) sdp.Crypto {
	if s.mine == nil {
		s.mine = map[string]sdp.Crypto{}
	}
	if _, ok := s.mine[suite]; !ok {
		s.mine[suite] = newKey(suite)
	}
	return s.mine[suite]
}

func sameKey(a, b sdp.Crypto) bool {
	return a.Suite == b.Suite && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.MKI, b.MKI)
}

// protect is what a line that we offer is called, and the keys in it.
func (p *Plain) protect() (protocol string, s sdp.Secrecy) {
	protocol = "RTP/AVP"
	if len(p.desc.Lines) > 0 {
		protocol = p.desc.Lines[p.audio].Transport.Protocol // it stays what it is
	}
	if p.cfg.SRTP == SRTPOff {
		return protocol, s
	}
	inForce := p.secured.Load()
	if p.cfg.Keys == KeysDTLS && inForce == nil || inForce != nil && inForce.dtls != nil {
		if p.cfg.SRTP == SRTPRequired && len(p.desc.Lines) == 0 {
			protocol = "UDP/TLS/RTP/SAVP"
		}
		return protocol, sdp.Secrecy{Fingerprint: p.cfg.Pool.own().print, Setup: "actpass", Mux: inForce == nil || inForce.mux}
	}
	if p.cfg.SRTP == SRTPRequired && len(p.desc.Lines) == 0 {
		protocol = "RTP/SAVP"
	}
	suites := p.cfg.Suites
	if len(suites) == 0 {
		suites = Suites[:offeredUnasked]
	}
	if inForce != nil {
		suites = []string{p.secrets.now.Suite} // nothing is to change
	}
	for i, suite := range suites {
		c := p.secrets.key(suite)
		c.Tag = i + 1
		s.Crypto = append(s.Crypto, c)
	}
	return protocol, s
}

// acceptable reports whether a line that is offered can be answered by its
// profile and its keys. Where SRTP is off its keys are as good as not there.
func (p *Plain) acceptable(t sdp.Transport) bool {
	off := p.cfg.SRTP == SRTPOff
	sdes := !off && p.pick(t.Secrecy.Crypto) >= 0
	dtls := !off && validPrint(t.Secrecy.Fingerprint)
	switch t.Protocol {
	case "RTP/AVP", "RTP/AVPF":
		return p.cfg.SRTP != SRTPRequired || sdes || dtls
	case "RTP/SAVP", "RTP/SAVPF":
		return sdes || dtls // RFC 5764's first drafts, and Asterisk, have DTLS under this name
	case "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF":
		return dtls
	}
	return false
}

// pick is the first key of an offer that we take (RFC 4568 §5.1.2); -1: none.
func (p *Plain) pick(offered []sdp.Crypto) int {
	for i, c := range offered {
		if usable(c, p.cfg.Suites) {
			return i
		}
	}
	return -1
}

// answerKeys chooses how a line that is offered is kept secret, and returns what
// the answer says of it.
func (p *Plain) answerKeys(t sdp.Transport) (ours sdp.Secrecy, next *secured, err error) {
	if p.cfg.SRTP == SRTPOff {
		return ours, nil, nil
	}
	offered := t.Secrecy
	if n := p.pick(offered.Crypto); n >= 0 && !strings.HasPrefix(t.Protocol, "UDP/TLS/") {
		theirs := offered.Crypto[n]
		if old := p.secrets.theirs; old.Key != nil && !sameKey(old, theirs) {
			// It may be another telephone by now, which counts packets from the start:
			// so do we, and that takes a key of our own that has not been used.
			p.secrets.mine = nil
		}
		mine := p.secrets.key(theirs.Suite)
		mine.Tag = theirs.Tag
		next, err = p.described(mine, theirs)
		return sdp.Secrecy{Crypto: []sdp.Crypto{mine}}, next, err
	}
	if validPrint(offered.Fingerprint) {
		ours = sdp.Secrecy{Fingerprint: p.cfg.Pool.own().print, Setup: "passive", Mux: offered.Mux}
		if offered.Setup == "passive" {
			ours.Setup = "active"
		}
		return ours, p.handshakes(offered, ours.Setup == "active", ours.Mux), nil
	}
	if p.cfg.SRTP == SRTPRequired {
		return ours, nil, ErrNotSecured
	}
	return ours, nil, nil
}

// answeredKeys takes the other end's choice among what we offered.
func (p *Plain) answeredKeys(offer, answer sdp.Transport) (*secured, error) {
	theirs := answer.Secrecy
	if len(theirs.Crypto) > 0 {
		for _, mine := range offer.Secrecy.Crypto {
			if c := theirs.Crypto[0]; c.Tag == mine.Tag && usable(c, p.cfg.Suites) && profiles[strings.ToUpper(c.Suite)] == profiles[strings.ToUpper(mine.Suite)] {
				return p.described(mine, c)
			}
		}
		return nil, ErrNotSecured
	}
	if offer.Secrecy.Fingerprint != "" && validPrint(theirs.Fingerprint) {
		return p.handshakes(theirs, theirs.Setup == "passive", theirs.Mux), nil
	}
	if p.cfg.SRTP == SRTPRequired || strings.Contains(offer.Protocol, "SAVP") {
		return nil, ErrNotSecured
	}
	return nil, nil
}

// described puts two keys from the descriptions into force. What has not changed
// goes on counting its packets.
func (p *Plain) described(mine, theirs sdp.Crypto) (*secured, error) {
	old := p.secured.Load()
	if old != nil && old.dtls != nil {
		old = nil
	}
	sameIn, sameOut := old != nil && sameKey(theirs, p.secrets.theirs), old != nil && sameKey(mine, p.secrets.now)
	if sameIn && sameOut {
		return old, nil
	}
	next := new(secured)
	var err error
	if next.in, next.inRTCP, err = contexts(theirs, true); err != nil {
		return nil, err
	}
	if next.out, next.outRTCP, err = contexts(mine, false); err != nil {
		return nil, err
	}
	if sameIn {
		next.in, next.inRTCP = old.in, old.inRTCP
	} else if old != nil {
		next.old = old.in
	}
	if sameOut {
		next.out, next.outRTCP = old.out, old.outRTCP
	}
	p.secrets.now, p.secrets.theirs = mine, theirs
	return next, nil
}
