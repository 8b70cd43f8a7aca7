package sip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
)

// Room is a video room or a telephone that registers with us (RFC 3261 §10). Its
// name is its user name and the user part of its address-of-record.
type Room struct {
	PasswordFile   string        `yaml:"password_file" doc:"The file that holds its password and nothing else. Empty: nobody can register as it."`
	Digest         []string      `yaml:"digest" doc:"The algorithms of its digests, in order. MD5 alone where it gives up on others. Empty: SHA-256, MD5."`
	Interface      string        `yaml:"interface" doc:"The entry of interfaces to speak from. Empty: the address that leads there."`
	DTMF           string        `yaml:"dtmf" doc:"How digits are sent to it, as for trunks." default:"rfc4733"`
	Codecs         []string      `yaml:"codecs" doc:"Encodings offered to it, in order. Empty: G722, PCMA, PCMU, opus."`
	OptionsEvery   time.Duration `yaml:"options_every" doc:"How often it is asked by OPTIONS whether it is there, which also keeps a NAT before it open. 0: never." default:"30s"`
	SessionExpires time.Duration `yaml:"session_expires" doc:"As for trunks." default:"30m"`
	MaxCalls       int           `yaml:"max_calls" doc:"As for trunks." default:"0"`
	EarlyMedia     bool          `yaml:"early_media" doc:"As for trunks." default:"true"`
	SRTP           media.SRTP    `yaml:"srtp" doc:"As for trunks." default:"off"`
	SRTPKeys       media.Keys    `yaml:"srtp_keys" doc:"As for trunks." default:"sdes"`
	SRTPSuites     []string      `yaml:"srtp_suites" doc:"As for trunks."`
}

// trunk is a room as calls see it.
func (r Room) trunk() Trunk {
	return Trunk{PasswordFile: r.PasswordFile, Digest: r.Digest, Interface: r.Interface, DTMF: r.DTMF, Codecs: r.Codecs, OptionsEvery: r.OptionsEvery,
		SessionExpires: r.SessionExpires, MaxCalls: r.MaxCalls, EarlyMedia: r.EarlyMedia, SRTP: r.SRTP, SRTPKeys: r.SRTPKeys, SRTPSuites: r.SRTPSuites}
}

// CheckRoom says what is wrong with a room's settings: field, what, what to write
// instead.
func CheckRoom(name string, r Room) [][3]string {
	var faults [][3]string
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		faults = append(faults, [3]string{"", fmt.Sprintf("a room cannot be named %q", name), "write letters, digits, -, _ and ."})
	}
	t := r.trunk()
	if secret, err := t.password(); t.PasswordFile != "" && (err != nil || secret == "") {
		faults = append(faults, [3]string{"password_file", "the room has no password that can be read", "write password_file: a file that the gateway may read"})
	}
	return append(faults, t.check()...)
}

// mostGuests bounds the addresses that rooms speak from.
const mostGuests = 16384

// guests are the addresses that rooms have proved to speak from.
type guests struct {
	mu sync.Mutex
	at map[netip.AddrPort]guest
}

type guest struct {
	room  *trunk // nil: a connection that may be one's
	until time.Time
}

func (g *guests) find(a netip.AddrPort) (guest, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok := g.at[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())]
	return v, ok && time.Now().Before(v.until)
}

func (g *guests) admit(a netip.AddrPort, room *trunk, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	if len(g.at) >= mostGuests {
		now := time.Now()
		for k, v := range g.at {
			if now.After(v.until) || len(g.at) >= mostGuests && v.room == nil {
				delete(g.at, k)
			}
		}
	}
	if old, ok := g.at[a]; ok && old.room == room && old.until.After(until) || !ok && len(g.at) >= mostGuests {
		return
	}
	g.at[a] = guest{room, until}
}

// openRooms makes the rooms.
func (s *Server) openRooms() error {
	for name, r := range s.o.Rooms {
		t, err := newTrunk("room:"+name, r.trunk(), s.o.Interfaces[r.Interface])
		if err != nil {
			return err
		}
		t.room, t.numeric = true, true
		s.trunks[t.name] = t
	}
	return nil
}

// recallRooms takes up the bindings that outlived the process.
func (s *Server) recallRooms() {
	if s.o.Bindings == nil || !s.rooms() {
		return
	}
	s.register.Lock()
	defer s.register.Unlock()
	for name, kept := range s.o.Bindings.Load() {
		if t := s.trunks["room:"+name]; t != nil {
			s.bind(t, slices.DeleteFunc(kept, func(b Binding) bool { return time.Now().After(b.Expires) }), false)
		}
	}
}

// rooms reports whether others than trunks may ask for something.
func (s *Server) rooms() bool { return len(s.o.Rooms) > 0 }

// party is whom a target names; nil: nobody.
func (s *Server) party(to policy.Target) *trunk {
	if to.Kind == "room" {
		return s.trunks["room:"+to.Name]
	}
	return s.trunks[to.Name]
}

// target is how the policy names a trunk, or a room.
func (t *trunk) target(number string) policy.Target {
	if t.room {
		return policy.Target{Kind: "room", Name: strings.TrimPrefix(t.name, "room:"), Number: number}
	}
	return policy.Target{Kind: "trunk", Name: t.name, Number: number}
}

// absent is why a trunk or a room that is nowhere cannot be called.
func (t *trunk) absent() call.Cause {
	if t.room {
		return call.Cause{Status: 480, Q850: 20, Text: "the room is not registered"}
	}
	return call.Cause{Status: 503, Q850: 38, Text: "the trunk's name leads nowhere, or its way is gone"}
}

// source is whom a request comes from, by its address; nil: a stranger.
func (s *Server) source(req *sipmsg.Request) *trunk {
	a, err := netip.ParseAddrPort(req.Source())
	if err != nil {
		return nil
	}
	if g, ok := s.guests.find(a); ok && g.room != nil {
		return g.room
	}
	return s.match(a.Addr())
}

// cameBy is the way that an INVITE came, made for it where none is known.
func (s *Server) cameBy(t *trunk, req *sipmsg.Request) *hop {
	h := t.by(req.Source())
	a, err := netip.ParseAddrPort(req.Source())
	if err == nil && (h == nil || t.room && h.addr != a) {
		u := sipmsg.Uri{Scheme: "sip", Host: host(a.Addr()), Port: int(a.Port())}
		return newHop(t, a.String(), u, place{network: sipmsg.NetworkToUpper(req.Transport()), addr: a, name: a.Addr().String(), weight: 1}, t.from)
	}
	return h
}

// through is what a request to a way must pass (RFC 3327, RFC 3608).
func (h *hop) through() []sipmsg.Uri {
	return append(h.routes[:len(h.routes):len(h.routes)], h.enrolment.route()...)
}

// asks reports whether a request must prove who sent it, and as whom. A room must
// whenever it begins something; what belongs to a dialog is known by its tags and
// its address.
func (s *Server) asks(req *sipmsg.Request) (t *trunk, must bool) {
	t = s.source(req)
	if to := req.To(); t != nil && to != nil {
		if _, within := to.Params.Get("tag"); within && t.room {
			return t, req.IsInvite() || req.Method == sipmsg.REFER
		}
	}
	switch {
	case req.IsAck() || req.IsCancel() || req.Method == sipmsg.PRACK:
		return t, false
	case t != nil && !t.room:
		return t, t.Challenge && req.Method != sipmsg.OPTIONS
	}
	if from := req.From(); from != nil {
		if r := s.trunks["room:"+from.Address.User]; r != nil {
			return r, true
		}
	}
	if t != nil { // a room that says it is somebody else
		return t, true
	}
	return nil, false
}

// known refuses whoever is not, and asks those for proof who must give it.
func (s *Server) known(handle func(*sipmsg.Request, sipmsg.ServerTransaction)) func(*sipmsg.Request, sipmsg.ServerTransaction) {
	return func(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
		t, must := s.asks(req)
		from, err := netip.ParseAddrPort(req.Source())
		if t == nil || err != nil {
			if !req.IsAck() {
				s.reply(req, tx, 403, "Forbidden")
			}
			return
		}
		if must {
			who := t.claims()
			if f := req.From(); t.room && (f == nil || f.Address.User != who.user) {
				s.reply(req, tx, 403, "Forbidden")
				return
			}
			if !s.proves(req, tx, from.Addr(), who) {
				return
			}
			if t.room {
				s.guests.admit(from, t, time.Now().Add(guestLife))
			}
		}
		handle(req, tx)
	}
}

// guestLife is how long an address is a room's that has called from it and is not
// registered there: longer than any call goes on without a word (RFC 4028).
const guestLife = time.Hour
