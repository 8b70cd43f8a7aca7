package call

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipbridge/sipbridge/internal/policy"
)

// led handles a call and says what became of it: the route it took, or its cause.
func (x *exchange) led(name string) (*fakeLeg, string) {
	leg := newFake(name)
	x.Handle(leg, Facts{})
	synctest.Wait()
	if c := leg.causes(); len(c) > 0 {
		return leg, c[0].Text
	}
	for _, c := range x.Calls() {
		if c.a == leg {
			return leg, c.Route()
		}
	}
	return leg, ""
}

func TestARouteTakesSoManyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few, rest := to("1"), to("2")
		few.Route, few.Limit, few.Next = "few", policy.Limited{Calls: 1, PerMinute: 3, Full: "next"}, 1
		rest.Route, rest.Limit = "rest", policy.Limited{Calls: 1}
		x := newExchange(t, few, answers)
		x.cfg.Decide = func(q policy.Query) policy.Decision {
			d := few
			if q.After > 0 {
				d = rest
			}
			d.Ring, d.Longest = time.Minute, time.Hour
			return d
		}
		a, route := x.led("a")
		if route != "few" {
			t.Errorf("the first takes %q", route)
		}
		b, route := x.led("b")
		if route != "rest" {
			t.Errorf("the second takes %q", route)
		}
		if _, said := x.led("c"); said != RouteFull.Text {
			t.Errorf("the third: %q", said)
		}
		a.end(NormalClearing)
		time.Sleep(time.Second)
		for range 2 { // what is over makes room, three times in a minute
			var next *fakeLeg
			if next, route = x.led("d"); route != "few" {
				t.Errorf("after the end of the first: %q", route)
			}
			next.end(NormalClearing)
			time.Sleep(time.Second)
		}
		b.end(NormalClearing)
		time.Sleep(time.Second)
		if _, route = x.led("e"); route != "rest" {
			t.Errorf("the fourth in a minute: %q", route)
		}
		time.Sleep(time.Minute + time.Second)
		if _, route = x.led("f"); route != "few" {
			t.Errorf("a minute later: %q", route)
		}
		n := x.Counts().Routes
		if n[RouteOutcome{"few", "taken"}] != 4 || n[RouteOutcome{"few", "full"}] != 3 || n[RouteOutcome{"rest", "refused"}] != 1 || n[RouteOutcome{"few", "to trunk"}] != 4 {
			t.Errorf("%v", n)
		}
		if err := x.Shutdown(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSeveralTargetsRingTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := to("1")
		d.Groups = [][]policy.Target{{{Kind: "trunk", Number: "1"}, {Kind: "trunk", Number: "2"}}}
		x := newExchange(t, d, func(n int, leg *fakeLeg) {
			if n == 2 {
				answers(n, leg)
			}
		})
		a := newFake("a")
		x.Handle(a, Facts{})
		synctest.Wait()
		if c := x.leg(1).causes(); len(c) != 1 || c[0] != Elsewhere {
			t.Errorf("the one that rang hears %+v", c)
		}
		a.end(NormalClearing)
		time.Sleep(time.Second)
		x.settled(0, a, x.leg(1), x.leg(2))
	})
}

func TestAnEmergencyCallIsHeldUpByNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := to("112")
		d.Kind, d.Route = policy.IsUrgent, ""
		x := newExchange(t, d, answers)
		x.cfg.Full = func() bool { return true }
		x.cfg.Limits = func(string) []policy.Limit { t.Error("its number's class was asked for"); return nil }
		a := newFake("a")
		x.Handle(a, Facts{})
		synctest.Wait()
		a.end(NormalClearing)
		time.Sleep(time.Second)
		x.settled(0, a, x.leg(1))
		if !x.records[0].Emergency {
			t.Error("the record does not say so")
		}
	})
}
