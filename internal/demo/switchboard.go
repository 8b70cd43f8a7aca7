// Package demo is a small hospital switchboard for trying the gateway out: it
// answers with a greeting, tells back each key, echoes the caller's voice after
// 5 and calls back after 9. It is a SIP user agent of its own, reached like any
// PBX.
package demo

import (
	"context"
	"embed"
	"log/slog"
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

//go:embed prompts/*.ulaw
var prompts embed.FS

// How long the switchboard rings, and how long it waits before it calls back.
const (
	ringFor   = 800 * time.Millisecond
	backAfter = 2 * time.Second
)

// Switchboard answers calls and makes them.
type Switchboard struct {
	Back   call.Dialer   // how callers are called back
	Target policy.Target // where: the gateway; the number is filled in
	Log    *slog.Logger

	wg sync.WaitGroup
}

// Handle takes a call.
func (s *Switchboard) Handle(leg call.Leg, _ call.Facts) { s.wg.Go(func() { s.serve(leg) }) }

// Wait returns when no call is left.
func (s *Switchboard) Wait() { s.wg.Wait() }

func (s *Switchboard) serve(leg call.Leg) {
	defer leg.Hangup(call.NormalClearing)
	if err := leg.Progress(180, nil); err != nil {
		s.Log.Debug("progress", "error", err)
	}
	select {
	case <-time.After(ringFor):
	case <-leg.Done():
		return
	}
	if err := leg.Accept(leg.Want()); err != nil {
		leg.Hangup(call.AsCause(err))
		return
	}
	if s.talk(leg, "greeting") {
		number := leg.Query().Call.From.User
		leg.Hangup(call.NormalClearing)
		time.Sleep(backAfter)
		s.callBack(number)
	}
}

// talk speaks and listens until the call is over. It returns true if the caller
// is to be called back.
func (s *Switchboard) talk(leg call.Leg, opening string) bool {
	stream := leg.Media().Stream(sdp.Audio)
	say, quiet := s.speaker(stream)
	defer quiet()
	say(opening)
	echoing := false
	for e := range leg.Events() {
		switch {
		case e.Ended != nil:
			return false
		case e.Offered != nil:
			if err := e.Offered.Accept(e.Offered.Want); err != nil {
				e.Offered.Reject(call.AsCause(err))
			}
		case e.Signal != nil && e.Signal.Digit != 0:
			stream.Forward(nil)
			switch d := e.Signal.Digit; {
			case d == '9':
				say("pressed", word(d), "callback")
				time.Sleep(6 * time.Second)
				return true
			case d == '5' && echoing:
				echoing = false
				say("stopped")
			case d == '5':
				echoing = true
				say("pressed", word(d), "echo")
				media.Echo(stream)
			default:
				echoing = false
				say("pressed", word(d))
			}
		}
	}
	return false
}

func word(d dtmf.Digit) string {
	switch d {
	case '*':
		return "star"
	case '#':
		return "hash"
	}
	return d.Key()
}

// speaker returns a function that speaks prompts one after the other, breaking
// off what it was saying, and one that silences it.
func (s *Switchboard) speaker(stream *media.Stream) (say func(names ...string), quiet func()) {
	cancel := func() {}
	var done chan struct{}
	quiet = func() {
		cancel()
		if done != nil {
			<-done
		}
	}
	say = func(names ...string) {
		quiet()
		var ctx context.Context
		ctx, cancel = context.WithCancel(context.Background())
		over := make(chan struct{})
		done = over
		s.wg.Go(func() {
			defer close(over)
			for _, n := range names {
				b, err := prompts.ReadFile("prompts/" + n + ".ulaw")
				if err != nil {
					s.Log.Error("prompt", "error", err)
					return
				}
				media.Play(ctx, stream, b)
			}
		})
	}
	return say, quiet
}

func (s *Switchboard) callBack(number string) {
	t := s.Target
	t.Number = number
	t.From = policy.Address{User: "1000", Display: "Demo Hospital"}
	leg, err := s.Back.Dial(context.Background(), t, call.Facts{Session: call.NewSession(""), Hops: 70}, sdp.Session{})
	if err != nil {
		s.Log.Info("call back", "error", err)
		return
	}
	defer leg.Hangup(call.NormalClearing)
	timeout := time.After(time.Minute)
	for {
		select {
		case <-timeout:
			return
		case e, ok := <-leg.Events():
			switch {
			case !ok || e.Ended != nil:
				return
			case e.Answered:
				s.talk(leg, "called")
				return
			}
		}
	}
}
