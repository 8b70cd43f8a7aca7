package bus

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
)

// Wire carries messages between the pages of one site and its engine. It keeps
// nothing, and loses what is sent while the other side is away: whoever wants to
// know counts and acknowledges.
type Wire struct {
	nc  *nats.Conn
	log *slog.Logger
}

// What a site says on its wire. A site's portal and engine may say and hear these
// subjects and no other.

// Up is the subject of what a page says; Down, of what it is told.
func Up(site, visit string) string   { return "sb." + site + ".visit." + visit + ".up" }
func Down(site, visit string) string { return "sb." + site + ".visit." + visit + ".down" }

// Ask is the subject of what an engine wants of the portal's relay; Told, of what
// it is answered.
func Ask(site string) string  { return "sb." + site + ".relay.ask" }
func Told(site string) string { return "sb." + site + ".relay.told" }

// EpochHeader names the attachment, the one WebSocket, or the question that a
// message belongs to.
const EpochHeader = "Sb-Epoch"

// Message is one message on its way between page and engine.
type Message struct {
	Visit string // where the subject names one
	Epoch string
	Data  []byte
}

// Send publishes a message.
func (w *Wire) Send(subject, epoch string, data []byte) error {
	return w.send(subject, epoch, "", data)
}

func (w *Wire) send(subject, epoch, reply string, data []byte) error {
	m := nats.NewMsg(subject)
	m.Header.Set(EpochHeader, epoch)
	m.Reply, m.Data = reply, data
	if err := w.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

// Listen calls f for each message on a subject, in order, until the returned
// function is called. A "*" as the visit hears every visit of the site.
func (w *Wire) Listen(subject string, f func(Message)) (stop func(), err error) {
	return w.listen(subject, func(m *nats.Msg) {
		f(Message{Visit: token(m.Subject, 3), Epoch: m.Header.Get(EpochHeader), Data: m.Data})
	})
}

func (w *Wire) listen(subject string, f nats.MsgHandler) (stop func(), err error) {
	sub, err := w.nc.Subscribe(subject, f)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	return func() {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			w.log.Debug("unsubscribe", "error", err)
		}
	}, w.nc.Flush()
}

// noResponders is what the bus answers where nobody hears a subject.
const noResponders = "503"

// Caller sends messages and is told when nobody is there to hear them.
type Caller struct {
	w     *Wire
	reply string
	stop  func()
}

// Caller makes one. nobody is called, on the bus's goroutine, for each message that
// had no listener.
func (w *Wire) Caller(nobody func()) (*Caller, error) {
	var id [8]byte
	rand.Read(id[:])
	c := &Caller{w: w, reply: "nobody." + hex.EncodeToString(id[:])}
	var err error
	c.stop, err = w.listen(c.reply, func(m *nats.Msg) {
		if m.Header.Get("Status") == noResponders {
			nobody()
		}
	})
	return c, err
}

// Send publishes a message.
func (c *Caller) Send(subject, epoch string, data []byte) error {
	return c.w.send(subject, epoch, c.reply, data)
}

// Close ends it.
func (c *Caller) Close() { c.stop() }

// token is the n-th part of a subject.
func token(subject string, n int) string {
	start := 0
	for i := 0; i <= len(subject); i++ {
		if i == len(subject) || subject[i] == '.' {
			if n == 0 {
				return subject[start:i]
			}
			n--
			start = i + 1
		}
	}
	return ""
}
