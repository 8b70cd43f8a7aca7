package browser

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sipbridge/sipbridge/internal/bus"
	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/invite"
	"github.com/sipbridge/sipbridge/internal/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// page is a patient's page: what it was told, and the room it speaks to.
type page struct {
	t    testing.TB
	f    *Front
	inv  invite.Invitation
	mu   sync.Mutex
	told []message
	legs atomic.Int32 // calls begun
}

// open makes a front on a bus of its own and one invitation.
func open(t testing.TB) *page {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	b, err := bus.Open(t.TempDir(), nil, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	loops, err := media.NewLoops(media.Expedited)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { loops.Close() })
	browsers, err := media.NewBrowsers(media.BrowsersConfig{Loops: loops, Listen: netip.MustParseAddr("127.0.0.1"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { browsers.Close() })
	p := &page{t: t}
	book := invite.Book{Site: "lisbon", Config: invite.Config{DialPrefix: "7", DialDigits: 7}, Store: b.Visits()}
	p.f, err = New(Options{Site: "lisbon", Wire: b.Wire, Invitations: book, Browsers: browsers, Log: log,
		Handle: func(call.Leg, call.Facts) { p.legs.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.f.Close)
	if p.inv, _, err = book.Create("sip:1000@hospital", "Maria", nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	stop, err := b.Listen(bus.Down("lisbon", p.inv.Hash), func(m bus.Message) {
		var said message
		if err := json.Unmarshal(m.Data, &said); err != nil {
			t.Errorf("the engine says %q: %v", m.Data, err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		said.Tab = m.Epoch // which attachment was told
		p.told = append(p.told, said)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return p
}

func (p *page) say(epoch, text string) {
	p.t.Helper()
	if err := p.f.o.Wire.Send(bus.Up("lisbon", p.inv.Hash), epoch, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// hears waits for a message of that type and code, and returns all before it too.
func (p *page) hears(epoch, kind, code string) []message {
	p.t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.mu.Lock()
		for i, m := range p.told {
			if m.Tab == epoch && m.Type == kind && m.Code == code {
				told := p.told[:i+1]
				p.told = p.told[i+1:]
				p.mu.Unlock()
				return told
			}
		}
		p.mu.Unlock()
	}
	p.t.Fatalf("%s %s was not said; %+v was", kind, code, p.told)
	return nil
}

func TestAnAttachmentIsFencedOffByTheNext(t *testing.T) {
	p := open(t)
	p.say("1", `{"type":"hello","tab":"a","fresh":true}`)
	p.hears("1", "welcome", "")
	p.say("2", `{"type":"hello","tab":"a"}`)
	p.hears("2", "welcome", "")
	p.say("1", `{"type":"nonsense"}`) // an attachment that is over is not even told off
	p.say("2", `{"type":"ping"}`)
	for _, m := range p.hears("2", "pong", "") {
		if m.Tab == "1" {
			t.Errorf("the old attachment was told %+v", m)
		}
	}
}

func TestAPageIsAskedForAConnectionThatTheSoundCanFollow(t *testing.T) {
	p := open(t)
	p.say("1", `{"type":"hello","tab":"a","fresh":true}`)
	p.hears("1", "welcome", "")
	p.f.mu.Lock()
	r := p.f.rooms[p.inv.Hash]
	p.f.mu.Unlock()
	r.mu.Lock()
	leg, err := r.newLeg(false)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Unlock()
	for _, c := range []struct {
		phase phase
		kind  media.EventKind
		asked string
	}{{ringing, media.Moved, ""}, {talking, media.Moved, "repair"}, {talking, media.Disconnected, "repair"}, {talking, media.Wider, "renegotiate"}} {
		r.mu.Lock()
		leg.phase = c.phase
		r.mu.Unlock()
		events := make(chan media.Event, 1)
		events <- media.Event{Kind: c.kind}
		close(events)
		leg.hear(events)
		p.say("1", `{"type":"ping"}`)
		asked := ""
		for _, m := range p.hears("1", "pong", "") {
			if m.Type != "pong" {
				asked = m.Type
			}
		}
		if asked != c.asked {
			t.Errorf("in phase %d, event %d: asked for %q", c.phase, c.kind, asked)
		}
	}
	p.say("1", `{"type":"renegotiate","seq":1,"sdp":"v=0"}`) // which the sound survives
	p.say("1", `{"type":"ping"}`)
	if !slices.ContainsFunc(p.hears("1", "pong", ""), func(m message) bool { return m.Type == "repair" }) {
		t.Error("a description that says nothing is not asked for again")
	}
	leg.Hangup(call.NormalClearing)
	<-leg.Done()
}

func TestAnotherTabIsToldThatTheLinkIsInUse(t *testing.T) {
	p := open(t)
	p.say("1", `{"type":"hello","tab":"a","fresh":true}`)
	p.hears("1", "welcome", "")
	p.say("2", `{"type":"hello","tab":"b","fresh":true}`)
	p.hears("2", "error", "in-use")
	p.say("1", `{"type":"ping"}`)
	p.hears("1", "pong", "")
}

func TestWhatWasNotAcknowledgedIsSaidAgain(t *testing.T) {
	p := open(t)
	p.say("1", `{"type":"hello","tab":"a","fresh":true}`)
	p.hears("1", "welcome", "")
	p.say("1", `{"type":"rejoin","seq":1}`)
	p.hears("1", "ended", "over")
	p.say("2", `{"type":"hello","tab":"a","ack":0}`) // its acknowledgement never came
	p.hears("2", "ended", "over")
	p.say("3", `{"type":"hello","tab":"a","ack":1}`)
	p.say("3", `{"type":"ping","ack":1}`)
	for _, m := range p.hears("3", "pong", "") {
		if m.Type == "ended" {
			t.Error("what was acknowledged was said again")
		}
	}
}

func TestAMessageSaidTwiceCountsOnce(t *testing.T) {
	p := open(t)
	p.say("1", `{"type":"hello","tab":"a","fresh":true}`)
	p.hears("1", "welcome", "")
	p.say("1", `{"type":"rejoin","seq":1}`)
	p.hears("1", "ended", "over")
	p.say("1", `{"type":"rejoin","seq":1}`) // again
	p.say("1", `{"type":"rejoin","seq":9}`) // out of turn
	p.say("1", `{"type":"ping"}`)
	for _, m := range p.hears("1", "pong", "") {
		if m.Type == "ended" {
			t.Error("a message was taken that should not have been")
		}
	}
}

func TestAJoinThatOffersNothingUsableIsEndedAndTheLinkLives(t *testing.T) {
	p := open(t)
	p.say("1", `{"type":"hello","tab":"a","fresh":true}`)
	p.hears("1", "welcome", "")
	p.say("1", `{"type":"join","seq":1,"sdp":"v=0"}`)
	p.hears("1", "ended", "no-codec")
	p.say("1", `{"type":"ping"}`)
	p.hears("1", "pong", "")
	if p.legs.Load() > 0 {
		t.Error("it became a call")
	}
}

func TestALinkRevokedWhileItsPageIsOpenCannotJoin(t *testing.T) {
	p := open(t)
	p.say("1", `{"type":"hello","tab":"a","fresh":true}`)
	p.hears("1", "welcome", "")
	if err := p.f.o.Invitations.Revoke(p.inv.ID); err != nil {
		t.Fatal(err)
	}
	p.say("1", `{"type":"join","seq":1,"sdp":"v=0"}`)
	p.hears("1", "error", "expired")
}

// FuzzMessage sends a page's messages, one a line, to a room that is ringing,
// talking or in its lobby. Whatever they say, the room serves the next page.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		`{"type":"hello","tab":"x","fresh":true}`,
		`{"type":"ping","ack":18446744073709551615}`,
		"{\"type\":\"join\",\"seq\":1,\"sdp\":\"v=0\"}\n{\"type\":\"hangup\",\"seq\":2}",
		"{\"type\":\"candidate\",\"candidate\":\"candidate:1 1 udp 1 1.2.3.4 5 typ host\"}",
		`{"type":"digit","digit":"#","ms":9223372036854775807}`,
		`{"type":"answer","sdp":"v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"}`,
		"{\"type\":\"decline\"}\n{\"type\":\"gone\"}\n[]\n{}\n\x00",
	} {
		f.Add(s)
	}
	p := open(f)
	f.Fuzz(func(t *testing.T, lines string) {
		r := newRoom(p.f, p.inv)
		defer r.leave()
		r.take(delivery{"1", message{Type: "hello", Tab: "a", Fresh: true}})
		for _, line := range strings.Split(lines, "\n") {
			if m, err := decode([]byte(line)); err == nil {
				r.take(delivery{"1", m})
			}
		}
		r.mu.Lock()
		if len(r.out) > unacked {
			t.Errorf("%d messages wait", len(r.out))
		}
		if r.leg != nil {
			r.leg.end(call.NormalClearing, false)
		}
		r.epoch, r.tab = "", ""
		r.mu.Unlock()
		r.take(delivery{"2", message{Type: "hello", Tab: "b", Fresh: true}})
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.epoch != "2" || r.leg != nil {
			t.Errorf("after %q the room serves %q and has leg %v", lines, r.epoch, r.leg)
		}
	})
}
