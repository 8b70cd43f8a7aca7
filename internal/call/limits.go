package call

import (
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/policy"
)

// routeLimits count the calls of routes that take so many.
type routeLimits struct {
	mu    sync.Mutex
	calls map[limited]int
	begun map[limited][]time.Time // of the last minute
}

// limited is whose calls by a route are counted together.
type limited struct{ route, key string }

// mostKeys bounds the callers whose last minute is remembered.
const mostKeys = 10_000

// take makes room for a call by a route; give takes it back. false: there is none.
func (r *routeLimits) take(d policy.Decision, now time.Time) (give func(), ok bool) {
	if d.Limit.Calls == 0 && d.Limit.PerMinute == 0 {
		return func() {}, true
	}
	k := limited{d.Route, d.Key}
	r.mu.Lock()
	defer r.mu.Unlock()
	recent := r.begun[k]
	for len(recent) > 0 && now.Sub(recent[0]) > time.Minute {
		recent = recent[1:]
	}
	if d.Limit.Calls > 0 && r.calls[k] >= d.Limit.Calls || d.Limit.PerMinute > 0 && len(recent) >= d.Limit.PerMinute {
		return nil, false
	}
	r.calls[k]++
	if d.Limit.PerMinute > 0 {
		if len(r.begun) >= mostKeys {
			r.sweep(now)
		}
		r.begun[k] = append(recent, now)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.calls[k]--; r.calls[k] <= 0 {
			delete(r.calls, k)
		}
	}, true
}

// sweep forgets who has not called for a minute. It needs mu.
func (r *routeLimits) sweep(now time.Time) {
	for k, at := range r.begun {
		if len(at) == 0 || now.Sub(at[len(at)-1]) > time.Minute {
			delete(r.begun, k)
		}
	}
}
