package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sipbridge/sipbridge/internal/demo"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sip"
)

var demoCommand = &cli.Command{
	Name: "demo", Usage: "try it on this machine: a gateway, a demo hospital and a patient's link to click",
	Action: func(*cli.Context) error {
		state, err := os.MkdirTemp("", "sipbridge-demo-")
		if err != nil {
			return err
		}
		defer func() {
			if err := os.RemoveAll(state); err != nil {
				fmt.Fprintln(os.Stderr, "sipbridge:", err)
			}
		}()
		cfg := demoConfig(state)
		p := check(&cfg, panics{})
		log := slog.New(&lines{w: os.Stdout})
		g, err := start(cfg, p, log)
		if err != nil {
			return err
		}
		board, err := startSwitchboard(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			g.close()
			return err
		}
		_, token, err := g.book.Create("sip:1000@demo.hospital", "Demo Patient", nil, 12*time.Hour)
		if err != nil {
			return err
		}
		fmt.Printf("\n  The patient's link:  %s\n\n  Open it in a browser on this machine, allow the microphone and choose Join.\n"+
			"  Press digits to hear them told back, 5 for an echo, 9 to be called back.\n  Ctrl-C ends the demo.\n\n", g.link(token))
		return untilSignal(func() { fmt.Println("\n  Ending every call …") }, func(ctx context.Context, d time.Duration) error {
			err := g.stop(ctx, d)
			board()
			return err
		}, 0)
	},
}

// panics is for a configuration of our own: a fault in it is a bug.
type panics struct{}

func (panics) Fault(what, _ string, _ int, path ...any) {
	panic(fmt.Sprint("demo configuration: ", path, ": ", what))
}

// demoRoutes lead patients to the switchboard and the switchboard to patients.
var demoRoutes = []policy.Route{
	{Name: "patients reach the switchboard", When: `call.source == "browser"`, To: []string{"trunk:switchboard"}},
	{Name: "the switchboard reaches patients", When: `call.source == "switchboard" && call.to.user.matches("^7[0-9]{6}$")`, To: []string{"visit"}},
}

func demoConfig(state string) Configuration {
	cfg := defaults()
	cfg.Site, cfg.State = "demo", state
	cfg.SIP.Listen = []string{"udp://127.0.0.1:" + freePort("udp", 15060)}
	cfg.Media.WebRTCPort, _ = strconv.Atoi(freePort("udp", 18443))
	cfg.Portal.Listen = "127.0.0.1:" + freePort("tcp", 8080)
	cfg.Portal.PublicURL = "http://" + cfg.Portal.Listen
	cfg.Admin.Listen = "127.0.0.1:" + freePort("tcp", 9090)
	cfg.Trunks = map[string]sip.Trunk{"switchboard": {Address: "sip:127.0.0.1:" + freePort("udp", 15070)}}
	cfg.Routes = demoRoutes
	return cfg
}

// freePort is the wished port, or any that is free.
func freePort(network string, wish int) string {
	for _, port := range []int{wish, 0} {
		if network == "udp" {
			if c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err == nil {
				defer c.Close()
				return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
			}
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			defer l.Close()
			return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		}
	}
	return strconv.Itoa(wish)
}

// startSwitchboard runs the demo hospital: a SIP user agent of its own, with its
// own socket, that knows the gateway only as a trunk.
func startSwitchboard(cfg Configuration, log *slog.Logger) (stop func(), err error) {
	loops, err := media.NewLoops(media.Expedited)
	if err != nil {
		return nil, err
	}
	pool, err := media.NewPool(loops, 32000, 32999, media.Rest)
	if err != nil {
		return nil, err
	}
	at := strings.TrimPrefix(cfg.Trunks["switchboard"].Address, "sip:")
	board := &demo.Switchboard{Target: policy.Target{Kind: "trunk", Name: "gateway"}, Log: log}
	ua, err := sip.NewServer(sip.Options{
		Config: sip.Config{Listen: []string{"udp://" + at}},
		Trunks: map[string]sip.Trunk{"gateway": {Address: "sip:" + strings.TrimPrefix(cfg.SIP.Listen[0], "udp://")}},
		Endpoint: func(_ sip.Trunk, listen netip.Addr) (media.Endpoint, error) {
			return media.NewPlain(media.PlainConfig{Pool: pool, Listen: listen, Codecs: []string{"G722", "PCMA", "PCMU"}, Events: true, Log: log})
		},
		Handle: board.Handle, Ledger: noLedger{}, Log: log,
	})
	if err != nil {
		return nil, err
	}
	board.Back = ua
	return func() {
		ua.Close()
		loops.Close()
	}, nil
}

// noLedger is for a user agent that nobody restarts.
type noLedger struct{}

func (noLedger) Open(sip.DialogState) {}
func (noLedger) Close(string, string) {}

// lines is a log for people: one line a life event, without addresses.
type lines struct {
	mu sync.Mutex // guards w
	w  io.Writer
	as []slog.Attr
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("  " + r.Time.Format("15:04:05") + "  ")
	text := r.Message
	attrs := l.as
	r.Attrs(func(a slog.Attr) bool { attrs = append(attrs[:len(attrs):len(attrs)], a); return true })
	fmt.Fprintf(&b, "%-16s", text)
	for _, a := range attrs {
		if a.Key == "session" || a.Value.String() == "" {
			continue
		}
		fmt.Fprintf(&b, "  %s %v", a.Key, a.Value)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintln(l.w, b.String())
	return err
}

func (l *lines) WithAttrs(as []slog.Attr) slog.Handler {
	return &lines{w: l.w, as: append(l.as[:len(l.as):len(l.as)], as...)}
}
func (l *lines) WithGroup(string) slog.Handler { return l }
