package sip

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

const (
	// The shortest and the longest registration, and the one of who does not say.
	leastBinding   = 60 * time.Second
	mostBinding    = time.Hour
	defaultBinding = time.Hour
	// mostContacts bounds the contacts of one room.
	mostContacts = 10
)

// Binding is one contact of a room as it is kept (RFC 3261 §10.2).
type Binding struct {
	Contact  string
	CallID   string
	CSeq     uint32
	Expires  time.Time
	Source   string // the address that it registered from, which is where it is reached through a NAT
	Network  string // "UDP", "TCP" or "TLS"
	Path     []string
	Instance string // +sip.instance (RFC 5626 §4.1)
}

// Bindings keep where rooms are, so that a gateway started anew finds them.
type Bindings interface {
	Load() map[string][]Binding // by room
	Save(room string, all []Binding)
}

// onRegister takes a REGISTER (RFC 3261 §10.3). It may come from anywhere: the
// digest says who it is.
func (s *Server) onRegister(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	from, err := netip.ParseAddrPort(req.Source())
	if !s.valid(req, tx) || err != nil {
		return
	}
	if !s.rooms() {
		s.known(s.onOther)(req, tx)
		return
	}
	// Who is not known is asked all the same, and proves nothing: nobody learns
	// which rooms there are.
	who := claim{user: req.To().Address.User, digest: algorithms}
	t := s.trunks["room:"+who.user]
	if t != nil {
		who = t.claims()
	}
	if !s.proves(req, tx, from.Addr(), who) {
		return
	}
	s.register.Lock()
	defer s.register.Unlock()
	next, status, headers := s.rebound(t, req, from)
	if status != 200 {
		s.reply(req, tx, status, reason(status), headers...)
		return
	}
	if next != nil {
		s.bind(t, next, true)
	}
	s.guests.admit(from, t, time.Now().Add(mostBinding+time.Minute))
	for _, b := range t.bindings {
		v := "<" + b.Contact + ">;expires=" + itoa(int(time.Until(b.Expires).Round(time.Second).Seconds()))
		headers = append(headers, header("Contact", v))
	}
	for _, p := range req.GetHeaders("Path") {
		headers = append(headers, header("Path", p.Value())) // RFC 3327 §5.3
	}
	s.reply(req, tx, 200, "OK", headers...)
}

// rebound works out what a REGISTER makes of a room's bindings; nil: it only asks.
func (s *Server) rebound(t *trunk, req *sipmsg.Request, from netip.AddrPort) ([]Binding, int, []sipmsg.Header) {
	now := time.Now()
	all := slices.DeleteFunc(slices.Clone(t.bindings), func(b Binding) bool { return now.After(b.Expires) })
	contacts := req.GetHeaders("Contact")
	if len(contacts) == 0 {
		return nil, 200, nil
	}
	base, _, said := seconds(req, "", "Expires")
	if !said {
		base = defaultBinding
	}
	var path []string
	for _, p := range tokens(req, "Path") {
		path = append(path, strings.Trim(p, "<>"))
	}
	for _, h := range contacts {
		c, ok := h.(*sipmsg.ContactHeader)
		if !ok {
			return nil, 400, nil
		}
		if c.Address.Wildcard {
			if len(contacts) > 1 || !said || base != 0 {
				return nil, 400, nil // RFC 3261 §10.3, step 6
			}
			return []Binding{}, 200, nil
		}
		life := base
		if v, ok := c.Params.Get("expires"); ok {
			if d, _, ok := seconds(values{v}, "", ""); ok {
				life = d
			}
		}
		if life > 0 && life < leastBinding {
			return nil, 423, []sipmsg.Header{header("Min-Expires", itoa(int(leastBinding.Seconds())))}
		}
		b := Binding{Contact: c.Address.String(), CallID: req.CallID().Value(), CSeq: req.CSeq().SeqNo, Expires: now.Add(min(life, mostBinding)),
			Source: from.String(), Network: sipmsg.NetworkToUpper(req.Transport()), Path: path}
		b.Instance, _ = c.Params.Get("+sip.instance")
		i := slices.IndexFunc(all, func(old Binding) bool {
			return old.Contact == b.Contact || b.Instance != "" && old.Instance == b.Instance
		})
		if i >= 0 && all[i].CallID == b.CallID && b.CSeq <= all[i].CSeq {
			return nil, 500, nil // out of order (RFC 3261 §10.3, step 7)
		}
		if i >= 0 {
			all = slices.Delete(all, i, i+1)
		}
		if life > 0 {
			all = append(all, b)
		}
	}
	if len(all) > mostContacts {
		return nil, 403, nil
	}
	return all, 200, nil
}

// values is a header that was found elsewhere than among headers.
type values struct{ v string }

func (v values) GetHeaders(string) []sipmsg.Header { return []sipmsg.Header{header("", v.v)} }

// bind puts a room's bindings into force. It needs register, or nobody else yet.
func (s *Server) bind(t *trunk, all []Binding, keep bool) {
	t.bindings = all
	next := &layout{}
	for _, b := range all {
		h := t.reached(b)
		if h == nil {
			continue
		}
		if old := t.known(h); old != h {
			h = old
		} else {
			s.attend(h)
		}
		next.hops = append(next.hops, h)
		if a, err := netip.ParseAddrPort(b.Source); err == nil {
			s.guests.admit(a, t, b.Expires.Add(time.Minute))
		}
	}
	t.replaceWays(next)
	if keep && s.o.Bindings != nil {
		s.o.Bindings.Save(strings.TrimPrefix(t.name, "room:"), all)
	}
	s.o.Log.Info("room", "room", t.name, "contacts", len(next.hops))
}

// reached is the way to a contact: where it registered from, whatever its NAT had
// it write. Over TCP and TLS that is its own connection.
func (t *trunk) reached(b Binding) *hop {
	var u sipmsg.Uri
	a, err := netip.ParseAddrPort(b.Source)
	if sipmsg.ParseUri(b.Contact, &u) != nil || err != nil {
		return nil
	}
	h := newHop(t, b.Contact, u, place{network: b.Network, addr: netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), name: a.Addr().Unmap().String(), weight: 1}, t.from)
	for _, p := range b.Path {
		if v := parsed(p); v.Host != "" {
			h.routes = append(h.routes, v)
		}
	}
	return h
}

// expire lets go of bindings whose time is over.
func (s *Server) expire() {
	s.register.Lock()
	defer s.register.Unlock()
	now := time.Now()
	for _, t := range s.trunks {
		if left := slices.DeleteFunc(slices.Clone(t.bindings), func(b Binding) bool { return now.After(b.Expires) }); len(left) < len(t.bindings) {
			s.bind(t, left, true)
		}
	}
}

// expireAll does so every second.
func (s *Server) expireAll() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.expire()
		case <-s.ctx.Done():
			return
		}
	}
}
