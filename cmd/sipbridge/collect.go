package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// headroom is what may be allocated between two runs of the collector, in bytes. A
	// call allocates while it is set up and next to nothing while it lasts: so it is
	// the same for few calls and for many, where Go's own rule would collect all the
	// time with few. From as much live heap on Go's rule holds: to go through all of it
	// more often than that would cost calls their place.
	headroom = 96 << 20
	// The bounds of GOGC.
	leastGC, mostGC = 100, 800
)

// collect keeps the collector at the headroom until the returned function is called.
func collect() (stop func()) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	over, done := make(chan struct{}), make(chan struct{})
	now := 0
	tune := func() {
		metrics.Read(live)
		want := min(max(headroom*100/int(max(live[0].Value.Uint64(), 1<<20)), leastGC), mostGC)
		if want > now+now/8 || want < now-now/8 {
			debug.SetGCPercent(want)
			now = want
		}
	}
	tune()
	go func() { // ends with stop
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tune()
			case <-over:
				return
			}
		}
	}()
	return func() { close(over); <-done }
}
