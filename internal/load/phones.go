package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// Result is what a run of calls saw.
type Result struct {
	Calls, Failed    int
	ToAnswer         []time.Duration // INVITE to 200, sorted
	Latency          []time.Duration // telephone's socket to patient's, sorted; only where the sound crosses untouched
	FromPhone, ToWeb uint64          // packets the telephones sent, and those the patients received
	ToPhone          uint64          // packets the telephones received of the patients' echo
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
	took    time.Duration
	end     func()
}

// Connect sets up one call. What it leaves running is counted in talking and
// ends with ctx.
type Connect func(ctx context.Context, n int, sound Sound, talking *sync.WaitGroup) (line, error)

// atOnce is how many calls are set up at a time.
const atOnce = 5

// Run sets calls up, a few at a time, lets all of them talk for the given time
// once the last is up, and hangs up. up is called when all are up, down before
// the first is hung up.
func Run(ctx context.Context, connect Connect, calls int, sound Sound, talk time.Duration, up, down func()) (Result, error) {
	var r Result
	var mu sync.Mutex // guards r and lines
	var lines []line
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg, talking sync.WaitGroup
	gate := make(chan struct{}, atOnce)
	for n := range calls {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			l, err := connect(ctx, n, sound, &talking)
			mu.Lock()
			defer mu.Unlock()
			r.Calls++
			if err != nil {
				fmt.Fprintln(os.Stderr, "load:", err)
				r.Failed++
				return
			}
			lines = append(lines, l)
			r.ToAnswer = append(r.ToAnswer, l.took)
			talking.Go(func() { media.Feed(ctx, l.phone, stamped) })
		})
	}
	wg.Wait()
	slices.Sort(r.ToAnswer)
	up()
	select {
	case <-time.After(talk):
	case <-ctx.Done():
		return r, ctx.Err()
	}
	down()
	for _, l := range lines {
		s := l.phone.Stats()
		r.FromPhone += s.Sent
		r.ToPhone += s.Received
		r.ToWeb += uint64(l.patient.Received.Load())
	}
	for _, l := range lines {
		l.end()
	}
	cancel()
	talking.Wait()
	for _, l := range lines {
		l.patient.hangUp()
		r.Latency = append(r.Latency, l.patient.latency...)
	}
	slices.Sort(r.Latency)
	return r, nil
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
	return func(ctx context.Context, n int, sound Sound, talking *sync.WaitGroup) (line, error) {
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
		leg, err := phone.Dial(ctx, to, call.Facts{SessionID: fmt.Sprintf("%032x", began.UnixNano()), Hops: 70}, sdp.Session{})
		if err != nil {
			return line{}, err
		}
		for e := range leg.Events() {
			switch {
			case e.Ended != nil:
				return line{}, *e.Ended
			case e.Answered:
				took := time.Since(began)
				talking.Go(func() {
					for range leg.Events() {
						continue // until the leg is over
					}
					<-leg.Done()
				})
				return line{leg.Media().Stream(sdp.Audio), p, took, func() { leg.Hangup(call.NormalClearing) }}, nil
			}
		}
		return line{}, call.NoAnswer
	}
}
