package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Hub is the bus of a portal that stands apart from its engines: a wire for each
// site, and nothing that is kept. A site's engine proves itself with its key and
// may say and hear what is its own; it sees no other site.
type Hub struct {
	srv    *server.Server
	leaf   string // where the embedded server takes leaf nodes, on loopback
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	admitting sync.Mutex // one change of the sites at a time

	mu    sync.RWMutex // guards seats
	seats map[string]seat
}

// seat is a site's place.
type seat struct {
	key      string // the public half of its engine's
	password string // the portal's own, for the site's wire
	wire     *Wire
}

// OpenHub starts the bus for sites, by the public key of each.
func OpenHub(keys map[string]string, log *slog.Logger) (*Hub, error) {
	seats := seatsOf(keys, nil)
	o := options(seats)
	srv, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	h := &Hub{srv: srv, log: log}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	srv.Start()
	if !srv.ReadyForConnections(opTimeout) {
		srv.Shutdown()
		return nil, errors.New("bus: the embedded server did not start")
	}
	h.leaf = net.JoinHostPort(o.LeafNode.Host, strconv.Itoa(o.LeafNode.Port))
	h.seats = seats
	if err := h.wire(seats); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// seatsOf is a place for each site; those that had one keep it.
func seatsOf(keys map[string]string, had map[string]seat) map[string]seat {
	seats := map[string]seat{}
	for site, key := range keys {
		s, ok := had[site]
		if !ok {
			s.password = secret()
		}
		s.key = key
		seats[site] = s
	}
	return seats
}

// options are the embedded server's.
func options(seats map[string]seat) *server.Options {
	o := &server.Options{DontListen: true, NoSigs: true, NoLog: true, MaxPayload: 1 << 20,
		PingInterval: beat, MaxPingsOut: beatsMissed, AuthTimeout: firstWord.Seconds(),
		LeafNode: server.LeafNodeOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoAdvertise: true, AuthTimeout: firstWord.Seconds(),
			Compression: server.CompressionOpts{Mode: server.CompressionOff}}}
	for site, s := range seats {
		a := server.NewAccount(site)
		o.Accounts = append(o.Accounts, a)
		o.Users = append(o.Users, &server.User{Username: site, Password: s.password, Account: a})
		o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: s.key, Account: a,
			AllowedConnectionTypes: map[string]struct{}{"LEAFNODE": {}},
			Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: []string{Down(site, "*"), Ask(site)}},
				Subscribe: &server.SubjectPermission{Allow: []string{Up(site, "*"), Told(site)}}}})
	}
	return o
}

// wire connects the places that have no wire yet.
func (h *Hub) wire(seats map[string]seat) error {
	for site, s := range seats {
		if s.wire != nil {
			continue
		}
		nc, err := nats.Connect("", nats.InProcessServer(h.srv), nats.UserInfo(site, s.password), nats.Name("sipbridge portal"))
		if err != nil {
			return fmt.Errorf("bus: %w", err)
		}
		s.wire = &Wire{nc: nc, log: h.log}
		seats[site] = s
	}
	return nil
}

// Admit lets in the engines of these sites and no other, by the public key of each.
// The wire of a site that is gone ends; the engine of one that is gone, or that has
// another key now, is cut off. On an error all is as it was.
func (h *Hub) Admit(keys map[string]string) error {
	h.admitting.Lock()
	defer h.admitting.Unlock()
	h.mu.RLock()
	had := h.seats
	h.mu.RUnlock()
	next := seatsOf(keys, had)
	if err := h.srv.ReloadOptions(options(next)); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	if err := h.wire(next); err != nil {
		for site, s := range next {
			if _, stood := had[site]; !stood && s.wire != nil {
				s.wire.nc.Close()
			}
		}
		return errors.Join(err, h.srv.ReloadOptions(options(had)))
	}
	h.mu.Lock()
	h.seats = next
	h.mu.Unlock()
	for site, s := range had {
		now, stays := next[site]
		if !stays {
			s.wire.nc.Close()
		}
		if !stays || now.key != s.key {
			h.cut(site)
		}
	}
	return nil
}

// cut ends the connections of a site's engines. The server does so itself for
// clients that a change shuts out, and forgets leaf nodes.
func (h *Hub) cut(site string) {
	all, err := h.srv.Leafz(&server.LeafzOptions{Account: site})
	if err != nil {
		h.log.Error("an engine was not cut off", "site", site, "error", err)
		return
	}
	for _, l := range all.Leafs {
		_ = h.srv.DisconnectClientByID(l.ID) // fails where it has just gone by itself
	}
}

// Sites are the names of those that are let in, in order.
func (h *Hub) Sites() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Sorted(maps.Keys(h.seats))
}

// Wire is a site's; nil: it is none of ours.
func (h *Hub) Wire(site string) *Wire {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.seats[site].wire
}

// Present reports whether a site's engine is connected.
func (h *Hub) Present(site string) bool {
	a, err := h.srv.LookupAccount(site)
	return err == nil && a.NumLeafNodes() > 0
}

// Carry is one engine's tunnel, until either side ends it.
func (h *Hub) Carry(far net.Conn) error {
	defer far.Close()
	near, err := net.Dial("tcp", h.leaf)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	pipe(h.ctx, near, far)
	return nil
}

// Close ends every tunnel.
func (h *Hub) Close() {
	h.cancel()
	h.mu.RLock()
	for _, s := range h.seats {
		if s.wire != nil {
			s.wire.nc.Close()
		}
	}
	h.mu.RUnlock()
	h.srv.Shutdown()
	h.srv.WaitForShutdown()
}
