package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Hub is the bus of a portal that stands apart from its engines: a wire for each
// site, and nothing that is kept. A site's engine proves itself with its key and
// may say and hear what is its own; it sees no other site.
type Hub struct {
	srv    *server.Server
	leaf   string // where the embedded server takes leaf nodes, on loopback
	wires  map[string]*Wire
	ctx    context.Context
	cancel context.CancelFunc
}

// OpenHub starts the bus for sites, by the public key of each.
func OpenHub(keys map[string]string, log *slog.Logger) (*Hub, error) {
	o := &server.Options{DontListen: true, NoSigs: true, NoLog: true, MaxPayload: 1 << 20,
		PingInterval: beat, MaxPingsOut: beatsMissed, AuthTimeout: firstWord.Seconds(),
		LeafNode: server.LeafNodeOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoAdvertise: true, AuthTimeout: firstWord.Seconds(),
			Compression: server.CompressionOpts{Mode: server.CompressionOff}}}
	passwords := map[string]string{}
	for site, key := range keys {
		a := server.NewAccount(site)
		passwords[site] = secret()
		o.Accounts = append(o.Accounts, a)
		o.Users = append(o.Users, &server.User{Username: site, Password: passwords[site], Account: a})
		o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: key, Account: a,
			AllowedConnectionTypes: map[string]struct{}{"LEAFNODE": {}},
			Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: []string{Down(site, "*"), Ask(site)}},
				Subscribe: &server.SubjectPermission{Allow: []string{Up(site, "*"), Told(site)}}}})
	}
	srv, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	h := &Hub{srv: srv, wires: map[string]*Wire{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	srv.Start()
	if !srv.ReadyForConnections(opTimeout) {
		srv.Shutdown()
		return nil, errors.New("bus: the embedded server did not start")
	}
	h.leaf = net.JoinHostPort(o.LeafNode.Host, strconv.Itoa(o.LeafNode.Port))
	for site, password := range passwords {
		nc, err := nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(site, password), nats.Name("sipbridge portal"))
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("bus: %w", err)
		}
		h.wires[site] = &Wire{nc: nc, log: log}
	}
	return h, nil
}

// Wire is a site's; nil: it is none of ours.
func (h *Hub) Wire(site string) *Wire { return h.wires[site] }

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
	for _, w := range h.wires {
		w.nc.Close()
	}
	h.srv.Shutdown()
	h.srv.WaitForShutdown()
}
