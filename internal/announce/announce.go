// Package announce is what a route may say to a caller: recorded sound, as a leg
// that a call is given like any other.
package announce

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// Config is one recording, as routes name it.
type Config struct {
	File   string `yaml:"file" doc:"A WAV file, 8000 Hz, one channel: 16 bits, or G.711 (sox in.wav -r 8000 -c 1 out.wav makes one). Empty: it is not there yet, and the next target is tried."`
	Answer bool   `yaml:"answer" doc:"The call is answered before. Else it is heard before an answer, which costs nobody anything but is not passed on by every network." default:"false"`
	Times  int    `yaml:"times" doc:"How often it is played." default:"1"`
	Status int    `yaml:"status" doc:"How a call ends that was not answered and has no other target after this one." default:"480"`
}

// most bounds a recording: ten minutes.
const most = 600 * rate

// sound is a recording that may be played.
type sound struct {
	Config
	mulaw []byte
}

// Announcer plays recordings.
type Announcer struct {
	loops *media.Loops
	all   map[string]sound
}

// New reads the recordings.
func New(loops *media.Loops, all map[string]Config) (*Announcer, error) {
	a := &Announcer{loops: loops, all: map[string]sound{}}
	for name, c := range all {
		s, err := c.read()
		if err != nil {
			return nil, fmt.Errorf("announcements.%s: %w", name, err)
		}
		a.all[name] = s
	}
	return a, nil
}

// Check reports what is wrong with a recording; "": nothing.
func (c Config) Check() string {
	if _, err := c.read(); err != nil {
		return err.Error()
	}
	return ""
}

func (c Config) read() (s sound, err error) {
	s.Config = c
	if c.Times == 0 {
		s.Times = 1
	}
	if c.Status == 0 {
		s.Status = 480
	}
	switch {
	case s.Times < 1 || s.Times > 100:
		return s, fmt.Errorf("%d times is no number of times from 1 to 100", c.Times)
	case s.Status < 400 || s.Status > 699:
		return s, fmt.Errorf("%d is no SIP status to refuse with", c.Status)
	}
	if c.File == "" {
		return s, nil
	}
	b, err := os.ReadFile(c.File)
	if err != nil {
		return s, err
	}
	s.mulaw, err = decode(b)
	if err == nil && len(s.mulaw) > most {
		err = errors.New("the recording is longer than ten minutes")
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", c.File, err)
	}
	return s, nil
}

// Dial implements call.Dialer: the recording begins when somebody hears it.
func (a *Announcer) Dial(_ context.Context, to policy.Target, _ call.Facts, _ sdp.Session) (call.Leg, error) {
	s, ok := a.all[to.Name]
	if !ok || len(s.mulaw) == 0 {
		return nil, call.Cause{Status: 404, Q850: 1, Text: "no such announcement"}
	}
	ctx, stop := context.WithCancelCause(context.Background())
	l := &leg{name: to.Name, sound: media.NewAnnouncement(a.loops), events: make(chan call.Event, 2), done: make(chan struct{}), stop: stop}
	if s.Answer {
		l.events <- call.Event{Answered: true}
	} else {
		l.events <- call.Event{Ringing: 183, Sound: true}
	}
	go l.play(ctx, s) // ends with the recording, or by Hangup
	return l, nil
}

// leg is a recording that is played once.
type leg struct {
	name   string
	sound  *media.Announcement
	events chan call.Event
	done   chan struct{}
	stop   context.CancelCauseFunc
}

func (l *leg) play(ctx context.Context, s sound) {
	defer close(l.done)
	defer close(l.events)
	for range s.Times {
		l.sound.Play(ctx, s.mulaw)
	}
	over := call.NormalClearing
	if !s.Answer {
		over = call.Cause{Status: s.Status, Q850: 31, Text: "the announcement was played"}
	}
	if cause := context.Cause(ctx); cause != nil {
		over = call.AsCause(cause)
	}
	l.events <- call.Event{Ended: &over}
}

// Kind implements call.Leg.
func (l *leg) Kind() string { return "announcement" }

// Place implements call.Leg.
func (l *leg) Place() string { return l.Kind() }

// Peer implements call.Leg.
func (l *leg) Peer() string { return l.name }

// Query implements call.Leg.
func (l *leg) Query() policy.Query { return policy.Query{} }

// Media implements call.Leg.
func (l *leg) Media() media.Streams { return l.sound }

// Want implements call.Leg.
func (l *leg) Want() sdp.Session {
	return sdp.Session{Media: []sdp.Media{{Kind: sdp.Audio, Formats: []sdp.Format{codec("PCMU").Format}, Direction: sdp.SendRecv}}}
}

// Events implements call.Leg.
func (l *leg) Events() <-chan call.Event { return l.events }

// Progress implements call.Leg: a recording calls nobody.
func (l *leg) Progress(int, *sdp.Session) error { return nil }

// Accept implements call.Leg.
func (l *leg) Accept(sdp.Session) error { return nil }

// Offer implements call.Leg: who holds a recording misses a part of it.
func (l *leg) Offer(sdp.Session) {}

// Signal implements call.Leg.
func (l *leg) Signal(call.Info) {}

// Hangup implements call.Leg.
func (l *leg) Hangup(c call.Cause) { l.stop(c) }

// Done implements call.Leg.
func (l *leg) Done() <-chan struct{} { return l.done }
