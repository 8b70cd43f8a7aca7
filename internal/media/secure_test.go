package media

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// phone is an endpoint and what it hears.
type phone struct {
	*Plain
	heard chan []byte
}

func (p *phone) WriteRTP(pkt *Packet) {
	select {
	case p.heard <- append([]byte(nil), pkt.Payload()...):
	default:
	}
}

func newPhone(t *testing.T, pool *Pool, cfg PlainConfig) *phone {
	t.Helper()
	cfg.Pool, cfg.Listen, cfg.Log, cfg.Codecs = pool, loopback, slog.New(slog.DiscardHandler), []string{"PCMA"}
	p, err := NewPlain(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	ph := &phone{p, make(chan []byte, 16)}
	p.stream.Forward(ph)
	return ph
}

// describe has a offer and b answer; change, if any, is what happens to the
// descriptions on the way.
func describe(a, b *phone, change func(string) string) (offer, answer string, err error) {
	ctx := context.Background()
	o, err := a.Offer(ctx, sdp.Session{})
	if err != nil {
		return "", "", err
	}
	if change != nil {
		o = []byte(change(string(o)))
	}
	if _, err := b.SetOffer(o); err != nil {
		return string(o), "", err
	}
	an, err := b.Answer(ctx, sdp.Session{})
	if err != nil {
		return string(o), "", err
	}
	if change != nil {
		an = []byte(change(string(an)))
	}
	_, err = a.SetAnswer(an)
	return string(o), string(an), err
}

var sequence uint16

// says sends a packet and reports whether it is heard; a handshake may still be
// under way.
func says(from, to *phone, words string) bool {
	for range 200 {
		sequence++
		raw := append(make([]byte, Headroom), words...)
		from.stream.send(&rtp.Header{PayloadType: 8, SequenceNumber: sequence, Timestamp: uint32(sequence) * 160}, raw)
		select {
		case got := <-to.heard:
			if bytes.Equal(got, []byte(words)) {
				return true
			}
		case <-time.After(25 * time.Millisecond):
		}
	}
	return false
}

func talk(t *testing.T, a, b *phone) {
	t.Helper()
	if !says(a, b, "from a to b") || !says(b, a, "from b to a") {
		t.Fatal("they do not hear one another")
	}
}

func secretPool(t *testing.T, lo int) *Pool {
	t.Helper()
	pool, err := NewPool(loops(t), lo, lo+99, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func TestSRTPIsAgreedOnAsTheTrunkWants(t *testing.T) {
	pool := secretPool(t, 23000)
	for _, c := range []struct {
		name          string
		a, b          PlainConfig
		offer, answer string // what must be in them
		secured       bool
		err           error
	}{
		{"keys in the description", PlainConfig{SRTP: SRTPRequired}, PlainConfig{SRTP: SRTPRequired}, "RTP/SAVP 8", "RTP/SAVP 8", true, nil},
		{"required by one", PlainConfig{SRTP: SRTPRequired}, PlainConfig{SRTP: SRTPOptional}, "a=crypto:1 AEAD_AES_128_GCM", "a=crypto:1 AEAD_AES_128_GCM", true, nil},
		{"opportunistic", PlainConfig{SRTP: SRTPOptional}, PlainConfig{SRTP: SRTPOptional}, "RTP/AVP 8", "RTP/AVP 8", true, nil},
		{"opportunistic, demanded", PlainConfig{SRTP: SRTPOptional}, PlainConfig{SRTP: SRTPRequired}, "a=crypto:1", "a=crypto:1", true, nil},
		{"opportunistic, not taken", PlainConfig{SRTP: SRTPOptional}, PlainConfig{}, "a=crypto:1", "RTP/AVP 8", false, nil},
		{"off", PlainConfig{}, PlainConfig{SRTP: SRTPOptional}, "RTP/AVP 8", "RTP/AVP 8", false, nil},
		{"demanded, off", PlainConfig{SRTP: SRTPRequired}, PlainConfig{}, "RTP/SAVP 8", "", false, sdp.ErrNothingInCommon},
		{"off, demanded", PlainConfig{}, PlainConfig{SRTP: SRTPRequired}, "RTP/AVP 8", "", false, sdp.ErrNothingInCommon},
		{"one suite", PlainConfig{SRTP: SRTPRequired, Suites: []string{"AES_256_CM_HMAC_SHA1_80"}}, PlainConfig{SRTP: SRTPOptional}, "AES_256_CM", "AES_256_CM", true, nil},
		{"another suite", PlainConfig{SRTP: SRTPRequired}, PlainConfig{SRTP: SRTPRequired, Suites: []string{"AES_CM_128_HMAC_SHA1_32"}}, "a=crypto:3 AES_CM_128_HMAC_SHA1_32", "a=crypto:3 AES_CM_128_HMAC_SHA1_32", true, nil},
		{"no suite in common", PlainConfig{SRTP: SRTPRequired}, PlainConfig{SRTP: SRTPRequired, Suites: []string{"AEAD_AES_256_GCM"}}, "RTP/SAVP", "", false, sdp.ErrNothingInCommon},
		{"DTLS", PlainConfig{SRTP: SRTPRequired, Keys: KeysDTLS}, PlainConfig{SRTP: SRTPRequired}, "UDP/TLS/RTP/SAVP 8", "a=setup:passive", true, nil},
		{"opportunistic DTLS", PlainConfig{SRTP: SRTPOptional, Keys: KeysDTLS}, PlainConfig{SRTP: SRTPOptional}, "RTP/AVP 8", "a=fingerprint:sha-256", true, nil},
		{"opportunistic DTLS, not taken", PlainConfig{SRTP: SRTPOptional, Keys: KeysDTLS}, PlainConfig{}, "a=fingerprint:sha-256", "RTP/AVP 8", false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newPhone(t, pool, c.a), newPhone(t, pool, c.b)
			offer, answer, err := describe(a, b, nil)
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if !strings.Contains(offer, c.offer) || !strings.Contains(answer, c.answer) {
				t.Fatalf("%s\n%s", offer, answer)
			}
			if c.err != nil {
				return
			}
			if a.stream.Agreed().Secured != c.secured || b.stream.Agreed().Secured != c.secured {
				t.Fatal("the ends differ on whether it is secret")
			}
			talk(t, a, b)
			for _, p := range []*phone{a, b} {
				if p.stream.in.malformed.Load() > 0 {
					t.Error("something could not be read")
				}
			}
		})
	}
}

// An answer without keys must not end in a call in the clear.
func TestRequiredSRTPNeverFallsBack(t *testing.T) {
	pool := secretPool(t, 23100)
	strip := func(s string) string {
		var out []string
		for l := range strings.Lines(s) {
			if !strings.HasPrefix(l, "a=crypto") && !strings.HasPrefix(l, "a=fingerprint") {
				out = append(out, l)
			}
		}
		return strings.Replace(strings.Join(out, ""), "RTP/SAVP", "RTP/AVP", 1)
	}
	for _, keys := range []Keys{KeysSDES, KeysDTLS} {
		a, b := newPhone(t, pool, PlainConfig{SRTP: SRTPRequired, Keys: keys}), newPhone(t, pool, PlainConfig{})
		first := true
		_, _, err := describe(a, b, func(s string) string {
			if first {
				first = false
				return strings.Replace(strip(s), "UDP/TLS/", "", 1)
			}
			return s
		})
		if !errors.Is(err, ErrNotSecured) {
			t.Errorf("%s: %v", keys, err)
		}
	}
}

func TestEverySuiteCrosses(t *testing.T) {
	pool := secretPool(t, 23200)
	for _, suite := range append([]string{"AES_CM_256_HMAC_SHA1_80"}, Suites...) {
		a, b := newPhone(t, pool, PlainConfig{SRTP: SRTPRequired, Suites: []string{suite}}), newPhone(t, pool, PlainConfig{SRTP: SRTPRequired})
		if _, answer, err := describe(a, b, nil); err != nil || !strings.Contains(answer, suite) {
			t.Fatalf("%s: %v\n%s", suite, err, answer)
		}
		talk(t, a, b)
	}
}

func TestKeysChangeInTheCall(t *testing.T) {
	pool := secretPool(t, 23300)
	a, b := newPhone(t, pool, PlainConfig{SRTP: SRTPRequired}), newPhone(t, pool, PlainConfig{SRTP: SRTPRequired})
	if _, _, err := describe(a, b, nil); err != nil {
		t.Fatal(err)
	}
	talk(t, a, b)
	before, ours := a.secured.Load(), b.secured.Load().out
	if _, _, err := describe(a, b, nil); err != nil || a.secured.Load() != before || b.secured.Load().out != ours {
		t.Fatal("an offer that changes nothing changed the keys", err)
	}
	talk(t, a, b)
	// Another telephone takes over behind the same dialog: new keys, and a count
	// of packets that begins anew.
	late := append([]byte(nil), func() []byte {
		sequence++
		raw := append(make([]byte, Headroom), "late"...)
		putHeader(&rtp.Header{Version: 2, PayloadType: 8, SequenceNumber: sequence, SSRC: a.stream.ssrc.Load()}, raw)
		out, err := before.seal(raw)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}()...)
	a.secrets.mine, a.secrets.now = nil, sdp.Crypto{Suite: a.secrets.now.Suite}
	if _, _, err := describe(a, b, nil); err != nil {
		t.Fatal(err)
	}
	if b.secured.Load().out == ours || a.secured.Load() == before {
		t.Fatal("the keys are the old ones")
	}
	if err := a.rtp.WriteTo(late, netip.AddrPortFrom(loopback, uint16(b.port))); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-b.heard:
		if string(got) != "late" {
			t.Fatalf("%q", got)
		}
	case <-time.After(time.Second):
		t.Fatal("what was on its way by the old key is lost")
	}
	talk(t, a, b)
	for range retire {
		says(a, b, "more")
	}
	if b.secured.Load().old != nil {
		t.Error("the old key is still good")
	}
}

func TestDTLSOnBothPorts(t *testing.T) {
	pool := secretPool(t, 23400)
	a, b := newPhone(t, pool, PlainConfig{SRTP: SRTPRequired, Keys: KeysDTLS}), newPhone(t, pool, PlainConfig{SRTP: SRTPRequired})
	if _, answer, err := describe(a, b, func(s string) string { return strings.Replace(s, "a=rtcp-mux\r\n", "", 1) }); err != nil || strings.Contains(answer, "rtcp-mux") {
		t.Fatal(err, answer)
	}
	talk(t, a, b)
	a.stop() // its own reports are some seconds away
	report, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: b.stream.ssrc.Load(), FractionLost: 77}}}})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := a.secured.Load().sealRTCP(report)
	if err != nil || bytes.Equal(report, sealed[:len(report)]) {
		t.Fatal("the report goes in the clear", err)
	}
	for i := 0; b.stream.far.loss.Load() != 77; i++ {
		if i == 200 {
			t.Fatal("no report crossed")
		}
		if err := a.rtcp.WriteTo(sealed, netip.AddrPortFrom(loopback, uint16(b.port+1))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestAnotherCertificateEndsTheCall(t *testing.T) {
	pool := secretPool(t, 23500)
	a, b := newPhone(t, pool, PlainConfig{SRTP: SRTPRequired, Keys: KeysDTLS}), newPhone(t, pool, PlainConfig{SRTP: SRTPRequired})
	wrong := "a=fingerprint:sha-256 " + strings.TrimSuffix(strings.Repeat("0A:", 32), ":") + "\r\n"
	if _, _, err := describe(a, b, func(s string) string {
		from := strings.Index(s, "a=fingerprint")
		return s[:from] + wrong + s[from+strings.Index(s[from:], "\n")+1:]
	}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*phone{a, b} {
		select {
		case e := <-p.Events():
			if e.Kind != Failed {
				t.Error(e)
			}
		case <-time.After(10 * time.Second):
			t.Error("nobody is told")
		}
	}
	for _, p := range []*phone{a, b} {
		if s := p.secured.Load(); s == nil || s.in != nil || s.out != nil {
			t.Error("they could talk all the same")
		}
	}
}
