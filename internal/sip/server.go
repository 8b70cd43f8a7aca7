// Package sip is the SIP front: it turns dialogs with PBXs, telephones and rooms
// (RFC 3261) into call legs. sipgo parses, carries and retransmits; dialogs,
// their offers and answers and their ends are ours.
package sip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo"
	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
)

// allow is what we answer other than with 405 (RFC 3261 §20.5).
const allow = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REFER, UPDATE, PRACK, NOTIFY"

// supported is what a peer may require of us (RFC 3261 §20.37).
const supported = "timer, 100rel, replaces, record-aware"

// timeT1 is RFC 3261's round-trip estimate; 64 times it bounds every transaction.
const (
	timeT1 = 500 * time.Millisecond
	timeT2 = 4 * time.Second
)

// readBuffer is what a UDP listener may queue, in bytes: a second of INVITEs.
const readBuffer = 4 << 20

// globals guards what sipgo keeps once for the process.
var globals sync.Once

// Options is what the front needs from its surroundings.
type Options struct {
	Config      Config
	Site        string // what names us to those that we ask for a digest
	Trunks      map[string]Trunk
	Rooms       map[string]Room
	Interfaces  map[string]netip.Addr // by name
	Endpoint    func(trunk Trunk, listen netip.Addr) (media.Endpoint, error)
	Handle      func(leg call.Leg, said call.Facts)
	Replace     func(leg, old call.Leg) bool // has a leg take another's place; false: that is in no call
	Urgent      func(policy.Query) bool      // a call that no limit holds up
	Far         func(leg call.Leg) call.Leg  // whom a leg talks to; nil: nobody
	Ledger      Ledger
	Bindings    Bindings                // nil: rooms are forgotten
	Certificate func() *tls.Certificate // ours, as it is now; nil: we have none
	Log         *slog.Logger
}

// Ledger keeps what a dialog needs to be ended by a gateway that was started
// anew.
type Ledger interface {
	Open(DialogState)
	Close(callID, localTag string)
}

// DialogState is a dialog as it is left in the ledger (RFC 3261 §12).
type DialogState struct {
	CallID, LocalTag, RemoteTag string
	LocalURI, RemoteURI         string
	Target                      string
	Routes                      []string
	CSeq                        uint32
	Trunk                       string
	Network                     string // "UDP", "TCP" or "TLS"
	Connection                  string // where a room, or a peer over TCP or TLS, is reached, whatever its Contact says
}

// Server is the SIP front.
type Server struct {
	o      Options
	ua     *sipgo.UserAgent
	srv    *sipgo.Server
	trunks map[string]*trunk // rooms, too
	names  names
	parser *sipmsg.Parser
	nonces *nonces
	guard  *guard
	guests guests

	register sync.Mutex     // guards the bindings of rooms
	enrolled sync.WaitGroup // our registrations
	closing  chan struct{}  // closed when we take our leave
	refused  counts
	since    time.Time

	socks  []sock
	wg     sync.WaitGroup // listeners and handlers of our own
	tx     sync.WaitGroup // transactions that outlive their leg
	cancel context.CancelFunc
	ctx    context.Context

	mu     sync.Mutex // guards legs and closing
	legs   map[string]*Leg
	closed bool

	strangers atomic.Uint64
	malformed atomic.Uint64
}

// trunk is a PBX, or a room that registers with us.
type trunk struct {
	Trunk
	name    string
	room    bool
	accepts []netip.Prefix
	from    netip.Addr // our address on its interface; invalid: the one that leads there
	numeric bool       // no address of it is a name
	laid    atomic.Pointer[layout]

	secret    string         // the password
	authority []byte         // ca_file
	pool      *x509.CertPool // who may have signed its certificate; nil: whoever the system trusts
	limits    limits

	bindings []Binding // of a room; guarded by the server's register
}

type sock struct {
	Listener
	udp *net.UDPConn
	tcp net.Listener
}

// NewServer opens the listeners and begins to serve.
func NewServer(o Options) (*Server, error) {
	s := &Server{o: o, trunks: map[string]*trunk{}, legs: map[string]*Leg{}, names: names{o.Config.Nameserver}, parser: sipmsg.NewParser(),
		nonces: newNonces(), guard: newGuard(), guests: guests{at: map[netip.AddrPort]guest{}}, closing: make(chan struct{}), since: time.Now()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	globals.Do(func() {
		sipmsg.UDPMTUSize = 65507 + 200 // sipgo refuses longer datagrams, responses too
		sipmsg.SetDefaultLogger(slog.New(quiet{o.Log.Handler()}))
	})
	for name, t := range o.Trunks {
		tr, err := newTrunk(name, t, o.Interfaces[t.Interface])
		if err != nil {
			return nil, err
		}
		if err := tr.lay(s.ctx, s.names); err != nil {
			o.Log.Warn("a trunk's name cannot be looked up", "trunk", name, "error", err)
		}
		s.trunks[name] = tr
	}
	if err := s.openRooms(); err != nil {
		return nil, err
	}
	var err error
	forget()
	s.ua, err = sipgo.NewUA(sipgo.WithUserAgent("sipbridge"), sipgo.WithUserAgenTLSConfig(s.asClient()), sipgo.WithUserAgentDNSResolver(s.names.resolver()),
		sipgo.WithUserAgentTransportLayerOptions(sipmsg.WithTransportLayerReadFilter(s.filter)),
		sipgo.WithUserAgentTransactionLayerOptions(sipmsg.WithTransactionLayerUnhandledResponseHandler(s.stray)))
	if err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	if s.srv, err = sipgo.NewServer(s.ua); err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	for method, handle := range map[sipmsg.RequestMethod]sipgo.RequestHandler{
		sipmsg.INVITE: s.onInvite, sipmsg.ACK: s.onAck, sipmsg.BYE: s.onBye, sipmsg.CANCEL: s.onCancel, sipmsg.INFO: s.onInfo,
		sipmsg.REFER: s.onRefer, sipmsg.UPDATE: s.onUpdate, sipmsg.PRACK: s.onPrack, sipmsg.OPTIONS: s.onOptions, sipmsg.NOTIFY: s.onNotify,
	} {
		s.srv.OnRequest(method, s.known(handle))
	}
	s.srv.OnRequest(sipmsg.REGISTER, s.onRegister)
	s.srv.OnNoRoute(s.known(s.onOther))
	for _, l := range o.Config.Listen {
		if err := s.listen(l); err != nil {
			s.Close()
			return nil, err
		}
	}
	for _, t := range s.trunks {
		if !t.room {
			s.wg.Go(func() { s.look(t) })
		}
	}
	s.recallRooms()
	s.wg.Go(s.expireAll)
	return s, nil
}

func newTrunk(name string, t Trunk, from netip.Addr) (*trunk, error) {
	tr := &trunk{Trunk: t, name: name, from: from, numeric: true, limits: newLimits(t)}
	var err error
	if tr.pool, tr.authority, err = t.authorities(); err != nil {
		return nil, fmt.Errorf("sip: trunk %s: %w", name, err)
	}
	if tr.secret, err = t.password(); err != nil {
		return nil, fmt.Errorf("sip: trunk %s: %w", name, err)
	}
	for _, a := range t.addresses() {
		u, err := parseURI(a.Address)
		if err != nil {
			return nil, fmt.Errorf("sip: trunk %s: %w", name, err)
		}
		_, err = netip.ParseAddr(strings.Trim(u.Host, "[]"))
		tr.numeric = tr.numeric && err == nil
	}
	for _, n := range t.AcceptFrom {
		p, err := parsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("sip: trunk %s: %w", name, err)
		}
		tr.accepts = append(tr.accepts, p)
	}
	return tr, nil
}

// defaultPort is RFC 3261 §19.1.2's.
func defaultPort(network string) int {
	if network == "TLS" {
		return 5061
	}
	return 5060
}

func (s *Server) listen(l string) error {
	li, err := ParseListener(l)
	if err != nil {
		return fmt.Errorf("sip: %w", err)
	}
	family := "4"
	if li.Addr.Addr().Is6() {
		family = "6"
	}
	k := sock{Listener: li}
	switch li.Network {
	case "udp":
		k.udp, err = net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(li.Addr))
		if err == nil {
			if err := k.udp.SetReadBuffer(readBuffer); err != nil {
				s.o.Log.Warn("sip listener keeps the system's read buffer", "error", err)
			}
			k.Addr = netip.AddrPortFrom(li.Addr.Addr(), uint16(k.udp.LocalAddr().(*net.UDPAddr).Port))
			s.wg.Go(func() { s.served(s.srv.ServeUDP(k.udp)) })
		}
	case "tcp":
		k.tcp, err = net.Listen("tcp"+family, li.Addr.String())
		if err == nil {
			k.Addr = netip.AddrPortFrom(li.Addr.Addr(), uint16(k.tcp.Addr().(*net.TCPAddr).Port))
			s.wg.Go(func() { s.served(s.srv.ServeTCP(framer{door{k.tcp, s}, s})) })
		}
	case "tls":
		if s.o.Certificate == nil {
			return fmt.Errorf("sip: listen on %s: no certificate; write tls.cert_file and tls.key_file", l)
		}
		k.tcp, err = net.Listen("tcp"+family, li.Addr.String())
		if err == nil {
			k.Addr = netip.AddrPortFrom(li.Addr.Addr(), uint16(k.tcp.Addr().(*net.TCPAddr).Port))
			s.wg.Go(func() { s.served(s.srv.ServeTLS(framer{tls.NewListener(door{k.tcp, s}, s.asServer()), s})) })
		}
	}
	if err != nil {
		return fmt.Errorf("sip: listen on %s: %w", l, err)
	}
	s.socks = append(s.socks, k)
	s.o.Log.Info("sip listens", "on", l)
	return nil
}

func (s *Server) served(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		s.o.Log.Error("sip listener ended", "error", err)
	}
}

// filter drops what comes from no trunk and no room before a byte of it is
// parsed: a scanner gets no answer, unless it is to get one. What cannot be read is
// answered; over a stream the connection has seen to that.
func (s *Server) filter(p sipmsg.TransportReadProps, data []byte) ([]byte, error) {
	from, _ := netip.ParseAddrPort(p.RemoteAddr.String()) // nowhere, if it cannot be read: a stranger
	if p.Transport != "UDP" {
		if _, guest := s.guests.find(from); guest || s.match(from.Addr()) != nil || s.o.Config.tells() {
			return data, nil
		}
		return nil, nil
	}
	if !s.heard(from, false, data) {
		return nil, nil
	}
	data, wrong := s.inspect(s.unquirk(from.Addr(), data))
	if wrong.status == 0 {
		return data, nil
	}
	s.malformed.Add(1)
	if b := complain(data, wrong); b != nil {
		s.throw(p.LocalAddr, from, b)
	}
	return nil, nil
}

// heard reports whether a source is listened to, before its message is parsed.
func (s *Server) heard(from netip.AddrPort, stream bool, data []byte) bool {
	if s.match(from.Addr()) != nil {
		return true
	}
	g, known := s.guests.find(from)
	if known && g.room != nil {
		return true
	}
	if s.rooms() {
		switch reason := s.guard.asks(from.Addr()); {
		case reason != "":
			s.refused.add(reason)
			return false
		case known || s.looks(data):
			if stream {
				s.guests.admit(from, nil, time.Now().Add(64*timeT1)) // what follows on the connection belongs to it
			}
			return true
		}
	}
	s.strangers.Add(1)
	s.refused.add("stranger")
	return s.o.Config.tells()
}

// throw sends a response past all transactions, to where its request came from.
func (s *Server) throw(local net.Addr, to netip.AddrPort, b []byte) {
	for _, k := range s.socks {
		if k.udp != nil && k.udp.LocalAddr().String() == local.String() {
			if _, err := k.udp.WriteToUDPAddrPort(b, to); err != nil {
				s.o.Log.Debug("complaint not sent", "error", err)
			}
			return
		}
	}
}

// match finds the trunk a source belongs to: the longest prefix wins.
func (s *Server) match(a netip.Addr) *trunk {
	a = a.Unmap()
	var best *trunk
	bits := -1
	for _, t := range s.trunks {
		l := t.laid.Load()
		if l == nil {
			continue
		}
		for _, n := range l.nets {
			if n.Contains(a) && (n.Bits() > bits || n.Bits() == bits && t.name < best.name) {
				best, bits = t, n.Bits()
			}
		}
	}
	return best
}

// Strangers is how many datagrams and reads came from no trunk.
func (s *Server) Strangers() uint64 { return s.strangers.Load() }

// Refused is how many were held off before they were anybody's: strangers, who ask
// too often (rate), who are banned, who have too many connections, and whose
// credentials are wrong.
func (s *Server) Refused() map[string]uint64 { return s.refused.all() }

// Malformed is how many requests were refused with 400.
func (s *Server) Malformed() uint64 { return s.malformed.Load() }

// Dialogs is the number of legs that are not over.
func (s *Server) Dialogs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.legs)
}

// local is the address we name on a way, and the listener to send from:
// the one on the trunk's interface, or on the way that leads there.
func (s *Server) local(hop *hop, network string) (netip.AddrPort, *sock) {
	addr := hop.from
	var k *sock
	for i := range s.socks {
		c := &s.socks[i]
		if !strings.EqualFold(c.Network, network) || c.Addr.Addr().Is4() != hop.addr.Addr().Is4() {
			continue
		}
		if k == nil || c.Addr.Addr() == addr || k.Addr.Addr() != addr && c.Addr.Addr().IsUnspecified() {
			k = c
		}
	}
	if k == nil {
		return netip.AddrPortFrom(addr, 5060), nil
	}
	if a := k.Addr.Addr(); !a.IsUnspecified() {
		addr = a
	}
	return netip.AddrPortFrom(addr, k.Addr.Port()), k
}

// towards is our address on the way to another; no packet is sent.
func towards(a netip.AddrPort) netip.Addr {
	c, err := net.Dial("udp", a.String())
	if err != nil {
		return netip.IPv4Unspecified()
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

func key(callID, localTag string) string { return callID + "\x00" + localTag }

func (s *Server) add(l *Leg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.legs[key(l.callID, l.localTag)] = l
	return true
}

func (s *Server) remove(l *Leg) {
	s.mu.Lock()
	delete(s.legs, key(l.callID, l.localTag))
	s.mu.Unlock()
	s.give(l.t)
	s.o.Ledger.Close(l.callID, l.localTag)
}

// find is the leg that an in-dialog request belongs to (RFC 3261 §12.2.2).
func (s *Server) find(req *sipmsg.Request) *Leg {
	to, id := req.To(), req.CallID()
	if to == nil || id == nil {
		return nil
	}
	tag, _ := to.Params.Get("tag")
	s.mu.Lock()
	l := s.legs[key(id.Value(), tag)]
	s.mu.Unlock()
	if l == nil || !l.isPeer(req) {
		return nil
	}
	return l
}

// Close closes the listeners after the last transaction, or when two seconds
// have gone by: every leg must have been hung up before.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		close(s.closing)
	}
	idle := make(chan struct{})
	go func() { s.tx.Wait(); s.enrolled.Wait(); close(idle) }() // ends with the last transaction
	select {
	case <-idle:
	case <-time.After(2 * time.Second):
	}
	s.cancel()
	for _, k := range s.socks {
		if k.udp != nil {
			k.udp.Close()
		}
		if k.tcp != nil {
			k.tcp.Close()
		}
	}
	err := s.ua.Close()
	s.enrolled.Wait()
	s.wg.Wait()
	return err
}

// quiet demotes what sipgo says to debug: its messages hold whole requests.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}
func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(n string) slog.Handler      { return quiet{q.Handler.WithGroup(n)} }
