package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipbridge/sipbridge/internal/admin"
	"github.com/sipbridge/sipbridge/internal/bus"
	"github.com/sipbridge/sipbridge/internal/edge"
	"github.com/sipbridge/sipbridge/internal/invite"
	"github.com/sipbridge/sipbridge/internal/portal"
	"github.com/sipbridge/sipbridge/web"
)

// face is what patients meet: a port, its certificate, the relay and the page. A
// portal that stands apart is a face and the bus.
type face struct {
	cfg    Configuration
	log    *slog.Logger
	shown  edge.Certificates // ours; nil: none
	edge   *edge.Edge        // nil: the portal is elsewhere
	relay  *edge.Relay
	portal *portal.Portal
	admin  *admin.Server
	down   []func() // what is open, to be closed in reverse
}

func (f *face) opened(close func()) { f.down = append(f.down, close) }

func (f *face) close() {
	for i := len(f.down) - 1; i >= 0; i-- {
		f.down[i]()
	}
	f.down = nil
}

// certify gets our certificate, if there is to be one.
func (f *face) certify() (err error) {
	page, _ := portalListener(&f.cfg)
	if f.shown, err = f.cfg.TLS.Open(publicHost(&f.cfg), page, filepath.Join(f.cfg.State, "acme"), f.log); err != nil {
		return err
	}
	if f.shown != nil {
		f.opened(f.shown.Close)
	}
	return nil
}

// listen opens the port.
func (f *face) listen() (err error) {
	page, plain := portalListener(&f.cfg)
	shown := f.shown
	if plain {
		shown = nil
	}
	if f.edge, err = edge.Open(page, shown, f.log); err != nil {
		return err
	}
	f.opened(func() { f.edge.Close() })
	return nil
}

// publicPort is the TCP port as patients see it.
func (f *face) publicPort() int {
	u, err := url.Parse(f.cfg.Portal.PublicURL)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(u.Port())
	switch {
	case err == nil:
		return port
	case u.Scheme == "http":
		return 80
	}
	return 443
}

// straight reports whether what patients send by TCP comes to us as they sent it: no
// proxy ends TLS before us.
func (f *face) straight() bool {
	return f.edge.Secure() == strings.HasPrefix(f.cfg.Portal.PublicURL, "https:")
}

// reached reports whether patients come to our own port: no proxy and no other port
// stands before it.
func (f *face) reached() bool {
	at, ok := f.edge.Addr().(*net.TCPAddr)
	return ok && at.Port == f.publicPort() && f.straight()
}

// lend opens the relay. own is our media, if it is in this process.
func (f *face) lend(own map[netip.AddrPort]netip.AddrPort, valid func(visit string) bool) (err error) {
	wan := f.cfg.Interfaces[f.cfg.Media.Interface]
	o := edge.RelayOptions{Config: f.cfg.TURN, Edge: f.edge, Listen: address(wan.Address), Public: address(wan.Public), Own: own, Host: publicHost(&f.cfg), Valid: valid}
	if f.straight() {
		o.Port = f.publicPort()
	}
	if f.cfg.TURN.RelayPorts != "" {
		if o.Ports[0], o.Ports[1], err = portRange(f.cfg.TURN.RelayPorts); err != nil {
			return err
		}
	}
	if f.relay, err = edge.NewRelay(o); err != nil {
		return err
	}
	f.opened(func() { f.relay.Close() })
	return nil
}

// serve opens the page.
func (f *face) serve(o portal.Options) (err error) {
	o.Config, o.Listener, o.Page, o.Hash, o.Log = f.cfg.Portal, f.edge.HTTP(), web.Files, invite.Hash, f.log
	if f.portal, err = portal.New(o); err != nil {
		return err
	}
	f.opened(func() { f.portal.Close() })
	return nil
}

// outpost is a portal that stands apart from its engines.
type outpost struct {
	face
	hub     *bus.Hub
	serving map[string]func() // ends the relay's answers to a site
}

// startOutpost opens it. On an error all that was opened is closed again.
func startOutpost(cfg Configuration, log *slog.Logger) (*outpost, error) {
	o := &outpost{face: face{cfg: cfg, log: log}, serving: map[string]func(){}}
	if err := o.open(); err != nil {
		o.close()
		return nil, err
	}
	log.Info("ready", "role", cfg.Role, "portal", o.edge.Addr().String(), "admin", o.admin.Addr().String())
	return o, nil
}

func (o *outpost) open() (err error) {
	if o.hub, err = bus.OpenHub(keysOf(o.cfg.Sites), o.log); err != nil {
		return err
	}
	o.opened(o.hub.Close)
	if err := o.certify(); err != nil {
		return err
	}
	if err := o.listen(); err != nil {
		return err
	}
	if err := o.lend(nil, nil); err != nil {
		return err
	}
	if err := o.lendTo(o.hub.Sites()); err != nil {
		return err
	}
	if err := o.serve(portal.Options{Wire: o.hub.Wire,
		Seen: func(site, visit string, at netip.Addr) { o.relay.Seen(edge.Name(site, visit), at) },
		Engine: func(c net.Conn) {
			if err := o.hub.Carry(c); err != nil {
				o.log.Warn("an engine was not let in", "error", err)
			}
		}}); err != nil {
		return err
	}
	token, err := adminToken(o.cfg)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	o.register(metrics)
	metrics.MustRegister(engines{o})
	if o.admin, err = admin.New(admin.Options{Config: o.cfg.Admin, Token: token, Ready: func() error { return nil }, Metrics: metrics, Log: o.log}); err != nil {
		return err
	}
	o.opened(func() { o.admin.Close() })
	o.follow(o.reload)
	return nil
}

// keysOf are the keys of sites' engines.
func keysOf(sites map[string]Site) map[string]string {
	keys := map[string]string{}
	for name, s := range sites {
		keys[name] = s.Key
	}
	return keys
}

// lendTo has the relay answer these sites and no other.
func (o *outpost) lendTo(sites []string) error {
	for name, stop := range o.serving {
		if !slices.Contains(sites, name) {
			stop()
			delete(o.serving, name)
		}
	}
	for _, name := range sites {
		if o.serving[name] != nil {
			continue
		}
		stop, err := o.relay.Serve(name, o.hub.Wire(name), o.log)
		if err != nil {
			return err
		}
		o.serving[name] = stop
	}
	return nil
}

// reload takes the sites that the file names now.
func (o *outpost) reload(by string) {
	cfg, err := again(o.cfg.file)
	if err == nil && cfg.Role != rolePortal {
		err = errors.New("this is no portal's file any more")
	}
	if err == nil {
		err = o.hub.Admit(keysOf(cfg.Sites))
	}
	if err != nil {
		o.log.Error("the sites stay as they were", "by", by, "error", err)
		return
	}
	if err := o.lendTo(o.hub.Sites()); err != nil {
		o.log.Error("a site is lent no addresses", "by", by, "error", err)
	}
	o.log.Info("the sites were taken", "by", by, "sites", o.hub.Sites())
	before := o.cfg
	before.Sites, cfg.Sites = nil, nil
	if !reflect.DeepEqual(before, cfg) {
		o.log.Warn("what changed beside the sites wants a restart", "file", o.cfg.file)
	}
}

// stop closes everything: calls are the engines'.
func (o *outpost) stop(context.Context, time.Duration) error {
	o.log.Info("shutting down")
	o.close()
	o.log.Info("stopped")
	return nil
}
