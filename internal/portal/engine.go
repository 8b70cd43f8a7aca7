package portal

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"

	"github.com/coder/websocket"
)

// TunnelPath is where an engine from elsewhere comes to the portal.
const TunnelPath = "/leafnode"

// maxEngines bounds the tunnels that stand at once; a site has one, and for a
// moment another.
const maxEngines = 256

// engine takes an engine's tunnel. Who it is it proves inside.
func (p *Portal) engine(w http.ResponseWriter, r *http.Request) {
	if p.engines.Add(1) > maxEngines {
		p.engines.Add(-1)
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	defer p.engines.Add(-1)
	if r.Header.Get("Origin") != "" { // a browser's
		http.Error(w, "this is for engines", http.StatusForbidden)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	p.wg.Add(1)
	defer p.wg.Done()
	p.o.Engine(websocket.NetConn(p.ctx, ws, websocket.MessageBinary))
}

// maxAddresses bounds the addresses that one message of a page is searched for.
const maxAddresses = 32

// addresses are those that a page's message names as its own: a candidate's
// (RFC 8839 §5.1), or those of a description's candidates.
func addresses(b []byte) []netip.Addr {
	var m struct{ Type, Candidate, SDP string }
	if json.Unmarshal(b, &m) != nil {
		return nil
	}
	var out []netip.Addr
	take := func(candidate string) {
		// candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT ...
		f := strings.Fields(candidate)
		if len(f) < 6 || len(out) >= maxAddresses {
			return
		}
		if a, err := netip.ParseAddr(f[4]); err == nil {
			out = append(out, a.Unmap())
		}
	}
	take(m.Candidate)
	for line := range strings.Lines(m.SDP) {
		if c, ok := strings.CutPrefix(line, "a=candidate:"); ok {
			take(c)
		}
	}
	return out
}
