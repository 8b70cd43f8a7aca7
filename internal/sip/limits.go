package sip

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/sipbridge/sipbridge/internal/call"
)

// limits are what a trunk may have of calls, both ways together.
type limits struct {
	pace *rate.Limiter // nil: as many a second as come

	// ---- guarded by the server's mu ----
	calls   int
	refused map[string]uint64 // by reason
}

// The reasons for which a call is one too many.
var (
	tooFast = call.Cause{Status: 503, Q850: 42, Text: "too many calls a second for the trunk", RetryAfter: time.Second}
	tooMany = call.Cause{Status: 503, Q850: 34, Text: "too many calls at once for the trunk", RetryAfter: 5 * time.Second}
)

func newLimits(t Trunk) limits {
	l := limits{refused: map[string]uint64{}}
	if t.CallsPerSecond > 0 {
		l.pace = rate.NewLimiter(rate.Limit(t.CallsPerSecond), max(int(t.CallsPerSecond), 1))
	}
	return l
}

// take makes room for a call on a trunk, or says why there is none. An urgent one
// always has its place. What was taken is given back by give.
func (s *Server) take(t *trunk, urgent bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case urgent:
	case t.limits.pace != nil && !t.limits.pace.Allow():
		t.limits.refused["rate"]++
		return tooFast
	case t.MaxCalls > 0 && t.limits.calls >= t.MaxCalls:
		t.limits.refused["calls"]++
		return tooMany
	}
	t.limits.calls++
	return nil
}

func (s *Server) give(t *trunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.limits.calls--
}
