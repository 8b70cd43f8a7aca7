package edge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// check is the first message of ICE over TCP, by whoever has that username.
func check(t *testing.T, username string) []byte {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(username), stun.NewShortTermIntegrity("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(m.Raw))), m.Raw...)
}

func TestBrowsersMediaSharesThePort(t *testing.T) {
	for _, secure := range []bool{false, true} {
		e := open(t, secure)
		serves(t, e)
		ln := e.ICE(func(ufrag string) bool { return ufrag == "ours" })
		c, err := net.Dial("tcp", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		first := check(t, "ours:theirs")
		for _, part := range [][]byte{first[:1], first[1:9], first[9:40], first[40:]} { // a slow network
			if _, err := c.Write(part); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		got, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		whole := make([]byte, len(first))
		if _, err := io.ReadFull(got, whole); err != nil || !bytes.Equal(whole, first) {
			t.Errorf("secure %v: %v, something of the check was lost", secure, err)
		}
	}
}

func TestNobodyUnawaitedReachesBrowsersMedia(t *testing.T) {
	e := open(t, true)
	serves(t, e)
	strangers := map[string][]byte{
		"a session that is none": check(t, "others:theirs"),
		"no username":            append([]byte{0, 20}, stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw...),
		"no request":             append([]byte{0, 20}, stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw...),
		"more than a check is":   append([]byte{3, 0xff}, stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw...),
	}
	refused := func(what string, b []byte) {
		t.Helper()
		before := e.Unknown.Load()
		c, err := net.Dial("tcp", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) || len(b) > 0 {
			t.Errorf("%s: heard %x, %v", what, b, err)
		}
		if e.Unknown.Load() == before {
			t.Errorf("%s was not counted", what)
		}
	}
	refused("a session before there is any", check(t, "ours:theirs"))
	e.ICE(func(ufrag string) bool { return ufrag == "ours" })
	for what, b := range strangers {
		refused(what, b)
	}
}
