package sip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
	"github.com/miekg/dns"
)

const (
	// resolveLimit bounds one look-up, all its questions together.
	resolveLimit = 4 * time.Second
	// mostPlaces bounds where one name leads.
	mostPlaces = 32
)

// place is one of the places where an address leads (RFC 3263 §4).
type place struct {
	network          string // "UDP", "TCP" or "TLS"
	addr             netip.AddrPort
	name             string // of the host, over TLS: it is told who is wanted
	priority, weight int    // weight 0: the DNS gave none
}

// names asks the DNS where SIP URIs lead.
type names struct {
	server string // whom to ask; "": the system's
}

// places resolves a URI: by its own address, by its port, or by NAPTR and SRV.
func (n names) places(ctx context.Context, u sipmsg.Uri) ([]place, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	host := strings.Trim(u.Host, "[]")
	network := transportOf(u)
	numeric, err := netip.ParseAddr(host)
	if err == nil || u.Port != 0 {
		port := u.Port
		if network == "" {
			network = "UDP"
		}
		if port == 0 {
			port = defaultPort(network)
		}
		if err == nil {
			return []place{{network: network, addr: netip.AddrPortFrom(numeric.Unmap(), uint16(port)), name: host}}, nil
		}
		return n.host(ctx, place{network: network, name: host}, port)
	}
	for _, s := range n.services(ctx, host, network) {
		if found := n.service(ctx, s.network, s.name); len(found) > 0 {
			return found, nil
		}
	}
	if network == "" {
		network = "UDP"
	}
	return n.host(ctx, place{network: network, name: host}, defaultPort(network))
}

// transportOf is what a URI itself says; "": nothing.
func transportOf(u sipmsg.Uri) string {
	v, _ := u.UriParams.Get("transport")
	switch {
	case u.Scheme == "sips" || strings.EqualFold(v, "tls"):
		return "TLS"
	case strings.EqualFold(v, "tcp"):
		return "TCP"
	case strings.EqualFold(v, "udp"):
		return "UDP"
	}
	return ""
}

// records are the SRV records to ask for, by transport (RFC 3263 §4.1).
var records = map[string]string{"UDP": "_sip._udp.", "TCP": "_sip._tcp.", "TLS": "_sips._tcp."}

// services lists what to ask for, the domain's own wish first.
func (n names) services(ctx context.Context, host, network string) []place {
	if network != "" {
		return []place{{network: network, name: records[network] + host}}
	}
	var out []place
	for _, r := range n.pointers(ctx, host) {
		t := map[string]string{"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS"}[strings.ToUpper(r.Service)]
		if t != "" && strings.EqualFold(r.Flags, "s") {
			out = append(out, place{network: t, name: strings.TrimSuffix(r.Replacement, ".")})
		}
	}
	if len(out) == 0 {
		for _, t := range []string{"UDP", "TCP"} {
			out = append(out, place{network: t, name: records[t] + host})
		}
	}
	return out
}

// service are the places of an SRV record (RFC 2782).
func (n names) service(ctx context.Context, network, name string) []place {
	_, all, err := n.resolver().LookupSRV(ctx, "", "", name)
	if err != nil {
		return nil
	}
	var out []place
	for _, r := range all {
		if r.Target == "." || r.Target == "" {
			continue // RFC 2782: decidedly not there
		}
		p := place{network: network, name: strings.TrimSuffix(r.Target, "."), priority: int(r.Priority), weight: max(int(r.Weight), 1)}
		if at, err := n.host(ctx, p, int(r.Port)); err == nil {
			out = append(out, at...)
		}
	}
	return out[:min(len(out), mostPlaces)]
}

// host are the addresses of a name; over TLS one is enough, for it is called by
// its name.
func (n names) host(ctx context.Context, p place, port int) ([]place, error) {
	hosts, err := n.resolver().LookupNetIP(ctx, "ip", p.name)
	if err != nil || len(hosts) == 0 {
		return nil, errors.Join(fmt.Errorf("%s has no address", p.name), err)
	}
	var out []place
	for _, h := range hosts[:min(len(hosts), mostPlaces)] {
		p.addr = netip.AddrPortFrom(h.Unmap(), uint16(port))
		out = append(out, p)
	}
	slices.SortStableFunc(out, func(a, b place) int { return a.addr.Addr().Compare(b.addr.Addr()) })
	return out, nil
}

// resolver is the library's, for what it knows: addresses and SRV.
func (n names) resolver() *net.Resolver {
	if n.server == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, n.server)
	}}
}

// pointers are a domain's NAPTR records (RFC 3403) in the order in which they are
// to be followed; none, if there are none or nobody answers.
func (n names) pointers(ctx context.Context, host string) []*dns.NAPTR {
	servers := []string{n.server}
	if n.server == "" {
		c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil
		}
		servers = servers[:0]
		for _, s := range c.Servers {
			servers = append(servers, net.JoinHostPort(s, c.Port))
		}
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(host), dns.TypeNAPTR)
	q.SetEdns0(1232, false)
	for _, server := range servers {
		client := &dns.Client{Timeout: resolveLimit / 4}
		answer, _, err := client.ExchangeContext(ctx, q, server)
		if err == nil && answer.Truncated {
			client.Net = "tcp"
			answer, _, err = client.ExchangeContext(ctx, q, server)
		}
		if err != nil {
			continue
		}
		var out []*dns.NAPTR
		for _, r := range answer.Answer {
			if p, ok := r.(*dns.NAPTR); ok {
				out = append(out, p)
			}
		}
		slices.SortStableFunc(out, func(a, b *dns.NAPTR) int {
			return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Preference, b.Preference))
		})
		return out
	}
	return nil
}
