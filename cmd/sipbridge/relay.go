package main

import (
	"net/url"
	"strconv"
	"time"

	"github.com/sipbridge/sipbridge/internal/browser"
	"github.com/sipbridge/sipbridge/internal/edge"
)

// lend opens the relay, if the file wants one.
func (g *gateway) lend(wan Interface) (err error) {
	o := edge.RelayOptions{Config: g.cfg.TURN, Edge: g.edge, Listen: address(wan.Address), Public: address(wan.Public), Own: g.browsers.Addresses(), Host: publicHost(&g.cfg),
		Valid: func(visit string) bool { _, err := g.book.ByID(visit); return err == nil }}
	if u, err := url.Parse(g.cfg.Portal.PublicURL); err == nil {
		if o.Port, err = strconv.Atoi(u.Port()); err != nil {
			o.Port = 443
			if u.Scheme == "http" {
				o.Port = 80
			}
		}
	}
	if g.cfg.TURN.RelayPorts != "" {
		if o.Ports[0], o.Ports[1], err = portRange(g.cfg.TURN.RelayPorts); err != nil {
			return err
		}
	}
	if g.relay, err = edge.NewRelay(o); err != nil {
		return err
	}
	g.opened(func() { g.relay.Close() })
	return nil
}

// relays is what a visit's page is told of them.
func (g *gateway) relays(visit string, until time.Time) []browser.ICEServer {
	var out []browser.ICEServer
	for _, s := range g.relay.Servers(visit, until) {
		out = append(out, browser.ICEServer(s))
	}
	return out
}
