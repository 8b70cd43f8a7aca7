package media

import (
	"sync"
	"time"
)

// round is the time between two looks at each stream; parts is how many parts it
// has, so that not all reports leave at once; measures is how often in a round the
// strain is looked at.
const (
	round    = time.Second
	measures = 10
	parts    = 50
)

// rounds calls everybody once a round, on one goroutine.
type rounds struct {
	over   chan struct{}
	strain strain

	mu    sync.Mutex // guards turns and next
	turns [parts]map[*errand]struct{}
	next  int
}

// errand is something to be done once a round.
type errand struct {
	do    func()
	part  int
	mu    sync.Mutex // held while do runs; guards ended
	ended bool
}

func (r *rounds) run() {
	tick := time.NewTicker(round / parts)
	defer tick.Stop()
	for now := 0; ; now = (now + 1) % parts {
		expected := since() + round/parts
		select {
		case <-r.over:
			return
		case <-tick.C:
		}
		late := since() - expected
		if now%(parts/measures) == 0 {
			r.strain.measure(since(), late)
		}
		r.mu.Lock()
		due := make([]*errand, 0, len(r.turns[now]))
		for e := range r.turns[now] {
			due = append(due, e)
		}
		r.mu.Unlock()
		for _, e := range due {
			e.mu.Lock()
			if !e.ended {
				e.do()
			}
			e.mu.Unlock()
		}
	}
}

// every has do called once a round until the returned function is; do must not
// wait, and has ended when that returns.
func (r *rounds) every(do func()) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &errand{do: do, part: r.next}
	r.next = (r.next + 1) % parts
	if r.turns[e.part] == nil {
		r.turns[e.part] = map[*errand]struct{}{}
	}
	r.turns[e.part][e] = struct{}{}
	return func() {
		r.mu.Lock()
		delete(r.turns[e.part], e)
		r.mu.Unlock()
		e.mu.Lock()
		e.ended = true
		e.mu.Unlock()
	}
}
