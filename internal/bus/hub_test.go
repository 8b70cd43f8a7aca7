package bus

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// outside is a portal with engines that reach it through pipes.
type outside struct {
	t   *testing.T
	hub *Hub
	wg  sync.WaitGroup

	mu   sync.Mutex // guards cut and open
	cut  bool
	open []net.Conn
}

func stands(t *testing.T, keys map[string]string) *outside {
	t.Helper()
	hub, err := OpenHub(keys, quiet)
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{t: t, hub: hub}
	t.Cleanup(func() { hub.Close(); o.wg.Wait() })
	return o
}

func (o *outside) dial(context.Context) (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cut {
		return nil, errors.New("the network is cut")
	}
	near, far := net.Pipe()
	o.open = append(o.open, near)
	o.wg.Go(func() {
		if err := o.hub.Carry(far); err != nil {
			o.t.Log(err)
		}
	})
	return near, nil
}

func (o *outside) cuts(cut bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cut = cut
	for _, c := range o.open {
		c.Close()
	}
	o.open = nil
}

func (o *outside) engine(seed string) *Bus {
	o.t.Helper()
	b, err := Open(o.t.TempDir(), &Leaf{Dial: o.dial, Seed: seed}, quiet)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(b.Close)
	return b
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s did not come about", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// hears collects what comes on a subject.
func hears(t *testing.T, w *Wire, subject string) <-chan Message {
	t.Helper()
	c := make(chan Message, 16)
	stop, err := w.Listen(subject, func(m Message) { c <- m })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return c
}

// crosses sends until something is heard: interest takes a moment to cross.
func crosses(t *testing.T, from *Wire, subject string, heard <-chan Message) Message {
	t.Helper()
	var got Message
	until(t, subject+" to be heard", func() bool {
		if err := from.Send(subject, "7", []byte("word")); err != nil {
			t.Fatal(err)
		}
		select {
		case got = <-heard:
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	return got
}

func keys(t *testing.T) (seed, public string) {
	t.Helper()
	seed, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := PublicKey(seed); err != nil || p != public || CheckKey(public) != nil {
		t.Fatalf("the public half of a new key is %q, %v", p, err)
	}
	return seed, public
}

func TestAPageReachesItsSitesEngineElsewhere(t *testing.T) {
	seed, public := keys(t)
	o := stands(t, map[string]string{"lisbon": public})
	if o.hub.Present("lisbon") || o.hub.Wire("porto") != nil {
		t.Error("an engine before there is one")
	}
	e := o.engine(seed)
	up, down := hears(t, e.Wire, Up("lisbon", "*")), hears(t, o.hub.Wire("lisbon"), Down("lisbon", "v1"))
	m := crosses(t, o.hub.Wire("lisbon"), Up("lisbon", "v1"), up)
	if m.Visit != "v1" || m.Epoch != "7" || string(m.Data) != "word" {
		t.Errorf("the engine heard %+v", m)
	}
	crosses(t, e.Wire, Down("lisbon", "v1"), down)
	until(t, "presence", func() bool { return o.hub.Present("lisbon") && e.Present() })

	// What is kept stays in the engine: its buckets work, and are not on the wire.
	if err := e.Visits().Put("k", "doc"); err != nil {
		t.Error(err)
	}
	if _, err := e.Wire.nc.Request("$JS.API.INFO", nil, 300*time.Millisecond); err == nil {
		t.Error("the wire leads to the store")
	}

	// A network that breaks heals by itself.
	o.cuts(true)
	until(t, "absence", func() bool { return !o.hub.Present("lisbon") && !e.Present() })
	o.cuts(false)
	crosses(t, o.hub.Wire("lisbon"), Up("lisbon", "v1"), up)
}

func TestWhoSpeaksToNobodyIsTold(t *testing.T) {
	seed, public := keys(t)
	o := stands(t, map[string]string{"lisbon": public})
	told := make(chan struct{}, 16)
	c, err := o.hub.Wire("lisbon").Caller(func() { told <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() bool {
		if err := c.Send(Up("lisbon", "v1"), "1", nil); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told:
			return true
		case <-time.After(200 * time.Millisecond):
			return false
		}
	}
	if !ask() {
		t.Error("not told that no engine is there")
	}
	up := hears(t, o.engine(seed).Wire, Up("lisbon", "*"))
	crosses(t, o.hub.Wire("lisbon"), Up("lisbon", "v1"), up)
	if ask() {
		t.Error("told that no engine is there, and it heard")
	}
}

func TestASitesKeyOpensNothingElse(t *testing.T) {
	seed, public := keys(t)
	otherSeed, other := keys(t)
	o := stands(t, map[string]string{"lisbon": public, "porto": other})
	thief, porto := o.engine(seed), o.engine(otherSeed)
	heard := hears(t, porto.Wire, Up("porto", "*"))
	crosses(t, o.hub.Wire("porto"), Up("porto", "v"), heard)
	until(t, "the other engine", func() bool { return o.hub.Present("lisbon") })

	stolen := make(chan string, 64)
	for _, subject := range []string{Up("porto", "*"), Down("porto", "*"), Ask("porto"), "_INBOX.>", "sb.>", ">"} {
		sub, err := thief.Wire.nc.Subscribe(subject, func(m *nats.Msg) { stolen <- string(m.Data) })
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	pages := hears(t, o.hub.Wire("porto"), Down("porto", "v"))
	if err := thief.Wire.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		for _, subject := range []string{Up("porto", "v"), Down("porto", "v"), Told("porto")} {
			if err := o.hub.Wire("porto").Send(subject, "1", []byte("secret")); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	for len(pages) > 0 {
		<-pages // what the portal said to itself
	}
	if err := porto.Send(Down("porto", "v"), "2", []byte("true")); err != nil {
		t.Fatal(err)
	}
	if m := <-pages; string(m.Data) != "true" {
		t.Errorf("the page was told %q", m.Data)
	}
	for _, subject := range []string{Down("porto", "v"), Up("porto", "v")} {
		if err := thief.Send(subject, "3", []byte("forged")); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(300 * time.Millisecond)
	for len(stolen) > 0 { // its own word it may hear
		if s := <-stolen; s != "forged" {
			t.Errorf("the thief heard %q", s)
		}
	}
	select {
	case m := <-pages:
		t.Errorf("the page heard %q", m.Data)
	default:
	}
}

func TestAStrangersKeyIsRefused(t *testing.T) {
	_, public := keys(t)
	seed, _ := keys(t)
	o := stands(t, map[string]string{"lisbon": public})
	e := o.engine(seed)
	<-time.After(500 * time.Millisecond)
	if e.Present() || o.hub.Present("lisbon") {
		t.Error("an engine with another key came in")
	}
}

func TestSitesComeAndGo(t *testing.T) {
	lisbonSeed, lisbon := keys(t)
	portoSeed, porto := keys(t)
	o := stands(t, map[string]string{"lisbon": lisbon})
	stays, new := o.engine(lisbonSeed), o.engine(portoSeed)
	heard := hears(t, stays.Wire, Up("lisbon", "*"))
	crosses(t, o.hub.Wire("lisbon"), Up("lisbon", "v"), heard)
	wire := o.hub.Wire("lisbon")
	if new.Present() {
		t.Error("a site that is not known came in")
	}
	admit := func(keys map[string]string) {
		t.Helper()
		if err := o.hub.Admit(keys); err != nil {
			t.Fatal(err)
		}
	}

	admit(map[string]string{"lisbon": lisbon, "porto": porto})
	until(t, "the new site", func() bool { return new.Present() && o.hub.Present("porto") })
	crosses(t, o.hub.Wire("porto"), Up("porto", "v"), hears(t, new.Wire, Up("porto", "*")))

	// A site that stays notices nothing of another that goes.
	admit(map[string]string{"lisbon": lisbon})
	if o.hub.Wire("porto") != nil || o.hub.Present("porto") || o.hub.Wire("lisbon") != wire || !stays.Present() {
		t.Error("after a site was taken away")
	}
	until(t, "the engine of that site to be cut off", func() bool { return !new.Present() })
	crosses(t, wire, Up("lisbon", "v"), heard)

	// One with another key has to show it.
	otherSeed, other := keys(t)
	admit(map[string]string{"lisbon": other})
	until(t, "the old key to open nothing", func() bool { return !stays.Present() && !o.hub.Present("lisbon") })
	changed := o.engine(otherSeed)
	until(t, "the new key to open", changed.Present)
	crosses(t, wire, Up("lisbon", "v"), hears(t, changed.Wire, Up("lisbon", "*")))
}
