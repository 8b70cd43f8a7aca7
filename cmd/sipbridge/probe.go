package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/sipbridge/sipbridge/internal/edge"
	"github.com/sipbridge/sipbridge/internal/portal"
)

var probeCommand = &cli.Command{
	Name: "probe", Usage: "say which ways lead out of this network to a portal, and what to ask of the firewall",
	Flags: []cli.Flag{jsonFlag, &cli.StringFlag{Name: "portal", Usage: "the portal's `URL`, as links begin with it"},
		&cli.StringFlag{Name: "proxy", Usage: "an HTTP proxy's `URL`: http://USER:PASSWORD@HOST:PORT"},
		&cli.StringFlag{Name: "ca-file", Usage: "who signed the portal's certificate, a `FILE` in PEM"},
		&cli.IntFlag{Name: "udp", Value: 3478, Usage: "the relay's UDP `PORT` (turn.udp); 0: it has none"},
		&cli.StringFlag{Name: "lang", Value: "en", Usage: "of the firewall request: en or pt"}},
	Action: func(c *cli.Context) error {
		u, err := url.Parse(c.String("portal"))
		if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
			return cli.Exit("probe wants --portal https://HOST", exitUsage)
		}
		if requests[c.String("lang")].head == "" {
			return cli.Exit("--lang is en or pt", exitUsage)
		}
		way, err := BusConfig{Proxy: c.String("proxy"), CAFile: c.String("ca-file")}.outward()
		if err != nil {
			return cli.Exit(err.Error(), exitUsage)
		}
		way.Plain = u.Scheme == "http"
		u.Path, u.RawQuery, u.Fragment = "", "", ""
		var tell func(string)
		if !c.Bool("json") {
			tell = func(s string) { fmt.Fprintf(os.Stderr, "\rlooking: %-30s", s) }
		}
		f := edge.Probe(context.Background(), edge.ProbeOptions{Portal: u, Way: way, UDPPort: c.Int("udp"), Meter: portal.ProbePath}, tell)
		if c.Bool("json") {
			err = json.NewEncoder(os.Stdout).Encode(f)
		} else {
			fmt.Fprintf(os.Stderr, "\r%40s\r", "")
			err = tellWays(os.Stdout, f, u, c.Int("udp"), requests[c.String("lang")])
		}
		if err == nil && !f.Sound() {
			return cli.Exit("", exitNo)
		}
		return err
	},
}

// tellWays prints what was found for people.
func tellWays(out io.Writer, f edge.Findings, u *url.URL, udp int, words request) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(name string, way edge.Way) {
		mark, said := paint(out, green, "✓"), "works"
		if !way.Works {
			mark, said = paint(out, red, "✗"), way.Why
		} else if way.Why != "" {
			said += "; " + way.Why
		}
		if way.TripMS > 0 {
			said += fmt.Sprintf(", %.0f ms", way.TripMS)
		}
		if way.Lost > 0 {
			said += fmt.Sprintf(", %.0f %% lost", way.Lost*100)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, name, said)
	}
	fmt.Fprintf(out, "from here to %s\n", f.Portal)
	row("name ("+strings.Join(f.Addresses, " ")+")", f.Name)
	row("TCP, direct", f.Direct)
	if f.ByProxy != nil {
		row("TCP, by "+f.Proxy, *f.ByProxy)
	}
	row("TLS", f.TLS)
	row("WebSocket", f.WebSocket)
	if udp > 0 {
		row(fmt.Sprintf("relay, by UDP %d", udp), f.UDP)
	}
	row("relay, by TCP and TLS", f.Relay)
	if err := w.Flush(); err != nil {
		return err
	}
	if f.WebSocket.Works {
		fmt.Fprintf(out, "%.0f kbit/s up, %.0f down\n", f.UpKbit, f.DownKbit)
	}
	least := min(f.UpKbit, f.DownKbit)
	switch {
	case !f.Sound():
		fmt.Fprintln(out, "\n"+paint(out, red, "No call gets through."))
	case least < edge.NoVideo:
		fmt.Fprintln(out, "\nCalls get through, as sound alone: the line is too thin for a picture.")
	case least < edge.WarnUnder:
		fmt.Fprintln(out, "\nCalls get through; with a picture the line is thin.")
	case !f.UDP.Works && udp > 0:
		fmt.Fprintln(out, "\nCalls get through, by TCP alone: on a line that loses packets sound comes late.")
	default:
		fmt.Fprintln(out, "\n"+paint(out, green, "Calls get through."))
	}
	if text := words.about(f, u, udp); text != "" {
		fmt.Fprint(out, "\n", text)
	}
	return nil
}

// request is what is asked of those who run the firewall, ready to be sent.
type request struct{ head, tcp, inspect, udp, foot string }

var requests = map[string]request{
	"en": {
		head:    "To be sent to those who run the firewall:\n\n  For calls with patients by browser, please let the machine on which sipbridge runs\n  open these connections. None has to come in.\n",
		tcp:     "  - TCP to %s, port %s (HTTPS, WebSocket, and TURN over TLS), for as long as a call\n",
		inspect: "    without anything that looks into TLS on the way: the portal's certificate must arrive\n",
		udp:     "  - UDP to %s, port %d, and the answers (TURN; sound is better by UDP)\n",
		foot:    "  An HTTP proxy that allows CONNECT to that port will do instead of TCP.\n",
	},
	"pt": {
		head:    "Para enviar a quem gere a firewall:\n\n  Para chamadas com doentes através do navegador, pedimos que a máquina onde corre o sipbridge\n  possa abrir as ligações seguintes. Nenhuma tem de entrar.\n",
		tcp:     "  - TCP para %s, porta %s (HTTPS, WebSocket e TURN sobre TLS), enquanto durar uma chamada\n",
		inspect: "    sem inspeção de TLS pelo caminho: o certificado do portal tem de chegar\n",
		udp:     "  - UDP para %s, porta %d, e as respostas (TURN; por UDP o som é melhor)\n",
		foot:    "  Em vez de TCP direto basta um proxy HTTP que permita CONNECT para essa porta.\n",
	},
}

// about is the request for what does not work; "": all does.
func (r request) about(f edge.Findings, u *url.URL, udp int) string {
	var b strings.Builder
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "443"
	}
	if len(f.Addresses) > 0 && f.Addresses[0] != host {
		host += " (" + strings.Join(f.Addresses, ", ") + ")"
	}
	if !f.Sound() {
		fmt.Fprintf(&b, r.tcp, host, port)
		if !f.TLS.Works && (f.Direct.Works || f.ByProxy != nil && f.ByProxy.Works) {
			b.WriteString(r.inspect)
		}
	}
	if udp > 0 && !f.UDP.Works {
		fmt.Fprintf(&b, r.udp, host, udp)
	}
	if b.Len() == 0 {
		return ""
	}
	return r.head + b.String() + r.foot
}
