package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sipbridge/sipbridge/internal/admin"
	"github.com/sipbridge/sipbridge/internal/load"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sip"
)

// loadCommand is for benchmarks and tests: many telephones, many patients.
var loadCommand = &cli.Command{
	Name: "load", Usage: "for tests: patients without browsers, telephones without people", Hidden: true,
	Subcommands: []*cli.Command{loadPatientCommand, loadCallsCommand},
}

var codecFlag = &cli.StringFlag{Name: "codec", Value: "PCMU", Usage: "what patients answer with: PCMU or opus"}

var loadPatientCommand = &cli.Command{
	Name: "patient", Usage: "open a link and answer every call until ended", ArgsUsage: "URL", Flags: []cli.Flag{codecFlag},
	Action: func(c *cli.Context) error {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		p, err := load.Open(ctx, c.Args().First(), load.Sound{Codec: c.String("codec")})
		if err != nil {
			return err
		}
		fmt.Println("welcome")
		err = p.Run(ctx)
		fmt.Printf("answered %d, ended %d, heard %d packets\n", p.Answered.Load(), p.Ended.Load(), p.Received.Load())
		if ctx.Err() != nil {
			return nil
		}
		return err
	},
}

// loaded is what a run says of itself: one JSON document.
type loaded struct {
	Calls, Failed          int
	Refused                int     // with 503: the gateway was full
	Refused99              float64 // ms from INVITE to 503
	MedianMS, P95MS        float64 // INVITE to 200
	Sound50, Sound95       float64 // ms from the 200 until both hear something
	Latency50, Latency99   float64 // ms from the telephone's socket to the patient's, once all calls are up
	Rising50, Rising99     float64 // the same while calls are being set up
	LostToWeb              float64 // share of the telephones' packets that reached no patient, from a second after the answer on
	FromPhone, ToWeb, Back float64
}

var loadCallsCommand = &cli.Command{
	Name: "calls", Usage: "set calls up, let them talk, hang up",
	Flags: []cli.Flag{codecFlag, &cli.IntFlag{Name: "calls", Value: 25},
		&cli.Float64Flag{Name: "rate", Usage: "calls offered a second, whatever becomes of them; 0: a few at a time"}, &cli.DurationFlag{Name: "talk", Value: 10 * time.Second},
		&cli.StringFlag{Name: "srtp", Usage: "the only SRTP profile patients take: gcm or cm"},
		&cli.PathFlag{Name: "speech", Usage: "what telephones say: G.711 mu-law in `FILE`, over and over; without it, silence"},
		&cli.StringFlag{Name: "gateway", Value: "127.0.0.1:15060"}, &cli.StringFlag{Name: "listen", Value: "127.0.0.1:15099"},
		&cli.StringFlag{Name: "admin", Value: "http://127.0.0.1:19090"},
		&cli.StringFlag{Name: "rtpengine", Usage: "put rtpengine in the gateway's place: its control `ADDRESS`"}},
	Action: func(c *cli.Context) error {
		loops, err := media.NewLoops(media.Expedited)
		if err != nil {
			return err
		}
		defer loops.Close()
		pool, err := media.NewPool(loops, 40000, 44999, time.Second)
		if err != nil {
			return err
		}
		sound := load.Sound{Codec: c.String("codec"), SRTP: c.String("srtp")}
		if file := c.Path("speech"); file != "" {
			if sound.Speech, err = os.ReadFile(file); err != nil {
				return err
			}
		}
		endpoint := func(_ sip.Trunk, listen netip.Addr) (media.Endpoint, error) {
			return media.NewPlain(media.PlainConfig{Pool: pool, Listen: listen, Codecs: []string{"PCMU"}, Events: true, Log: slog.New(slog.DiscardHandler)})
		}
		var connect load.Connect
		if control := c.String("rtpengine"); control != "" {
			connect = load.ThroughRTPEngine(control, func() (media.Endpoint, error) { return endpoint(sip.Trunk{}, netip.MustParseAddr("127.0.0.1")) })
		} else {
			ua, err := sip.NewServer(sip.Options{Config: sip.Config{Listen: []string{"udp://" + c.String("listen")}},
				Trunks:   map[string]sip.Trunk{"gateway": {Address: "sip:" + c.String("gateway")}},
				Endpoint: endpoint, Ledger: noLedger{}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			defer ua.Close()
			var visits []load.Visit
			for range c.Int("calls") {
				v, err := inviteFor(c)
				if err != nil {
					return err
				}
				visits = append(visits, v.visit)
				defer v.revoke() // nothing stays behind that would count as the gateway's
			}
			connect = load.ThroughGateway(ua, policy.Target{Kind: "trunk", Name: "gateway", From: policy.Address{User: "load"}}, visits)
		}
		// "up" and "down" tell whoever measures when the calls are steady.
		r, err := load.Run(c.Context, connect, load.Pace{Calls: c.Int("calls"), Rate: c.Float64("rate")}, sound, c.Duration("talk"),
			func() { fmt.Println("up") }, func() { fmt.Println("down"); time.Sleep(200 * time.Millisecond) })
		if err != nil {
			return err
		}
		out := loaded{Calls: r.Calls, Failed: r.Failed, Refused: len(r.Refused), Refused99: load.Percentile(r.Refused, 99),
			Sound50: load.Percentile(r.ToSound, 50), Sound95: load.Percentile(r.ToSound, 95), MedianMS: load.Percentile(r.ToAnswer, 50), P95MS: load.Percentile(r.ToAnswer, 95),
			Latency50: load.Percentile(r.Latency, 50), Latency99: load.Percentile(r.Latency, 99),
			Rising50: load.Percentile(r.Rising, 50), Rising99: load.Percentile(r.Rising, 99), FromPhone: r.FromPhone, ToWeb: r.ToWeb, Back: r.ToPhone}
		if r.FromPhone > 0 {
			out.LostToWeb = max(1-r.ToWeb/r.FromPhone, 0)
		}
		return json.NewEncoder(os.Stdout).Encode(out)
	},
}

// invited is an invitation that the load made.
type invited struct {
	visit  load.Visit
	revoke func()
}

func inviteFor(c *cli.Context) (invited, error) {
	var inv admin.Invite
	if err := ask(c, "POST", "/api/v1/invites", map[string]string{"to": "sip:1000@load"}, &inv); err != nil {
		return invited{}, fmt.Errorf("invite: %w", err)
	}
	return invited{load.Visit{Link: inv.URL, DialCode: inv.DialCode}, func() {
		if err := ask(c, "DELETE", "/api/v1/invites/"+inv.ID, nil, nil); err != nil {
			fmt.Fprintln(os.Stderr, "load: revoke:", err)
		}
	}}, nil
}
