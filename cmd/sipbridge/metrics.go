package main

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sipbridge/sipbridge/internal/edge"
	"github.com/sipbridge/sipbridge/internal/sip"
)

// gauge and counter register one figure.
func gauge(r *prometheus.Registry, name, help string, f func() float64) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

func counter(r *prometheus.Registry, name, help string, f func() uint64) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f()) }))
}

// register puts the figures of what patients meet, and of the process, into a
// registry. Labels name sites, trunks, decisions and SIP statuses, never people.
func (f *face) register(r *prometheus.Registry) {
	r.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsGC)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if f.shown != nil {
		gauge(r, "sipbridge_certificate_expires_seconds", "Until our certificate expires; 0: there is none yet.", func() float64 {
			until := edge.Until(f.shown)
			if until.IsZero() {
				return 0
			}
			return time.Until(until).Seconds()
		})
	}
	if f.edge == nil {
		return
	}
	counter(r, "sipbridge_links_guessing_total", "Connections cut off without a word after too many wrong links from their address.", f.portal.BadLinks.Load)
	counter(r, "sipbridge_edge_unknown_total", "Connections to the portal's port that did not show what they are.", f.edge.Unknown.Load)
	gauge(r, "sipbridge_turn_allocations", "Addresses that the relay has lent.", func() float64 { return float64(f.relay.Allocations.Load()) })
	counter(r, "sipbridge_turn_refused_total", "Requests to the relay whose credentials are not valid, or no longer.", f.relay.Refused.Load)
	counter(r, "sipbridge_turn_dropped_total", "Packets to or from where the relay reaches nobody.", f.relay.Dropped.Load)
}

// engines tells of a portal's sites.
type engines struct{ o *outpost }

var presentDesc = prometheus.NewDesc("sipbridge_engine_present", "1 while a site's engine is connected.", []string{"site"}, nil)

func (e engines) Describe(c chan<- *prometheus.Desc) { c <- presentDesc }

func (e engines) Collect(c chan<- prometheus.Metric) {
	for _, site := range e.o.hub.Sites() {
		c <- prometheus.MustNewConstMetric(presentDesc, prometheus.GaugeValue, one(e.o.hub.Present(site)), site)
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// register adds the figures of calls.
func (g *gateway) register(r *prometheus.Registry) {
	g.face.register(r)
	gauge := func(name, help string, f func() float64) { gauge(r, name, help, f) }
	counter := func(name, help string, f func() uint64) { counter(r, name, help, f) }
	gauge("sipbridge_policy_version", "The version of the policy that is in force.", func() float64 { return float64(g.policies.Version()) })
	counter("sipbridge_policy_reloads_total", "Policies that were taken from the file after the start.", g.policies.reloads.Load)
	counter("sipbridge_policy_reloads_failed_total", "Policies of the file that were not taken: see the log.", g.policies.failures.Load)
	if g.cfg.Role == roleEngine {
		gauge("sipbridge_portal_reached", "1 while the portal is reached.", func() float64 { return one(g.bus.Present()) })
	}
	gauge("sipbridge_calls", "Calls going on.", func() float64 { return float64(len(g.b2bua.Calls())) })
	gauge("sipbridge_sip_dialogs", "SIP legs going on.", func() float64 { return float64(g.sip.Dialogs()) })
	gauge("sipbridge_pages", "Patients' pages that are open.", func() float64 { return float64(g.front.Pages()) })
	gauge("sipbridge_busy_ratio", "Share of the processors in use; after a second above 0.85 new calls get 503.", g.loops.Busy)
	gauge("sipbridge_opus_complexity", "What Opus encoders may spend, 1 to 5: less while the processors are busy.", func() float64 { return float64(g.loops.Effort()) })
	gauge("sipbridge_rtp_ports_taken", "Pairs of RTP ports in use.", func() float64 { return float64(g.pool.Taken()) })
	counter("sipbridge_sip_strangers_total", "Datagrams and reads from addresses of no trunk; they get no answer.", g.sip.Strangers)
	counter("sipbridge_sip_malformed_total", "SIP requests refused with 400.", g.sip.Malformed)
	counter("sipbridge_links_refused_total", "Pages opened with a link that is not valid.", g.front.Refused.Load)
	counter("sipbridge_page_messages_malformed_total", "Messages of pages that could not be read or were not understood.", g.front.Malformed.Load)
	counter("sipbridge_webrtc_through_total", "Browser legs whose sound had to go through their PeerConnection, which costs more.", g.browsers.Through.Load)
	counter("sipbridge_webrtc_control_dropped_total", "STUN, DTLS and RTCP packets from browsers that found no place in the queue.", g.browsers.Dropped)
	g.quality.register(r)
	r.MustRegister(totals{g})
}

// totals turns the B2BUA's maps into labelled counters.
type totals struct{ g *gateway }

var (
	downDesc       = prometheus.NewDesc("sipbridge_trunk_down", "1 while a trunk's address answers no OPTIONS although it once did.", []string{"trunk", "target"}, nil)
	tripDesc       = prometheus.NewDesc("sipbridge_trunk_round_trip_seconds", "Of the last OPTIONS that a trunk's address answered.", []string{"trunk", "target"}, nil)
	enrolledDesc   = prometheus.NewDesc("sipbridge_trunk_registered", "1 while we are registered with a trunk's address; of those that we are to be.", []string{"trunk", "target"}, nil)
	sipRefusedDesc = prometheus.NewDesc("sipbridge_sip_refused_total", "What was held off before it was anybody's call: stranger, rate, banned, connections, credentials.", []string{"reason"}, nil)
	carriesDesc    = prometheus.NewDesc("sipbridge_trunk_calls", "Calls that a trunk carries.", []string{"trunk"}, nil)
	tooManyDesc    = prometheus.NewDesc("sipbridge_trunk_refused_total", "Calls that were one too many for a trunk: at once (calls) or in a second (rate).", []string{"trunk", "reason"}, nil)
	tollsDesc      = prometheus.NewDesc("sipbridge_class_refused_total", "Calls to a class of destinations that were refused: who called (source), by transfer, too many at once (calls) or in an hour (hour).", []string{"class", "reason"}, nil)
	callsDesc      = prometheus.NewDesc("sipbridge_calls_total", "Calls that came, by source.", []string{"source"}, nil)
	endedDesc      = prometheus.NewDesc("sipbridge_calls_ended_total", "Calls that ended, by SIP status; 0: normally.", []string{"status"}, nil)
	routesDesc     = prometheus.NewDesc("sipbridge_route_calls_total", "Calls by route and what became of them there: taken, full, refused, or to the target that answered.", []string{"route", "outcome"}, nil)
	refusedDesc    = prometheus.NewDesc("sipbridge_calls_refused_total", "Calls that were let nowhere: the policy's decision, or overload.", []string{"decision"}, nil)
)

func (t totals) Describe(c chan<- *prometheus.Desc) {
	c <- downDesc
	c <- tripDesc
	c <- enrolledDesc
	c <- sipRefusedDesc
	c <- carriesDesc
	c <- tooManyDesc
	c <- tollsDesc
	c <- callsDesc
	c <- endedDesc
	c <- refusedDesc
	c <- routesDesc
}

func (t totals) Collect(c chan<- prometheus.Metric) {
	n := t.g.b2bua.Counts()
	emit := func(d *prometheus.Desc, v uint64, label string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), label)
	}
	for _, t := range t.g.sip.Trunks() {
		for _, at := range t.Targets {
			c <- prometheus.MustNewConstMetric(downDesc, prometheus.GaugeValue, one(at.State == sip.Down), t.Name, at.Address)
			if at.Enrolled != "" {
				c <- prometheus.MustNewConstMetric(enrolledDesc, prometheus.GaugeValue, one(at.Enrolled == sip.Registered), t.Name, at.Address)
			}
			c <- prometheus.MustNewConstMetric(tripDesc, prometheus.GaugeValue, at.RoundTrip.Seconds(), t.Name, at.Address)
		}
		c <- prometheus.MustNewConstMetric(carriesDesc, prometheus.GaugeValue, float64(t.Calls), t.Name)
		for _, reason := range []string{"calls", "rate"} {
			c <- prometheus.MustNewConstMetric(tooManyDesc, prometheus.CounterValue, float64(t.Refused[reason]), t.Name, reason)
		}
	}
	for k, v := range t.g.sip.Refused() {
		emit(sipRefusedDesc, v, k)
	}
	for k, v := range t.g.b2bua.Tolls() {
		c <- prometheus.MustNewConstMetric(tollsDesc, prometheus.CounterValue, float64(v), k.Class, k.Reason)
	}
	for k, v := range n.Calls {
		emit(callsDesc, v, k)
	}
	for k, v := range n.Ended {
		emit(endedDesc, v, strconv.Itoa(k))
	}
	for k, v := range n.Routes {
		c <- prometheus.MustNewConstMetric(routesDesc, prometheus.CounterValue, float64(v), k.Route, k.Outcome)
	}
	for k, v := range n.Refused {
		emit(refusedDesc, v, k)
	}
}
