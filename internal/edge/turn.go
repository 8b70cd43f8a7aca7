package edge

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what TURN's long-term credentials are made of
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"

	"github.com/sipbridge/sipbridge/internal/media"
)

// TURN is the relay for browsers that cannot reach our media port (RFC 8656).
type TURN struct {
	UDP        int        `yaml:"udp" doc:"The UDP port of the relay. 0: only the portal's TCP port, by TCP and TLS." default:"3478"`
	Peers      []string   `yaml:"peers" doc:"For a relay that stands apart from its engines: networks of private addresses in which patients may be. Others the relay reaches where a visit says that its patient is; of private ones none but these, [10.20.0.0/16] say."`
	RelayPorts string     `yaml:"relay_ports" doc:"The UDP ports that it relays from, up to two for each browser in a call: 49152-49999, say. Empty: no relay of our own."`
	External   []External `yaml:"external" doc:"Other servers that browsers are told of."`
}

// External is a server of somebody else's, coturn say.
type External struct {
	URL        string `yaml:"url" doc:"Where it is: turns:HOST:443?transport=tcp, or stun:HOST:PORT." example:"stun:stun.hospital.example:3478"`
	SecretFile string `yaml:"secret_file" doc:"The file that holds a turn: or turns: server's shared secret (coturn's static-auth-secret) and nothing else."`
}

// Check says what is wrong with an external server.
func (x External) Check() error {
	u, err := stun.ParseURI(x.URL)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no relay", x.URL)
	case u.Scheme == stun.SchemeTypeSTUN || u.Scheme == stun.SchemeTypeSTUNS:
		return nil
	}
	_, err = x.secret()
	return err
}

// secret is what its passwords are made with; nil: it wants none.
func (x External) secret() ([]byte, error) {
	if strings.HasPrefix(x.URL, "stun") {
		return nil, nil
	}
	b, err := os.ReadFile(x.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("its secret: %w", err)
	}
	return []byte(strings.TrimSpace(string(b))), nil
}

const (
	realm = "sipbridge"
	// mostOfVisit bounds the relay addresses of one visit: a page asks for one for
	// each of its networks and ways to us, and may be loaded again.
	mostOfVisit = 24
	// idleRelay is how long a connection to the relay may be silent: longer than an
	// allocation lasts unrefreshed (RFC 8656 §3.2).
	idleRelay = 11 * time.Minute
	// mostSeen bounds the addresses at which one visit's patient may be.
	mostSeen = 16
	// sweepEvery is how often visits that are over are forgotten.
	sweepEvery = time.Minute
	// byEngine ends the user name of an engine. Only an engine is relayed to where its
	// patient may be: what a page lends reaches us, and nobody else.
	byEngine = ":engine"
)

// RelayOptions is what the relay needs from its surroundings.
type RelayOptions struct {
	Config TURN
	Edge   *Edge
	Port   int                               // the edge's, as browsers see it; 0: only UDP comes through to us
	Host   string                            // by which browsers reach us
	Ports  [2]int                            // the range of relay_ports; both 0: no relay of our own
	Listen netip.Addr                        // our address
	Public netip.Addr                        // what a 1:1 NAT makes of it; zero: there is none
	Own    map[netip.AddrPort]netip.AddrPort // our media, if it is in this process: as browsers are told, and where it is
	Valid  func(visit string) bool           // whether a visit may still use the relay; nil: any that was told of it and is not revoked
}

// Relay lends an address near us: to browsers, for packets to and from our own
// media or an engine's lent address, and nothing else; to engines, for packets to
// and from their visit's patient, too. It is no way into the hospital.
type Relay struct {
	o      RelayOptions
	secret []byte
	outer  [][]byte // secrets of the external ones
	peers  []netip.Prefix
	here   map[netip.Addr]bool // this machine's addresses
	srv    *turn.Server

	mu      sync.Mutex // guards all below
	visits  map[string]*visit
	clients map[string]*visit // by whom an address is lent to: engines' alone
	swept   time.Time

	Allocations atomic.Int64  // addresses that are lent
	Refused     atomic.Uint64 // requests without valid credentials
	Dropped     atomic.Uint64 // packets to or from where nobody may be reached
}

// visit is what is known of one visit.
type visit struct {
	until time.Time // of its credentials; zero: it was revoked
	lent  int
	seen  atomic.Pointer[[]netip.Addr] // where its patient may be; what it points to does not change
}

func (v *visit) reaches(a netip.Addr) bool {
	seen := v.seen.Load()
	return seen != nil && slices.Contains(*seen, a)
}

// NewRelay begins to relay.
func NewRelay(o RelayOptions) (*Relay, error) {
	r := &Relay{o: o, secret: make([]byte, 20), here: map[netip.Addr]bool{}, visits: map[string]*visit{}, clients: map[string]*visit{}}
	rand.Read(r.secret)
	for _, x := range o.Config.External {
		s, err := x.secret()
		if err != nil {
			return nil, fmt.Errorf("turn: %s: %w", x.URL, err)
		}
		r.outer = append(r.outer, s)
	}
	for _, p := range o.Config.Peers {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return nil, fmt.Errorf("turn: %w", err)
		}
		r.peers = append(r.peers, prefix)
	}
	if o.Ports[1] == 0 {
		return r, nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("turn: %w", err)
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			r.here[p.Addr().Unmap()] = true
		}
	}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	lend := lender{r}
	cfg := turn.ServerConfig{Realm: realm, AuthHandler: r.authorize, QuotaHandler: r.quota, LoggerFactory: quiet,
		EventHandler: turn.EventHandler{OnAllocationCreated: r.lent, OnAllocationDeleted: r.returned,
			OnAuth: func(_, _ net.Addr, _, _, _, _ string, ok bool) {
				if !ok {
					r.Refused.Add(1)
				}
			}},
		ListenerConfigs: []turn.ListenerConfig{{Listener: patient{o.Edge.Relay()}, RelayAddressGenerator: lend, PermissionHandler: r.permits}}}
	if o.Config.UDP > 0 {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(o.Listen, uint16(o.Config.UDP))))
		if err != nil {
			return nil, fmt.Errorf("turn: %w", err)
		}
		cfg.PacketConnConfigs = []turn.PacketConnConfig{{PacketConn: conn, RelayAddressGenerator: lend, PermissionHandler: r.permits}}
	}
	if r.srv, err = turn.NewServer(cfg); err != nil {
		return nil, fmt.Errorf("turn: %w", err)
	}
	return r, nil
}

// Close ends the relay.
func (r *Relay) Close() error {
	if r.srv == nil {
		return nil
	}
	return r.srv.Close()
}

// Servers is what a visit's page is told, and its engine, until then.
func (r *Relay) Servers(name string, until time.Time) (page, engine []media.ICEServer) {
	r.mu.Lock()
	if time.Since(r.swept) > sweepEvery {
		r.swept = time.Now()
		for name, v := range r.visits {
			if v.lent == 0 && r.swept.After(v.until) {
				delete(r.visits, name)
			}
		}
	}
	if r.o.Valid == nil { // else whoever knows is asked, and nothing of a visit that is over stays
		r.visit(name).until = until
	}
	r.mu.Unlock()
	user := strconv.FormatInt(until.Unix(), 10) + ":" + name
	return r.servers(user), r.servers(user + byEngine)
}

// visit is what is known of one. It needs mu.
func (r *Relay) visit(name string) *visit {
	v := r.visits[name]
	if v == nil {
		v = new(visit)
		r.visits[name] = v
	}
	return v
}

// Revoke lets a visit have no more addresses.
func (r *Relay) Revoke(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.visits[name]; v != nil {
		v.until = time.Time{}
	}
}

// revokeAll does so for every visit whose name begins so.
func (r *Relay) revokeAll(prefix string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, v := range r.visits {
		if strings.HasPrefix(name, prefix) {
			v.until = time.Time{}
		}
	}
}

// shared is the space between a carrier and its customers (RFC 6598): nobody's public
// address.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// Seen notes where a visit's patient may be. Of addresses that are not the whole
// internet's it takes those of turn.peers alone, and never ours: a page whose address we
// lent is no neighbour of what else stands behind a NAT with us.
func (r *Relay) Seen(name string, at netip.Addr) {
	if !at.IsGlobalUnicast() || r.here[at] || at == r.address() || (at.IsPrivate() || shared.Contains(at)) && !slices.ContainsFunc(r.peers, func(p netip.Prefix) bool { return p.Contains(at) }) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.visits[name]
	if v == nil || v.reaches(at) {
		return
	}
	var seen []netip.Addr
	if old := v.seen.Load(); old != nil {
		seen = slices.Clone(*old)
	}
	if len(seen) >= mostSeen { // a patient that changes its network all the time keeps the latest
		seen = seen[1:]
	}
	seen = append(seen, at)
	v.seen.Store(&seen)
}

func (r *Relay) servers(user string) []media.ICEServer {
	var out []media.ICEServer
	if r.srv != nil {
		at := func(port int) string { return net.JoinHostPort(r.o.Host, strconv.Itoa(port)) }
		var urls []string
		if r.o.Config.UDP > 0 {
			urls = append(urls, "turn:"+at(r.o.Config.UDP)+"?transport=udp")
		}
		switch {
		case r.o.Port == 0:
		case r.o.Edge.Secure(): // what lets plain TURN through lets TLS through, too
			urls = append(urls, "turns:"+at(r.o.Port)+"?transport=tcp")
		default:
			urls = append(urls, "turn:"+at(r.o.Port)+"?transport=tcp")
		}
		if len(urls) > 0 {
			out = append(out, media.ICEServer{URLs: urls, Username: user, Credential: password(r.secret, user)})
		}
	}
	for i, x := range r.o.Config.External {
		if r.outer[i] == nil {
			out = append(out, media.ICEServer{URLs: []string{x.URL}})
			continue
		}
		out = append(out, media.ICEServer{URLs: []string{x.URL}, Username: user, Credential: password(r.outer[i], user)})
	}
	return out
}

// password is what a user name stands for (the scheme of
// draft-uberti-behave-turn-rest-00, which coturn has, too).
func password(secret []byte, user string) string {
	h := hmac.New(sha1.New, secret)
	h.Write([]byte(user))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// authorize is asked for every request. Only to get an address must the
// credentials be of a visit that goes on: a call is not cut off by their end.
func (r *Relay) authorize(a *turn.RequestAttributes) (user string, key []byte, ok bool) {
	until, user, ok := strings.Cut(a.Username, ":")
	seconds, err := strconv.ParseInt(until, 10, 64)
	if !ok || err != nil || a.Method == stun.MethodAllocate && (time.Now().Unix() > seconds || !r.valid(strings.TrimSuffix(user, byEngine))) {
		r.Refused.Add(1)
		return "", nil, false
	}
	return user, turn.GenerateAuthKey(a.Username, realm, password(r.secret, a.Username)), true
}

func (r *Relay) valid(name string) bool {
	if r.o.Valid != nil {
		return r.o.Valid(name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.visits[name]
	return v != nil && time.Now().Before(v.until)
}

// whose is the visit behind a user's name, as pion tells it: with its expiry before
// it or without.
func whose(user string) (name string, engine bool) {
	if until, rest, ok := strings.Cut(user, ":"); ok && strings.Trim(until, "0123456789") == "" {
		user = rest
	}
	return strings.CutSuffix(user, byEngine)
}

// quota reports whether a user may have one more address.
func (r *Relay) quota(user, _ string, _ net.Addr) bool {
	name, _ := whose(user)
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.visits[name]
	return v == nil || v.lent < mostOfVisit
}

func clientOf(a net.Addr) string { return a.Network() + a.String() }

func (r *Relay) lent(from, _ net.Addr, _, user, _ string, _ net.Addr, _ int) {
	r.Allocations.Add(1)
	name, engine := whose(user)
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.visit(name)
	v.lent++
	if engine {
		r.clients[clientOf(from)] = v
	}
}

func (r *Relay) returned(from, _ net.Addr, _, user, _ string) {
	r.Allocations.Add(-1)
	name, _ := whose(user)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.clients, clientOf(from))
	r.visit(name).lent--
}

// permits reports whether a client may reach anything at an address; where exactly
// is judged for each packet.
func (r *Relay) permits(from net.Addr, ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if !ok {
		return false
	}
	for told := range r.o.Own {
		if told.Addr() == a {
			return true
		}
	}
	if a == r.address() {
		return true
	}
	r.mu.Lock()
	v := r.clients[clientOf(from)]
	r.mu.Unlock()
	return v != nil && v.reaches(a)
}

// address is by which our relay addresses are known.
func (r *Relay) address() netip.Addr {
	if r.o.Public.IsValid() {
		return r.o.Public
	}
	return r.o.Listen
}

// patient gives each connection to the relay some time to say something again.
type patient struct{ net.Listener }

// Accept implements net.Listener.
func (p patient) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return timed{c}, nil
}

type timed struct{ net.Conn }

func (t timed) Read(b []byte) (int, error) {
	if err := t.SetReadDeadline(time.Now().Add(idleRelay)); err != nil {
		return 0, err
	}
	return t.Conn.Read(b)
}
