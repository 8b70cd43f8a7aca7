package edge

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/bus"
	"github.com/sipbridge/sipbridge/internal/media"
)

// question is what an engine wants of the relay of a portal that stands elsewhere.
type question struct {
	Visit string    `json:"visit"` // the hash of its link's token
	Until time.Time `json:"until"`
	Over  bool      `json:"over,omitempty"` // it was revoked
}

type answer struct {
	Page   []media.ICEServer `json:"page"`
	Engine []media.ICEServer `json:"engine"`
}

// answerWithin is how long an engine waits for the portal: a page does without
// relays rather than wait any longer.
const answerWithin = 2 * time.Second

// Name is a visit as the relay knows it: those of many sites meet there.
func Name(site, visit string) string { return site + "." + visit }

// Serve answers what a site's engine asks. After stop the site's visits are lent no
// more addresses.
func (r *Relay) Serve(site string, w *bus.Wire, log *slog.Logger) (stop func(), err error) {
	deaf, err := w.Listen(bus.Ask(site), func(m bus.Message) {
		var q question
		if err := json.Unmarshal(m.Data, &q); err != nil || q.Visit == "" || len(q.Visit) > 64 {
			log.Warn("the engine's question was not understood", "site", site)
			return
		}
		if q.Over {
			r.Revoke(Name(site, q.Visit))
			return
		}
		var a answer
		a.Page, a.Engine = r.Servers(Name(site, q.Visit), q.Until)
		b, err := json.Marshal(a)
		if err == nil {
			err = w.Send(bus.Told(site), m.Epoch, b)
		}
		if err != nil {
			log.Warn("the engine was not answered", "site", site, "error", err)
		}
	})
	if err != nil {
		return nil, err
	}
	return func() { deaf(); r.revokeAll(Name(site, "")) }, nil
}

// Borrower is an engine's end of that.
type Borrower struct {
	site string
	wire *bus.Wire
	stop func()

	mu      sync.Mutex // guards waiting
	waiting map[string]chan answer
}

// NewBorrower makes one.
func NewBorrower(site string, w *bus.Wire) (*Borrower, error) {
	b := &Borrower{site: site, wire: w, waiting: map[string]chan answer{}}
	var err error
	b.stop, err = w.Listen(bus.Told(site), func(m bus.Message) {
		var a answer
		if json.Unmarshal(m.Data, &a) != nil {
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if c := b.waiting[m.Epoch]; c != nil {
			delete(b.waiting, m.Epoch)
			c <- a
		}
	})
	return b, err
}

// Close ends it.
func (b *Borrower) Close() { b.stop() }

var errNoAnswer = errors.New("the portal did not say which relays there are")

// Servers asks for a visit's relays: for its page and for us.
func (b *Borrower) Servers(visit string, until time.Time) (page, engine []media.ICEServer, err error) {
	var id [8]byte
	rand.Read(id[:])
	epoch, told := hex.EncodeToString(id[:]), make(chan answer, 1)
	b.mu.Lock()
	b.waiting[epoch] = told
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.waiting, epoch)
	}()
	if err := b.ask(epoch, question{Visit: visit, Until: until}); err != nil {
		return nil, nil, err
	}
	select {
	case a := <-told:
		return a.Page, a.Engine, nil
	case <-time.After(answerWithin):
		return nil, nil, errNoAnswer
	}
}

// Revoke lets a visit borrow no more.
func (b *Borrower) Revoke(visit string) error {
	return b.ask("", question{Visit: visit, Over: true})
}

func (b *Borrower) ask(epoch string, q question) error {
	doc, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	return b.wire.Send(bus.Ask(b.site), epoch, doc)
}
