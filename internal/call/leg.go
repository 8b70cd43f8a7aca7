// Package call is the back-to-back user agent: it takes a leg, asks the policy
// where it may go, reaches the far end and lets the two talk until one ends it.
// It knows nothing of SIP messages, browsers or sockets.
package call

import (
	"context"
	"fmt"
	"time"

	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// Leg is one end of a call; a front implements it. Commands return at once;
// what comes of them is an event. The event queue is bounded: a leg that
// overflows it ends itself.
type Leg interface {
	// Kind is "sip" or "browser"; Peer names the far side for an administrator.
	Kind() string
	Peer() string
	// Place is what the policy's call.source calls where the peer is: a trunk's name,
	// "room", "browser".
	Place() string
	// Query is what the policy is asked; the zero Query on legs we dialled.
	Query() policy.Query
	// Media is the leg's streams.
	Media() media.Streams
	// Want is what the peer offers or has agreed to.
	Want() sdp.Session
	// Events are closed after Ended.
	Events() <-chan Event
	// Progress tells a caller that the far end rings (RFC 3261 §13.3.1.1); with
	// far, that its sound comes already, and what that is.
	Progress(status int, far *sdp.Session) error
	// Accept answers the caller. far is what the far end agreed to, with the route's
	// terms.
	Accept(far sdp.Session) error
	// Offer tells the peer that the far end changed the session: it holds, or is
	// recorded, or no longer. What comes of it changes Want.
	Offer(want sdp.Session)
	// Signal passes on what travels beside the media.
	Signal(Info)
	// Hangup ends the leg as its state demands: CANCEL, a final response, BYE.
	// It is idempotent and never waits.
	Hangup(Cause)
	// Done is closed when the leg has given back all it held.
	Done() <-chan struct{}
}

// Event is something a leg has to say. Exactly one field is set, but for Sound.
type Event struct {
	Ringing  int       // a provisional status of a leg we dialled
	Sound    bool      // beside Ringing: its sound comes already; Want says what
	Answered bool      // the leg may talk; Want says with what
	Offered  *Offered  // the peer wants to change the session
	Signal   *Info     // a digit
	Transfer *Transfer // the peer asks that the other end talk to somebody else
	Ended    *Cause    // the leg is over; the last event
}

// Transfer is a peer's wish to leave the call to somebody else. It may leave
// before that one has answered. A target without a kind is for the policy to find,
// as if the peer had called its number.
type Transfer struct {
	Target policy.Target
	With   Leg              // instead of a target: an end of another call, which comes over into this one
	Told   func(status int) // what becomes of it, as SIP statuses; the last is 200 or more
}

// Offered is a peer's wish to change the session. One of Accept and Reject must
// be called.
type Offered struct {
	Want   sdp.Session
	Accept func(want sdp.Session) error // want gives our directions
	Reject func(Cause)
}

// Info travels beside the media.
type Info struct {
	Digit   dtmf.Digit
	Length  time.Duration
	Carried bool // the digit crosses in the media as well
}

// Dialer reaches a kind of target. It returns at once with a leg that is being
// dialled.
type Dialer interface {
	Dial(ctx context.Context, to policy.Target, call Facts, offer sdp.Session) (Leg, error)
}

// Spreader is a dialer that knows several ways to a target: those of the first
// group are rung together, those of the next while nobody can be reached by the
// ones before.
type Spreader interface {
	Ways(to policy.Target) [][]policy.Target
}

// Facts are what a dialled leg may tell its peer of the call.
type Facts struct {
	ID       string
	Session  *Session
	Hops     int // hops left (Max-Forwards, RFC 3261 §20.22)
	Identity Identity
	Urgent   bool                // an emergency call: no limit holds it up
	AtOnce   bool                // the caller asks to be answered without a ring, and the route lets it
	Headers  map[string][]string // what else it said, for whoever is allowed to hear it
}

// Identity is what is known of a caller beside its query.
type Identity struct {
	Asserted policy.Address      // who it is, as a trunk that we trust says, or we; zero: nobody vouches (RFC 3325)
	Private  bool                // it wants to be unknown to whoever is called (RFC 3323)
	Passed   map[string][]string // headers that trusted trunks hear from one another
}

// maxHops is where Max-Forwards begins (RFC 3261 §8.1.1.6).
const maxHops = 70

// Cause is why a leg or a call ends. It travels as an error.
type Cause struct {
	Status     int // SIP status; 0: none
	Q850       int // ITU-T Q.850
	Text       string
	RetryAfter time.Duration
	Urgent     bool // an emergency number was called that is not reached from here
}

func (c Cause) Error() string {
	if c.Status == 0 {
		return c.Text
	}
	return fmt.Sprintf("%d %s", c.Status, c.Text)
}

// unreached reports whether nobody heard of the call, so that another way to the
// same end is worth a try (RFC 3263 §4.3).
func (c Cause) unreached() bool { return c.Status == 503 || c.Status == 504 || c.Status == 408 }

// The causes that the call itself gives.
var (
	NormalClearing = Cause{Q850: 16, Text: "hung up"}
	Cancelled      = Cause{Status: 487, Q850: 16, Text: "the caller gave up"}
	Elsewhere      = Cause{Status: 487, Q850: 26, Text: "answered elsewhere"}
	NoAnswer       = Cause{Status: 480, Q850: 19, Text: "nobody answered"}
	TimeLimit      = Cause{Q850: 31, Text: "the longest time for a call is over"}
	ShuttingDown   = Cause{Status: 503, Q850: 38, Text: "the gateway shuts down", RetryAfter: 10 * time.Second}
	ByOperator     = Cause{Q850: 16, Text: "ended by an administrator"}
	Busy           = Cause{Status: 503, Q850: 42, Text: "the gateway is full", RetryAfter: 5 * time.Second}
	RouteFull      = Cause{Status: 503, Q850: 34, Text: "too many calls for the route", RetryAfter: 30 * time.Second}
	NotAcceptable  = Cause{Status: 488, Q850: 88, Text: "no codec in common"}
	NotSecured     = Cause{Status: 488, Q850: 65, Text: "the sound would not be secret"}
	Overflow       = Cause{Status: 500, Q850: 47, Text: "too many events at once"}
	MediaLost      = Cause{Q850: 27, Text: "the media path was lost"}
)
