package call

import (
	"sync"

	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// What the E-model is told of every codec: that of G.711 with concealment (ITU-T
// G.113, appendix I). None is agreed on for Opus.
const (
	ownImpairment = 0
	robustness    = 25.1
)

// Heard is what one leg's sound was like for a while: the counts are of that while.
type Heard struct {
	Place string // Leg.Place: never a person
	MOS   float64
	media.Stats
}

// meter tells of the legs' sound.
type meter struct {
	told func(Heard) // nil: nobody asks; it does not wait

	mu  sync.Mutex // guards was, and that nobody reads after the last time
	was map[Leg]media.Stats
}

// read tells what became of a leg's sound since it was last read, if it is still of that
// call; last is for who buries it. A leg from which nothing came and nothing was lost has
// no quality.
func (m *meter) read(c *Call, l Leg, last bool) {
	if m.told == nil || l.Media() == nil {
		return
	}
	stream := l.Media().Stream(sdp.Audio)
	if stream == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !last && c.State() == Ending {
		return // read for the last time, or about to be
	}
	now := stream.Stats()
	now.Lost = max(now.Lost, m.was[l].Lost) // what was only late comes off what is lost next
	s := now.Since(m.was[l])
	m.was[l] = now
	if last {
		delete(m.was, l)
	}
	if s.Received > 0 || s.Lost > 0 {
		m.told(Heard{Place: l.Place(), MOS: s.MOS(ownImpairment, robustness), Stats: s})
	}
}

// Measure reads every leg of the calls that talk. What a leg has to say after its last
// time is told when its call is over.
func (b *B2BUA) Measure() {
	for _, c := range b.Calls() {
		for _, l := range c.Legs() {
			b.meter.read(c, l, false)
		}
	}
}
