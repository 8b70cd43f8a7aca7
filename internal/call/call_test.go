package call

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sipbridge/sipbridge/internal/audit"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLeg is a leg in virtual time.
type fakeLeg struct {
	name   string
	events chan Event
	done   chan struct{}
	stream *media.Stream

	mu       sync.Mutex // guards all below
	ended    []Cause
	accepted int
	heard    []Info
	offered  []sdp.Direction
}

func newFake(name string) *fakeLeg {
	return &fakeLeg{name: name, events: make(chan Event, 16), done: make(chan struct{}), stream: new(media.Stream)}
}

func (f *fakeLeg) Kind() string                     { return "sip" }
func (f *fakeLeg) Peer() string                     { return f.name }
func (f *fakeLeg) Place() string                    { return f.name }
func (f *fakeLeg) Query() policy.Query              { return policy.Query{Call: policy.Call{Source: "pbx"}} }
func (f *fakeLeg) Media() media.Streams             { return f }
func (f *fakeLeg) Stream(sdp.Kind) *media.Stream    { return f.stream }
func (f *fakeLeg) Want() sdp.Session                { return sdp.Session{Media: []sdp.Media{{Kind: sdp.Audio}}} }
func (f *fakeLeg) Events() <-chan Event             { return f.events }
func (f *fakeLeg) Progress(int, *sdp.Session) error { return nil }
func (f *fakeLeg) Done() <-chan struct{}            { return f.done }
func (f *fakeLeg) Accept(sdp.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.accepted++
	return nil
}
func (f *fakeLeg) Offer(want sdp.Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offered = append(f.offered, want.Media[0].Direction)
}
func (f *fakeLeg) Signal(i Info) { f.mu.Lock(); defer f.mu.Unlock(); f.heard = append(f.heard, i) }

func (f *fakeLeg) Hangup(c Cause) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, c)
	if len(f.ended) == 1 {
		time.AfterFunc(10*time.Millisecond, func() { close(f.done) }) // sockets take their time
	}
}

// causes are those it was hung up with.
func (f *fakeLeg) causes() []Cause { f.mu.Lock(); defer f.mu.Unlock(); return f.ended }

// end is the peer's hang-up.
func (f *fakeLeg) end(c Cause) { f.events <- Event{Ended: &c} }

// exchange is a B2BUA whose targets answer as the test says.
type exchange struct {
	*B2BUA
	t       *testing.T
	mu      sync.Mutex // guards records and dialled
	records []audit.Record
	dialled []*fakeLeg
	onDial  func(n int, leg *fakeLeg)
}

func newExchange(t *testing.T, decision policy.Decision, onDial func(n int, leg *fakeLeg)) *exchange {
	x := &exchange{t: t, onDial: onDial}
	if decision.Ring == 0 {
		decision.Ring = time.Minute
	}
	if decision.Longest == 0 {
		decision.Longest = 4 * time.Hour
	}
	x.B2BUA = New(Config{Site: "t", Decide: func(policy.Query) policy.Decision { return decision },
		Dialers: map[string]Dialer{"trunk": x}, Open: func(audit.Record) {}, Log: slog.New(slog.DiscardHandler),
		Record: func(r audit.Record) { x.mu.Lock(); defer x.mu.Unlock(); x.records = append(x.records, r) }})
	return x
}

func (x *exchange) Dial(_ context.Context, to policy.Target, _ Facts, _ sdp.Session) (Leg, error) {
	x.mu.Lock()
	leg := newFake(to.Number)
	x.dialled = append(x.dialled, leg)
	n := len(x.dialled)
	x.mu.Unlock()
	if x.onDial != nil {
		x.onDial(n, leg)
	}
	return leg, nil
}

func (x *exchange) leg(n int) *fakeLeg {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dialled[n-1]
}

// settled checks that each leg ended once and one record was written.
func (x *exchange) settled(status int, legs ...*fakeLeg) {
	x.t.Helper()
	synctest.Wait()
	if n := len(x.Calls()); n != 0 {
		x.t.Errorf("%d calls are left", n)
	}
	if len(x.records) != 1 || x.records[0].Cause.Status != status {
		x.t.Errorf("records %+v, want one with status %d", x.records, status)
	}
	for _, l := range legs {
		if len(l.causes()) == 0 {
			x.t.Errorf("leg %s was not ended", l.name)
		}
		select {
		case <-l.done:
		default:
			x.t.Errorf("leg %s still holds its sockets", l.name)
		}
	}
}

func to(numbers ...string) policy.Decision {
	d := policy.Decision{Kind: policy.Routed, Route: "r"}
	for _, n := range numbers {
		d.Groups = append(d.Groups, []policy.Target{{Kind: "trunk", Number: n}})
	}
	return d
}

func answers(_ int, leg *fakeLeg) { leg.events <- Event{Answered: true} }

func TestBothHangUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, to("1"), answers), newFake("a")
		x.Handle(a, Facts{})
		synctest.Wait()
		a.end(NormalClearing)
		x.leg(1).end(NormalClearing)
		time.Sleep(time.Second)
		x.settled(0, a, x.leg(1))
	})
}

func TestBusyThenNextTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, to("1", "2"), func(n int, leg *fakeLeg) {
			if n == 1 {
				leg.end(Cause{Status: 486, Text: "busy"})
			} else {
				answers(n, leg)
			}
		})
		a := newFake("a")
		x.Handle(a, Facts{})
		synctest.Wait()
		if a.accepted != 1 || x.Calls()[0].State() != Talking {
			t.Fatalf("accepted %d, %s", a.accepted, x.Calls()[0].State())
		}
		a.end(NormalClearing)
		time.Sleep(time.Second)
		x.settled(0, a, x.leg(1), x.leg(2))
	})
}

func TestTheLastRefusalReachesTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, to("1"), func(_ int, leg *fakeLeg) { leg.end(Cause{Status: 486, Text: "busy"}) }), newFake("a")
		x.Handle(a, Facts{})
		time.Sleep(time.Second)
		x.settled(486, a, x.leg(1))
		if a.causes()[0].Status != 486 {
			t.Error(a.causes())
		}
	})
}

func TestNobodyAnswersWithinTheRingTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, to("1"), nil), newFake("a")
		x.Handle(a, Facts{})
		time.Sleep(59 * time.Second)
		if len(a.causes()) != 0 {
			t.Fatal("ended before its time")
		}
		time.Sleep(2 * time.Second)
		x.settled(480, a, x.leg(1))
	})
}

func TestTheCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, to("1", "2"), nil), newFake("a")
		x.Handle(a, Facts{})
		time.Sleep(time.Second)
		a.end(Cancelled)
		time.Sleep(time.Second)
		x.settled(487, a, x.leg(1))
		if len(x.dialled) != 1 {
			t.Error("the next target was dialled for a caller who is gone")
		}
	})
}

func TestShutdownEndsCallsAndRefusesNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, to("1"), answers), newFake("a")
		x.Handle(a, Facts{})
		synctest.Wait()
		if err := x.Shutdown(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		x.settled(503, a, x.leg(1))
		late := newFake("late")
		x.Handle(late, Facts{})
		synctest.Wait()
		if len(late.causes()) != 1 || late.causes()[0].Status != 503 {
			t.Error(late.causes())
		}
	})
}

func TestDrainLetsACallEndByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, to("1"), answers), newFake("a")
		x.Handle(a, Facts{})
		synctest.Wait()
		time.AfterFunc(20*time.Second, func() { a.end(NormalClearing) })
		began := time.Now()
		if err := x.Shutdown(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 20*time.Second || took > 21*time.Second {
			t.Errorf("drained for %v", took)
		}
		x.settled(0, a, x.leg(1))
	})
}

func TestTheLongestTimeEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := to("1")
		d.Longest = time.Hour
		x, a := newExchange(t, d, answers), newFake("a")
		x.Handle(a, Facts{})
		time.Sleep(time.Hour + time.Second)
		x.settled(0, a, x.leg(1))
		if x.records[0].Cause.Text != TimeLimit.Text {
			t.Error(x.records[0].Cause)
		}
	})
}

func TestTransferReachesASecondTargetWhileTheFirstRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, to("1"), func(n int, leg *fakeLeg) {
			if n == 1 {
				answers(n, leg)
			}
		})
		a := newFake("a")
		var told []int
		x.Handle(a, Facts{})
		synctest.Wait()
		first := x.Calls()[0].Bridge()
		x.leg(1).events <- Event{Transfer: &Transfer{Target: policy.Target{Kind: "trunk", Number: "2"}, Told: func(status int) { told = append(told, status) }}}
		synctest.Wait()
		c := x.Calls()[0]
		if c.State() != Transferring || c.Bridge() != first || len(x.leg(1).causes()) != 0 {
			t.Fatalf("%s: the first bridge must run until the second target answers", c.State())
		}
		answers(2, x.leg(2))
		synctest.Wait()
		if c.State() != Talking || c.Bridge() == first || c.Bridge().B != x.leg(2).stream || len(x.leg(1).causes()) != 1 || len(a.causes()) != 0 {
			t.Fatalf("%s: the far side was not swapped", c.State())
		}
		if !slices.Equal(told, []int{200}) {
			t.Errorf("the referrer was told %v", told)
		}
		x.leg(2).end(NormalClearing)
		time.Sleep(time.Second)
		x.settled(0, a, x.leg(1), x.leg(2))
	})
}

func TestATransferThatFailsLeavesTheTwoTalking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, to("1"), func(n int, leg *fakeLeg) {
			if n == 1 {
				answers(n, leg)
			} else {
				leg.end(Cause{Status: 486, Text: "busy"})
			}
		})
		a := newFake("a")
		var told []int
		x.Handle(a, Facts{})
		synctest.Wait()
		first := x.Calls()[0].Bridge()
		x.leg(1).events <- Event{Transfer: &Transfer{Target: policy.Target{Kind: "trunk", Number: "2"}, Told: func(status int) { told = append(told, status) }}}
		synctest.Wait()
		if c := x.Calls()[0]; c.State() != Talking || c.Bridge() != first || len(x.leg(1).causes()) != 0 {
			t.Fatalf("%s", c.State())
		}
		if !slices.Equal(told, []int{486}) {
			t.Errorf("the referrer was told %v", told)
		}
		a.end(NormalClearing)
		time.Sleep(time.Second)
		x.settled(0, a, x.leg(1), x.leg(2))
	})
}

// A telephone that transfers blindly mostly held the patient before and hangs up
// at once.
func TestWhoTransfersMayHoldAndLeaveBeforeTheTargetAnswers(t *testing.T) {
	for _, answered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			x := newExchange(t, to("1"), func(n int, leg *fakeLeg) {
				if n == 1 {
					answers(n, leg)
				}
			})
			a := newFake("a")
			x.Handle(a, Facts{})
			synctest.Wait()
			hold := sdp.Session{Media: []sdp.Media{{Kind: sdp.Audio, Direction: sdp.SendOnly}}}
			x.leg(1).events <- Event{Offered: &Offered{Want: hold, Accept: func(sdp.Session) error { return nil }, Reject: func(Cause) {}}}
			synctest.Wait()
			x.leg(1).events <- Event{Transfer: &Transfer{Target: policy.Target{Kind: "trunk", Number: "2"}, Told: func(int) {}}}
			synctest.Wait()
			x.leg(1).end(NormalClearing)
			synctest.Wait()
			if len(a.causes()) != 0 {
				t.Fatal("the patient was hung up on when the referrer left")
			}
			if !answered {
				x.leg(2).end(Cause{Status: 486, Text: "busy"})
				time.Sleep(time.Second)
				x.settled(486, a, x.leg(1), x.leg(2))
				return
			}
			answers(2, x.leg(2))
			synctest.Wait()
			if c := x.Calls()[0]; c.State() != Talking || c.Bridge().B != x.leg(2).stream {
				t.Fatalf("%s", c.State())
			}
			if n := len(a.offered); n != 2 {
				t.Errorf("the patient was offered %d changes: a hold and its end are wanted", n)
			}
			x.leg(2).end(NormalClearing)
			time.Sleep(time.Second)
			x.settled(0, a, x.leg(1), x.leg(2))
		})
	}
}

func TestALegIsReplacedWhileTheFirstLegsMediaRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, to("1"), answers), newFake("a")
		x.Handle(a, Facts{})
		synctest.Wait()
		c := x.Calls()[0]
		comes := newFake("comes")
		if !c.Replace(comes, x.leg(1)) {
			t.Fatal("not replaced")
		}
		synctest.Wait()
		if comes.accepted != 1 || c.Bridge().B != comes.stream || len(x.leg(1).causes()) != 1 || len(a.causes()) != 0 {
			t.Fatal("the leg was not replaced")
		}
		comes.end(NormalClearing)
		time.Sleep(time.Second)
		x.settled(0, a, x.leg(1), comes)
		if c.Replace(newFake("late"), a) {
			t.Error("a call that is over took a leg")
		}
	})
}

func TestHoldIsShownAndAnOfferThatCannotBeMetIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, to("1"), answers), newFake("a")
		x.Handle(a, Facts{})
		synctest.Wait()
		offer := func(d sdp.Direction, err error) (rejected *Cause) {
			a.events <- Event{Offered: &Offered{Want: sdp.Session{Media: []sdp.Media{{Kind: sdp.Audio, Direction: d}}},
				Accept: func(sdp.Session) error { return err }, Reject: func(c Cause) { rejected = &c }}}
			synctest.Wait()
			return rejected
		}
		offer(sdp.SendOnly, nil)
		if s := x.Calls()[0].State(); s != Held {
			t.Errorf("%s", s)
		}
		if r := offer(sdp.SendRecv, sdp.ErrNothingInCommon); r == nil || r.Status != 488 {
			t.Errorf("rejected with %v", r)
		}
		if s := x.Calls()[0].State(); s != Held {
			t.Errorf("a refused offer changed the call to %s", s)
		}
		offer(sdp.SendRecv, nil)
		if s := x.Calls()[0].State(); s != Talking {
			t.Errorf("%s", s)
		}
		if got := x.leg(1).offered; len(got) != 2 || got[0] != sdp.SendOnly || got[1] != sdp.SendRecv {
			t.Errorf("the far end was offered %v", got)
		}
		a.end(NormalClearing)
		time.Sleep(time.Second)
		x.settled(0, a, x.leg(1))
	})
}

func TestRefusedByPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a := newExchange(t, policy.Decision{Kind: policy.Refused, Status: 403, Reason: "no"}, nil), newFake("a")
		x.Handle(a, Facts{})
		time.Sleep(time.Second)
		x.settled(403, a)
	})
}

func TestAFullGatewayRefusesNewCallsAndKeepsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := false
		x := newExchange(t, to("1"), answers)
		x.cfg.Full = func() bool { return full }
		talking := newFake("a")
		x.Handle(talking, Facts{})
		synctest.Wait()
		full = true
		late := newFake("b")
		x.Handle(late, Facts{})
		synctest.Wait()
		if c := late.causes(); len(c) != 1 || c[0] != Busy || c[0].Status != 503 || c[0].RetryAfter == 0 {
			t.Errorf("the late caller hears %+v", c)
		}
		if n := len(talking.causes()); n != 0 || x.Counts().Refused["overload"] != 1 {
			t.Errorf("%d causes, %+v", n, x.Counts())
		}
		if err := x.Shutdown(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	})
}

func TestErrorsBecomeCauses(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
	}{{Cause{Status: 486}, 486}, {sdp.ErrNothingInCommon, 488}, {sdp.ErrTooLarge, 488}, {media.ErrNoPorts, 503}, {errors.New("x"), 500}, {context.Canceled, 0}} {
		if got := AsCause(c.err).Status; got != c.status {
			t.Errorf("%v: %d, want %d", c.err, got, c.status)
		}
	}
}
