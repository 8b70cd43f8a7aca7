package call

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// two are two calls by one telephone, the first of them on hold.
func two(t *testing.T) (x *exchange, a, b *fakeLeg) {
	x, a, b = newExchange(t, to("1"), answers), newFake("a"), newFake("b")
	x.Handle(a, Facts{})
	synctest.Wait()
	x.Handle(b, Facts{})
	synctest.Wait()
	return x, a, b
}

func TestAnEndOfAnotherCallComesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a, b := two(t)
		stays, comes := x.leg(1), x.leg(2)
		var told []int
		a.events <- Event{Transfer: &Transfer{With: comes, Told: func(status int) { told = append(told, status) }}}
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(told, []int{200}) {
			t.Fatalf("the referrer was told %v", told)
		}
		calls := x.Calls()
		if len(calls) != 1 || len(stays.causes())+len(comes.causes()) != 0 || len(a.causes()) != 1 || len(b.causes()) != 1 {
			t.Fatalf("%d calls; ended: %v %v %v %v", len(calls), stays.causes(), comes.causes(), a.causes(), b.causes())
		}
		br := calls[0].Bridge()
		if br.A != comes.stream && br.B != comes.stream || br.A != stays.stream && br.B != stays.stream {
			t.Error("their media are not joined")
		}
		if !slices.Equal(comes.offered, []sdp.Direction{sdp.SendRecv}) {
			t.Errorf("who came over was offered %v", comes.offered)
		}
		comes.events <- Event{Signal: &Info{Digit: dtmf.Digit('5')}}
		synctest.Wait()
		if len(stays.heard) != 1 {
			t.Error("a digit is not heard at the other end")
		}
		if len(x.records) != 1 {
			t.Errorf("%d records of the call that is over", len(x.records))
		}
		comes.end(NormalClearing)
		time.Sleep(time.Second)
		if len(x.Calls()) != 0 || len(x.records) != 2 || len(stays.causes()) == 0 {
			t.Error("the call did not end with the one who came over")
		}
	})
}

// Each of two calls wants an end of the other: neither may wait for ever.
func TestTwoCallsThatWantEachOthersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a, b := two(t)
		told := make(chan int, 4)
		say := func(status int) { told <- status }
		a.events <- Event{Transfer: &Transfer{With: x.leg(2), Told: say}}
		b.events <- Event{Transfer: &Transfer{With: x.leg(1), Told: say}}
		time.Sleep(2 * patience)
		synctest.Wait()
		if len(told) == 0 {
			t.Fatal("nobody was told")
		}
		for _, c := range x.Calls() {
			if c.State() != Talking {
				t.Errorf("a call is %s", c.State())
			}
			c.Hangup(NormalClearing)
		}
		time.Sleep(time.Second)
		if n := len(x.Calls()); n != 0 || len(x.records) != 2 {
			t.Errorf("%d calls left, %d records", n, len(x.records))
		}
	})
}

func TestWhoIsInNoCallCannotComeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, a, b := two(t)
		var told []int
		a.events <- Event{Transfer: &Transfer{With: newFake("stranger"), Told: func(status int) { told = append(told, status) }}}
		a.events <- Event{Transfer: &Transfer{With: x.leg(1), Told: func(status int) { told = append(told, status) }}}
		synctest.Wait()
		if !slices.Equal(told, []int{481, 481}) || len(x.Calls()) != 2 {
			t.Errorf("told %v, %d calls", told, len(x.Calls()))
		}
		a.end(NormalClearing)
		b.end(NormalClearing)
		time.Sleep(time.Second)
	})
}
