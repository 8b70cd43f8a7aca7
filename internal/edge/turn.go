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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

// TURN is the relay for browsers that cannot reach our media port (RFC 8656).
type TURN struct {
	UDP        int        `yaml:"udp" doc:"The UDP port of the relay. 0: only the portal's TCP port, by TCP and TLS." default:"3478"`
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
)

// Server is one relay as a browser is told of it (RTCIceServer).
type Server struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// RelayOptions is what the relay needs from its surroundings.
type RelayOptions struct {
	Config TURN
	Edge   *Edge
	Port   int                               // the edge's, as browsers see it
	Host   string                            // by which browsers reach us
	Ports  [2]int                            // the range of relay_ports; both 0: no relay of our own
	Listen netip.Addr                        // our address
	Public netip.Addr                        // what a 1:1 NAT makes of it; zero: there is none
	Own    map[netip.AddrPort]netip.AddrPort // our media: as browsers are told, and where it is
	Valid  func(visit string) bool           // whether a visit may still use the relay
}

// Relay lends browsers an address near us, for packets to and from our own media
// and nothing else: it is no way into the hospital.
type Relay struct {
	o      RelayOptions
	secret []byte
	outer  [][]byte // secrets of the external ones
	srv    *turn.Server

	mu     sync.Mutex // guards visits
	visits map[string]int

	Allocations atomic.Int64  // addresses that are lent
	Refused     atomic.Uint64 // requests without valid credentials
	Dropped     atomic.Uint64 // packets to or from where nobody may be reached
}

// NewRelay begins to relay.
func NewRelay(o RelayOptions) (*Relay, error) {
	r := &Relay{o: o, secret: make([]byte, 20), visits: map[string]int{}}
	rand.Read(r.secret)
	for _, x := range o.Config.External {
		s, err := x.secret()
		if err != nil {
			return nil, fmt.Errorf("turn: %s: %w", x.URL, err)
		}
		r.outer = append(r.outer, s)
	}
	if o.Ports[1] == 0 {
		return r, nil
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
	var err error
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

// Servers is what a visit's page is told, until then.
func (r *Relay) Servers(visit string, until time.Time) []Server {
	var out []Server
	user := strconv.FormatInt(until.Unix(), 10) + ":" + visit
	if r.srv != nil {
		at := func(port int) string { return net.JoinHostPort(r.o.Host, strconv.Itoa(port)) }
		var urls []string
		if r.o.Config.UDP > 0 {
			urls = append(urls, "turn:"+at(r.o.Config.UDP)+"?transport=udp")
		}
		if r.o.Edge.Secure() { // what lets plain TURN through lets TLS through, too
			urls = append(urls, "turns:"+at(r.o.Port)+"?transport=tcp")
		} else {
			urls = append(urls, "turn:"+at(r.o.Port)+"?transport=tcp")
		}
		out = append(out, Server{urls, user, password(r.secret, user)})
	}
	for i, x := range r.o.Config.External {
		if r.outer[i] == nil {
			out = append(out, Server{URLs: []string{x.URL}})
			continue
		}
		out = append(out, Server{[]string{x.URL}, user, password(r.outer[i], user)})
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
	until, visit, ok := strings.Cut(a.Username, ":")
	seconds, err := strconv.ParseInt(until, 10, 64)
	if !ok || err != nil || a.Method == stun.MethodAllocate && (time.Now().Unix() > seconds || !r.o.Valid(visit)) {
		r.Refused.Add(1)
		return "", nil, false
	}
	return visit, turn.GenerateAuthKey(a.Username, realm, password(r.secret, a.Username)), true
}

// quota reports whether a user may have one more address.
func (r *Relay) quota(user, _ string, _ net.Addr) bool {
	if _, visit, ok := strings.Cut(user, ":"); ok {
		user = visit
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.visits[user] < mostOfVisit
}

func (r *Relay) lent(_, _ net.Addr, _, visit, _ string, _ net.Addr, _ int) {
	r.Allocations.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.visits[visit]++
}

func (r *Relay) returned(_, _ net.Addr, _, visit, _ string) {
	r.Allocations.Add(-1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.visits[visit]--; r.visits[visit] <= 0 {
		delete(r.visits, visit)
	}
}

// permits reports whether anything at an address may be reached; where exactly is
// judged for each packet.
func (r *Relay) permits(_ net.Addr, ip net.IP) bool {
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
	return a == r.address()
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
