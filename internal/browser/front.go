// Package browser is the browser front: it turns a patient's page into a call
// leg. The page speaks the messages of docs/signalling.md; the portal relays
// them over the bus; here, in the engine, invitations are verified and calls
// begin.
package browser

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipbridge/sipbridge/internal/bus"
	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/invite"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// Grace is how long a page may be away before its call ends and its link is
// free for another tab.
const Grace = 20 * time.Second

// inbox bounds the messages of one page that wait for their turn.
const inbox = 32

// unacked bounds what a page has not yet acknowledged.
const unacked = 256

// maxRooms bounds the links that are open at once.
const maxRooms = 10_000

// Options is what the front needs from its surroundings.
type Options struct {
	Site        string
	Wire        *bus.Wire
	Invitations invite.Book
	Browsers    *media.Browsers
	Handle      func(leg call.Leg, said call.Facts)
	Relays      func(inv invite.Invitation) Relays // nil: there are none
	Emergency   func() map[string]string           // what a patient is told who is led to an emergency number; nil: nothing of the hospital's
	Log         *slog.Logger
}

// Relays are those of one visit.
type Relays struct {
	Page []media.ICEServer // for the page
	Own  []media.ICEServer // for us, where we are not reached otherwise
}

// Front is the browser front.
type Front struct {
	o    Options
	stop func()
	wg   sync.WaitGroup

	mu     sync.Mutex // guards rooms and closed
	rooms  map[string]*room
	closed bool

	// Refused counts hellos with a link that is not valid, Malformed messages
	// that could not be read.
	Refused, Malformed atomic.Uint64
}

// New begins to listen to pages.
func New(o Options) (*Front, error) {
	f := &Front{o: o, rooms: map[string]*room{}}
	var err error
	f.stop, err = o.Wire.Listen(bus.Up(o.Site, "*"), f.receive)
	return f, err
}

// Close stops listening; every leg must have been hung up before.
func (f *Front) Close() {
	f.stop()
	f.mu.Lock()
	f.closed = true
	rooms := f.rooms
	f.rooms = map[string]*room{}
	f.mu.Unlock()
	for _, r := range rooms {
		r.leave()
	}
	f.wg.Wait()
}

// Pages is how many links are open.
func (f *Front) Pages() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.rooms)
}

// receive is called for each message from any page, in order: it must not wait.
func (f *Front) receive(m bus.Message) {
	msg, err := decode(m.Data)
	if err != nil {
		f.Malformed.Add(1)
		return
	}
	f.mu.Lock()
	r := f.rooms[m.Visit]
	f.mu.Unlock()
	if r == nil {
		if msg.Type != "hello" {
			return
		}
		inv, err := f.o.Invitations.ByHash(m.Visit)
		if err != nil {
			f.Refused.Add(1)
			f.answer(m.Visit, m.Epoch, message{Type: "error", Code: "expired"})
			return
		}
		if r = f.room(inv); r == nil {
			f.answer(m.Visit, m.Epoch, message{Type: "error", Code: "overload"})
			return
		}
	}
	select {
	case r.inbox <- &delivery{m.Epoch, msg}:
	default:
		f.Malformed.Add(1) // a page that floods is not served faster
	}
}

// room returns the visit's room, made if need be; nil if there are too many or
// the front is closed.
func (f *Front) room(inv invite.Invitation) *room {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.rooms[inv.Hash]; r != nil {
		return r
	}
	if f.closed || len(f.rooms) >= maxRooms {
		return nil
	}
	r := newRoom(f, inv)
	f.rooms[inv.Hash] = r
	f.wg.Go(r.serve)
	return r
}

func (f *Front) drop(r *room) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rooms[r.inv.Hash] == r {
		delete(f.rooms, r.inv.Hash)
	}
}

// answer says one thing to one attachment.
func (f *Front) answer(visit, epoch string, m message) {
	b, err := json.Marshal(m)
	if err == nil {
		err = f.o.Wire.Send(bus.Down(f.o.Site, visit), epoch, b)
	}
	if err != nil {
		f.o.Log.Warn("page not told", "error", err)
	}
}

// Dial implements call.Dialer: it rings the visit whose dial code was dialled. A
// patient who is not there yet is rung on arrival.
func (f *Front) Dial(_ context.Context, to policy.Target, facts call.Facts, offer sdp.Session) (call.Leg, error) {
	inv, err := f.o.Invitations.ByCode(to.To.User)
	if err != nil {
		return nil, call.Cause{Status: 404, Q850: 1, Text: "no visit has that dial code"}
	}
	r := f.room(inv)
	if r == nil {
		return nil, call.ShuttingDown
	}
	return r.dial(facts, to, offer)
}

// callQuery is what the policy is asked when a patient joins.
func callQuery(inv invite.Invitation) policy.Query {
	user, host, ok := strings.Cut(strings.TrimPrefix(inv.To, "sip:"), "@")
	if !ok {
		user, host = "", user
	}
	host, _, _ = strings.Cut(host, ";")
	return policy.Query{Visit: inv.ID, Call: policy.Call{Source: "browser", Labels: inv.Labels,
		From: policy.Address{User: inv.DialCode, Display: inv.Name},
		To:   policy.Address{User: user, Host: host}}}
}
