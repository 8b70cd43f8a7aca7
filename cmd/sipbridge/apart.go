package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sipbridge/sipbridge/internal/bus"
	"github.com/sipbridge/sipbridge/internal/edge"
	"github.com/sipbridge/sipbridge/internal/portal"
)

// The roles of a process. An engine has the calls and stands in the hospital; a
// portal has the page and stands where patients reach it.
const (
	roleAll    = "all"
	rolePortal = "portal"
	roleEngine = "engine"
)

// BusConfig leads an engine to a portal that stands elsewhere.
type BusConfig struct {
	URL         string `yaml:"url" doc:"For role engine: where the portal is, wss://HOST. Empty: in this process."`
	Proxy       string `yaml:"proxy" doc:"The HTTP proxy on the way there, http://USER:PASSWORD@HOST:PORT. It is asked by CONNECT, with Basic authentication, for sound, too; it resolves the portal's name."`
	ProxyFile   string `yaml:"proxy_password_file" doc:"The file that holds the proxy's password and nothing else, instead of writing it into proxy."`
	Credentials string `yaml:"credentials_file" doc:"The file with this engine's key, as sipbridge key wrote it."`
	CAFile      string `yaml:"ca_file" doc:"Who signed the portal's certificate, in PEM; no other is believed. Empty: whoever the system trusts."`
}

// Site is an engine that a portal lets in.
type Site struct {
	Key string `yaml:"key" doc:"The public half of its key, as sipbridge key printed it." example:"UDCSHX6QVVFRDDVDUAOZVXCE6HNSWS24FSTBIMKIFT5O3JSG57QLH7DF"`
}

// outward is the engine's way to the portal.
func (b BusConfig) outward() (o edge.Outward, err error) {
	if b.Proxy != "" {
		if o.Proxy, err = url.Parse(b.Proxy); err != nil {
			return o, errors.New("bus.proxy is no URL") // it holds a password, perhaps
		}
		if b.ProxyFile != "" {
			password, err := os.ReadFile(b.ProxyFile)
			if err != nil {
				return o, fmt.Errorf("bus.proxy_password_file: %w", err)
			}
			o.Proxy.User = url.UserPassword(o.Proxy.User.Username(), strings.TrimSpace(string(password)))
		}
	}
	if b.CAFile != "" {
		pem, err := os.ReadFile(b.CAFile)
		if err != nil {
			return o, fmt.Errorf("bus.ca_file: %w", err)
		}
		o.Roots = x509.NewCertPool()
		if !o.Roots.AppendCertsFromPEM(pem) {
			return o, fmt.Errorf("bus.ca_file: %s holds no certificate", b.CAFile)
		}
	}
	return o, nil
}

func (b BusConfig) seed() (string, error) {
	seed, err := os.ReadFile(b.Credentials)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(seed))
	_, err = bus.PublicKey(s)
	return s, err
}

func (b BusConfig) leaf(o edge.Outward) (*bus.Leaf, error) {
	seed, err := b.seed()
	if err != nil {
		return nil, fmt.Errorf("bus.credentials_file: %w", err)
	}
	at := strings.TrimSuffix(b.URL, "/") + portal.TunnelPath
	return &bus.Leaf{Seed: seed, Dial: func(ctx context.Context) (net.Conn, error) { return o.Tunnel(ctx, at) }}, nil
}

// publicURL is what patients' links begin with.
func publicURL(c *Configuration) string {
	if c.Portal.PublicURL == "" && c.Role == roleEngine {
		return "https" + strings.TrimPrefix(c.Bus.URL, "wss")
	}
	return c.Portal.PublicURL
}

// checkRole is check for what a role has and what it has not.
func checkRole(c *Configuration, doc faulter) {
	if !slices.Contains([]string{roleAll, rolePortal, roleEngine}, c.Role) {
		doc.Fault(fmt.Sprintf("there is no role %q", c.Role), "write all, portal or engine", 0, "role")
	}
	if c.Role == rolePortal {
		if len(c.Sites) == 0 {
			doc.Fault("a portal without engines", "write sites: {NAME: {key: KEY}}; sipbridge key makes the key", 0, "role")
		}
		for what, n := range map[string]int{"trunks": len(c.Trunks), "rooms": len(c.Rooms), "routes": len(c.Routes)} {
			if n > 0 {
				doc.Fault("a portal has no "+what, "write them into the engine's file", 0, what)
			}
		}
	} else if len(c.Sites) > 0 {
		doc.Fault("only a portal has sites", "write role: portal, or leave sites out", 0, "sites")
	}
	for name, s := range c.Sites {
		if !siteName(name) {
			doc.Fault(fmt.Sprintf("%q is no site", name), "write small letters, digits and hyphens", 0, "sites", name)
		}
		if err := bus.CheckKey(s.Key); err != nil {
			doc.Fault(err.Error(), "write what sipbridge key prints", 0, "sites", name, "key")
		}
	}
	if c.Role != roleEngine {
		if c.Bus != (BusConfig{}) {
			doc.Fault("only an engine is led to a portal elsewhere", "write role: engine, or leave bus out", 0, "bus")
		}
		return
	}
	if u, err := url.Parse(c.Bus.URL); err != nil || u.Scheme != "wss" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		doc.Fault(fmt.Sprintf("%q does not lead to a portal", c.Bus.URL), "write url: wss://HOST, the host of portal.public_url there", 0, "bus", "url")
	}
	if u, err := url.Parse(c.Bus.Proxy); c.Bus.Proxy != "" && (err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https") {
		doc.Fault("this is no proxy", "write http://USER:PASSWORD@HOST:PORT", 0, "bus", "proxy")
	} else if _, err := c.Bus.outward(); err != nil {
		doc.Fault(err.Error(), "name a file that the gateway can read", 0, "bus")
	}
	if _, err := c.Bus.seed(); err != nil {
		doc.Fault(err.Error(), "make one: sipbridge key FILE", 0, "bus", "credentials_file")
	}
	if c.TURN.RelayPorts != "" || len(c.TURN.External) > 0 {
		doc.Fault("the relay is the portal's", "write turn into the portal's file", 0, "turn")
	}
}

func siteName(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

var keyCommand = &cli.Command{
	Name: "key", Usage: "make an engine's key: it is written to a file, and what the portal is to know is printed", ArgsUsage: "FILE",
	Action: func(c *cli.Context) error {
		if c.Args().Len() != 1 {
			return cli.Exit("key wants the FILE to write", exitUsage)
		}
		seed, public, err := bus.NewKey()
		if err != nil {
			return err
		}
		f, err := os.OpenFile(c.Args().First(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(seed + "\n"); err != nil {
			return errors.Join(err, f.Close())
		}
		fmt.Println(public)
		return f.Close()
	},
}
