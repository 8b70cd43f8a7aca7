// Package edge is the portal's one TCP port, where a page over HTTPS, its
// WebSocket, sound by TCP (ICE, RFC 6544) and the relay for closed networks (TURN,
// RFC 8656) are told apart by their first bytes, and what belongs to that port:
// certificates and the relay.
package edge

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"
)

const (
	// sayWithin is how long a connection may take to show what it is.
	sayWithin = 10 * time.Second
	// mostUnsaid bounds the connections that have not.
	mostUnsaid = 1024
	// magic is the cookie of every STUN message (RFC 8489 §5).
	magic = 0x2112A442
	// framed is how long the frame before each message of ICE is (RFC 4571 §2), and
	// mostAsked bounds the first one.
	framed, mostAsked = 2, 1024
)

// Edge shares one TCP port. HTTP and Relay are its parts.
type Edge struct {
	ln     net.Listener
	tls    *tls.Config // nil: no certificate, HTTP alone
	http   *lane
	relay  *lane
	ice    *lane
	admit  atomic.Pointer[func(ufrag string) bool] // who may use ice; nil: nobody
	log    *slog.Logger
	unsaid chan struct{}
	wg     sync.WaitGroup

	// Unknown counts connections that said nothing in time, nothing that is known,
	// or came while too many others had not said anything.
	Unknown atomic.Uint64
}

// Open listens. Without certificates the port speaks plain HTTP, else HTTPS.
func Open(listen string, certificates Certificates, log *slog.Logger) (*Edge, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	e := &Edge{ln: ln, log: log, http: newLane(ln.Addr()), relay: newLane(ln.Addr()), ice: newLane(ln.Addr()), unsaid: make(chan struct{}, mostUnsaid)}
	if certificates != nil {
		e.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificates.Get,
			NextProtos: []string{"h2", "http/1.1", "stun.turn", acmeALPN}} // RFC 7443, RFC 8737
	}
	e.wg.Go(e.accept)
	return e, nil
}

// Addr is where the port is.
func (e *Edge) Addr() net.Addr { return e.ln.Addr() }

// Secure reports whether the port speaks TLS.
func (e *Edge) Secure() bool { return e.tls != nil }

// HTTP is the port as a web server sees it.
func (e *Edge) HTTP() net.Listener { return e.http }

// Relay is the port as a relay sees it: TURN over TCP and over TLS.
func (e *Edge) Relay() net.Listener { return e.relay }

// ICE is the port as browsers' media sees it: each connection begins with a check
// (RFC 8445 §7) of a session whose username fragment admit knows.
func (e *Edge) ICE(admit func(ufrag string) bool) net.Listener {
	e.admit.Store(&admit)
	return e.ice
}

// Close ends the port and waits for who has not said what it is.
func (e *Edge) Close() error {
	err := e.ln.Close()
	e.http.Close()
	e.relay.Close()
	e.ice.Close()
	e.wg.Wait()
	return err
}

func (e *Edge) accept() {
	for {
		c, err := e.ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptors left, say
			e.log.Warn("edge: accept", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		select {
		case e.unsaid <- struct{}{}:
			e.wg.Go(func() {
				defer func() { <-e.unsaid }()
				e.sort(c)
			})
		default:
			e.Unknown.Add(1)
			c.Close()
		}
	}
}

// sort hands a connection to the part that it wants.
func (e *Edge) sort(raw net.Conn) {
	stop := e.http.onClose(func() { raw.Close() })
	defer stop()
	if err := raw.SetDeadline(time.Now().Add(sayWithin)); err != nil {
		raw.Close()
		return
	}
	to, c := e.lane(raw)
	if to == nil || c.SetDeadline(time.Time{}) != nil {
		e.Unknown.Add(1)
		c.Close()
		return
	}
	to.give(c)
}

// notTLS is what who speaks plain HTTP to a port of TLS is told.
const notTLS = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nThis port speaks HTTPS.\n"

// lane finds who is meant; nil: nobody. The connection to go on with has lost
// nothing of what was looked at.
func (e *Edge) lane(c net.Conn) (*lane, net.Conn) {
	seen := &looked{Conn: c, r: bufio.NewReader(c)}
	first, err := seen.r.Peek(1)
	switch {
	case err != nil:
		return nil, c
	case first[0] == 0x16 && e.tls != nil: // a handshake record (RFC 8446 §5.1)
		return e.inside(tls.Server(seen, e.tls))
	case saysSTUN(seen.r, 0):
		return e.relay, seen
	case saysSTUN(seen.r, framed):
		if e.admits(seen.r) {
			return e.ice, seen
		}
		return nil, seen
	case e.tls == nil:
		return e.http, seen
	}
	_, _ = io.WriteString(c, notTLS)
	return nil, c
}

// inside looks into TLS.
func (e *Edge) inside(c *tls.Conn) (*lane, net.Conn) {
	if err := c.Handshake(); err != nil {
		e.log.Debug("edge: TLS", "error", err)
		return nil, c
	}
	switch c.ConnectionState().NegotiatedProtocol {
	case "h2", "http/1.1":
		return e.http, c
	case "stun.turn":
		return e.relay, c
	case acmeALPN: // the handshake was all that the authority wanted
		return nil, c
	}
	seen := &looked{Conn: c, r: bufio.NewReader(c)} // browsers' TURN says nothing by ALPN
	if saysSTUN(seen.r, 0) {
		return e.relay, seen
	}
	if seen.r.Buffered() == 0 {
		return nil, seen
	}
	return e.http, seen
}

// saysSTUN reports whether a connection begins with a STUN message, after so many
// bytes of a frame.
func saysSTUN(r *bufio.Reader, frame int) bool {
	first, err := r.Peek(1)
	if err != nil || first[0] > 3 { // no HTTP method begins so
		return false
	}
	b, err := r.Peek(frame + 8)
	return err == nil && binary.BigEndian.Uint32(b[frame+4:]) == magic
}

// admits reports whether a connection begins with a check of a session that is ours.
func (e *Edge) admits(r *bufio.Reader) bool {
	admit := e.admit.Load()
	head, err := r.Peek(framed)
	if admit == nil || err != nil {
		return false
	}
	size := int(binary.BigEndian.Uint16(head))
	if size > mostAsked {
		return false
	}
	whole, err := r.Peek(framed + size)
	if err != nil {
		return false
	}
	check := stun.New()
	if _, err := check.Write(whole[framed:]); err != nil || check.Type != stun.BindingRequest {
		return false
	}
	var user stun.Username
	if user.GetFrom(check) != nil {
		return false
	}
	ours, _, _ := strings.Cut(user.String(), ":") // RFC 8445 §7.2.2
	return (*admit)(ours)
}

// looked is a connection whose beginning was looked at.
type looked struct {
	net.Conn
	r *bufio.Reader
}

func (l *looked) Read(b []byte) (int, error) { return l.r.Read(b) }

// lane is a listener for those connections that are its own.
type lane struct {
	addr net.Addr
	in   chan net.Conn
	over chan struct{}
	once sync.Once

	mu      sync.Mutex // guards waiting
	waiting map[*func()]struct{}
}

func newLane(a net.Addr) *lane {
	return &lane{addr: a, in: make(chan net.Conn), over: make(chan struct{}), waiting: map[*func()]struct{}{}}
}

// onClose has f called by Close, unless stop is called before.
func (l *lane) onClose(f func()) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.over:
		f()
		return func() {}
	default:
	}
	l.waiting[&f] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, &f)
	}
}

func (l *lane) give(c net.Conn) {
	select {
	case l.in <- c:
	case <-l.over:
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *lane) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *lane) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		close(l.over)
		for f := range l.waiting {
			(*f)()
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *lane) Addr() net.Addr { return l.addr }
