package sip

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

const (
	// nonceLife is how long a nonce is good for.
	nonceLife = 5 * time.Minute
	// mostNonces bounds the nonces whose use is remembered.
	mostNonces = 100_000
)

// algorithms are what a digest may be asked for by, the best first (RFC 8760 §2.4).
var algorithms = []string{"SHA-256", "MD5"}

// nonces are what we challenge with. A nonce is the time it was made and a MAC of
// that and of who got it: it says nothing of passwords, nobody else can make one
// or use it from elsewhere, and nothing is kept for those who never answer.
type nonces struct {
	key [32]byte

	mu   sync.Mutex
	used map[string]uint32 // the highest count (nc) that a nonce came with
	old  map[string]uint32 // those of the lifetime before
	turn time.Time         // when old is forgotten
}

func newNonces() *nonces {
	n := &nonces{used: map[string]uint32{}, old: map[string]uint32{}, turn: time.Now().Add(nonceLife)}
	rand.Read(n.key[:])
	return n
}

func (n *nonces) mac(stamp []byte, of netip.Addr) []byte {
	h := hmac.New(sha256.New, n.key[:])
	h.Write(stamp)
	h.Write(of.AsSlice())
	return h.Sum(nil)[:16]
}

// fresh makes one for a source.
func (n *nonces) fresh(of netip.Addr) string {
	stamp := make([]byte, 12)
	binary.BigEndian.PutUint64(stamp, uint64(time.Now().Unix()))
	rand.Read(stamp[8:])
	return base64.RawURLEncoding.EncodeToString(append(stamp, n.mac(stamp, of)...))
}

// made reports whether a nonce is one of ours for that source, and whether it is
// still good.
func (n *nonces) made(nonce string, of netip.Addr) (ours, good bool) {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != 28 || !hmac.Equal(b[12:], n.mac(b[:12], of)) {
		return false, false
	}
	age := time.Since(time.Unix(int64(binary.BigEndian.Uint64(b)), 0))
	return true, age >= -time.Second && age < nonceLife
}

// count takes the count that a nonce came with, which must be higher than the one
// before (RFC 7616 §3.4.5); without one a nonce is good for once.
func (n *nonces) count(nonce string, nc uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); now.After(n.turn) || len(n.used) >= mostNonces {
		n.old, n.used, n.turn = n.used, map[string]uint32{}, now.Add(nonceLife)
	}
	last, seen := n.used[nonce]
	if !seen {
		last, seen = n.old[nonce]
	}
	if seen && nc <= last {
		return false
	}
	n.used[nonce] = nc
	return true
}

// verdict is what is thought of a request's credentials.
type verdict uint8

const (
	none  verdict = iota // it has none that are meant for us
	stale                // they are of a nonce that is good no longer, or was used
	wrong
	right
)

// claim is who somebody says they are. An empty password is nobody's: whoever is
// not known is judged as if the password were wrong.
type claim struct {
	user, password string
	digest         []string // the algorithms that are asked for
}

// claims is who a trunk or a room must prove to be.
func (t *trunk) claims() claim {
	c := claim{t.Username, t.secret, t.Digest}
	if t.room {
		c.user = strings.TrimPrefix(t.name, "room:")
	}
	if len(c.digest) == 0 {
		c.digest = algorithms
	}
	return c
}

// judge looks at a request's credentials for somebody.
func (s *Server) judge(req *sipmsg.Request, from netip.Addr, who claim) verdict {
	best := none
	for _, h := range req.GetHeaders("Authorization") {
		c, err := digest.ParseCredentials(h.Value())
		if err != nil || c.Realm != s.realm() {
			continue
		}
		algorithm := strings.ToUpper(c.Algorithm)
		if algorithm == "" {
			algorithm = "MD5" // RFC 7616 §3.4
		}
		ours, good := s.nonces.made(c.Nonce, from)
		if !ours || !slices.Contains(who.digest, algorithm) || c.QOP != "" && c.QOP != "auth" {
			continue
		}
		if !good {
			best = max(best, stale)
			continue
		}
		challenge := &digest.Challenge{Realm: c.Realm, Nonce: c.Nonce, Algorithm: c.Algorithm}
		if c.QOP != "" {
			challenge.QOP = []string{"auth"}
		}
		want, err := digest.Digest(challenge, digest.Options{Method: string(req.Method), URI: c.URI, Username: who.user, Password: who.password, Cnonce: c.Cnonce, Count: c.Nc})
		if err != nil || who.password == "" || c.Username != who.user || subtle.ConstantTimeCompare([]byte(want.Response), []byte(c.Response)) != 1 {
			best = max(best, wrong)
			continue
		}
		if !s.nonces.count(c.Nonce, uint32(max(c.Nc, 0))) {
			best = max(best, stale)
			continue
		}
		return right
	}
	return best
}

// challenge asks for a digest (RFC 3261 §22.2).
func (s *Server) challenge(req *sipmsg.Request, tx sipmsg.ServerTransaction, from netip.Addr, who claim, old bool) {
	nonce := s.nonces.fresh(from)
	var headers []sipmsg.Header
	for _, algorithm := range who.digest {
		v := `Digest realm="` + s.realm() + `", nonce="` + nonce + `", algorithm=` + algorithm + `, qop="auth"`
		if old {
			v += ", stale=true"
		}
		headers = append(headers, header("WWW-Authenticate", v))
	}
	s.reply(req, tx, 401, "Unauthorized", headers...)
}

// proves asks who sent a request, and reports whether it is who it says. If not
// it has been answered.
func (s *Server) proves(req *sipmsg.Request, tx sipmsg.ServerTransaction, from netip.Addr, who claim) bool {
	switch s.judge(req, from, who) {
	case right:
		s.guard.proved(from)
		return true
	case stale:
		s.challenge(req, tx, from, who, true)
	case none:
		s.challenge(req, tx, from, who, false)
	case wrong:
		s.refused.add("credentials")
		s.guard.failed(from)
		s.reply(req, tx, 403, "Forbidden")
	}
	return false
}

func (s *Server) realm() string {
	if s.o.Config.Realm != "" {
		return s.o.Config.Realm
	}
	return s.o.Site
}
