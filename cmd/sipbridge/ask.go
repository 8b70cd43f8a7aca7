package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sipbridge/sipbridge/internal/admin"
)

var (
	jsonFlag   = &cli.BoolFlag{Name: "json", Usage: "print one JSON document"}
	adminFlags = []cli.Flag{configFlag, jsonFlag,
		&cli.StringFlag{Name: "admin", Usage: "the running gateway's admin `URL`"},
		&cli.StringFlag{Name: "token-file", Usage: "a `FILE` with its bearer token"}}
)

var inviteCommand = &cli.Command{
	Name: "invite", Usage: "make a patient's link and dial code",
	Flags: append([]cli.Flag{&cli.StringFlag{Name: "to", Usage: "the `URI` that becomes call.to"}, &cli.StringFlag{Name: "name", Usage: "the patient's `NAME`, as shown"},
		&cli.DurationFlag{Name: "valid", Value: 2 * time.Hour, Usage: "how long"},
		&cli.StringSliceFlag{Name: "label", Usage: "`NAME=VALUE`, for routes to ask of; more than one may be given"}}, adminFlags...),
	Action: func(c *cli.Context) error {
		if c.String("to") == "" {
			return cli.Exit("invite wants --to URI", exitUsage)
		}
		var inv admin.Invite
		labels, err := pairs(c.StringSlice("label"))
		if err != nil {
			return cli.Exit(err.Error(), exitUsage)
		}
		body := map[string]any{"to": c.String("to"), "name": c.String("name"), "valid": c.Duration("valid").String(), "labels": labels}
		if err := ask(c, "POST", "/api/v1/invites", body, &inv); err != nil {
			return err
		}
		if c.Bool("json") {
			return json.NewEncoder(os.Stdout).Encode(inv)
		}
		fmt.Printf("link       %s\ndial code  %s\nexpires    %s\n", inv.URL, inv.DialCode, inv.Expires.Local().Format(time.RFC1123))
		return nil
	},
}

var callsCommand = &cli.Command{
	Name: "calls", Usage: "show the calls that are going on", Flags: adminFlags,
	Action: func(c *cli.Context) error {
		var calls []admin.Call
		if err := ask(c, "GET", "/api/v1/calls", nil, &calls); err != nil {
			return err
		}
		if c.Bool("json") {
			return json.NewEncoder(os.Stdout).Encode(calls)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tSTATE\tSINCE\tROUTE\tLEG\tPATH\tLOSS\tMOS")
		for _, k := range calls {
			for i, l := range k.Legs {
				head := []any{"", "", "", ""}
				if i == 0 {
					head = []any{k.ID, k.State, time.Since(k.Since).Round(time.Second), k.Route}
				}
				for _, m := range l.Media {
					fmt.Fprintf(w, "%v\t%v\t%v\t%v\t%s %s\t%s\t%.1f%%\t%.1f\n", append(head, l.Kind, l.Peer, m.Path, m.Loss*100, m.MOS)...)
				}
			}
		}
		return w.Flush()
	},
}

var trunksCommand = &cli.Command{
	Name: "trunks", Usage: "show the trunks and rooms, and whether they are there", Flags: adminFlags,
	Action: func(c *cli.Context) error {
		var trunks []admin.Trunk
		if err := ask(c, "GET", "/api/v1/trunks", nil, &trunks); err != nil {
			return err
		}
		if c.Bool("json") {
			return json.NewEncoder(os.Stdout).Encode(trunks)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "TRUNK\tADDRESS\tSTATE\tFOR\tROUND TRIP\tREGISTRATION")
		for _, t := range trunks {
			state, trip := t.State, "-"
			if t.RestUntil != nil {
				state += fmt.Sprintf(", wants no calls for %v", time.Until(*t.RestUntil).Round(time.Second))
			}
			if t.TripMS > 0 {
				trip = fmt.Sprintf("%.1f ms", t.TripMS)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%s\t%s\n", t.Name, cmp.Or(t.Address, "-"), state, time.Since(t.Since).Round(time.Second), trip, cmp.Or(t.Enrolled, "-"))
		}
		return w.Flush()
	},
}

var hangupCommand = &cli.Command{
	Name: "hangup", Usage: "end a call", ArgsUsage: "ID", Flags: adminFlags,
	Action: func(c *cli.Context) error {
		if c.NArg() != 1 {
			return cli.Exit("hangup wants one ID; flags stand before it", exitUsage)
		}
		return ask(c, "DELETE", "/api/v1/calls/"+url.PathEscape(c.Args().First()), nil, nil)
	},
}

// askWithin bounds one question to a running gateway.
const askWithin = 10 * time.Second

// operator is who asks, for the policy's history: by sudo, too, the person.
func operator() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if name == "" || err != nil {
		return ""
	}
	return name + "@" + host
}

// ask puts one question to a running gateway.
func ask(c *cli.Context, method, path string, body, into any) error {
	base, token, err := whereToAsk(c)
	if err != nil {
		return err
	}
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, strings.TrimSuffix(base, "/")+path, payload)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("From", operator())
	res, err := (&http.Client{Timeout: askWithin}).Do(req)
	if err != nil {
		return fmt.Errorf("no gateway answers at %s: is it running?", base)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		var p struct{ Detail string }
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
			return fmt.Errorf("%s from %s, which is no answer of a gateway", res.Status, base)
		}
		return fmt.Errorf("%s: %s", res.Status, p.Detail)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// whereToAsk finds the gateway and its token: flags, then the configuration,
// then what is usual.
func whereToAsk(c *cli.Context) (base, token string, err error) {
	cfg := defaults()
	if f := c.String("config"); f != "" {
		if cfg, _, _, err = loadFile(f); err != nil {
			return "", "", err
		}
	}
	if base = c.String("admin"); base == "" {
		base = "http://" + cfg.Admin.Listen
	}
	file := c.String("token-file")
	if file == "" {
		if t := os.Getenv(tokenVariable); t != "" {
			return base, t, nil
		}
		if file = cfg.Admin.TokenFile; file == "" {
			file = keptToken(cfg)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("the bearer token: %w; name its file with --token-file", err)
	}
	return base, strings.TrimSpace(string(b)), nil
}
