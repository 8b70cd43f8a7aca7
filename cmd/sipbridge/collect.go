package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// between is how long two runs of the collector should be apart at least. A call
	// allocates while it is set up and next to nothing while it lasts: Go's own rule would
	// collect all the time where many come and few are there.
	between = 2 * time.Second
	// Where much is live a run takes long, and calls that come meanwhile wait for it: the
	// runs are fifty times as far apart as they take, each second of one going through so
	// many bytes.
	apart, through = 50, 1 << 30
	// The bounds of what may be allocated between two runs, in bytes.
	leastHeadroom, mostHeadroom = 16 << 20, 256 << 20
	// The bounds of GOGC. From as much live heap on Go's rule holds: to go through all of
	// it more often than that would cost calls their place.
	leastGC, mostGC = 100, 800
	// memory is for how many seconds a burst is remembered.
	memory = 5
)

// pace is the GOGC that keeps two runs of the collector apart, given the live heap and
// what was allocated in each of the last seconds, all in bytes.
func pace(live uint64, allocated [memory]uint64) int {
	most := uint64(0)
	for _, n := range allocated {
		most = max(most, n)
	}
	seconds := max(between.Seconds(), apart*float64(live)/through)
	headroom := min(max(uint64(float64(most)*seconds), leastHeadroom), mostHeadroom)
	return int(min(max(headroom*100/max(live, 1<<20), leastGC), mostGC))
}

// collect keeps the collector at its pace until the returned function is called. What
// a burst of calls needed is given back when it is over.
func collect() (stop func()) {
	seen := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	over, done := make(chan struct{}), make(chan struct{})
	var allocated [memory]uint64
	var before uint64
	now, turn := 0, 0
	tune := func() {
		metrics.Read(seen)
		total := seen[1].Value.Uint64()
		allocated[turn%memory], before = total-before, total
		turn++
		want := pace(seen[0].Value.Uint64(), allocated)
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
