package media

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"sync"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
	"github.com/pion/dtls/v3/pkg/protocol"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/dtls/v3/pkg/protocol/recordlayer"
	"github.com/pion/srtp/v3"
)

// replayWindow is how far back a packet may come and still be told from a
// repeat (RFC 3711 §3.3.2).
const replayWindow = 64

// errNoKeys is returned where a handshake did not show what SRTP's keys are
// made of: it took another way than ours, or is not through.
var errNoKeys = errors.New("media: the handshake's keys are not known")

// DTLSKeys learns what the SRTP keys of one PeerConnection are made of: from
// the key log (as an io.Writer), which stays in memory, and from the ServerHello.
// That is ours where we are the DTLS server, and on the wire where we are the
// client.
type DTLSKeys struct {
	mu      sync.Mutex // guards all below
	client  []byte     // ClientHello.random
	server  []byte     // ServerHello.random
	master  []byte
	suite   uint16
	profile dtls.SRTPProtectionProfile
}

// Write takes a line of the key log: CLIENT_RANDOM, the random and the master
// secret, in hexadecimal.
func (k *DTLSKeys) Write(line []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "CLIENT_RANDOM" {
		k.client, k.master = make([]byte, hex.DecodedLen(len(f[1]))), make([]byte, hex.DecodedLen(len(f[2])))
		_, e1 := hex.Decode(k.client, f[1])
		_, e2 := hex.Decode(k.master, f[2])
		if err := errors.Join(e1, e2); err != nil {
			k.wipe()
			return 0, err
		}
	}
	return len(line), nil
}

// Hear reads a ServerHello out of a datagram that came in, if there is one.
func (k *DTLSKeys) Hear(datagram []byte) {
	records, err := recordlayer.UnpackDatagram(datagram)
	if err != nil {
		return
	}
	for _, r := range records {
		var record recordlayer.Header
		if record.Unmarshal(r) != nil || record.Epoch != 0 || record.ContentType != protocol.ContentTypeHandshake {
			continue
		}
		var h handshake.Header
		var hello handshake.MessageServerHello
		body := r[recordlayer.FixedHeaderSize:]
		if h.Unmarshal(body) == nil && h.Type == handshake.TypeServerHello && hello.Unmarshal(body[handshake.HeaderLength:]) == nil {
			k.hello(hello)
		}
	}
}

// hello takes a ServerHello, ours as it goes out or the peer's, and leaves it as
// it is.
func (k *DTLSKeys) hello(m handshake.MessageServerHello) handshake.Message {
	k.mu.Lock()
	defer k.mu.Unlock()
	random := m.Random.MarshalFixed()
	k.server = random[:]
	if m.CipherSuiteID != nil {
		k.suite = *m.CipherSuiteID
	}
	for _, e := range m.Extensions {
		if u, ok := e.(*extension.UseSRTP); ok && len(u.ProtectionProfiles) > 0 {
			k.profile = u.ProtectionProfiles[0]
		}
	}
	return &m
}

// Contexts makes the SRTP contexts for what comes in and goes out (RFC 5764
// §4.2), and wipes what they were made of.
func (k *DTLSKeys) Contexts(client bool) (in, out *srtp.Context, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.wipe()
	profile := srtp.ProtectionProfile(k.profile)
	keySize, err := profile.KeyLen()
	if err != nil || len(k.client) == 0 || len(k.server) == 0 {
		return nil, nil, errNoKeys
	}
	saltSize, err := profile.SaltLen()
	if err != nil {
		return nil, nil, errNoKeys
	}
	seed := append([]byte("EXTRACTOR-dtls_srtp"), k.client...)
	seed = append(seed, k.server...)
	all, err := prf.PHash(k.master, seed, 2*(keySize+saltSize), k.hash())
	if err != nil {
		return nil, nil, err
	}
	defer clear(all)
	theirs, ours := all[:keySize], all[keySize:2*keySize]
	theirSalt, ourSalt := all[2*keySize:2*keySize+saltSize], all[2*keySize+saltSize:]
	if client {
		theirs, ours, theirSalt, ourSalt = ours, theirs, ourSalt, theirSalt
	}
	if in, err = srtp.CreateContext(theirs, theirSalt, profile, srtp.SRTPReplayProtection(replayWindow)); err != nil {
		return nil, nil, err
	}
	if out, err = srtp.CreateContext(ours, ourSalt, profile); err != nil {
		return nil, nil, err
	}
	return in, out, nil
}

// hash is the one of the cipher suite's PRF (RFC 5246 §5, RFC 5289 §3).
func (k *DTLSKeys) hash() func() hash.Hash {
	switch dtls.CipherSuiteID(k.suite) {
	case dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return sha512.New384
	}
	return sha256.New
}

// wipe needs mu.
func (k *DTLSKeys) wipe() {
	clear(k.master)
	k.master, k.client, k.server = nil, nil, nil
}
