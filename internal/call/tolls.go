package call

import (
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/policy"
)

// tolls count the calls to classes of destinations.
type tolls struct {
	mu      sync.Mutex
	calls   map[string]int
	begun   map[string][]time.Time // of the last hour
	refused map[Toll]uint64
}

// Toll names why a call to a class was refused.
type Toll struct{ Class, Reason string }

// take makes room for a call to every class that its number is of, or for none of
// them and says why; give takes it back.
func (t *tolls) take(limits []policy.Limit, source string, transfer bool, now time.Time) (give func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range limits {
		recent := t.begun[l.Name]
		for len(recent) > 0 && now.Sub(recent[0]) > time.Hour {
			recent = recent[1:]
		}
		t.begun[l.Name] = recent
		why := ""
		switch {
		case !l.Allows(source, false):
			why = "source"
		case !l.Allows(source, transfer):
			why = "transfer"
		case l.MaxCalls > 0 && t.calls[l.Name] >= l.MaxCalls:
			why = "calls"
		case l.PerHour > 0 && len(recent) >= l.PerHour:
			why = "hour"
		}
		if why != "" {
			t.refused[Toll{l.Name, why}]++
			return nil, Cause{Status: 403, Q850: 21, Text: "no call to " + l.Name + " numbers (" + why + ")"}
		}
	}
	for _, l := range limits {
		t.calls[l.Name]++
		if l.PerHour > 0 {
			t.begun[l.Name] = append(t.begun[l.Name], now)
		}
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, l := range limits {
			t.calls[l.Name]--
		}
	}, nil
}

// Tolls are the calls to classes that were refused, by class and reason.
func (b *B2BUA) Tolls() map[Toll]uint64 {
	b.tolls.mu.Lock()
	defer b.tolls.mu.Unlock()
	out := map[Toll]uint64{}
	for k, v := range b.tolls.refused {
		out[k] = v
	}
	return out
}
