package sip

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func TestANonceIsOursForItsTimeAndItsAddress(t *testing.T) {
	n := newNonces()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	old := make([]byte, 12)
	binary.BigEndian.PutUint64(old, uint64(time.Now().Add(-nonceLife-time.Second).Unix()))
	for _, c := range []struct {
		what       string
		nonce      string
		from       netip.Addr
		ours, good bool
	}{
		{"fresh", n.fresh(a), a, true, true},
		{"another's", n.fresh(a), b, false, false},
		{"another gateway's", newNonces().fresh(a), a, false, false},
		{"too old", base64.RawURLEncoding.EncodeToString(append(old, n.mac(old, a)...)), a, true, false},
		{"none at all", "nonsense", a, false, false},
	} {
		if ours, good := n.made(c.nonce, c.from); ours != c.ours || good != c.good {
			t.Errorf("%s: %v %v", c.what, ours, good)
		}
	}
	nonce := n.fresh(a)
	for _, c := range []struct {
		nc   uint32
		good bool
	}{{1, true}, {1, false}, {5, true}, {4, false}, {6, true}} {
		if n.count(nonce, c.nc) != c.good {
			t.Errorf("count %d", c.nc)
		}
	}
	n.turn = time.Time{} // a lifetime later
	if n.count(n.fresh(a), 1); n.count(nonce, 6) {
		t.Error("a count that was used is forgotten while its nonce is good")
	}
}

func TestSourcesAreBoundedAndTheBannedStayBanned(t *testing.T) {
	g := newGuard()
	bad := netip.MustParseAddr("198.51.100.1")
	for range mostFailures {
		g.failed(bad)
	}
	for i := range uint32(3 * mostSources) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x0a000000+i)
		g.asks(netip.AddrFrom4(b))
	}
	if len(g.sources) > mostSources {
		t.Errorf("%d sources are remembered", len(g.sources))
	}
	if why := g.asks(bad); why != "banned" {
		t.Errorf("who guessed is %q", why)
	}
	if why := g.asks(netip.MustParseAddr("198.51.100.2")); why != "" {
		t.Errorf("its neighbour is %q", why)
	}
	six := netip.MustParseAddr("2001:db8::1")
	for range mostFailures {
		g.failed(six)
	}
	if why := g.asks(netip.MustParseAddr("2001:db8::2")); why != "banned" {
		t.Error("another address of the same household is not banned")
	}
}

func TestConnectionsOfOneSourceAreBounded(t *testing.T) {
	g := newGuard()
	a := netip.MustParseAddr("192.0.2.1")
	for i := range mostOfOne {
		if !g.enter(a) {
			t.Fatalf("the connection %d was refused", i)
		}
	}
	if g.enter(a) {
		t.Error("one more was taken")
	}
	g.left(a)
	if !g.enter(a) {
		t.Error("the place of one that left is not free")
	}
}

// FuzzLooks: what has not been parsed is looked at without harm, and a room's
// request is told from a stranger's.
func FuzzLooks(f *testing.F) {
	s := &Server{trunks: map[string]*trunk{"room:icu": {}}}
	for data, want := range map[string]bool{
		"REGISTER sip:a SIP/2.0\r\n\r\n":                                           true,
		"OPTIONS sip:a SIP/2.0\r\nFrom: <sip:icu@a>;tag=1\r\n\r\n":                 true,
		"INVITE sip:a SIP/2.0\r\nVia: x\r\nf : \"I\" <sip:icu@a>\r\n\r\n":          true,
		"INVITE sip:a SIP/2.0\r\nFrom: <sip:100@a>\r\n\r\n":                        false,
		"INVITE sip:a SIP/2.0\r\nTo: <sip:icu@a>\r\n\r\nFrom: <sip:icu@a>\r\n\r\n": false,
		"SIP/2.0 200 OK\r\nFrom: <sip:icu@a>\r\n\r\n":                              false,
		"GET / HTTP/1.1\r\nFrom: <sip:icu@a>\r\n\r\n":                              false,
		"OPTIONS sip:a SIP/2.0\r\n":                                                false,
	} {
		if s.looks([]byte(data)) != want {
			f.Errorf("%q", data)
		}
		f.Add([]byte(data))
	}
	f.Fuzz(func(_ *testing.T, b []byte) { s.looks(b) })
}
