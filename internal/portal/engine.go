package portal

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

// TunnelPath is where an engine from elsewhere comes to the portal.
const TunnelPath = "/leafnode"

// Bounds on the tunnels that stand at once: a site has one, and for a moment another;
// hospitals may share an address. Whoever holds all of an address's keeps no other
// address out.
const (
	maxEngines     = 1024
	maxEnginesFrom = 16
)

// crowd counts who is there, by address.
type crowd struct {
	most, each int // at once, and of one address

	mu   sync.Mutex // guards here and all
	here map[netip.Addr]int
	all  int
}

// enter reports whether there is room for one more.
func (c *crowd) enter(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.here[a] >= c.each {
		return false
	}
	if c.here == nil {
		c.here = map[netip.Addr]int{}
	}
	c.here[a]++
	c.all++
	return true
}

func (c *crowd) leave(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.here[a]--; c.here[a] == 0 {
		delete(c.here, a)
	}
}

// engine takes an engine's tunnel. Who it is it proves inside.
func (p *Portal) engine(w http.ResponseWriter, r *http.Request) {
	from := source(r)
	if !p.engines.enter(from) {
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	defer p.engines.leave(from)
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
