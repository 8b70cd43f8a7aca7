package sip

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
)

const (
	// askAgain is how often a trunk that is down is asked whether it is back.
	askAgain = 5 * time.Second
	// patience is how long a trunk may take for its first response before the call
	// tries another way; a late one is cancelled or hung up.
	patience = 4 * time.Second
	// restMost bounds the Retry-After that is obeyed.
	restMost = 5 * time.Minute
)

// The states of a trunk. Silent is one that has never answered an OPTIONS: some
// PBXs do not, so that nothing follows from it and it is never down.
const (
	Up     = "up"
	Down   = "down"
	Silent = "silent"
	Unseen = "not asked"
	Absent = "not registered" // a room
)

// TrunkState is what is known of a trunk.
type TrunkState struct {
	Name    string
	Targets []TargetState
	Calls   int
	Refused map[string]uint64 // calls that were one too many, by reason
}

// TargetState is what is known of one of a trunk's addresses.
type TargetState struct {
	Address   string
	State     string
	Since     time.Time     // when it came into that state
	RoundTrip time.Duration // of the last OPTIONS that was answered; 0: none
	RestUntil time.Time     // by its own wish (Retry-After); zero: it has none
	Enrolled  string        // how our registration there stands; "": we have none to make
}

// health follows the state of a trunk's address.
type health struct {
	doubt chan struct{} // a call got no answer: is it there?

	mu      sync.Mutex // guards all below
	state   string
	answers bool // it has answered an OPTIONS
	since   time.Time
	trip    time.Duration
	rest    time.Time
}

// answered takes a final response to a call or, after the time it took, to an
// OPTIONS. A 503 is the trunk's own word that it takes no calls (RFC 3261
// §21.5.4).
func (h *health) answered(res *sipmsg.Response, trip time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if trip > 0 {
		h.trip, h.answers = trip, true
	}
	if h.answers {
		h.enter(Up)
	}
	if res.StatusCode == 503 {
		h.rest = time.Now().Add(retryAfter(res))
	}
}

// ignored takes a call that got no answer.
func (h *health) ignored() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.answers {
		return
	}
	h.enter(Down)
	select {
	case h.doubt <- struct{}{}:
	default: // it is being asked
	}
}

// silent takes an OPTIONS that got no answer.
func (h *health) silent() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answers {
		h.enter(Down)
	} else {
		h.enter(Silent)
	}
}

// enter needs mu.
func (h *health) enter(state string) {
	if h.state != state {
		h.state, h.since = state, time.Now()
	}
}

// refuses says why no call should be tried now, if that is so.
func (h *health) refuses() (call.Cause, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if wait := time.Until(h.rest); wait > 0 {
		return call.Cause{Status: 503, Q850: 42, Text: "the trunk takes no calls for now", RetryAfter: wait}, true
	}
	return call.Cause{Status: 503, Q850: 38, Text: "the trunk is down"}, h.state == Down
}

// retryAfter is how long a 503 asks us to stay away (RFC 3261 §20.33).
func retryAfter(res *sipmsg.Response) time.Duration {
	h := res.GetHeader("Retry-After")
	if h == nil {
		return 0
	}
	digits, _, _ := strings.Cut(h.Value(), "(")
	digits, _, _ = strings.Cut(digits, ";")
	n, err := strconv.Atoi(strings.TrimSpace(digits))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, restMost)
}

// watch asks a trunk by OPTIONS, again and again, whether it is there.
func (s *Server) watch(hop *hop) {
	every := hop.OptionsEvery
	for {
		s.ask(hop)
		wait := every
		if st := hop.health.snapshot(); st.State == Down {
			wait = min(every, askAgain)
		}
		select {
		case <-time.After(wait):
		case <-hop.health.doubt:
		case <-hop.gone:
			return
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Server) ask(hop *hop) {
	before := hop.health.snapshot().State
	local, _ := s.local(hop, hop.net)
	req := sipmsg.NewRequest(sipmsg.OPTIONS, *hop.uri.Clone())
	for _, r := range hop.through() {
		req.AppendHeader(&sipmsg.RouteHeader{Address: r})
	}
	s.address(hop, req, hop.uri, hop.net)
	req.SetDestination(hop.dest)
	from := &sipmsg.FromHeader{Params: sipmsg.NewParams(), Address: sipmsg.Uri{Scheme: "sip", User: "sipbridge", Host: host(local.Addr())}}
	from.Params.Add("tag", randomHex(8))
	s.complete(req, from, &sipmsg.ToHeader{Address: *hop.uri.Clone(), Params: sipmsg.NewParams()}, randomHex(16), 1, maxForwards)
	req.AppendHeader(header("Accept", "application/sdp"))
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	asked := time.Now()
	res, _ := s.exchange(ctx, hop, req)
	if s.ctx.Err() != nil {
		return
	}
	if res == nil {
		hop.health.silent()
	} else {
		hop.health.answered(res, time.Since(asked))
	}
	if now := hop.health.snapshot().State; now != before {
		s.o.Log.Info("trunk is "+now, "trunk", hop.name, "address", hop.address)
	}
}

func (h *health) snapshot() TargetState {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := TargetState{State: h.state, Since: h.since, RoundTrip: h.trip}
	if time.Now().Before(h.rest) {
		st.RestUntil = h.rest
	}
	return st
}

// Trunks is the state of each trunk.
func (s *Server) Trunks() []TrunkState {
	var out []TrunkState
	for _, t := range s.trunks {
		out = append(out, s.state(t))
	}
	return out
}

// Trunk is the state of one; false: there is none of that name.
func (s *Server) Trunk(name string) (TrunkState, bool) {
	t := s.trunks[name]
	if t == nil {
		return TrunkState{}, false
	}
	return s.state(t), true
}

func (s *Server) state(t *trunk) TrunkState {
	st := TrunkState{Name: t.name}
	s.mu.Lock()
	st.Calls, st.Refused = t.limits.calls, maps.Clone(t.limits.refused)
	s.mu.Unlock()
	for _, hop := range t.ways() {
		at := hop.health.snapshot()
		at.Address, at.Enrolled = hop.address, hop.enrolled()
		st.Targets = append(st.Targets, at)
	}
	if len(st.Targets) == 0 && t.room {
		st.Targets = []TargetState{{State: Absent, Since: s.since}}
	}
	return st
}
