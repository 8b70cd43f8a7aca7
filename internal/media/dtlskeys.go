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
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/srtp/v3"
)

// replayWindow is how far back a packet may come and still be told from a
// repeat (RFC 3711 §3.3.2).
const replayWindow = 64

// errNoKeys is returned where a handshake did not show what SRTP's keys are
// made of: we were its client, or it is not through.
var errNoKeys = errors.New("media: the handshake's keys are not known")

// dtlsKeys learns what the SRTP keys of one PeerConnection are made of, by the
// two doors that pion has: the key log, which stays in memory, and the
// ServerHello, which is ours because we always answer as the DTLS server.
type dtlsKeys struct {
	mu      sync.Mutex // guards all below
	client  []byte     // ClientHello.random
	server  []byte     // ServerHello.random
	master  []byte
	suite   uint16
	profile dtls.SRTPProtectionProfile
}

// Write takes a line of the key log: CLIENT_RANDOM, the random and the master
// secret, in hexadecimal.
func (k *dtlsKeys) Write(line []byte) (int, error) {
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

// hello reads our ServerHello as it goes out, and leaves it as it is.
func (k *dtlsKeys) hello(m handshake.MessageServerHello) handshake.Message {
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

// contexts makes the SRTP contexts for what comes in and goes out (RFC 5764
// §4.2), and wipes what they were made of.
func (k *dtlsKeys) contexts() (in, out *srtp.Context, err error) {
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
	if in, err = srtp.CreateContext(theirs, theirSalt, profile, srtp.SRTPReplayProtection(replayWindow)); err != nil {
		return nil, nil, err
	}
	if out, err = srtp.CreateContext(ours, ourSalt, profile); err != nil {
		return nil, nil, err
	}
	return in, out, nil
}

// hash is the one of the cipher suite's PRF (RFC 5246 §5, RFC 5289 §3).
func (k *dtlsKeys) hash() func() hash.Hash {
	switch dtls.CipherSuiteID(k.suite) {
	case dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return sha512.New384
	}
	return sha256.New
}

// wipe needs mu.
func (k *dtlsKeys) wipe() {
	clear(k.master)
	k.master, k.client, k.server = nil, nil, nil
}
