package media

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// receives gives a stream so many packets, of which those for which lost is true
// do not come.
func receives(s *Stream, from, packets int, lost func(n int) bool) {
	for n := from; n < from+packets; n++ {
		if lost == nil || !lost(n) {
			s.receive(&Packet{PT: 0, Seq: uint16(n), TS: uint32(n) * 160, SSRC: 9, Raw: make([]byte, Headroom+160)})
		}
	}
}

func plainStream(codecs ...string) *Stream {
	s := newStream(nil, "rtp", nil)
	a := &Agreed{Direction: sdp.SendRecv, Send: codec(codecs[0])}
	for _, c := range codecs {
		a.Receive = append(a.Receive, codec(c))
	}
	s.settle(a)
	return s
}

// block is the reception report that a stream would send now.
func block(t *testing.T, s *Stream) rtcp.ReceptionReport {
	t.Helper()
	for _, p := range s.report("x") {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			return p.Reports[0]
		case *rtcp.ReceiverReport:
			return p.Reports[0]
		}
	}
	t.Fatal("no report")
	return rtcp.ReceptionReport{}
}

// What the telephone says of a patient's sound is what the patient is told, where
// the sound is the same.
func TestReportsAnswerForTheWholeWay(t *testing.T) {
	for _, c := range []struct {
		name, there string
		bound       bool
	}{{"untouched", "PCMU", true}, {"recoded", "PCMA", false}} {
		t.Run(c.name, func(t *testing.T) {
			patient, phone := plainStream("PCMU"), plainStream(c.there)
			path := NewPath(patient, phone)
			receives(patient, 1, 100, func(n int) bool { return n%10 == 5 })
			patient.hear([]rtcp.Packet{&rtcp.SenderReport{NTPTime: ntp(time.Now())}})
			time.Sleep(2 * time.Millisecond) // so that there is something to take a round trip from
			told := rtcp.ReceptionReport{SSRC: phone.ssrc.Load(), FractionLost: 64, TotalLost: 25, Jitter: 400}
			phone.hear([]rtcp.Packet{&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{told}}})
			phone.far.rtt.Store(int64(time.Minute))
			b := block(t, patient)
			if bound := b.FractionLost == 64 && b.TotalLost == 25 && b.Jitter == 400 && b.Delay == 0; bound != c.bound {
				t.Errorf("the patient is told %+v", b)
			}
			if !c.bound && (b.FractionLost != 25 || b.TotalLost != 10 || b.Delay == 0) {
				t.Errorf("the patient is told %+v of its own way", b)
			}
			path.end()
			if b := block(t, patient); b.TotalLost != 10 {
				t.Errorf("after the path's end the patient is told of %d lost packets", b.TotalLost)
			}
		})
	}
}

func TestReportsGoOutEarlyWherePacketsAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := plainStream("PCMU")
		time.Sleep(time.Second)
		receives(s, 1, 50, nil)
		if !s.due(false) {
			t.Fatal("the first report is not due")
		}
		s.report("x")
		time.Sleep(time.Second)
		receives(s, 51, 50, nil)
		if s.due(true) {
			t.Error("a report is due after a second without loss")
		}
		receives(s, 101, 50, func(n int) bool { return n%10 == 5 })
		if s.due(false) {
			t.Error("a report is early where the profile has none")
		}
		if !s.due(true) {
			t.Error("no report is due after five of a hundred packets were lost")
		}
		s.report("x")
		time.Sleep(reportEvery)
		if !s.due(false) {
			t.Error("no report is due in time")
		}
	})
}
