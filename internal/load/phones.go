package load

import (
	"context"
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
	FromPhone, ToWeb uint64          // packets the telephones sent, and those the patients received
	ToPhone          uint64          // packets the telephones received of the patients' echo
}

// Percentile is the p-th of the times from INVITE to 200; 0 if there is none.
func (r Result) Percentile(p int) time.Duration {
	if len(r.ToAnswer) == 0 {
		return 0
	}
	return r.ToAnswer[min(len(r.ToAnswer)*p/100, len(r.ToAnswer)-1)]
}

// Visit is one invitation to call.
type Visit struct{ Link, DialCode string }

// tone is a second of 1 kHz in G.711 mu-law: eight samples, over and over.
func tone() []byte {
	wave := []byte{0xff, 0x9e, 0x97, 0x9e, 0xff, 0x1e, 0x17, 0x1e}
	return slices.Repeat(wave, 1000)
}

// Run sets up one call per visit, a few at a time, lets all of them talk for the
// given time once the last is up, and hangs up. up is called when all are up,
// down before the first is hung up.
func Run(ctx context.Context, phone call.Dialer, target policy.Target, visits []Visit, codec string, talk time.Duration, up, down func()) (Result, error) {
	var r Result
	var mu sync.Mutex // guards r, legs, patients
	var legs []call.Leg
	var patients []*Patient
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg, talking sync.WaitGroup
	gate := make(chan struct{}, 5)
	for _, v := range visits {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			leg, p, took, err := one(ctx, phone, target, v, codec, &talking)
			mu.Lock()
			defer mu.Unlock()
			r.Calls++
			if err != nil {
				r.Failed++
				return
			}
			legs, patients = append(legs, leg), append(patients, p)
			r.ToAnswer = append(r.ToAnswer, took)
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
	for _, l := range legs {
		s := l.Media().Stream(sdp.Audio).Stats()
		r.FromPhone += s.Sent
		r.ToPhone += s.Received
		l.Hangup(call.NormalClearing)
	}
	for _, p := range patients {
		r.ToWeb += uint64(p.Received.Load())
	}
	cancel()
	talking.Wait()
	return r, nil
}

// one calls one patient.
func one(ctx context.Context, phone call.Dialer, to policy.Target, v Visit, codec string, talking *sync.WaitGroup) (call.Leg, *Patient, time.Duration, error) {
	p, err := Open(ctx, v.Link, codec)
	if err != nil {
		return nil, nil, 0, err
	}
	talking.Go(func() {
		if err := p.Run(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "load: a patient left:", err)
		}
	})
	to.Number = v.DialCode
	began := time.Now()
	leg, err := phone.Dial(ctx, to, call.Facts{SessionID: fmt.Sprintf("%032x", began.UnixNano()), Hops: 70}, sdp.Session{})
	if err != nil {
		return nil, nil, 0, err
	}
	for e := range leg.Events() {
		if e.Answered {
			took := time.Since(began)
			talking.Go(func() {
				for range leg.Events() {
				}
				<-leg.Done()
			})
			talking.Go(func() {
				for ctx.Err() == nil {
					media.Play(ctx, leg.Media().Stream(sdp.Audio), tone())
				}
			})
			return leg, p, took, nil
		}
		if e.Ended != nil {
			return nil, nil, 0, *e.Ended
		}
	}
	return nil, nil, 0, call.NoAnswer
}
