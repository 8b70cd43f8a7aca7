package portal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/sipbridge/sipbridge/internal/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var said = []struct {
	name, message, want string
}{
	{"a candidate", `{"type":"candidate","candidate":"candidate:1 1 udp 2122260223 198.51.100.7 50000 typ srflx raddr 10.0.0.2 rport 50000"}`, "[198.51.100.7]"},
	{"of IPv6", `{"type":"candidate","candidate":"candidate:1 1 udp 2122260223 2001:db8::7 50000 typ host"}`, "[2001:db8::7]"},
	{"a hidden one", `{"type":"candidate","candidate":"candidate:1 1 udp 2122260223 0a1b.local 50000 typ host"}`, "[]"},
	{"the last one", `{"type":"candidate","candidate":""}`, "[]"},
	{"those of a description", `{"type":"join","sdp":"v=0\r\na=candidate:1 1 udp 1 198.51.100.7 5 typ host\r\na=candidate:2 1 udp 1 198.51.100.8 5 typ srflx\r\n"}`, "[198.51.100.7 198.51.100.8]"},
	{"another message", `{"type":"ping","ack":3}`, "[]"},
	{"no message", `{"type":`, "[]"},
	{"too many", `{"type":"join","sdp":"` + strings.Repeat(`a=candidate:1 1 udp 1 198.51.100.7 5 typ host\r\n`, 100) + `"}`, fmt.Sprint(many())},
}

func many() (out []netip.Addr) {
	for range maxAddresses {
		out = append(out, netip.MustParseAddr("198.51.100.7"))
	}
	return out
}

func TestWhereAPageSaysItIs(t *testing.T) {
	for _, c := range said {
		if got := fmt.Sprint(addresses([]byte(c.message))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	for _, c := range said {
		f.Add([]byte(c.message))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if all := addresses(b); len(all) > maxAddresses {
			t.Errorf("%d addresses", len(all))
		}
	})
}

// serve opens a portal that knows no site; what an engine says comes back to it.
func serve(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{Config: Config{PublicURL: "https://visit.example"}, Listener: ln, Wire: func(string) *bus.Wire { return nil },
		Page: fstest.MapFS{"index.html": {Data: []byte("page")}}, Hash: strings.ToUpper, Engine: func(c net.Conn) { _, _ = io.Copy(c, c) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return ln.Addr().String()
}

func dial(t *testing.T, url string, origin string) (*websocket.Conn, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	h := http.Header{}
	if origin != "" {
		h.Set("Origin", origin)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	ws, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: h, HTTPClient: &http.Client{Transport: tr}}) //nolint:bodyclose // it has none
	if err != nil {
		return nil, res.StatusCode
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws, 101
}

func TestALinkToNoSiteIsNotValid(t *testing.T) {
	at := serve(t)
	ws, _ := dial(t, "ws://"+at+"/v/nowhere.0123/signal", "https://visit.example")
	if _, b, err := ws.Read(t.Context()); err != nil || string(b) != string(expired) {
		t.Errorf("%q, %v", b, err)
	}
	if _, status := dial(t, "ws://"+at+"/v/nowhere.0123/signal", "https://elsewhere.example"); status != 403 {
		t.Errorf("a page of another origin gets %d", status)
	}
	if _, status := dial(t, "ws://"+at+"/v/NOWHERE/signal", ""); status != 404 {
		t.Errorf("what is no link gets %d", status)
	}
}

func TestABrowserIsNoEngine(t *testing.T) {
	at := serve(t)
	if _, status := dial(t, "ws://"+at+TunnelPath, "https://visit.example"); status != 403 {
		t.Errorf("%d", status)
	}
	ws, _ := dial(t, "ws://"+at+TunnelPath, "")
	c := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	var b [5]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOneAddressHasSoManyTunnels(t *testing.T) {
	at := serve(t)
	for range maxEnginesFrom {
		if _, status := dial(t, "ws://"+at+TunnelPath, ""); status != 101 {
			t.Fatalf("%d", status)
		}
	}
	if _, status := dial(t, "ws://"+at+TunnelPath, ""); status != 503 {
		t.Errorf("one too many gets %d", status)
	}
	c := crowd{most: 3, each: 2}
	a, b := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	got := []bool{c.enter(a), c.enter(a), c.enter(a), c.enter(b), c.enter(b)}
	if fmt.Sprint(got) != "[true true false true false]" {
		t.Error(got)
	}
	c.leave(a)
	if !c.enter(b) {
		t.Error("who leaves makes no room")
	}
}

func TestAMeasurementIsBounded(t *testing.T) {
	at := serve(t)
	ws, _ := dial(t, "ws://"+at+ProbePath, "")
	ctx := t.Context()
	say := func(s string) {
		if err := ws.Write(ctx, websocket.MessageText, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(want string) {
		t.Helper()
		for {
			kind, b, err := ws.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if kind == websocket.MessageText {
				if string(b) != want {
					t.Errorf("%q, want %q", b, want)
				}
				return
			}
		}
	}
	say("ping")
	hears("ping")
	if err := ws.Write(ctx, websocket.MessageBinary, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	say("sum")
	hears("sum:1000")
	say("give:100000")
	hears("given")
	say(fmt.Sprintf("give:%d", maxProbed))
	if _, _, err := ws.Read(ctx); err == nil {
		t.Error("more is given than may be")
	}
}
