// Package portal serves the patient's page and relays its WebSocket to the bus.
// It keeps nothing and knows no visit: the engine on the other side of the bus
// verifies each link.
package portal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/sipbridge/sipbridge/internal/bus"
)

// Config says where the page is served.
type Config struct {
	Listen    string `yaml:"listen" doc:"The one TCP port for patients: their page over HTTPS, if tls names a certificate, and the relay of turn. http:// before an address of loopback is for a TLS proxy that stands in front." default:"127.0.0.1:8443"`
	PublicURL string `yaml:"public_url" doc:"The address patients' links begin with." example:"https://visit.hospital.example"`
}

// Bounds on what a page may do.
const (
	maxMessage  = 64 << 10 // bytes: an SDP with many candidates is a tenth of it
	maxRate     = 50       // messages a second, on average
	maxBurst    = 200
	maxSockets  = 10_000
	helloWithin = 10 * time.Second
	silentFor   = 20 * time.Second // the page pings every 5 s
	badLinks    = 20               // wrong links a minute that an address is told of
)

// Options is what the portal needs from its surroundings.
type Options struct {
	Config   Config
	Listener net.Listener                // the portal closes it
	Wire     func(site string) *bus.Wire // nil: the site is none of ours
	Page     fs.FS
	Hash     func(token string) string
	// Seen is told the addresses by which a page may be reached; nil: nobody wants
	// to know.
	Seen func(site, visit string, at netip.Addr)
	// Engine is handed the tunnel of an engine that comes from elsewhere, and
	// returns at its end; nil: none may come.
	Engine func(net.Conn)
	Log    *slog.Logger
}

// Portal is the web server for patients.
type Portal struct {
	o       Options
	srv     *http.Server
	origin  string
	wg      sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
	epochs  atomic.Uint64
	sockets atomic.Int64
	engines crowd
	probes  crowd

	// BadLinks counts WebSockets cut off for guessing.
	BadLinks atomic.Uint64

	mu      sync.Mutex // guards guesses
	guesses map[netip.Addr]*guess
}

type guess struct {
	n     int
	since time.Time
}

// New begins to serve.
func New(o Options) (*Portal, error) {
	u, err := url.Parse(o.Config.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("portal: public_url: %w", err)
	}
	p := &Portal{o: o, origin: u.Scheme + "://" + u.Host, guesses: map[netip.Addr]*guess{},
		engines: crowd{most: maxEngines, each: maxEnginesFrom}, probes: crowd{most: maxProbes, each: maxProbesBy}}
	p.epochs.Store(uint64(time.Now().UnixNano()))
	p.ctx, p.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v/{token}", p.page)
	mux.HandleFunc("GET /v/{token}/signal", p.signal)
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", p.headers(http.FileServerFS(o.Page))))
	mux.HandleFunc("GET "+ProbePath, p.probe)
	if o.Engine != nil {
		mux.HandleFunc("GET "+TunnelPath, p.engine)
	}
	p.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)}
	p.wg.Go(func() {
		if err := p.srv.Serve(o.Listener); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			o.Log.Error("portal ended", "error", err)
		}
	})
	return p, nil
}

// Close ends every connection.
func (p *Portal) Close() error {
	p.cancel()
	err := p.srv.Close()
	p.wg.Wait()
	return err
}

// policy lets the page load its own files and nothing else.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; media-src 'self' blob: mediastream:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (p *Portal) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Permissions-Policy", "camera=(self), microphone=(self)")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// page is the same for every link: opening one consumes nothing and tells
// nothing.
func (p *Portal) page(w http.ResponseWriter, r *http.Request) {
	p.headers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, p.o.Page, "index.html")
	})).ServeHTTP(w, r)
}

// signal relays one WebSocket.
func (p *Portal) signal(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	site, _, ok := strings.Cut(token, ".")
	if !ok || len(token) > 256 || !plain(site) {
		http.Error(w, "no such link", http.StatusNotFound)
		return
	}
	wire := p.o.Wire(site)
	if o := r.Header.Get("Origin"); o != "" && o != p.origin && o != "http://"+r.Host && o != "https://"+r.Host {
		http.Error(w, "wrong origin", http.StatusForbidden)
		return
	}
	from := source(r)
	if p.sockets.Add(1) > maxSockets {
		p.sockets.Add(-1)
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	defer p.sockets.Add(-1)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // the origin was checked above
	if err != nil {
		return
	}
	p.wg.Add(1)
	defer p.wg.Done()
	defer ws.CloseNow()
	ws.SetReadLimit(maxMessage)
	p.relay(attachment{ws: ws, wire: wire, site: site, visit: p.o.Hash(token), from: from})
}

// attachment is one WebSocket of a page.
type attachment struct {
	ws          *websocket.Conn
	wire        *bus.Wire // nil: there is no such site
	site, visit string
	from        netip.Addr
}

// What the portal says by itself; all else comes from an engine.
var (
	expired = []byte(`{"type":"error","code":"expired"}`)
	away    = []byte(`{"type":"error","code":"away"}`)
	gone    = []byte(`{"type":"gone"}`)
)

// relay carries messages both ways until either side ends.
func (p *Portal) relay(a attachment) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	down := make(chan []byte, maxBurst)
	p.wg.Go(func() {
		defer cancel()
		p.tell(ctx, a, down)
	})
	if a.wire == nil {
		down <- expired
		read, done := context.WithTimeout(ctx, silentFor)
		defer done()
		_, _, _ = a.ws.Read(read) // until the page, or whoever it is, has gone
		return
	}
	epoch := strconv.FormatUint(p.epochs.Add(1), 10)
	say := func(b []byte) {
		select {
		case down <- b:
		default:
			cancel() // a page that does not read is let go; it comes back and is told all it missed
		}
	}
	stop, err := a.wire.Listen(bus.Down(a.site, a.visit), func(m bus.Message) {
		if m.Epoch == epoch {
			say(m.Data)
		}
	})
	if err != nil {
		p.o.Log.Error("portal: listen", "error", err)
		return
	}
	defer stop()
	up, err := a.wire.Caller(func() { say(away) })
	if err != nil {
		p.o.Log.Error("portal: listen", "error", err)
		return
	}
	defer up.Close()
	subject := bus.Up(a.site, a.visit)
	p.hear(ctx, a, func(b []byte) error { return up.Send(subject, epoch, b) })
	if err := a.wire.Send(subject, epoch, gone); err != nil {
		p.o.Log.Debug("portal: gone", "error", err)
	}
}

// tell writes to a page until ctx ends, or there is nothing more to say.
func (p *Portal) tell(ctx context.Context, a attachment, down <-chan []byte) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-down:
			if strings.Contains(string(b), `"code":"expired"`) && p.guessed(a.from) {
				p.BadLinks.Add(1)
				return // one who guesses is told nothing; others at that address are served
			}
			write, done := context.WithTimeout(ctx, helloWithin)
			err := a.ws.Write(write, websocket.MessageText, b)
			done()
			if err != nil {
				return
			}
			if string(b) == string(away) {
				a.ws.Close(websocket.StatusTryAgainLater, "no engine")
				return
			}
		}
	}
}

// hear reads from a page until it ends or does what a page does not.
func (p *Portal) hear(ctx context.Context, a attachment, up func([]byte) error) {
	tokens, last := float64(maxBurst), time.Now()
	for {
		read, done := context.WithTimeout(ctx, silentFor)
		kind, b, err := a.ws.Read(read)
		done()
		if err != nil {
			return
		}
		t := time.Now()
		tokens = min(tokens+t.Sub(last).Seconds()*maxRate, maxBurst) - 1
		last = t
		if tokens < 0 || kind != websocket.MessageText {
			a.ws.Close(websocket.StatusPolicyViolation, "too much")
			return
		}
		if p.o.Seen != nil {
			p.see(a, b)
		}
		if err := up(b); err != nil {
			p.o.Log.Error("portal: send", "error", err)
			return
		}
	}
}

// see tells where a message says that its page may be reached, and from where it came:
// a browser that hides its addresses is behind that one.
func (p *Portal) see(a attachment, b []byte) {
	all := addresses(b)
	for _, at := range all {
		p.o.Seen(a.site, a.visit, at)
	}
	if len(all) > 0 {
		p.o.Seen(a.site, a.visit, a.from)
	}
}

// guessed counts a wrong link by address and tells whether there were too many.
func (p *Portal) guessed(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.guesses[a]
	if g == nil || time.Since(g.since) > time.Minute {
		if len(p.guesses) > maxSockets {
			clear(p.guesses)
		}
		g = &guess{since: time.Now()}
		p.guesses[a] = g
	}
	g.n++
	return g.n > badLinks
}

func source(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// plain reports whether a site may stand in a subject.
func plain(site string) bool {
	if site == "" || len(site) > 63 {
		return false
	}
	return strings.Trim(site, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
