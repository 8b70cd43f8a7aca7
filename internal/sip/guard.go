package sip

import (
	"bytes"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// A source that is not known yet may ask so often a second, and so often at once.
	strangerRate  = 10
	strangerBurst = 30
	// mostFailures in failureSpan bring a source a ban.
	mostFailures = 10
	failureSpan  = 5 * time.Minute
	banned       = 5 * time.Minute
	// mostSources bounds the sources that are remembered.
	mostSources = 8192
	// TCP connections of one source that is no trunk, and of all of those; how long
	// one may say nothing, and how long that of a room may.
	mostOfOne    = 16
	mostOfAll    = 1024
	idleStranger = 32 * time.Second
	idleRoom     = mostBinding + time.Minute
)

// guard holds off who is no trunk. A ban follows from wrong passwords alone, sent
// with a nonce that we gave to the very address: whoever forges its address never
// sees one, and cannot have another banned.
type guard struct {
	mu      sync.Mutex
	sources map[netip.Addr]*caller
	conns   map[netip.Addr]int
	open    int
}

// caller is what is known of a source that is no trunk.
type caller struct {
	pace   *rate.Limiter
	last   time.Time
	failed int
	since  time.Time // of the first failure
	until  time.Time // it is banned
}

func newGuard() *guard {
	return &guard{sources: map[netip.Addr]*caller{}, conns: map[netip.Addr]int{}}
}

// group is whom an address stands for: of IPv6 a whole network is one household.
func group(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// of needs mu.
func (g *guard) of(a netip.Addr) *caller {
	a = group(a)
	c := g.sources[a]
	if c == nil {
		if len(g.sources) >= mostSources {
			g.forget()
		}
		c = &caller{pace: rate.NewLimiter(strangerRate, strangerBurst)}
		g.sources[a] = c
	}
	c.last = time.Now()
	return c
}

// forget makes room: those that have been quiet for a while, else any that is not
// banned. It needs mu.
func (g *guard) forget() {
	now := time.Now()
	maps.DeleteFunc(g.sources, func(_ netip.Addr, c *caller) bool { return now.Sub(c.last) > failureSpan && now.After(c.until) })
	for a, c := range g.sources {
		if len(g.sources) < mostSources {
			return
		}
		if now.After(c.until) {
			delete(g.sources, a)
		}
	}
}

// asks takes one more request of a source, and says for what reason it gets no
// answer; "": it gets one.
func (g *guard) asks(a netip.Addr) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.of(a)
	switch {
	case time.Now().Before(c.until):
		return "banned"
	case !c.pace.Allow():
		return "rate"
	}
	return ""
}

// failed takes a wrong password.
func (g *guard) failed(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, now := g.of(a), time.Now()
	if now.Sub(c.since) > failureSpan {
		c.failed, c.since = 0, now
	}
	if c.failed++; c.failed >= mostFailures {
		c.until, c.failed = now.Add(banned), 0
	}
}

// proved takes a right one.
func (g *guard) proved(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.of(a).failed = 0
}

// ---- connections ----

// door bounds the connections of who is no trunk: their number, and how long one
// may say nothing.
type door struct {
	net.Listener
	s *Server
}

// Accept passes over who may not come in.
func (d door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
		if d.s.match(from.Addr()) != nil {
			return c, nil
		}
		if !d.s.rooms() {
			d.s.strangers.Add(1)
			if !d.s.o.Config.tells() {
				c.Close()
				continue
			}
		}
		if g := d.s.guard; g.enter(from.Addr()) {
			return &visitor{Conn: c, s: d.s, from: from, leave: sync.OnceFunc(func() { g.left(from.Addr()) })}, nil
		}
		d.s.refused.add("connections")
		c.Close()
	}
}

func (g *guard) enter(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	a = group(a)
	if g.open >= mostOfAll || g.conns[a] >= mostOfOne {
		return false
	}
	g.open++
	g.conns[a]++
	return true
}

func (g *guard) left(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a = group(a)
	g.open--
	if g.conns[a]--; g.conns[a] <= 0 {
		delete(g.conns, a)
	}
}

// visitor is a connection of who is no trunk.
type visitor struct {
	net.Conn
	s     *Server
	from  netip.AddrPort
	leave func()
	limit time.Time // what whoever reads has set; zero: nothing
}

// SetReadDeadline implements net.Conn.
func (v *visitor) SetReadDeadline(t time.Time) error {
	v.limit = t
	return nil
}

// Read gives up when nothing comes for too long.
func (v *visitor) Read(b []byte) (int, error) {
	idle := idleStranger
	if g, ok := v.s.guests.find(v.from); ok && g.room != nil {
		idle = idleRoom
	}
	until := time.Now().Add(idle)
	if !v.limit.IsZero() && v.limit.Before(until) {
		until = v.limit
	}
	if err := v.Conn.SetReadDeadline(until); err != nil {
		return 0, err
	}
	return v.Conn.Read(b)
}

// Close closes the connection and makes room for another.
func (v *visitor) Close() error {
	v.leave()
	return v.Conn.Close()
}

// ---- what is read before it is parsed ----

// looks reports whether a first read could be the request of a room: a REGISTER,
// or another whose From names one. It reads no further than it must.
func (s *Server) looks(data []byte) bool {
	if bytes.HasPrefix(data, []byte("REGISTER ")) {
		return true
	}
	line, rest, ok := bytes.Cut(data, []byte("\r\n"))
	if !ok || !bytes.HasSuffix(line, []byte(" SIP/2.0")) {
		return false
	}
	for range 64 {
		if line, rest, ok = bytes.Cut(rest, []byte("\r\n")); !ok || len(line) == 0 {
			return false
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if name = bytes.TrimSpace(name); !bytes.EqualFold(name, []byte("from")) && !bytes.EqualFold(name, []byte("f")) {
			continue
		}
		if _, after, found := bytes.Cut(value, []byte("sip:")); found {
			user, _, _ := bytes.Cut(after, []byte("@"))
			return s.trunks["room:"+string(user)] != nil
		}
		return false
	}
	return false
}

// counts are refusals by reason.
type counts struct {
	mu sync.Mutex
	by map[string]uint64
}

func (c *counts) add(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]uint64{}
	}
	c.by[reason]++
}

func (c *counts) all() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.by)
}
