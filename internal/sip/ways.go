package sip

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/policy"
)

// Alternative is another address of a trunk.
type Alternative struct {
	Address  string `yaml:"address" doc:"Where calls are sent." example:"sip:10.0.0.6:5060"`
	Priority int    `yaml:"priority" doc:"Addresses with a higher number are used when all with lower ones fail; the trunk's own address has 0." default:"0"`
	Weight   int    `yaml:"weight" doc:"Its share of the calls among those of its priority; the trunk's own address has 1. 0 counts as 1." default:"1"`
}

// hop is one address of a trunk (RFC 3263).
type hop struct {
	*trunk
	address          string
	uri              sipmsg.Uri
	addr             netip.AddrPort // resolved
	net              string         // "UDP", "TCP" or "TLS"
	dest             string         // where its requests go; over TLS by name, for the certificate has it
	from             netip.Addr     // our address on the way there
	priority, weight int
	health           health
}

// lay adds the ways that an address leads to: one for each of its host's addresses.
func (t *trunk) lay(a Alternative, from netip.Addr) error {
	u, err := parseURI(a.Address)
	if err != nil {
		return err
	}
	network := "UDP"
	if v, _ := u.UriParams.Get("transport"); strings.EqualFold(v, "tcp") || strings.EqualFold(v, "tls") {
		network = strings.ToUpper(v)
	}
	port := u.Port
	if port == 0 {
		port = defaultPort(network)
	}
	hosts := []netip.Addr{}
	if ip, err := netip.ParseAddr(strings.Trim(u.Host, "[]")); err == nil {
		hosts = append(hosts, ip)
	} else if hosts, err = net.DefaultResolver.LookupNetIP(context.Background(), "ip", u.Host); err != nil || len(hosts) == 0 {
		return fmt.Errorf("resolve %s: %w", u.Host, err)
	}
	for i, h := range hosts {
		h = h.Unmap()
		t.nets = append(t.nets, netip.PrefixFrom(h, h.BitLen()))
		if network == "TLS" && i > 0 {
			continue // it is reached by its name
		}
		name := a.Address
		if len(hosts) > 1 && network != "TLS" {
			name += " at " + h.String()
		}
		hop := &hop{trunk: t, address: name, uri: u, net: network, addr: netip.AddrPortFrom(h, uint16(port)), from: from,
			priority: a.Priority, weight: max(a.Weight, 1), health: health{state: Unseen, since: time.Now(), doubt: make(chan struct{}, 1)}}
		hop.dest = hop.addr.String()
		if network == "TLS" {
			hop.dest = net.JoinHostPort(strings.Trim(u.Host, "[]"), itoa(port))
		}
		if !hop.from.IsValid() {
			hop.from = towards(hop.addr)
		}
		t.hops = append(t.hops, hop)
	}
	return nil
}

// by is the way that a request came; the first, if it is none of them.
func (t *trunk) by(source string) *hop {
	if a, err := netip.ParseAddrPort(source); err == nil {
		for _, hop := range t.hops {
			if hop.addr.Addr() == a.Addr().Unmap() {
				return hop
			}
		}
	}
	return t.hops[0]
}

// Ways implements call.Spreader: a trunk's addresses in the order in which a call
// tries them, by priority and, among equals, by lot and weight (RFC 2782).
func (s *Server) Ways(to policy.Target) []policy.Target {
	t := s.trunks[to.Name]
	if t == nil || len(t.hops) == 1 {
		return []policy.Target{to}
	}
	var out []policy.Target
	for _, n := range t.order(rand.IntN) {
		to.Way = n + 1
		out = append(out, to)
	}
	return out
}

// order draws the ways of a trunk; lot is a number below its argument.
func (t *trunk) order(lot func(int) int) []int {
	left := make([]int, len(t.hops))
	for i := range left {
		left[i] = i
	}
	slices.SortStableFunc(left, func(a, b int) int { return cmp.Compare(t.hops[a].priority, t.hops[b].priority) })
	var out []int
	for len(left) > 0 {
		equals := 0
		sum := 0
		for equals < len(left) && t.hops[left[equals]].priority == t.hops[left[0]].priority {
			sum += t.hops[left[equals]].weight
			equals++
		}
		drawn := 0
		for at := lot(sum); at >= t.hops[left[drawn]].weight; drawn++ {
			at -= t.hops[left[drawn]].weight
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
		for _, hop := range t.hops {
			if hop.net == network {
				out = append(out, hop)
			}
		}
	}
	return out
}
