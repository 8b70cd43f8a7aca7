package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Leaf is an engine's way to a portal that stands elsewhere.
type Leaf struct {
	// Dial opens a connection to the portal's tunnel.
	Dial func(context.Context) (net.Conn, error)
	// Seed is the engine's own half of its key (NewKey).
	Seed string
}

const (
	// beat is how often both ends of a tunnel ask whether the other is there; two
	// may stay unanswered, so that a dead path is seen within 8 s.
	beat        = 2 * time.Second
	beatsMissed = 2
	// again is how long a tunnel that broke waits before it is opened anew.
	again = time.Second
	// firstWord is how long the portal may take to say something, and the engine to
	// prove who it is: a proxy and two long lines may lie between.
	firstWord = 15 * time.Second
)

// The accounts of an engine whose portal is elsewhere: what crosses to the portal
// and what does not.
const (
	wideAccount = "wan"
	ownAccount  = "sb"
)

// NewKey makes an engine's key: the seed, which it keeps, and what the portal is
// told.
func NewKey() (seed, public string, err error) {
	k, err := nkeys.CreateUser()
	if err != nil {
		return "", "", fmt.Errorf("bus: %w", err)
	}
	s, err := k.Seed()
	if err != nil {
		return "", "", fmt.Errorf("bus: %w", err)
	}
	public, err = k.PublicKey()
	return string(s), public, err
}

// PublicKey is what belongs to a seed.
func PublicKey(seed string) (string, error) {
	k, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return "", errors.New("this is no seed that sipbridge key has made")
	}
	return k.PublicKey()
}

// CheckKey says what is wrong with a public key.
func CheckKey(public string) error {
	if !nkeys.IsValidPublicUserKey(public) {
		return errors.New("this is no key that sipbridge key has printed")
	}
	return nil
}

// tunnel lets the embedded server reach the portal: it dials a port of loopback,
// and what it says there goes to the portal and back.
type tunnel struct {
	ln     net.Listener
	dial   func(context.Context) (net.Conn, error)
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex // guards fault
	fault string     // why there is no tunnel; "": there is one
}

func openTunnel(dial func(context.Context) (net.Conn, error), log *slog.Logger) (*tunnel, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	t := &tunnel{ln: ln, dial: dial, log: log, fault: "it was not tried yet"}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Go(func() { // ends with close
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.wg.Go(func() { t.carry(c) })
		}
	})
	return t, nil
}

// carry is one connection through the tunnel, from its beginning to its end.
func (t *tunnel) carry(near net.Conn) {
	defer near.Close()
	ctx, cancel := context.WithTimeout(t.ctx, firstWord)
	far, err := t.dial(ctx)
	cancel()
	if err != nil {
		t.say(err.Error())
		return
	}
	t.say("")
	pipe(t.ctx, near, far)
	t.say("it broke")
}

// say notes why there is no tunnel, and logs what is new.
func (t *tunnel) say(fault string) {
	t.mu.Lock()
	old := t.fault
	t.fault = fault
	t.mu.Unlock()
	switch {
	case old == fault || t.ctx.Err() != nil:
	case fault == "":
		t.log.Info("the portal is reached")
	default:
		t.log.Warn("the portal is not reached", "why", fault)
	}
}

func (t *tunnel) close() {
	t.cancel()
	t.ln.Close()
	t.wg.Wait()
}

// pipe carries bytes both ways until one side ends.
func pipe(ctx context.Context, a, b net.Conn) {
	defer a.Close()
	defer b.Close()
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	over := make(chan struct{}, 2)
	one := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // either end's end is the tunnel's
		to.Close()
		over <- struct{}{}
	}
	go one(a, b) // both end when either connection does, and are waited for here
	one(b, a)
	<-over
	<-over
}

// secret is a password for this process alone.
func secret() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// lead adds to the options of an engine's server what leads to the portal, and
// returns how to get at each account.
func (l Leaf) lead(o *server.Options, t *tunnel) (wide, own nats.Option) {
	wan, sb := server.NewAccount(wideAccount), server.NewAccount(ownAccount)
	o.Accounts = []*server.Account{wan, sb}
	wanSecret, sbSecret := secret(), secret()
	o.Users = []*server.User{{Username: wideAccount, Password: wanSecret, Account: wan}, {Username: ownAccount, Password: sbSecret, Account: sb}}
	remote := &server.RemoteLeafOpts{LocalAccount: wideAccount, URLs: []*url.URL{{Scheme: "nats-leaf", Host: t.ln.Addr().String()}}, Nkey: l.Seed,
		FirstInfoTimeout: firstWord, Compression: server.CompressionOpts{Mode: server.CompressionOff}, IgnoreDiscoveredServers: true}
	o.LeafNode = server.LeafNodeOpts{ReconnectInterval: again, Remotes: []*server.RemoteLeafOpts{remote}}
	o.PingInterval, o.MaxPingsOut = beat, beatsMissed
	return nats.UserInfo(wideAccount, wanSecret), nats.UserInfo(ownAccount, sbSecret)
}
