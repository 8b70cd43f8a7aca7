package call

import (
	"context"
	"errors"
	"time"

	"github.com/sipbridge/sipbridge/internal/audit"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// bury ends every leg, waits for the media and writes the one record.
func (c *Call) bury() {
	c.enter(Ending)
	c.cancel(NormalClearing) // no-op where a cause came first
	cause := AsCause(context.Cause(c.ctx))
	var legs []Leg
	for _, l := range append([]Leg{c.a, c.z}, c.gone...) {
		if l != nil && l != c.parted {
			legs = append(legs, l)
		}
	}
	record := c.record(cause)
	if br := c.bridge.Load(); br != nil {
		br.Close()
	}
	for _, l := range legs {
		c.b.meter.read(c, l, true)
		l.Hangup(cause)
	}
	for _, l := range legs {
		drainEvents(l)
	}
	if c.give != nil {
		c.give()
	}
	c.b.cfg.Record(record)
	c.log.Info("call ended", "status", cause.Status, "cause", cause.Text, "seconds", int(record.Ended.Sub(record.Started).Seconds()))
	c.b.forget(c, cause.Status)
	close(c.done)
}

// drainEvents reads a leg out until it has given back all it held.
func drainEvents(l Leg) {
	for {
		select {
		case <-l.Done():
			return
		case _, ok := <-l.Events():
			if !ok {
				<-l.Done()
				return
			}
		}
	}
}

func (c *Call) record(cause Cause) audit.Record {
	r := audit.Record{ID: c.ID, SessionID: c.Session.ID, Site: c.b.cfg.Site, Started: c.started, Answered: c.answered,
		Ended: time.Now(), Source: c.query.Call.Source, From: c.query.Call.From.URI(), To: c.query.Call.To.URI(), Visit: c.query.Visit,
		Route: c.decision.Route, Emergency: c.decision.Kind == policy.IsUrgent,
		Cause: audit.Cause{Status: cause.Status, Q850: cause.Q850, Text: cause.Text}}
	paths := map[Leg]string{}
	if br := c.bridge.Load(); br != nil {
		paths[c.a] = br.AB.String()
		if c.z != nil {
			paths[c.z] = br.BA.String()
		}
	}
	for _, l := range []Leg{c.a, c.z} {
		if l != nil {
			r.Legs = append(r.Legs, Describe(l, paths[l]))
		}
	}
	return r
}

// Describe is a leg as an administrator sees it.
func Describe(l Leg, path string) audit.Leg {
	out := audit.Leg{Kind: l.Kind(), Peer: l.Peer(), Path: path}
	if m := l.Media(); m != nil {
		if s := m.Stream(sdp.Audio); s != nil {
			st := s.Stats()
			out.Received, out.Sent, out.Loss = st.Received, st.Sent, st.Loss()
			out.FarLoss, out.FarJitterMS = st.FarLoss, st.FarJitter.Seconds()*1000
			out.JitterMS, out.RTTMS = st.Jitter.Seconds()*1000, st.RTT.Seconds()*1000
			out.MOS = st.MOS(ownImpairment, robustness)
			out.ConcealedMS = st.Concealed.Seconds() * 1000
		}
	}
	return out
}

// AsCause turns any error into a cause, at the one place where that is done.
func AsCause(err error) Cause {
	var c Cause
	switch {
	case errors.As(err, &c):
		return c
	case errors.Is(err, sdp.ErrNothingInCommon), errors.Is(err, sdp.ErrTooLarge), errors.Is(err, sdp.ErrSyntax):
		return NotAcceptable
	case errors.Is(err, media.ErrNotSecured):
		return NotSecured
	case errors.Is(err, media.ErrNoPorts):
		return Cause{Status: 503, Q850: 34, Text: "no free port", RetryAfter: 10 * time.Second}
	case err == nil, errors.Is(err, context.Canceled):
		return NormalClearing
	}
	return Cause{Status: 500, Q850: 41, Text: err.Error()}
}
