package edge

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sipbridge/sipbridge/internal/bus"
)

// proxies lets whoever says the password through to one place, by whatever name
// that is asked for, and counts who came.
func proxies(t *testing.T, to, password string) (at string, asked func() []string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var names []string
	var wg sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		b := bufio.NewReader(c)
		r, err := http.ReadRequest(b)
		if err != nil || r.Method != http.MethodConnect {
			return
		}
		mu.Lock()
		names = append(names, r.Host)
		mu.Unlock()
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("ward:"+password)) {
			_, _ = io.WriteString(c, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"hospital\"\r\nContent-Length: 0\r\n\r\n")
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 502 No\r\n\r\n")
			return
		}
		defer far.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		wg.Go(func() { _, _ = io.Copy(far, b); far.Close() })
		_, _ = io.Copy(c, far)
	}
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(names)
	}
}

// secured is a port with a certificate of a name and whoever believes it.
func secured(t *testing.T) (*Edge, *x509.CertPool) {
	t.Helper()
	cfg := certify(t, t.TempDir(), time.Now().Add(time.Hour))
	own, err := cfg.Open("", "", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(cfg.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	e, err := Open("127.0.0.1:0", own, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, roots
}

func through(proxy, password string, roots *x509.CertPool) Outward {
	return Outward{Proxy: &url.URL{Scheme: "http", Host: proxy, User: url.UserPassword("ward", password)}, Roots: roots}
}

func TestTheTunnelGoesThroughAProxyThatAloneKnowsTheName(t *testing.T) {
	e, roots := secured(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /leafnode", func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		c := websocket.NetConn(r.Context(), ws, websocket.MessageBinary)
		_, _ = io.Copy(c, c)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(e.HTTP()) })
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	proxy, asked := proxies(t, e.Addr().String(), "right")

	// The certificate is of 127.0.0.1; a name that does not exist is asked of the proxy, and then not believed.
	_, err := through(proxy, "right", roots).Tunnel(context.Background(), "wss://portal.invalid/leafnode")
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another's certificate: %v", err)
	}
	if got := asked(); !slices.Equal(got, []string{"portal.invalid:443"}) {
		t.Errorf("the proxy was asked for %v", got)
	}
	if _, err = through(proxy, "wrong", roots).Tunnel(context.Background(), "wss://127.0.0.1/leafnode"); err == nil || !strings.Contains(err.Error(), "wants another user or password") {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err = through(proxy, "right", nil).Tunnel(context.Background(), "wss://127.0.0.1/leafnode"); err == nil {
		t.Error("an unknown authority was believed")
	}
	if _, err = through(proxy, "right", roots).Tunnel(context.Background(), "wss://127.0.0.1/elsewhere"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("another path: %v", err)
	}
	c, err := through(proxy, "right", roots).Tunnel(context.Background(), "wss://127.0.0.1/leafnode")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	var b [5]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}

// An engine reaches its patient by the relay; a page reaches nobody but us.
func TestAnEngineReachesItsPatientAlone(t *testing.T) {
	e, roots := secured(t)
	proxy, _ := proxies(t, e.Addr().String(), "right")
	r, err := NewRelay(RelayOptions{Config: TURN{Peers: []string{"10.9.0.0/16"}}, Edge: e, Host: "127.0.0.1", Port: 443, Ports: [2]int{24500, 24599}, Listen: here})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	until := time.Now().Add(time.Hour)
	page, engine := r.Servers("lisbon.v1", until)
	for _, a := range []string{"203.0.113.7", "10.9.1.1", "10.8.1.1", "127.0.0.1", "100.64.1.1", "169.254.169.254", "192.168.1.1", "fe80::1", "224.0.0.1", "0.0.0.0"} {
		r.Seen("lisbon.v1", netip.MustParseAddr(a))
	}
	r.Servers("lisbon.v2", until)
	r.Seen("lisbon.v2", netip.MustParseAddr("203.0.113.8"))
	dial := func(server int) (string, string) {
		if server == 0 {
			return page[0].Username, page[0].Credential
		}
		return engine[0].Username, engine[0].Credential
	}
	for who, permitted := range map[int][]string{0: nil, 1: {"203.0.113.7", "10.9.1.1"}} {
		c, err := through(proxy, "right", roots).Dial("tcp4", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		user, password := dial(who)
		cl := turns(t, c, e.Addr().String(), user, password)
		conn, err := cl.Allocate()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, a := range []string{"203.0.113.7", "203.0.113.8", "203.0.113.9", "10.9.1.1", "10.8.1.1", "100.64.1.1", "169.254.169.254", "192.168.1.1", "0.0.0.0"} {
			err := cl.CreatePermission(&net.UDPAddr{IP: net.ParseIP(a), Port: 9})
			if (err == nil) != slices.Contains(permitted, a) {
				t.Errorf("client %d, %s: %v", who, a, err)
			}
		}
	}
	r.Revoke("lisbon.v1")
	for who := range 2 {
		c, err := through(proxy, "right", roots).Dial("tcp4", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		user, password := dial(who)
		if conn, err := turns(t, c, e.Addr().String(), user, password).Allocate(); err == nil {
			conn.Close()
			t.Errorf("client %d of a visit that is void is lent an address", who)
		}
	}
}

func TestAnEngineAsksThePortalForRelays(t *testing.T) {
	e := open(t, false)
	r := relay(t, e, nil, nil)
	seed, public, err := bus.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	hub, err := bus.OpenHub(map[string]string{"lisbon": public}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { hub.Close(); wg.Wait() })
	stop, err := r.Serve("lisbon", hub.Wire("lisbon"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	engine, err := bus.Open(t.TempDir(), &bus.Leaf{Seed: seed, Dial: func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		wg.Go(func() { _ = hub.Carry(far) })
		return near, nil
	}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	b, err := NewBorrower("lisbon", engine.Wire)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	until := time.Now().Add(time.Hour)
	for i := 0; ; i++ {
		page, own, err := b.Servers("hash", until)
		if err != nil && i < 5 {
			continue // the tunnel is being opened
		}
		if err != nil || len(page) != 1 || len(own) != 1 || page[0].Username == own[0].Username || page[0].Credential == own[0].Credential {
			t.Fatalf("%v, %v, %v", page, own, err)
		}
		break
	}
	if !r.valid("lisbon.hash") {
		t.Error("the relay does not know the visit")
	}
	if err := b.Revoke("hash"); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if !r.valid("lisbon.hash") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a visit that is void is still known")
}
