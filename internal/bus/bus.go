// Package bus carries messages between the page's portal and the call engine,
// and keeps what must outlive the process. It is the one place that names
// subjects and buckets. On one machine NATS runs embedded and opens no port.
package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bus is a connection to the bus with its buckets.
type Bus struct {
	srv    *server.Server
	nc     *nats.Conn
	js     jetstream.JetStream
	log    *slog.Logger
	wg     sync.WaitGroup
	todo   chan func()
	behind *behind

	visits, dialogs, calls, bindings jetstream.KeyValue
}

// The names on the bus.
const (
	visitsBucket   = "visits"   // invitations, by hash of their token, by dial code and by id
	dialogsBucket  = "dialogs"  // SIP dialogs that stand, to be ended after a crash
	callsBucket    = "calls"    // calls that are not recorded yet
	bindingsBucket = "bindings" // where rooms are registered
	recordStream   = "records"  // call records
	recordSubject  = "sb.records"
)

// opTimeout bounds one operation on the embedded store.
const opTimeout = 5 * time.Second

// syncEvery is how much of the store a power failure may take. What a crash of ours
// takes is nothing that was written: the system has it.
const syncEvery = 200 * time.Millisecond

// markerTTL is how long the store remembers that a key was removed.
const markerTTL = 10 * time.Second

// duplicates is how long a record's id is remembered; a repeat comes at once or
// at the next start, which looks at the file.
const duplicates = 2 * time.Minute

// backlog bounds the writes that wait for the disk.
const backlog = 4096

// Open starts the embedded bus with its store in dir.
func Open(dir string, log *slog.Logger) (*Bus, error) {
	srv, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir, SyncInterval: syncEvery,
		MaxPayload: 1 << 20})
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(opTimeout) {
		srv.Shutdown()
		return nil, errors.New("bus: the embedded server did not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv), nats.Name("sipbridge"))
	if err != nil {
		srv.Shutdown()
		return nil, fmt.Errorf("bus: %w", err)
	}
	b := &Bus{srv: srv, nc: nc, log: log, todo: make(chan func(), backlog)}
	if err := b.buckets(); err != nil {
		b.shut()
		return nil, err
	}
	b.behind = newBehind(Store.Put, Store.Delete, func(key string, err error) {
		b.log.Error("not kept: after a crash nobody would know of it", "key", key, "error", err)
	})
	b.wg.Go(func() {
		for f := range b.todo {
			f()
		}
	})
	return b, nil
}

func (b *Bus) buckets() error {
	var err error
	if b.js, err = jetstream.New(b.nc); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	for name, kv := range map[string]*jetstream.KeyValue{visitsBucket: &b.visits, dialogsBucket: &b.dialogs, callsBucket: &b.calls, bindingsBucket: &b.bindings} {
		if *kv, err = b.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name, History: 1, LimitMarkerTTL: markerTTL}); err != nil {
			return fmt.Errorf("bus: bucket %s: %w", name, err)
		}
	}
	_, err = b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: recordStream, Subjects: []string{recordSubject},
		MaxAge: 90 * 24 * time.Hour, Duplicates: duplicates})
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

// Close ends the bus after what waits has been written.
func (b *Bus) Close() {
	close(b.todo)
	b.wg.Wait()
	b.behind.close()
	b.shut()
}

func (b *Bus) shut() {
	b.nc.Close()
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

// Up is the subject of what a page says; Down, of what it is told.
func Up(site, visit string) string   { return "sb." + site + ".visit." + visit + ".up" }
func Down(site, visit string) string { return "sb." + site + ".visit." + visit + ".down" }

// EpochHeader names the attachment, the one WebSocket, that a message belongs to.
const EpochHeader = "Sb-Epoch"

// Message is one message on its way between page and engine.
type Message struct {
	Visit string // "" on Down subscriptions
	Epoch string
	Data  []byte
}

// Send publishes a message.
func (b *Bus) Send(subject, epoch string, data []byte) error {
	m := nats.NewMsg(subject)
	m.Header.Set(EpochHeader, epoch)
	m.Data = data
	if err := b.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

// Listen calls f for each message on a subject, in order, until the returned
// function is called. A "*" as the visit hears every visit of the site.
func (b *Bus) Listen(subject string, f func(Message)) (stop func(), err error) {
	sub, err := b.nc.Subscribe(subject, func(m *nats.Msg) {
		f(Message{Visit: token(m.Subject, 3), Epoch: m.Header.Get(EpochHeader), Data: m.Data})
	})
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	return func() {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			b.log.Debug("unsubscribe", "error", err)
		}
	}, b.nc.Flush()
}

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

// Store is one bucket of JSON documents.
type Store struct {
	kv jetstream.KeyValue
}

// Visits, Dialogs, Calls and Bindings are the buckets.
func (b *Bus) Visits() Store   { return Store{b.visits} }
func (b *Bus) Dialogs() Store  { return Store{b.dialogs} }
func (b *Bus) Calls() Store    { return Store{b.calls} }
func (b *Bus) Bindings() Store { return Store{b.bindings} }

// ErrNotFound is returned where a bucket has no such key.
var ErrNotFound = errors.New("bus: not found")

// ErrExists is returned by Create where the key is taken.
var ErrExists = errors.New("bus: key exists")

// Create puts a document that expires after ttl; 0: never.
func (s Store) Create(key string, doc any, ttl time.Duration) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	var opts []jetstream.KVCreateOpt
	if ttl > 0 {
		opts = append(opts, jetstream.KeyTTL(ttl))
	}
	_, err = s.kv.Create(ctx, key, data, opts...)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return ErrExists
	}
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

// Put writes a document that does not expire.
func (s Store) Put(key string, doc any) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	if _, err = s.kv.Put(ctx, key, data); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

// Get reads a document.
func (s Store) Get(key string, doc any) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	e, err := s.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	if err := json.Unmarshal(e.Value(), doc); err != nil {
		return fmt.Errorf("bus: %s: %w", key, err)
	}
	return nil
}

// Delete removes a document and its history.
func (s Store) Delete(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	// The marker of the purge goes too, or a year of calls would leave a year of markers.
	if err := s.kv.Purge(ctx, key, jetstream.PurgeTTL(markerTTL)); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

// Keys lists the keys of a bucket.
func (s Store) Keys() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	l, err := s.kv.ListKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	var out []string
	for k := range l.Keys() {
		out = append(out, k)
	}
	return out, nil
}

// Keep writes a document soon, and Strike removes one: for what no call waits for.
// Of several wishes for one document the last is met.
func (b *Bus) Keep(in Store, key string, doc any) { b.behind.want(in, key, doc) }

// Strike is Keep's end.
func (b *Bus) Strike(in Store, key string) { b.behind.want(in, key, nil) }

// Later runs f on the bus's own goroutine, in order: for writes that no call
// waits for. It waits only when thousands are behind.
func (b *Bus) Later(f func()) { b.todo <- f }

// Record publishes a call record; the same id twice is one record.
func (b *Bus) Record(id string, doc any) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	if _, err := b.js.Publish(ctx, recordSubject, data, jetstream.WithMsgID(id)); err != nil {
		return fmt.Errorf("bus: record: %w", err)
	}
	return nil
}
