package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipbridge/sipbridge/internal/admin"
	"github.com/sipbridge/sipbridge/internal/announce"
	"github.com/sipbridge/sipbridge/internal/audit"
	"github.com/sipbridge/sipbridge/internal/browser"
	"github.com/sipbridge/sipbridge/internal/bus"
	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/edge"
	"github.com/sipbridge/sipbridge/internal/invite"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/portal"
	"github.com/sipbridge/sipbridge/internal/sip"
)

// gateway is everything wired together, or an engine: everything but the port that
// patients reach.
type gateway struct {
	face
	bus      *bus.Bus
	lines    *audit.Lines
	loops    *media.Loops
	pool     *media.Pool
	browsers *media.Browsers
	b2bua    *call.B2BUA
	quality  *quality
	sip      *sip.Server
	front    *browser.Front
	borrower *edge.Borrower // of an engine; nil: the relay is ours
	book     invite.Book
	policies policies
	draining atomic.Bool
}

// start opens the gateway. On an error all that was opened is closed again.
func start(cfg Configuration, p *policy.Policy, log *slog.Logger) (*gateway, error) {
	g := &gateway{face: face{cfg: cfg, log: log}}
	g.policies.now.Store(p)
	if err := g.open(); err != nil {
		g.close()
		return nil, err
	}
	at := cfg.Bus.URL
	if g.edge != nil {
		at = g.edge.Addr().String()
	}
	log.Info("ready", "site", cfg.Site, "portal", at, "admin", g.admin.Addr().String())
	return g, nil
}

// open opens room after room; what was opened is noted for close.
func (g *gateway) open() error {
	var way edge.Outward
	if g.cfg.Role == roleEngine {
		var err error
		if way, err = g.cfg.Bus.outward(); err != nil {
			return err
		}
	}
	for _, phase := range []func() error{
		func() error { return g.remember(way) },
		func() error { return g.sound(way) },
		g.certify, g.meet, g.decideBy, g.talk, g.show, g.administer,
	} {
		if err := phase(); err != nil {
			return err
		}
	}
	g.recover()
	return nil
}

// remember opens what outlives the process, and the bus with it; way is an engine's
// way out to its portal.
func (g *gateway) remember(way edge.Outward) (err error) {
	if err := os.MkdirAll(g.cfg.State, 0o700); err != nil {
		return err
	}
	if g.lines, err = audit.OpenLines(filepath.Join(g.cfg.State, "calls.jsonl")); err != nil {
		return err
	}
	g.opened(func() { g.lines.Close() })
	var leaf *bus.Leaf
	if g.cfg.Role == roleEngine {
		if leaf, err = g.cfg.Bus.leaf(way); err != nil {
			return err
		}
	}
	if g.bus, err = bus.Open(filepath.Join(g.cfg.State, "bus"), leaf, g.log); err != nil {
		return err
	}
	g.opened(g.bus.Close)
	g.book = invite.Book{Site: g.cfg.Site, Config: g.cfg.Visits, Store: g.bus.Visits(), Revoked: g.revoked}
	return nil
}

// sound opens what carries it.
func (g *gateway) sound(way edge.Outward) error {
	lo, hi, err := portRange(g.cfg.Media.RTPPorts)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		g.opened(collect())
	}
	if g.loops, err = media.NewLoops(g.cfg.Media.DSCP); err != nil {
		return err
	}
	g.opened(func() { g.loops.Close() })
	if g.pool, err = media.NewPool(g.loops, lo, hi, media.Rest); err != nil {
		return err
	}
	wan := g.cfg.Interfaces[g.cfg.Media.Interface]
	o := media.BrowsersConfig{Loops: g.loops, Port: g.cfg.Media.WebRTCPort, Listen: address(wan.Address), Public: address(wan.Public), ICE: g.cfg.Media.ICE, Log: g.log}
	if g.cfg.Role == roleEngine {
		o.Dialer = way
	}
	if g.browsers, err = media.NewBrowsers(o); err != nil {
		return err
	}
	g.opened(func() { g.browsers.Close() })
	return nil
}

// meet opens the port and the relay, or asks the portal elsewhere for its own.
func (g *gateway) meet() (err error) {
	if g.cfg.Role == roleEngine {
		if g.borrower, err = edge.NewBorrower(g.cfg.Site, g.bus.Wire); err != nil {
			return err
		}
		g.opened(g.borrower.Close)
		return nil
	}
	if err := g.listen(); err != nil {
		return err
	}
	if g.reached() {
		g.browsers.OverTCP(g.edge.ICE(g.browsers.Admit))
	}
	valid := func(visit string) bool { _, err := g.book.ByHash(visit); return err == nil }
	return g.lend(g.browsers.Addresses(), valid)
}

// decideBy puts the policy in force, and follows its file.
func (g *gateway) decideBy() error {
	g.policies.cfg, g.policies.log, g.policies.book.Store = g.cfg, g.log, g.bus.Policies()
	g.policies.note("the start")
	g.follow(func(by string) { _ = g.policies.Reload(by) }) // what fails is logged there
	return nil
}

// talk opens the fronts and what joins them.
func (g *gateway) talk() (err error) {
	cfg, log := g.cfg, g.log
	dialers := map[string]call.Dialer{}
	g.quality = newQuality()
	g.b2bua = call.New(call.Config{Site: cfg.Site, Decide: g.decide, Limits: func(number string) []policy.Limit { return g.policies.Current().Limits(number) }, Dialers: dialers,
		Full: g.loops.Full, Open: g.openCall, Record: g.record, Heard: g.quality.heard, Log: log})
	g.opened(measure(g.b2bua))
	if g.front, err = browser.New(browser.Options{Site: cfg.Site, Wire: g.bus.Wire, Invitations: g.book, Browsers: g.browsers,
		Handle: g.b2bua.Handle, Relays: g.relays, Emergency: func() map[string]string { return g.policies.Current().Text() }, Log: log}); err != nil {
		return err
	}
	g.opened(g.front.Close)
	interfaces := map[string]netip.Addr{}
	for name, i := range cfg.Interfaces {
		interfaces[name] = address(i.Address)
	}
	var certificate func() *tls.Certificate
	if g.shown != nil {
		certificate = g.shown.Own
	}
	if g.sip, err = sip.NewServer(sip.Options{Config: cfg.SIP, Site: cfg.Site, Trunks: cfg.Trunks, Rooms: cfg.Rooms, Interfaces: interfaces, Bindings: bindings{g.bus, log},
		Endpoint: g.endpoint, Handle: g.b2bua.Handle, Replace: g.b2bua.Replace, Far: g.b2bua.Far, Urgent: g.urgent, Ledger: ledger{g.bus}, Certificate: certificate, Log: log}); err != nil {
		return err
	}
	g.opened(func() { g.sip.Close() })
	recordings, err := announce.New(g.loops, cfg.Announcements)
	if err != nil {
		return err
	}
	dialers["trunk"], dialers["room"], dialers["visit"], dialers["announce"] = g.sip, g.sip, g.front, recordings
	return nil
}

// show opens the page, where it is not elsewhere.
func (g *gateway) show() error {
	if g.cfg.Role == roleEngine {
		return nil
	}
	return g.serve(portal.Options{Wire: func(site string) *bus.Wire {
		if site != g.cfg.Site {
			return nil
		}
		return g.bus.Wire
	}})
}

// stop refuses new calls, lets the others drain, ends them and closes all.
func (g *gateway) stop(ctx context.Context, drain time.Duration) error {
	g.draining.Store(true)
	g.log.Info("shutting down", "calls", len(g.b2bua.Calls()), "drain", drain.String())
	err := g.b2bua.Shutdown(ctx, drain)
	time.Sleep(lastWords)
	g.close()
	g.log.Info("stopped")
	return err
}

// lastWords is how long the pages have to hear that their calls ended.
const lastWords = 250 * time.Millisecond

func (g *gateway) urgent(q policy.Query) bool { return g.policies.Current().Urgent(q) }

func (g *gateway) decide(q policy.Query) policy.Decision {
	q.Trunks = g.trunk
	return g.policies.Current().Decide(q)
}

// trunk is what conditions may know of one.
func (g *gateway) trunk(name string) policy.Trunk {
	t, _ := g.sip.Trunk(name)
	up := slices.ContainsFunc(t.Targets, func(at sip.TargetState) bool { return at.State != sip.Down })
	return policy.Trunk{Up: up, Calls: t.Calls}
}

func (g *gateway) endpoint(t sip.Trunk, listen netip.Addr) (media.Endpoint, error) {
	return media.NewPlain(media.PlainConfig{Pool: g.pool, Listen: listen, Codecs: t.Codecs, Log: g.log,
		Events: t.DTMF != "info" && t.DTMF != "inband", Tones: t.DTMF == "inband" || t.DTMF == "auto",
		Hold: t.Hold, Event: uint8(t.EventPayload), PTime: t.PTime, SRTP: t.SRTP, Keys: t.SRTPKeys, Suites: t.SRTPSuites})
}

func (g *gateway) link(token string) string {
	base := strings.TrimSuffix(publicURL(&g.cfg), "/")
	if base == "" {
		base = "http://" + g.edge.Addr().String()
	}
	return base + "/v/" + token
}

func (g *gateway) administer() error {
	token, err := adminToken(g.cfg)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	g.register(metrics)
	g.admin, err = admin.New(admin.Options{Config: g.cfg.Admin, Token: token, B2BUA: g.b2bua, Invitations: g.book, Link: g.link,
		Policies: &g.policies, Trunks: g.trunks, Ready: g.ready, Metrics: metrics, Log: g.log})
	if err != nil {
		return err
	}
	g.opened(func() { g.admin.Close() })
	return nil
}

func (g *gateway) ready() error {
	if g.draining.Load() {
		return errors.New("shutting down")
	}
	return nil
}

// tokenVariable is the environment's way to give the bearer token.
const tokenVariable = "SIPBRIDGE_ADMIN_TOKEN"

// adminToken finds the bearer token, or makes one and keeps it in the state
// directory.
func adminToken(c Configuration) (string, error) {
	if t := os.Getenv(tokenVariable); t != "" {
		return t, nil
	}
	if c.Admin.TokenFile != "" {
		b, err := os.ReadFile(c.Admin.TokenFile)
		if err != nil {
			return "", fmt.Errorf("admin.token_file: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	secret := make([]byte, 16)
	rand.Read(secret)
	t := hex.EncodeToString(secret)
	return t, os.WriteFile(keptToken(c), []byte(t+"\n"), 0o600)
}

func keptToken(c Configuration) string { return filepath.Join(c.State, "admin.token") }

func address(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// trunks is what an administrator sees of them: a line for each address.
func (g *gateway) trunks() []admin.Trunk {
	out := []admin.Trunk{}
	for _, t := range g.sip.Trunks() {
		for _, at := range t.Targets {
			v := admin.Trunk{Name: t.Name, Address: at.Address, State: at.State, Since: at.Since, TripMS: at.RoundTrip.Seconds() * 1000, Enrolled: at.Enrolled}
			if !at.RestUntil.IsZero() {
				v.RestUntil = &at.RestUntil
			}
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b admin.Trunk) int { return strings.Compare(a.Name, b.Name) })
	return out
}
