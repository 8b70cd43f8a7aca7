package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/stun/v4"
)

// Way is one way out of a network, as a probe finds it.
type Way struct {
	Works  bool    `json:"works"`
	Why    string  `json:"why,omitempty"` // it does not; or what is to be known of it
	TripMS float64 `json:"round_trip_ms,omitempty"`
	Lost   float64 `json:"lost,omitempty"` // share, 0 to 1
}

// Findings are what a probe found on the way to a portal.
type Findings struct {
	Portal    string   `json:"portal"`
	Proxy     string   `json:"proxy,omitempty"` // without its password
	Addresses []string `json:"addresses"`       // the portal's, as resolved here
	Name      Way      `json:"name"`
	Direct    Way      `json:"tcp"`
	ByProxy   *Way     `json:"by_proxy,omitempty"` // nil: no proxy was named
	TLS       Way      `json:"tls"`
	WebSocket Way      `json:"websocket"`
	UDP       Way      `json:"turn_udp"`
	Relay     Way      `json:"turn_tls"`
	UpKbit    float64  `json:"up_kbit_s"`
	DownKbit  float64  `json:"down_kbit_s"`
}

// tcp is the way that calls would take.
func (f Findings) tcp() Way {
	if f.ByProxy != nil {
		return *f.ByProxy
	}
	return f.Direct
}

// Sound reports whether a call gets through at all.
func (f Findings) Sound() bool { return f.Relay.Works && f.WebSocket.Works }

// The least that a call needs each way, in kbit/s (measured in the field).
const (
	WarnUnder = 330 // a call with a picture suffers
	NoVideo   = 180 // and is one without
)

// ProbeOptions say where to look.
type ProbeOptions struct {
	Portal  *url.URL
	Way     Outward
	UDPPort int    // the relay's; 0: it has none
	Meter   string // the path of the portal's WebSocket for measurements
}

const (
	// probeStep bounds each step: what takes longer does not work.
	probeStep = 5 * time.Second
	// asked is how many packets are sent to see how many are lost.
	asked      = 20
	askedEvery = 50 * time.Millisecond
	// measured is how long each direction is filled, and with how much at most.
	measured     = 1500 * time.Millisecond
	measuredMost = 4 << 20
	chunk        = 16 << 10
)

// Probe looks which ways lead to a portal. tell, if not nil, hears what is looked at.
func Probe(ctx context.Context, o ProbeOptions, tell func(string)) Findings {
	say := func(s string) {
		if tell != nil {
			tell(s)
		}
	}
	f := Findings{Portal: o.Portal.String(), Addresses: []string{}}
	host := o.Portal.Hostname()
	port := o.Portal.Port()
	if port == "" {
		port = "443"
	}
	at := net.JoinHostPort(host, port)
	say("name, TCP, proxy, UDP")
	way := o.Way
	var wg sync.WaitGroup
	wg.Go(func() {
		step, done := context.WithTimeout(ctx, probeStep)
		defer done()
		addresses, err := net.DefaultResolver.LookupHost(step, host)
		f.Name = verdict(err)
		f.Addresses = append(f.Addresses, addresses...)
	})
	wg.Go(func() { f.Direct = o.dials(ctx, Outward{}, at) })
	if o.Way.Proxy != nil {
		shown := *o.Way.Proxy
		shown.User = nil
		f.Proxy, f.ByProxy = shown.String(), new(Way)
		wg.Go(func() { *f.ByProxy = o.dials(ctx, o.Way, at) })
	}
	if o.UDPPort > 0 {
		wg.Go(func() { f.UDP = o.datagrams(net.JoinHostPort(host, strconv.Itoa(o.UDPPort))) })
	}
	wg.Wait()
	if tcp := f.tcp(); !tcp.Works { // all else would wait as long
		f.TLS, f.Relay, f.WebSocket = tcp, tcp, tcp
		return f
	}
	say("TLS")
	f.TLS = o.secures(way, at)
	say("the relay by TLS")
	f.Relay = o.relays(way, at)
	say("WebSocket, up and down")
	f.WebSocket = o.measures(ctx, way, &f)
	return f
}

func verdict(err error) Way {
	if err != nil {
		return Way{Why: plainly(err)}
	}
	return Way{Works: true}
}

// plainly is an error in the words of whoever must mend it.
func plainly(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &dns):
		return "the name is not known here"
	case errors.As(err, &unknown):
		who := "somebody"
		if unknown.Cert != nil {
			who = unknown.Cert.Issuer.String()
		}
		return "the certificate is signed by " + who + ", who is not believed: a firewall that looks into TLS, or an authority to be named with --ca-file"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "nothing comes back"
	}
	return err.Error()
}

// dials opens and closes a TCP connection.
func (o ProbeOptions) dials(ctx context.Context, way Outward, at string) Way {
	ctx, cancel := context.WithTimeout(ctx, probeStep)
	defer cancel()
	began := time.Now()
	c, err := way.DialContext(ctx, "tcp", at)
	if err != nil {
		return verdict(err)
	}
	c.Close()
	return Way{Works: true, TripMS: ms(time.Since(began))}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// secures looks at the portal's certificate.
func (o ProbeOptions) secures(way Outward, at string) Way {
	c, err := way.Dial("tcp", at)
	if err != nil {
		return verdict(err)
	}
	defer c.Close()
	secure, ok := c.(*tls.Conn)
	if !ok {
		return Way{Works: true, Why: "the portal speaks none"}
	}
	return Way{Works: true, Why: "the certificate lasts until " + secure.ConnectionState().PeerCertificates[0].NotAfter.Format("2006-01-02")}
}

// relays asks the relay on the portal's TCP port who we are (a STUN Binding, RFC 8489 §3),
// the way a call's sound would go.
func (o ProbeOptions) relays(way Outward, at string) Way {
	c, err := way.Dial("tcp4", at)
	if err != nil {
		return verdict(err)
	}
	defer c.Close()
	began := time.Now()
	if err := binding(c, time.Now().Add(probeStep)); err != nil {
		return verdict(err)
	}
	return Way{Works: true, TripMS: ms(time.Since(began))}
}

// binding puts one question and waits for its answer.
func binding(c net.Conn, until time.Time) error {
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return err
	}
	if err := c.SetDeadline(until); err != nil {
		return err
	}
	if _, err := c.Write(m.Raw); err != nil {
		return err
	}
	var b [1500]byte
	n, err := c.Read(b[:])
	if err != nil {
		return err
	}
	answer := &stun.Message{Raw: b[:n]}
	if err := answer.Decode(); err != nil || answer.TransactionID != m.TransactionID {
		return errors.New("something answers that is no relay")
	}
	return nil
}

// datagrams asks the relay by UDP, often enough to see what is lost.
func (o ProbeOptions) datagrams(at string) Way {
	c, err := net.DialTimeout("udp", at, probeStep)
	if err != nil {
		return verdict(err)
	}
	defer c.Close()
	answered, best := 0, time.Duration(0)
	for n := range asked {
		began := time.Now()
		if err := binding(c, began.Add(time.Second)); err == nil {
			answered++
			if d := time.Since(began); best == 0 || d < best {
				best = d
			}
		} else if n == 4 && answered == 0 {
			break // five in a row
		}
		time.Sleep(time.Until(began.Add(askedEvery)))
	}
	if answered == 0 {
		return Way{Why: "nothing comes back"}
	}
	return Way{Works: true, TripMS: ms(best), Lost: 1 - float64(answered)/asked}
}

// measures opens a WebSocket to the portal and fills it both ways.
func (o ProbeOptions) measures(ctx context.Context, way Outward, f *Findings) Way {
	ctx, cancel := context.WithTimeout(ctx, 3*probeStep)
	defer cancel()
	at := *o.Portal
	at.Scheme = strings.Replace(at.Scheme, "http", "ws", 1)
	at.Path = o.Meter
	client := way.Client()
	defer client.CloseIdleConnections()
	ws, res, err := websocket.Dial(ctx, at.String(), &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // it has none
	if err != nil {
		if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
			return Way{Why: fmt.Sprintf("answered with %s: a proxy that knows no WebSocket, or no portal", res.Status)}
		}
		return verdict(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(64 << 10)
	ask := func(s string) (string, error) {
		if err := ws.Write(ctx, websocket.MessageText, []byte(s)); err != nil {
			return "", err
		}
		for {
			kind, b, err := ws.Read(ctx)
			if err != nil || kind == websocket.MessageText {
				return string(b), err
			}
		}
	}
	trip := time.Duration(0)
	for range 3 {
		began := time.Now()
		if got, err := ask("ping"); err != nil || got != "ping" {
			return verdict(errors.Join(err, errors.New("no echo")))
		}
		if d := time.Since(began); trip == 0 || d < trip {
			trip = d
		}
	}
	w := Way{Works: true, TripMS: ms(trip)}
	began, sent := time.Now(), 0
	for b := make([]byte, chunk); sent < measuredMost && time.Since(began) < measured; sent += len(b) {
		if err := ws.Write(ctx, websocket.MessageBinary, b); err != nil {
			return verdict(err)
		}
	}
	if _, err := ask("sum"); err != nil { // answered when all has arrived
		return verdict(err)
	}
	f.UpKbit = kbit(sent, time.Since(began))
	want := 2 * chunk
	for { // more of it until it takes long enough to be timed
		began = time.Now()
		if _, err := ask("give:" + strconv.Itoa(want)); err != nil {
			return verdict(err)
		}
		took := time.Since(began)
		f.DownKbit = kbit(want, took)
		if took > measured/3 || want >= measuredMost/2 {
			return w
		}
		want *= 4
	}
}

func kbit(bytes int, d time.Duration) float64 {
	return float64(bytes) * 8 / max(d.Seconds(), 0.001) / 1000
}
