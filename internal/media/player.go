package media

import (
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/transcode"
)

// beat is how often sound that is recoded is asked for.
const beat = 10 * time.Millisecond

// player plays out one direction's sound where it is recoded: at the speed of
// the clock, whatever the network does. Its path guards it.
type player struct {
	coder  *transcode.Transcoder
	jitter jitterBuffer

	due       time.Duration // when the next frame goes out
	packet    time.Duration // what a packet lasts
	hidden    time.Duration // concealed without a break
	owed      time.Duration // of that, while no packet waited: those that were lost need it no more
	changed   time.Duration // when the tempo was last changed
	ample     time.Duration // since when sound waits longer than it need; 0: it does not
	silent    bool          // nothing is being said: the next frame begins a talk spurt
	resting   bool          // the sender pauses, and has said so
	resume    time.Duration // when a talk spurt after that is played
	described bool          // the last frame describes noise
	quiet     int           // frames since the sender paused

	told   uint32 // the loss that the encoder was told of, 1/256
	effort int    // what it was told to spend; 0: nothing yet
}

const (
	// giveUp is how long a sender's silence is concealed before it is one: longer
	// than the bursts in which networks lose packets. The concealment fades by itself.
	giveUp = 200 * time.Millisecond
	// idle is how long a silent player stays on its drum.
	idle = time.Second
	// fadeAway is how many frames of a pause are still sent as sound: the last word
	// dies away in them, and what remains is the room.
	fadeAway = 10
	// describeEvery is after how many frames a pause is described anew: what was lost
	// on the way is made good, and rooms change.
	describeEvery = 25
	// ease is the shortest time between two changes of the tempo.
	ease = 100 * time.Millisecond
	// patience is how long sound waits longer than it need before words are shortened, not
	// pauses alone: a network that was slow once mostly is so again, and each change is
	// heard a little.
	patience = 5 * time.Second
	// bearable is how much longer than it need it may wait meanwhile.
	bearable = 100 * time.Millisecond
)

func newPlayer(coder *transcode.Transcoder, clock int) *player {
	return &player{coder: coder, jitter: jitterBuffer{clock: clock}, packet: 20 * time.Millisecond, silent: true}
}

// take keeps a packet and reports whether it was of use.
func (p *player) take(pkt *Packet, noise bool, at time.Duration) bool {
	waits := p.jitter.count
	if !p.jitter.put(pkt, noise, at) {
		return false
	}
	if p.resting && waits == 0 {
		p.resume = at + p.delay()
	}
	if p.silent && waits == 0 {
		p.due = at + p.delay()
	}
	return true
}

// frame makes the next outgoing frame; nil if there is nothing to say, empty if
// there is nothing to send. Where the far end may be told of pauses, one that the
// sender makes is described.
func (p *player) frame(at time.Duration, s *Stream, may bool) []byte {
	p.described = false
	for p.coder.Pending() < p.coder.Packet() {
		if !p.more(at, s) {
			return nil
		}
	}
	if !p.resting {
		p.quiet = 0
	} else if p.quiet++; may && p.quiet > fadeAway {
		p.described = (p.quiet-fadeAway)%describeEvery == 1
		if q := p.coder.Quiet(); p.described {
			return q
		}
		return none[:]
	}
	f, err := p.coder.Frame()
	if err != nil {
		s.in.malformed.Add(1)
		return nil
	}
	return f
}

// more decodes a packet, or hides that there is none. It returns false when the
// silence is the sender's own.
func (p *player) more(at time.Duration, s *Stream) bool {
	if p.resting && (p.jitter.count == 0 || at < p.resume) {
		if err := p.coder.Noise(beat); err != nil {
			s.in.malformed.Add(1)
			return false
		}
		return true
	}
	if p.owed > 0 {
		p.settle()
	}
	data, after, what := p.jitter.fetch(at)
	switch what {
	case calm:
		if err := p.coder.Calm(data); err != nil {
			s.in.malformed.Add(1)
		} else {
			p.rest()
			return true
		}
		data = nil
	case arrived:
		if p.coder.Pause(data) {
			p.rest()
		} else {
			p.resting = false
		}
		d, err := p.coder.Push(data, p.tempo(at, after))
		p.owed = 0
		if err == nil && d > 0 {
			p.packet, p.hidden, p.silent = d, 0, false
			return true
		}
		if err != nil {
			s.in.malformed.Add(1)
		}
		data = nil
	case nothing:
		if p.silent || p.hidden >= giveUp {
			p.pause()
			return false
		}
	}
	// Nothing there yet: 10 ms more, in which it may come.
	d := beat
	if what != nothing {
		d = p.packet
	} else {
		p.owed += d
	}
	if err := p.coder.Conceal(d, data); err != nil {
		s.in.malformed.Add(1)
		return false
	}
	p.hidden += d
	s.in.concealed.Add(int64(d))
	return true
}

// rest begins a pause that the sender makes: its noise fills it until sound comes
// again, which then waits as the first of a talk spurt does.
func (p *player) rest() {
	p.resting, p.silent, p.hidden, p.owed = true, false, 0, 0
	p.resume = 0
}

// none is an empty frame that is not nil.
var none [0]byte

// settle passes over lost packets whose time was concealed before it was known
// that they were lost, so that a burst adds nothing to the delay. The last one is
// kept where the packet after it repeats it.
func (p *player) settle() {
	keep := 0
	if p.coder.Repeats() {
		keep = 1
	}
	p.owed -= time.Duration(p.jitter.skip(int(p.owed/p.packet), keep)) * p.packet
}

// delay is how long sound should wait: as long as the network asks for, and where
// packets are lost and repeat each other, until the next one has come.
func (p *player) delay() time.Duration {
	d := p.jitter.delay()
	if p.coder.Repeats() && p.jitter.losing() {
		d += p.packet
	}
	return d
}

// tempo plays faster while sound waits longer than the network asks for, slower
// while it waits less: so the delay follows the network, and clocks may differ.
// It is in no hurry: what is said is touched only when pauses are not enough.
func (p *player) tempo(at, after time.Duration) transcode.Tempo {
	want := p.delay()
	over := after - want - 2*beat
	if over <= 0 {
		p.ample = 0
	} else if p.ample == 0 {
		p.ample = at
	}
	switch {
	case at-p.changed < ease:
	case over > bearable, over > 0 && at-p.ample >= patience:
		p.changed = at
		return transcode.Shorter
	case over > 0:
		return transcode.Tighter
	case after < want-beat/2:
		p.changed = at
		return transcode.Longer
	}
	return transcode.Steady
}

// expect tells the encoder of the loss that the far end reports, 1/256.
func (p *player) expect(loss uint32) {
	if loss != p.told && p.coder.Expect(float64(loss)/256) == nil {
		p.told = loss
	}
}

// spend tells the encoder what the machine can afford.
func (p *player) spend(effort int) {
	if effort != p.effort && p.coder.Spend(effort) == nil {
		p.effort = effort
	}
}

// pause ends a talk spurt.
func (p *player) pause() {
	p.coder.Drop()
	p.jitter.reset()
	p.silent, p.resting, p.hidden, p.owed = true, false, 0, 0
}

// drums play what is recoded, one goroutine a processor, so that the loops that
// read are never held up by an encoder.
type drums struct {
	all  []*drum
	turn int
	mu   sync.Mutex // guards turn
}

type drum struct {
	over chan struct{}
	wake chan struct{} // it has a path again

	mu    sync.Mutex // guards paths
	paths []*Path
}

// catchUp is how long a drum that was late lets the loops go first, which were late
// as well: what they have not read would be taken for lost. A loop may take a packet of
// each stream in a tick; what is older than giveUp is a break in any case.
func catchUp(late time.Duration) time.Duration {
	return tick * (1 + min(late, giveUp)/(20*time.Millisecond))
}

func newDrum() *drum { return &drum{over: make(chan struct{}), wake: make(chan struct{}, 1)} }

func (d *drums) add(p *Path) {
	d.mu.Lock()
	one := d.all[d.turn%len(d.all)]
	d.turn++
	d.mu.Unlock()
	one.mu.Lock()
	one.paths = append(one.paths, p)
	one.mu.Unlock()
	select {
	case one.wake <- struct{}{}:
	default: // it is awake, or will be
	}
}

func (d *drum) run() {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var playing []*Path
	var last time.Duration // when it last played; 0: it rested
	for {
		select {
		case <-d.over:
			return
		case <-tick.C:
		}
		if late := since() - last; last > 0 && late > 3*beat {
			time.Sleep(catchUp(late))
		}
		at := since()
		last = at
		d.mu.Lock()
		playing = append(playing[:0], d.paths...)
		d.mu.Unlock()
		if len(playing) == 0 {
			tick.Stop()
			last = 0
			select {
			case <-d.over:
				return
			case <-d.wake:
				tick.Reset(beat)
			}
			continue
		}
		gone := 0
		for i, p := range playing {
			if !p.play(at) {
				playing[i] = nil
				gone++
			}
		}
		if gone > 0 {
			d.mu.Lock()
			kept := d.paths[:0]
			for i, p := range d.paths {
				if i >= len(playing) || playing[i] != nil {
					kept = append(kept, p)
				}
			}
			clear(d.paths[len(kept):])
			d.paths = kept
			d.mu.Unlock()
		}
		clear(playing)
	}
}
