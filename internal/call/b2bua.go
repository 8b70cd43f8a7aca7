package call

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/audit"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
)

// Config is what the B2BUA needs from its surroundings.
type Config struct {
	Site    string
	Decide  func(policy.Query) policy.Decision
	Limits  func(number string) []policy.Limit // of calls by trunks; nil: none
	Dialers map[string]Dialer                  // by target kind
	Full    func() bool                        // one more call could cost others their sound; nil: never
	Open    func(audit.Record)                 // leaves word of a call, should we die in it
	Record  func(audit.Record)                 // the one record, when it is over
	Heard   func(Heard)                        // what each leg's sound was like, a while at a time; nil: nobody asks
	Log     *slog.Logger
}

// B2BUA runs the calls.
type B2BUA struct {
	cfg Config
	wg  sync.WaitGroup

	mu     sync.Mutex // guards calls and closed
	calls  map[string]*Call
	closed bool

	counts Counts // guarded by mu
	tolls  tolls
	routes routeLimits
	meter  meter
}

// Counts are totals since the start.
type Counts struct {
	Calls   map[string]uint64 // by source
	Ended   map[int]uint64    // by status; 0: normal
	Refused map[string]uint64 // by decision
	Routes  map[RouteOutcome]uint64
}

// RouteOutcome is what became of a call by a route: "taken", "full", "refused", or
// "to" and the target that answered.
type RouteOutcome struct{ Route, Outcome string }

// New makes a B2BUA that refuses nothing and runs no call yet.
func New(cfg Config) *B2BUA {
	return &B2BUA{cfg: cfg, calls: map[string]*Call{}, tolls: tolls{calls: map[string]int{}, begun: map[string][]time.Time{}, refused: map[Toll]uint64{}},
		counts: Counts{Calls: map[string]uint64{}, Ended: map[int]uint64{}, Refused: map[string]uint64{}, Routes: map[RouteOutcome]uint64{}},
		routes: routeLimits{calls: map[limited]int{}, begun: map[limited][]time.Time{}}, meter: meter{told: cfg.Heard, was: map[Leg]media.Stats{}}}
}

// Handle takes a leg that calls, with what its peer said of the call: the
// Session-ID, nil if none, the hops it may still take, 0 if not said, and who it is.
// It returns at once.
func (b *B2BUA) Handle(leg Leg, said Facts) {
	said.ID = randomHex(8)
	if said.Session == nil {
		said.Session = NewSession("")
	}
	if said.Hops == 0 {
		said.Hops = maxHops + 1
	}
	said.Hops--
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &Call{b: b, Facts: said, a: leg, ctx: ctx, cancel: cancel,
		started: time.Now(), query: leg.Query(), done: make(chan struct{}), replace: make(chan replacement), part: make(chan parting)}
	c.log = b.cfg.Log.With("call", c.ID, "session", c.Session.ID)
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		leg.Hangup(ShuttingDown)
		return
	}
	b.calls[c.ID] = c
	b.counts.Calls[c.query.Call.Source]++
	b.wg.Go(c.serve)
	b.mu.Unlock()
}

// Calls is a snapshot, oldest first is not promised.
func (b *B2BUA) Calls() []*Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*Call, 0, len(b.calls))
	for _, c := range b.calls {
		out = append(out, c)
	}
	return out
}

// Find returns the call with that ID.
func (b *B2BUA) Find(id string) (*Call, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.calls[id]
	return c, ok
}

// of is the call that a leg is in; nil if there is none.
func (b *B2BUA) of(leg Leg) *Call {
	for _, c := range b.Calls() {
		if slices.Contains(c.Legs(), leg) {
			return c
		}
	}
	return nil
}

// Replace has a leg take another's place (RFC 3891); false if that is in no call.
func (b *B2BUA) Replace(leg, old Leg) bool {
	c := b.of(old)
	return c != nil && c.Replace(leg, old)
}

// Far is whom a leg talks to; nil if nobody.
func (b *B2BUA) Far(leg Leg) Leg {
	if c := b.of(leg); c != nil {
		for _, l := range c.Legs() {
			if l != leg {
				return l
			}
		}
	}
	return nil
}

// Counts is a copy of the totals.
func (b *B2BUA) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Counts{maps.Clone(b.counts.Calls), maps.Clone(b.counts.Ended), maps.Clone(b.counts.Refused), maps.Clone(b.counts.Routes)}
}

// ErrNoCall is returned where no call has that ID.
var ErrNoCall = errors.New("call: no such call")

// Hangup ends a call.
func (b *B2BUA) Hangup(id string, cause Cause) error {
	c, ok := b.Find(id)
	if !ok {
		return ErrNoCall
	}
	c.Hangup(cause)
	return nil
}

// Shutdown refuses new calls, gives the others drain to end by themselves, ends
// the rest and waits until every one is buried, or ctx is over.
func (b *B2BUA) Shutdown(ctx context.Context, drain time.Duration) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	idle := make(chan struct{})
	go func() { b.wg.Wait(); close(idle) }() // ends with the last call, which the loop below sees to
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-idle:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	for _, c := range b.Calls() {
		c.Hangup(ShuttingDown)
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *B2BUA) forget(c *Call, status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.calls, c.ID)
	b.counts.Ended[status]++
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
