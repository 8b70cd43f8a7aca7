// Package media moves packets between two ends: the sockets, keys and session
// descriptions of each leg, and the paths between them.
package media

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// Endpoint is one leg's media and the SDP that describes it. Commands are
// called by the leg's own goroutine, one at a time.
type Endpoint interface {
	// Offer describes what we want. want's first audio slot gives the
	// direction and the preferred encodings; its zero value means everything.
	Offer(ctx context.Context, want sdp.Session) ([]byte, error)
	// SetAnswer takes the peer's answer to the last offer.
	SetAnswer(answer []byte) (sdp.Session, error)
	// SetOffer takes the peer's offer.
	SetOffer(offer []byte) (sdp.Session, error)
	// Answer answers the last offer with what of it we want.
	Answer(ctx context.Context, want sdp.Session) ([]byte, error)
	// Rollback forgets an offer, ours or the peer's, that came to nothing.
	Rollback() error
	// AddCandidate takes one of the peer's trickled candidates.
	AddCandidate(candidate string) error
	// Stream is the slot's packets; nil for a kind the endpoint lacks.
	Stream(kind sdp.Kind) *Stream
	// Events tells what happens to the media. It is closed by Close.
	Events() <-chan Event
	io.Closer
}

// Event is something that happened to an endpoint's media.
type Event struct {
	Kind      EventKind
	Candidate string     // Candidate; "" ends the candidates (RFC 8838 §8.2)
	Digit     dtmf.Digit // Digit
	InBand    bool       // Digit: it was a tone, and crosses no further
}

// EventKind tells events apart.
type EventKind uint8

// The events of an endpoint.
const (
	Candidate EventKind = iota
	Connected
	Digit
	Disconnected // the path went silent; it may come back
	Moved        // ICE chose a path that the sound cannot take: another connection is wanted
	Wider        // the far end hears more than the peer was told: another description is wanted
	Failed
)

// eventQueue bounds what an endpoint may have to say before its leg listens.
const eventQueue = 32

// ErrNoOffer is returned by Answer and SetAnswer out of turn.
var ErrNoOffer = errors.New("media: no offer to answer")

// Streams is what a call joins: an endpoint, or anything else that has sound.
type Streams interface {
	Stream(kind sdp.Kind) *Stream
}

// Bridge is two ends joined: one path each way.
type Bridge struct {
	A, B   *Stream
	AB, BA *Path
}

// Join connects the sound of two ends and returns the bridge. Joining an end
// again moves it to the new bridge without a gap.
func Join(a, b Streams) *Bridge {
	sa, sb := a.Stream(sdp.Audio), b.Stream(sdp.Audio)
	br := &Bridge{A: sa, B: sb, AB: NewPath(sa, sb), BA: NewPath(sb, sa)}
	sa.Forward(br.AB)
	sb.Forward(br.BA)
	return br
}

// Close parts the two ends; their streams live on.
func (b *Bridge) Close() {
	detach(b.A, b.AB)
	detach(b.B, b.BA)
	b.AB.end()
	b.BA.end()
}

// detach stops a stream's packets if they still go to that path.
func detach(s *Stream, p *Path) {
	if cur := s.sink.Load(); cur != nil && *cur == Sink(p) {
		s.sink.CompareAndSwap(cur, nil)
	}
}

// able lists the encodings of an order, those preferred first, and the events.
func able(order []string, preferred []string, events ...sdp.Format) []sdp.Format {
	var all []sdp.Format
	for _, name := range order {
		for _, c := range transcode.Codecs {
			if strings.EqualFold(c.Name, name) {
				all = append(all, c.Format)
			}
		}
	}
	return append(sdp.Prefer(all, preferred), events...)
}

// noise8k is the comfort noise that goes with G.711 (RFC 3389 §4).
func noise8k() sdp.Format {
	return sdp.Format{PT: 13, Name: sdp.ComfortNoise, Clock: 8000, Channels: 1}
}

func event8k(pt uint8) sdp.Format {
	return sdp.Format{PT: pt, Name: sdp.TelephoneEvent, Clock: 8000, Channels: 1, Params: "0-16"}
}

func event48k(pt uint8) sdp.Format {
	return sdp.Format{PT: pt, Name: sdp.TelephoneEvent, Clock: 48000, Channels: 1, Params: "0-16"}
}

// agree builds what one slot settled on from both descriptions of it.
func agree(local, remote sdp.Media) *Agreed {
	a := &Agreed{Receive: local.Formats, Direction: local.Direction.And(remote.Direction.Reverse())}
	for _, f := range remote.Formats {
		switch {
		case f.IsEvent():
			a.Events = append(a.Events, f)
		case f.IsNoise():
			a.Noise = f
		case a.Send.Name == "":
			if _, ok := transcode.Find(f); ok {
				a.Send = f
			}
		}
	}
	a.PTime = remote.PTime
	if a.PTime == 0 {
		a.PTime = 20 * time.Millisecond
	}
	if remote.MaxPTime > 0 {
		a.PTime = min(a.PTime, remote.MaxPTime)
	}
	return a
}
