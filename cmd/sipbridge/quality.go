package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipbridge/sipbridge/internal/call"
)

// measureEvery is how often the sound of each leg is measured for the metrics: about as
// often as RTCP brings something new (RFC 3550 §6.2).
const measureEvery = 5 * time.Second

// quality is what the sound of calls was like, by where it came from: a trunk, rooms,
// browsers. Each leg is observed every five seconds and at its end.
type quality struct {
	mos, loss, farLoss, jitter, trip        *prometheus.HistogramVec
	received, lost, late, hidden, strangers *prometheus.CounterVec
}

func newQuality() *quality {
	histogram := func(name, help string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"peer"})
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"peer"})
	}
	shares := []float64{0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5}
	times := []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1}
	return &quality{
		mos:       histogram("sipbridge_rtp_mos", "Listening quality of five seconds of a leg's sound as it came from the peer, estimated by the E-model (ITU-T G.107) as if it were G.711.", 2, 2.5, 3, 3.5, 3.7, 3.9, 4, 4.1, 4.2, 4.3, 4.4),
		loss:      histogram("sipbridge_rtp_loss_ratio", "Share of five seconds' packets of a leg that never came.", shares...),
		farLoss:   histogram("sipbridge_rtp_far_loss_ratio", "Share of our packets that the peer last reported lost.", shares...),
		jitter:    histogram("sipbridge_rtp_jitter_seconds", "Interarrival jitter of a leg (RFC 3550).", times...),
		trip:      histogram("sipbridge_rtp_round_trip_seconds", "Round trip to the peer by RTCP, where it tells.", times...),
		received:  counter("sipbridge_rtp_received_total", "RTP packets from the peer."),
		lost:      counter("sipbridge_rtp_lost_total", "RTP packets of the peer that never came."),
		late:      counter("sipbridge_rtp_late_total", "RTP packets of the peer that came too late to be played, or twice."),
		hidden:    counter("sipbridge_rtp_concealed_seconds_total", "Sound made up in the place of what was lost."),
		strangers: counter("sipbridge_rtp_strangers_total", "RTP packets from a source that is not the peer."),
	}
}

// heard takes one leg's while.
func (q *quality) heard(h call.Heard) {
	at := prometheus.Labels{"peer": h.Place}
	q.mos.With(at).Observe(h.MOS)
	q.loss.With(at).Observe(h.Loss())
	q.farLoss.With(at).Observe(h.FarLoss)
	q.jitter.With(at).Observe(h.Jitter.Seconds())
	if h.RTT > 0 {
		q.trip.With(at).Observe(h.RTT.Seconds())
	}
	q.received.With(at).Add(float64(h.Received))
	q.lost.With(at).Add(float64(h.Lost))
	q.late.With(at).Add(float64(h.Late))
	q.hidden.With(at).Add(h.Concealed.Seconds())
	q.strangers.With(at).Add(float64(h.Strangers))
}

func (q *quality) register(r *prometheus.Registry) {
	r.MustRegister(q.mos, q.loss, q.farLoss, q.jitter, q.trip, q.received, q.lost, q.late, q.hidden, q.strangers)
}

// measure has the B2BUA tell of all its legs' sound until the function that it returns is
// called.
func measure(b *call.B2BUA) func() {
	ctx, enough := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(measureEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				b.Measure()
			}
		}
	})
	return func() { enough(); wg.Wait() }
}
