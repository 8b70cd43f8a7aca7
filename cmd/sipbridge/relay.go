package main

import (
	"github.com/sipbridge/sipbridge/internal/browser"
	"github.com/sipbridge/sipbridge/internal/invite"
)

// relays are those of a visit: our own, or those of the portal that stands
// elsewhere. Without an answer of the portal's the visit goes on without any.
func (g *gateway) relays(inv invite.Invitation) (r browser.Relays) {
	if g.borrower == nil {
		r.Page, _ = g.relay.Servers(inv.Hash, inv.Expires)
		return r
	}
	var err error
	if r.Page, r.Own, err = g.borrower.Servers(inv.Hash, inv.Expires); err != nil {
		g.log.Warn("no relays", "visit", inv.ID, "error", err)
	}
	return r
}

// revoked is told of visits whose link is void before its time.
func (g *gateway) revoked(inv invite.Invitation) {
	if g.borrower == nil {
		return // the relay asks the book
	}
	if err := g.borrower.Revoke(inv.Hash); err != nil {
		g.log.Warn("the portal was not told of a link that is void", "visit", inv.ID, "error", err)
	}
}
