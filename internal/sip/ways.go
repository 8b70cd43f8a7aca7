package sip

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/policy"
)

// Alternative is another address of a trunk.
type Alternative struct {
	Address  string `yaml:"address" doc:"Where calls are sent." example:"sip:10.0.0.6:5060"`
	Priority int    `yaml:"priority" doc:"Addresses with a higher number are used when all with lower ones fail; the trunk's own address has 0." default:"0"`
	Weight   int    `yaml:"weight" doc:"Its share of the calls among those of its priority; the trunk's own address has 1. 0 counts as 1. Where the DNS gives weights (SRV) those count." default:"1"`
}

// hop is one place where a trunk is reached (RFC 3263), or a room.
type hop struct {
	*trunk
	id, origin       int    // origin: which of the addresses in the configuration led here
	address          string // as it is shown
	uri              sipmsg.Uri
	addr             netip.AddrPort
	net              string       // "UDP", "TCP" or "TLS"
	host             string       // its name, or its address
	dest             string       // where its requests go; over TLS by name, which tells it who is wanted
	from             netip.Addr   // our address on the way there
	routes           []sipmsg.Uri // what its requests go through (Path, RFC 3327)
	priority, weight int
	health           health
	enrolment        enrolment
	gone             chan struct{} // closed when it is one of the trunk's no longer
	noTCP            atomic.Int64  // until when (Unix, ns) what is too large for UDP goes by it all the same
}

// hops numbers them all.
var hops atomic.Int64

func newHop(t *trunk, address string, u sipmsg.Uri, p place, from netip.Addr) *hop {
	h := &hop{trunk: t, id: int(hops.Add(1)), address: address, uri: u, net: p.network, addr: p.addr, host: p.name, dest: p.addr.String(), from: from,
		priority: p.priority, weight: p.weight, gone: make(chan struct{}), health: health{state: Unseen, since: time.Now(), doubt: make(chan struct{}, 1)}}
	if p.network == "TLS" {
		h.dest = net.JoinHostPort(p.name, itoa(int(p.addr.Port())))
	}
	if !h.from.IsValid() {
		h.from = towards(h.addr)
	}
	return h
}

// layout is where a trunk is reached, and from where it calls. It is never
// changed, only replaced.
type layout struct {
	hops []*hop
	nets []netip.Prefix
}

// ways are the places where a trunk is reached now.
func (t *trunk) ways() []*hop {
	if l := t.laid.Load(); l != nil {
		return l.hops
	}
	return nil
}

// source is what the policy calls it.
func (t *trunk) source() string {
	if t.room {
		return "room"
	}
	return t.name
}

// addresses are a trunk's own and its others; a room has none.
func (t *Trunk) addresses() []Alternative {
	if t.Address == "" {
		return nil
	}
	return append([]Alternative{{Address: t.Address, Weight: 1}}, t.Targets...)
}

// lay looks up where a trunk's addresses lead. Those that led there before keep
// what is known of them; a name that cannot be looked up leads where it did.
func (t *trunk) lay(ctx context.Context, n names) error {
	next := &layout{nets: t.accepts}
	var errs []error
	for i, a := range t.addresses() {
		u, err := parseURI(a.Address)
		if err != nil {
			return err
		}
		places, err := n.places(ctx, u)
		if err != nil {
			errs = append(errs, err)
			for _, h := range t.ways() {
				if h.origin == i {
					next.add(h)
				}
			}
			continue
		}
		for k, p := range places {
			next.nets = append(next.nets, netip.PrefixFrom(p.addr.Addr(), p.addr.Addr().BitLen()))
			if p.network == "TLS" && k > 0 && places[k-1].name == p.name {
				continue // it is reached by its name
			}
			address := a.Address
			if len(places) > 1 {
				address += " at " + p.addr.String()
			}
			p.priority += a.Priority << 16
			if p.weight == 0 {
				p.weight = max(a.Weight, 1)
			}
			h := newHop(t, address, u, p, t.from)
			h.origin = i
			next.add(t.known(h))
		}
	}
	t.replaceWays(next)
	return errors.Join(errs...)
}

// add takes a way with its network.
func (l *layout) add(h *hop) {
	if !slices.Contains(l.hops, h) {
		l.hops = append(l.hops, h)
		l.nets = append(l.nets, netip.PrefixFrom(h.addr.Addr(), h.addr.Addr().BitLen()))
	}
}

// known is a way as it was before, if it was.
func (t *trunk) known(h *hop) *hop {
	for _, old := range t.ways() {
		if old.address == h.address && old.dest == h.dest && old.net == h.net && old.addr == h.addr && old.priority == h.priority && old.weight == h.weight {
			return old
		}
	}
	return h
}

// replaceWays puts a layout into force; who is in it no longer is not asked any
// more whether it is there.
func (t *trunk) replaceWays(next *layout) {
	old := t.laid.Swap(next)
	if old == nil {
		return
	}
	for _, h := range old.hops {
		if !slices.Contains(next.hops, h) {
			close(h.gone)
		}
	}
}

// look keeps a trunk's ways as the DNS has them, and asks those that are new
// whether they are there.
func (s *Server) look(t *trunk) {
	watched := map[*hop]bool{}
	for {
		for _, h := range t.ways() {
			if !watched[h] {
				watched[h] = true
				s.attend(h)
			}
		}
		for h := range watched {
			if !slices.Contains(t.ways(), h) {
				delete(watched, h)
			}
		}
		if t.numeric {
			return
		}
		wait := s.o.Config.ResolveEvery
		if len(t.ways()) == 0 {
			wait = min(wait, askAgain)
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
		if err := t.lay(s.ctx, s.names); err != nil && s.ctx.Err() == nil {
			s.o.Log.Warn("a trunk's name cannot be looked up", "trunk", t.name, "error", err)
		}
	}
}

// attend starts what goes on towards a way for as long as it is one.
func (s *Server) attend(h *hop) {
	if h.OptionsEvery > 0 {
		s.wg.Go(func() { s.watch(h) })
	}
	if h.Register > 0 {
		s.enrolled.Go(func() { s.enrol(h) })
	}
}

// by is the way that a request came; the first, if it is none of them; nil if there
// is none.
func (t *trunk) by(source string) *hop {
	all := t.ways()
	if a, err := netip.ParseAddrPort(source); err == nil {
		for _, exact := range []bool{true, false} {
			for _, h := range all {
				if h.addr == a || !exact && h.addr.Addr() == a.Addr().Unmap() {
					return h
				}
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// way finds one by its number; 0: the first.
func (t *trunk) way(id int) *hop {
	for _, h := range t.ways() {
		if id == 0 || h.id == id {
			return h
		}
	}
	return nil
}

// Ways implements call.Spreader: a trunk's addresses in the order in which a call
// tries them, by priority and, among equals, by lot and weight (RFC 2782); a
// room's contacts ring together.
func (s *Server) Ways(to policy.Target) [][]policy.Target {
	t := s.party(to)
	if t == nil {
		return [][]policy.Target{{to}}
	}
	all := t.ways()
	var out [][]policy.Target
	for _, h := range order(all, rand.IntN) {
		to.Way = h.id
		if t.room && len(out) > 0 {
			out[0] = append(out[0], to)
		} else {
			out = append(out, []policy.Target{to})
		}
	}
	if len(out) == 0 {
		return [][]policy.Target{{to}}
	}
	return out
}

// order draws the order of ways; lot is a number below its argument.
func order(all []*hop, lot func(int) int) []*hop {
	left := slices.Clone(all)
	slices.SortStableFunc(left, func(a, b *hop) int { return cmp.Compare(a.priority, b.priority) })
	var out []*hop
	for len(left) > 0 {
		equals := 0
		sum := 0
		for equals < len(left) && left[equals].priority == left[0].priority {
			sum += left[equals].weight
			equals++
		}
		drawn := 0
		for at := lot(sum); at >= left[drawn].weight; drawn++ {
			at -= left[drawn].weight
		}
		out = append(out, left[drawn])
		left = slices.Delete(left, drawn, drawn+1)
	}
	return out
}

// over are the ways of all trunks that take a transport.
func (s *Server) over(network string) []*hop {
	var out []*hop
	for _, t := range s.trunks {
		for _, hop := range t.ways() {
			if hop.net == network {
				out = append(out, hop)
			}
		}
	}
	return out
}
