package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// Result is what a run of calls saw.
type Result struct {
	Calls, Failed    int
	Refused          []time.Duration // INVITE to 503, sorted; they are not failed
	ToAnswer         []time.Duration // INVITE to 200, sorted
	ToSound          []time.Duration // from the 200 until both have heard something, sorted
	Latency          []time.Duration // telephone's socket to patient's once all calls are up, sorted; only where the sound crosses untouched
	Rising           []time.Duration // the same while calls are being set up
	FromPhone, ToWeb float64         // packets the telephones sent from a second after the answer on, and those the patients received
	ToPhone          float64         // packets the telephones received of the patients' echo
}

// Percentile is the p-th of sorted times, in ms; 0 if there is none.
func Percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*p/100, len(sorted)-1)].Seconds() * 1000
}

// Visit is one invitation to call.
type Visit struct{ Link, DialCode string }

// line is one call that is up.
type line struct {
	phone   *media.Stream
	patient *Patient
	took    time.Duration // until the answer, or the refusal
	end     func()

	settled *atomic.Pointer[counts] // a second after the answer
}

// counts are a line's packets so far: the mean over the time of one, for how many are
// on their way at one moment depends on the moment.
type counts struct{ fromPhone, toWeb, toPhone float64 }

// count takes 20 ms.
func count(lines []line) []counts {
	const looks = 20
	all := make([]counts, len(lines))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range looks {
		<-tick.C
		for i, l := range lines {
			s := l.phone.Stats()
			all[i].fromPhone += float64(s.Sent) / looks
			all[i].toWeb += float64(l.patient.Received.Load()) / looks
			all[i].toPhone += float64(s.Received) / looks
		}
	}
	return all
}

// Pace is how calls are offered.
type Pace struct {
	Calls int
	Rate  float64 // calls a second, whatever becomes of them; 0: a few at a time, each when another is up
}

// Connect sets up one call. What it leaves running is counted in talking and
// ends with ctx.
type Connect func(ctx context.Context, n int, sound Sound, talking *sync.WaitGroup) (line, error)

// atOnce is how many calls are set up at a time.
const atOnce = 5

// Run sets calls up, lets all of them talk for the given time
// once the last is up, and hangs up. up is called when all are up, down before
// the first is hung up.
func Run(ctx context.Context, connect Connect, pace Pace, sound Sound, talk time.Duration, up, down func()) (Result, error) {
	var r Result
	var mu sync.Mutex // guards r and lines
	var lines []line
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg, talking sync.WaitGroup
	gate := make(chan struct{}, atOnce)
	begin := time.Now()
	for n := range pace.Calls {
		if pace.Rate > 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(float64(n) / pace.Rate * float64(time.Second)))))
		} else {
			gate <- struct{}{}
		}
		wg.Go(func() {
			if pace.Rate == 0 {
				defer func() { <-gate }()
			}
			l, err := connect(ctx, n, sound, &talking)
			mu.Lock()
			defer mu.Unlock()
			r.Calls++
			var cause call.Cause
			switch {
			case errors.As(err, &cause) && cause.Status == 503:
				r.Refused = append(r.Refused, l.took)
				return
			case err != nil:
				fmt.Fprintln(os.Stderr, "load:", err)
				r.Failed++
				return
			}
			l.settled = new(atomic.Pointer[counts])
			lines = append(lines, l)
			r.ToAnswer = append(r.ToAnswer, l.took)
			talking.Go(func() { media.Feed(ctx, l.phone, sound.source(n)) })
			talking.Go(func() {
				if took, ok := l.hear(ctx); ok {
					mu.Lock()
					r.ToSound = append(r.ToSound, took)
					mu.Unlock()
				}
			})
		})
	}
	wg.Wait()
	for _, l := range lines {
		l.patient.up()
	}
	up()
	select {
	case <-time.After(talk):
	case <-ctx.Done():
		return r, ctx.Err()
	}
	down()
	for i, c := range count(lines) {
		if was := lines[i].settled.Load(); was != nil {
			r.FromPhone += c.fromPhone - was.fromPhone
			r.ToWeb += c.toWeb - was.toWeb
			r.ToPhone += c.toPhone - was.toPhone
		}
	}
	for _, l := range lines {
		l.end()
	}
	cancel()
	talking.Wait()
	for _, l := range lines {
		l.patient.hangUp()
		r.Rising = append(r.Rising, l.patient.latency[:l.patient.steady]...)
		r.Latency = append(r.Latency, l.patient.latency[l.patient.steady:]...)
	}
	for _, times := range [][]time.Duration{r.Latency, r.Rising, r.ToAnswer, r.ToSound, r.Refused} {
		slices.Sort(times)
	}
	return r, nil
}

// settling is what a call needs at most until sound flows both ways.
const settling = time.Second

// hear waits for the first sound both ways, and counts from a second after the
// answer on.
func (l line) hear(ctx context.Context) (took time.Duration, ok bool) {
	answered := time.Now()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for time.Since(answered) < settling {
		select {
		case <-ctx.Done():
			return 0, false
		case <-poll.C:
		}
		if l.patient.Received.Load() > 0 && l.phone.Stats().Received > 0 {
			took, ok = time.Since(answered), true
			break
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(settling - time.Since(answered)):
		l.settled.Store(&count([]line{l})[0])
	}
	return took, ok
}

// source is what the n-th telephone plays: no two say the same at a time.
func (s Sound) source(n int) func(frame []byte) bool {
	if len(s.Speech) == 0 {
		return stamped
	}
	at := n * 31_000
	return func(frame []byte) bool {
		for i := range frame {
			frame[i] = s.Speech[at%len(s.Speech)]
			at++
		}
		return true
	}
}

// stamped is a frame that says when it was made, and is otherwise quiet.
func stamped(frame []byte) bool {
	for i := range frame {
		frame[i] = 0xff
	}
	binary.BigEndian.PutUint64(frame, uint64(time.Now().UnixNano()))
	return true
}

// ThroughGateway calls patients at their links, by real SIP and signalling.
func ThroughGateway(phone call.Dialer, to policy.Target, visits []Visit) Connect {
	return func(ctx context.Context, n int, sound Sound, talking *sync.WaitGroup) (l line, err error) {
		ctx, leave := context.WithCancel(ctx)
		defer func() {
			if err != nil {
				leave() // nobody calls this patient any more
			}
		}()
		p, err := Open(ctx, visits[n].Link, sound)
		if err != nil {
			return line{}, err
		}
		talking.Go(func() {
			if err := p.Run(ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "load: a patient left:", err)
			}
		})
		to := to
		to.Number = visits[n].DialCode
		began := time.Now()
		leg, err := phone.Dial(ctx, to, call.Facts{Session: call.NewSession(""), Hops: 70}, sdp.Session{})
		if err != nil {
			return line{}, err
		}
		for e := range leg.Events() {
			switch {
			case e.Ended != nil:
				return line{took: time.Since(began)}, *e.Ended
			case e.Answered:
				took := time.Since(began)
				talking.Go(func() {
					for range leg.Events() {
						continue // until the leg is over
					}
					<-leg.Done()
				})
				return line{phone: leg.Media().Stream(sdp.Audio), patient: p, took: took, end: func() { leg.Hangup(call.NormalClearing); leave() }}, nil
			}
		}
		return line{}, call.NoAnswer
	}
}
