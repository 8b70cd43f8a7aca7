package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
	"go.uber.org/goleak"

	"github.com/sipbridge/sipbridge/internal/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var here = netip.MustParseAddr("127.0.0.1")

// certify writes a certificate and its key.
func certify(t *testing.T, dir string, until time.Time) TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: until, IPAddresses: []net.IP{here.AsSlice()}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for f, b := range map[string]*pem.Block{cfg.CertFile: {Type: "CERTIFICATE", Bytes: der}, cfg.KeyFile: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(f, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

func open(t *testing.T, secure bool) *Edge {
	t.Helper()
	var own Certificates
	if secure {
		var err error
		if own, err = certify(t, t.TempDir(), time.Now().Add(time.Hour)).Open("", "", "", slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	e, err := Open("127.0.0.1:0", own, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// serves answers every request on the port with a word.
func serves(t *testing.T, e *Edge) {
	t.Helper()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "page "+r.Proto) }), ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(e.HTTP()) })
	t.Cleanup(func() { srv.Close(); wg.Wait() })
}

// echo is a socket of ours that says back what it hears.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: here.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		var b [1500]byte
		for {
			n, from, err := c.ReadFromUDPAddrPort(b[:])
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(b[:n], from)
		}
	})
	t.Cleanup(func() { c.Close(); wg.Wait() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func relay(t *testing.T, e *Edge, own map[netip.AddrPort]netip.AddrPort, valid func(string) bool) *Relay {
	t.Helper()
	r, err := NewRelay(RelayOptions{Edge: e, Host: "127.0.0.1", Port: 443, Ports: [2]int{24500, 24599}, Listen: here, Own: own, Valid: valid})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// told is what a visit's page is told of the relay.
func told(r *Relay, visit string, until time.Time) media.ICEServer {
	page, _ := r.Servers(visit, until)
	return page[0]
}

// client is a browser's end, over TCP or TLS.
func client(t *testing.T, e *Edge, s media.ICEServer, secure bool) *turn.Client {
	t.Helper()
	c, err := net.Dial("tcp", e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	return turns(t, c, e.Addr().String(), s.Username, s.Credential)
}

// turns speaks TURN on a connection.
func turns(t *testing.T, c net.Conn, at, user, password string) *turn.Client {
	t.Helper()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	cl, err := turn.NewClient(&turn.ClientConfig{TURNServerAddr: at, Conn: turn.NewSTUNConn(c), Username: user, Password: password, LoggerFactory: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close(); c.Close() })
	return cl
}

func get(t *testing.T, url string, http2 bool) string {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func always(string) bool { return true }

func TestOnePortServesPagesAndRelays(t *testing.T) {
	for _, secure := range []bool{false, true} {
		e := open(t, secure)
		serves(t, e)
		at := echo(t)
		r := relay(t, e, map[netip.AddrPort]netip.AddrPort{at: at}, always)
		silent, err := net.Dial("tcp", e.Addr().String()) // holds up nobody
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		if secure {
			if got := get(t, "https://"+e.Addr().String(), true); got != "page HTTP/2.0" {
				t.Errorf("HTTP/2: %q", got)
			}
			if got := get(t, "https://"+e.Addr().String(), false); got != "page HTTP/1.1" {
				t.Errorf("HTTPS: %q", got)
			}
		} else if got := get(t, "http://"+e.Addr().String(), false); got != "page HTTP/1.1" {
			t.Errorf("HTTP: %q", got)
		}
		server := told(r, "maria", time.Now().Add(time.Hour))
		for _, over := range []bool{false, true}[:1+btoi(secure)] {
			conn, err := client(t, e, server, over).Allocate()
			if err != nil {
				t.Fatalf("TLS %v: %v", over, err)
			}
			if _, err := conn.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(at)); err != nil {
				t.Fatal(err)
			}
			var b [100]byte
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, from, err := conn.ReadFrom(b[:])
			if err != nil || !bytes.Equal(b[:n], []byte("hello")) || from.String() != at.String() {
				t.Errorf("%q from %v: %v", b[:n], from, err)
			}
			conn.Close()
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestWhoSpeaksPlainHTTPToTLSIsTold(t *testing.T) {
	e := open(t, true)
	c, err := net.Dial("tcp", e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 400")) || e.Unknown.Load() != 1 {
		t.Errorf("%q, %v", got, err)
	}
}

// The relay must be no way into the hospital.
func TestNobodyElseIsReached(t *testing.T) {
	e := open(t, false)
	at, other := echo(t), echo(t)
	r := relay(t, e, map[netip.AddrPort]netip.AddrPort{at: at}, always)
	conn, err := client(t, e, told(r, "maria", time.Now().Add(time.Hour)), false).Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, to := range []string{"127.0.0.2:5060", "169.254.169.254:80", "10.0.0.5:5060", "192.168.1.1:53", "203.0.113.7:443", "127.0.0.1:22", other.String()} {
		a := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
		before := r.Dropped.Load()
		_, err := conn.WriteTo([]byte("hello"), a)
		if a.IP.Equal(net.IP(here.AsSlice())) { // some of our ports may be reached: the packet is looked at
			for i := 0; r.Dropped.Load() == before && i < 200; i++ {
				time.Sleep(10 * time.Millisecond)
			}
			if r.Dropped.Load() == before {
				t.Errorf("%s: not dropped", to)
			}
		} else if err == nil {
			t.Errorf("%s: permitted", to)
		}
	}
	// And who is not our media says nothing to a browser.
	stranger, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	before := r.Dropped.Load()
	if _, err := stranger.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, from, err := conn.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes from %v", n, from)
	}
	if r.Dropped.Load() == before {
		t.Error("a stranger's packet was not dropped")
	}
}

func TestTwoRelayAddressesReachOneAnother(t *testing.T) {
	e := open(t, false)
	r := relay(t, e, nil, always)
	var conns [2]net.PacketConn
	for i := range conns {
		var err error
		if conns[i], err = client(t, e, told(r, "maria", time.Now().Add(time.Hour)), false).Allocate(); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	if _, err := conns[1].WriteTo([]byte("permits"), conns[0].LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, err := conns[0].WriteTo([]byte("hello"), conns[1].LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if err := conns[1].SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, from, err := conns[1].ReadFrom(b); err != nil || string(b[:n]) != "hello" || from.String() != conns[0].LocalAddr().String() {
		t.Errorf("%q from %v: %v", b[:n], from, err)
	}
}

func TestCredentialsAreOfAVisitThatGoesOn(t *testing.T) {
	e := open(t, false)
	var mu sync.Mutex
	revoked := false
	at := echo(t)
	r := relay(t, e, map[netip.AddrPort]netip.AddrPort{at: at}, func(visit string) bool {
		mu.Lock()
		defer mu.Unlock()
		return visit == "maria" && !revoked
	})
	good := told(r, "maria", time.Now().Add(time.Hour))
	forged := good
	forged.Username = strconv.FormatInt(time.Now().Add(2*time.Hour).Unix(), 10) + ":maria"
	for name, s := range map[string]media.ICEServer{"expired": told(r, "maria", time.Now().Add(-time.Second)), "nobody": told(r, "joao", time.Now().Add(time.Hour)), "forged": forged, "none": {}} {
		if conn, err := client(t, e, s, false).Allocate(); err == nil {
			conn.Close()
			t.Errorf("%s: lent", name)
		}
	}
	conn, err := client(t, e, good, false).Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mu.Lock()
	revoked = true
	mu.Unlock()
	// What is lent stays, with new permissions, too.
	if _, err := conn.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(at)); err != nil {
		t.Errorf("a call was cut off: %v", err)
	}
	if again, err := client(t, e, good, false).Allocate(); err == nil {
		again.Close()
		t.Error("a revoked visit is lent an address")
	}
}

func TestAVisitHasSoManyAddresses(t *testing.T) {
	e := open(t, false)
	r := relay(t, e, nil, always)
	s := told(r, "maria", time.Now().Add(time.Hour))
	for i := range mostOfVisit + 1 {
		conn, err := client(t, e, s, false).Allocate()
		if (err == nil) != (i < mostOfVisit) {
			t.Fatalf("address %d: %v", i+1, err)
		}
		if err == nil {
			defer conn.Close()
		}
	}
	if other, err := client(t, e, told(r, "joao", time.Now().Add(time.Hour)), false).Allocate(); err != nil {
		t.Errorf("another visit: %v", err)
	} else {
		other.Close()
	}
}

func TestANewCertificateIsTaken(t *testing.T) {
	dir := t.TempDir()
	first := time.Now().Add(time.Hour).Truncate(time.Second)
	own, err := certify(t, dir, first).Open("", "", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := own.(*kept)
	look := func(want time.Time) {
		t.Helper()
		c.mu.Lock()
		c.looked = time.Time{}
		c.mu.Unlock()
		if got := Until(c); !got.Equal(want) {
			t.Errorf("until %v, want %v", got, want)
		}
	}
	look(first)
	if err := os.WriteFile(c.cfg.KeyFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	look(first) // what cannot be read does not replace what could
	second := first.Add(time.Hour)
	certify(t, dir, second)
	look(second)
}

// Behind 1:1 NAT what we lend is known by the outer address and reached by the inner one:
// no firewall need send our own packets back to us. A page that names the address that we
// lent it opens no way to what else stands at the outer one.
func TestARelayBehindNATReachesItself(t *testing.T) {
	public, inner := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("10.1.0.2")
	media := netip.AddrPortFrom(public, 8443)
	r := &Relay{o: RelayOptions{Ports: [2]int{24500, 24599}, Listen: inner, Public: public, Own: map[netip.AddrPort]netip.AddrPort{media: netip.AddrPortFrom(inner, 8443)}},
		here: map[netip.Addr]bool{inner: true}, visits: map[string]*visit{}}
	r.visit("lisbon.v1").until = time.Now().Add(time.Hour)
	r.Seen("lisbon.v1", public)
	for _, visit := range []*visit{nil, r.visit("lisbon.v1")} {
		c := &lentConn{r: r, visit: visit}
		for told, at := range map[netip.AddrPort]netip.AddrPort{media: netip.AddrPortFrom(inner, 8443), netip.AddrPortFrom(public, 24501): netip.AddrPortFrom(inner, 24501)} {
			if got, ok := c.inward(told); !ok || got != at {
				t.Errorf("%v is reached at %v, %v", told, got, ok)
			}
			if got, ok := c.outward(at); !ok || got != told {
				t.Errorf("%v is known as %v, %v", at, got, ok)
			}
		}
		for _, other := range []netip.AddrPort{netip.AddrPortFrom(public, 443), netip.AddrPortFrom(inner, 24501)} {
			if at, ok := c.inward(other); ok {
				t.Errorf("%v is reached, at %v", other, at)
			}
		}
	}
}

// Where a proxy ends TLS before us, pages hear of the relay's UDP port alone.
func TestARelayBehindATLSProxyIsOfferedByUDP(t *testing.T) {
	e := open(t, false)
	for udp, want := range map[int]string{0: "", 24600: "turn:127.0.0.1:24600?transport=udp"} {
		r, err := NewRelay(RelayOptions{Config: TURN{UDP: udp}, Edge: e, Host: "127.0.0.1", Ports: [2]int{24500, 24599}, Listen: here})
		if err != nil {
			t.Fatal(err)
		}
		var urls []string
		page, _ := r.Servers("maria", time.Now().Add(time.Hour))
		for _, s := range page {
			urls = append(urls, s.URLs...)
		}
		if strings.Join(urls, " ") != want {
			t.Errorf("port %d: %v", udp, urls)
		}
		r.Close()
	}
}

// A relay that may ask whether a visit goes on remembers none that it lends nothing.
func TestNothingOfAVisitStays(t *testing.T) {
	r := relay(t, open(t, false), nil, always)
	for n := range 1000 {
		r.Servers(strconv.Itoa(n), time.Now().Add(time.Hour))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.visits) > 0 {
		t.Errorf("%d visits are remembered", len(r.visits))
	}
}
