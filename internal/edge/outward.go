package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
)

// Outward is the way out of a hospital that lets nothing in: TCP, by an HTTP proxy
// where there is one.
type Outward struct {
	Proxy *url.URL       // nil: none. A password in it is sent by Basic authentication (RFC 7617)
	Roots *x509.CertPool // who may sign the portal's certificate; nil: whom the system trusts
	Plain bool           // the portal speaks no TLS
}

// dialWithin bounds how long a connection may take to stand.
const dialWithin = 10 * time.Second

// DialContext opens a TCP connection. Behind a proxy it is the proxy that resolves
// the name: inside such a hospital often nobody else can.
func (o Outward) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialWithin}
	if o.Proxy == nil {
		return d.DialContext(ctx, network, address)
	}
	c, err := d.DialContext(ctx, "tcp", withPort(o.Proxy))
	if err != nil {
		return nil, fmt.Errorf("the proxy: %w", err)
	}
	if o.Proxy.Scheme == "https" {
		c = tls.Client(c, &tls.Config{ServerName: o.Proxy.Hostname()})
	}
	if err := o.connect(ctx, c, address); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connect asks the proxy for a connection (RFC 9110 §9.3.6).
func (o Outward) connect(ctx context.Context, c net.Conn, address string) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := c.SetDeadline(time.Now().Add(dialWithin)); err != nil {
		return err
	}
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {"sipbridge"}}}
	if u := o.Proxy.User; u != nil {
		password, _ := u.Password()
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := r.Write(c); err != nil {
		return fmt.Errorf("the proxy: %w", err)
	}
	// The portal says nothing before we do: what is read here is the proxy's alone.
	b := bufio.NewReader(c)
	res, err := http.ReadResponse(b, r)
	if err != nil {
		return fmt.Errorf("the proxy: %w", err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusProxyAuthRequired, res.StatusCode == http.StatusUnauthorized: // tinyproxy's for a wrong one
		return fmt.Errorf("the proxy wants another user or password (%s %s)", res.Status, res.Header.Get("Proxy-Authenticate"))
	case res.StatusCode/100 != 2:
		return fmt.Errorf("the proxy answers %s", res.Status)
	case b.Buffered() > 0:
		return errors.New("the proxy says more than its answer")
	}
	return c.SetDeadline(time.Time{})
}

func withPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// Dial implements media.Dialer.
func (o Outward) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialWithin)
	defer cancel()
	c, err := o.DialContext(ctx, network, address)
	if err != nil || o.Plain {
		return c, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		c.Close()
		return nil, err
	}
	secure := tls.Client(c, &tls.Config{ServerName: host, RootCAs: o.Roots, NextProtos: []string{"stun.turn"}}) // RFC 7443
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS with %s: %w", host, err)
	}
	return secure, nil
}

// Client makes HTTP requests that way. Its connections are closed with
// CloseIdleConnections.
func (o Outward) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: o.DialContext, TLSClientConfig: &tls.Config{RootCAs: o.Roots}, TLSHandshakeTimeout: dialWithin, IdleConnTimeout: time.Minute}}
}

// Tunnel opens a connection for the bus to a portal: bytes in a WebSocket. at is a
// ws: or wss: URL.
func (o Outward) Tunnel(ctx context.Context, at string) (net.Conn, error) {
	client := o.Client()
	defer client.CloseIdleConnections()
	ws, res, err := websocket.Dial(ctx, at, &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // it has none: websocket.Dial puts what it read in its place
	if err != nil {
		if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
			b, _ := io.ReadAll(io.LimitReader(res.Body, 256))
			return nil, fmt.Errorf("%s answers %s: %s", at, res.Status, b)
		}
		return nil, err
	}
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}
