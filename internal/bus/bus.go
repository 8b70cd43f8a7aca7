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
	*Wire  // to the pages
	srv    *server.Server
	nc     *nats.Conn // to what is kept here
	tunnel *tunnel    // nil: the portal is in this process
	js     jetstream.JetStream
	log    *slog.Logger
	wg     sync.WaitGroup
	todo   chan func()
	behind *behind

	visits, dialogs, calls, bindings, policies jetstream.KeyValue
}

// The names on the bus.
const (
	visitsBucket   = "visits"   // invitations, by hash of their token, by dial code and by id
	dialogsBucket  = "dialogs"  // SIP dialogs that stand, to be ended after a crash
	callsBucket    = "calls"    // calls that are not recorded yet
	bindingsBucket = "bindings" // where rooms are registered
	policiesBucket = "policies" // versions of the policy
	recordStream   = "records"  // call records
	recordSubject  = "sb.records"
)

// opTimeout bounds one operation on the embedded store.
const opTimeout = 5 * time.Second

// syncEvery is how much of the store a power failure may take. What a crash of ours
// takes is nothing that was written: the system has it.
const syncEvery = time.Second

// markerTTL is how long the store remembers that a key was removed.
const markerTTL = 10 * time.Second

// duplicates is how long a record's id is remembered; a repeat comes at once or
// at the next start, which looks at the file.
const duplicates = 2 * time.Minute

// backlog bounds the writes that wait for the disk.
const backlog = 4096

// Open starts the embedded bus with its store in dir. leaf leads to a portal that
// stands elsewhere; nil: the portal is in this process, and no port is opened.
func Open(dir string, leaf *Leaf, log *slog.Logger) (*Bus, error) {
	b := &Bus{log: log, todo: make(chan func(), backlog)}
	if err := b.start(dir, leaf); err != nil {
		b.shut()
		return nil, err
	}
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

func (b *Bus) start(dir string, leaf *Leaf) error {
	o := &server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir, SyncInterval: syncEvery, MaxPayload: 1 << 20}
	wide, own := nats.Name("sipbridge"), nats.Name("sipbridge")
	var err error
	if leaf != nil {
		if b.tunnel, err = openTunnel(leaf.Dial, b.log); err != nil {
			return err
		}
		wide, own = leaf.lead(o, b.tunnel)
	}
	if b.srv, err = server.NewServer(o); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	b.srv.Start()
	if !b.srv.ReadyForConnections(opTimeout) {
		return errors.New("bus: the embedded server did not start")
	}
	if leaf != nil {
		account, err := b.srv.LookupAccount(ownAccount)
		if err == nil {
			err = account.EnableJetStream(nil, nil)
		}
		if err != nil {
			return fmt.Errorf("bus: %w", err)
		}
	}
	if b.nc, err = nats.Connect("", nats.InProcessServer(b.srv), own); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	b.Wire = &Wire{nc: b.nc, log: b.log}
	if leaf != nil {
		b.Wire = &Wire{log: b.log}
		if b.Wire.nc, err = nats.Connect("", nats.InProcessServer(b.srv), wide); err != nil {
			return fmt.Errorf("bus: %w", err)
		}
	}
	return nil
}

// Present reports whether the portal is there.
func (b *Bus) Present() bool {
	return b.tunnel == nil || b.srv.NumLeafNodes() > 0
}

func (b *Bus) buckets() error {
	var err error
	if b.js, err = jetstream.New(b.nc); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	for name, kv := range map[string]*jetstream.KeyValue{visitsBucket: &b.visits, dialogsBucket: &b.dialogs, callsBucket: &b.calls, bindingsBucket: &b.bindings, policiesBucket: &b.policies} {
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
	if b.Wire != nil {
		b.Wire.nc.Close()
	}
	if b.nc != nil {
		b.nc.Close()
	}
	if b.srv != nil {
		b.srv.Shutdown()
		b.srv.WaitForShutdown()
	}
	if b.tunnel != nil {
		b.tunnel.close()
	}
}

// Store is one bucket of JSON documents.
type Store struct {
	kv jetstream.KeyValue
}

// Visits, Dialogs, Calls, Bindings and Policies are the buckets.
func (b *Bus) Visits() Store   { return Store{b.visits} }
func (b *Bus) Dialogs() Store  { return Store{b.dialogs} }
func (b *Bus) Calls() Store    { return Store{b.calls} }
func (b *Bus) Bindings() Store { return Store{b.bindings} }
func (b *Bus) Policies() Store { return Store{b.policies} }

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
