package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sipbridge/sipbridge/internal/admin"
	"github.com/sipbridge/sipbridge/internal/announce"
	"github.com/sipbridge/sipbridge/internal/config"
	"github.com/sipbridge/sipbridge/internal/edge"
	"github.com/sipbridge/sipbridge/internal/invite"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/portal"
	"github.com/sipbridge/sipbridge/internal/sip"
)

// Configuration is the whole file.
type Configuration struct {
	Site       string               `yaml:"site" doc:"The name of this engine on the bus and in its links: small letters, digits and hyphens." default:"main"`
	Role       string               `yaml:"role" doc:"all; or, apart, portal (the page and the relay, where patients reach them) and engine (calls, in the hospital, which need not be reached)." default:"all"`
	State      string               `yaml:"state" doc:"The directory for what must outlive the process: invitations, dialogs, call records." default:"/var/lib/sipbridge"`
	Interfaces map[string]Interface `yaml:"interfaces" doc:"Addresses we speak from; a trunk or the browsers name one." example:"pbx"`
	SIP        sip.Config           `yaml:"sip" doc:"The SIP side."`
	Media      Media                `yaml:"media" doc:"Ports for sound."`
	Portal     portal.Config        `yaml:"portal" doc:"The patient's page."`
	Admin      admin.Config         `yaml:"admin" doc:"For administrators."`
	Visits     invite.Config        `yaml:"visits" doc:"Patients' visits."`
	Drain      time.Duration        `yaml:"drain" doc:"How long the first SIGTERM lets calls end by themselves." default:"0s"`
	TLS        edge.TLS             `yaml:"tls" doc:"Our certificate."`
	TURN       edge.TURN            `yaml:"turn" doc:"The relay for patients whose network lets nothing but TCP through."`
	Bus        BusConfig            `yaml:"bus" doc:"Where an engine finds its portal."`
	Sites      map[string]Site      `yaml:"sites" doc:"The engines that a portal lets in, by their site; each with the public half of its key, as sipbridge key printed it: {lisbon: {key: KEY}}."`
	Trunks     map[string]sip.Trunk `yaml:"trunks" doc:"PBXs and proxies. A call from a trunk has its name as call.source." example:"pbx"`
	Rooms      map[string]sip.Room  `yaml:"rooms" doc:"Video rooms and telephones that register with us. A call from one has room as call.source." example:"theatre2"`
	policy.Config
	Announcements  map[string]announce.Config `yaml:"announcements" doc:"Recordings that a route may play: announce:NAME." example:"closed"`
	ReloadOnChange bool                       `yaml:"reload_on_change" doc:"The policy (emergency, time_zone, country, sets, calendars, classes, routes) is read again when this file changes, as on SIGHUP and by sipbridge policy reload; and so are a portal's sites, by SIGHUP. All else wants a restart." default:"false"`

	file       string // where it was read from; "": nowhere
	policyText string // what the file says of the policy
}

// Interface is one address of ours.
type Interface struct {
	Address string `yaml:"address" doc:"The address on this machine." example:"10.0.0.2"`
	Public  string `yaml:"public" doc:"The address by which a 1:1 NAT shows it to browsers. A PBX is never told it." example:"203.0.113.9"`
}

// Media says which ports sound uses.
type Media struct {
	RTPPorts   string `yaml:"rtp_ports" doc:"The UDP ports towards PBXs and rooms: an even one and the next for each call." default:"20000-29999"`
	WebRTCPort int    `yaml:"webrtc_port" doc:"The one UDP port for every browser." default:"8443"`
	DSCP       int    `yaml:"dscp" doc:"How sound is marked for routers, 0 to 63; 46 is Expedited Forwarding." default:"46"`
	ICE        string `yaml:"ice" doc:"Whether the gateway looks for ways to patients itself, which opens firewalls in front of it (full), or is only found (lite): full, lite or auto, which is lite where every address is public." default:"auto"`
	Interface  string `yaml:"interface" doc:"The entry of interfaces that browsers reach. Empty: every address of this machine."`
}

// defaults are what is left out.
func defaults() Configuration {
	return Configuration{Site: "main", Role: roleAll, State: "/var/lib/sipbridge",
		SIP:    sip.Config{Listen: []string{"udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"}, ResolveEvery: time.Minute},
		Media:  Media{RTPPorts: "20000-29999", WebRTCPort: 8443, DSCP: media.Expedited, ICE: "auto"},
		Portal: portal.Config{Listen: "127.0.0.1:8443"},
		Admin:  admin.Config{Listen: "127.0.0.1:9090"},
		TURN:   edge.TURN{UDP: 3478},
		Visits: invite.Config{DialPrefix: "7", DialDigits: 7, Ring: time.Minute},
	}
}

// loadFile reads and checks a file. What compiles is returned even where other
// faults stand beside it.
func loadFile(file string) (Configuration, *policy.Policy, []config.Fault, error) {
	c := defaults()
	doc, err := config.Load(file, &c)
	if err != nil {
		return c, nil, nil, err
	}
	c.file, c.policyText = file, doc.Text(policyKeys()...)
	for name, a := range c.Announcements {
		if a.File != "" && !filepath.IsAbs(a.File) {
			a.File = filepath.Join(filepath.Dir(file), a.File)
			c.Announcements[name] = a
		}
	}
	p := check(&c, doc)
	return c, p, doc.Faults(), nil
}

// faulter takes what is wrong with the value at a path.
type faulter interface {
	Fault(what, instead string, offset int, path ...any)
}

// check is all that can be said of a configuration without opening a socket.
func check(c *Configuration, doc faulter) *policy.Policy {
	if !siteName(c.Site) {
		doc.Fault(fmt.Sprintf("%q is no site", c.Site), "write small letters, digits and hyphens", 0, "site")
	}
	checkRole(c, doc)
	for name, i := range c.Interfaces {
		for field, v := range map[string]string{"address": i.Address, "public": i.Public} {
			if _, err := netip.ParseAddr(v); err != nil && (v != "" || field == "address") {
				doc.Fault(fmt.Sprintf("%q is no address", v), "write an IP address", 0, "interfaces", name, field)
			}
		}
	}
	checkSIP(c, doc)
	checkMedia(c, doc)
	page, plain := portalListener(c)
	if a, err := netip.ParseAddrPort(page); err == nil && plain && !a.Addr().IsLoopback() {
		doc.Fault("plain HTTP beyond this machine", "write ADDRESS:PORT and tls: {cert_file: FILE, key_file: FILE}, or http://127.0.0.1:PORT behind a TLS proxy", 0, "portal", "listen")
	}
	for path, v := range map[string]string{"portal": page, "admin": c.Admin.Listen} {
		if _, err := netip.ParseAddrPort(v); err != nil {
			doc.Fault(fmt.Sprintf("%q is no address and port", v), "write ADDRESS:PORT", 0, path, "listen")
		}
	}
	checkRelay(c, doc)
	if v := c.Visits; v.DialDigits <= len(v.DialPrefix) || v.DialDigits > 12 || strings.Trim(v.DialPrefix, "0123456789") != "" {
		doc.Fault("dial codes of that prefix and length cannot be made", "write digits for dial_prefix and more of them, up to 12, for dial_digits", 0, "visits")
	}
	checkTrunks(c, doc)
	for name, r := range c.Rooms {
		for _, f := range sip.CheckRoom(name, r) {
			doc.Fault(f[1], f[2], 0, "rooms", name, f[0])
		}
		knownInterface(c, doc, r.Interface, "rooms", name, "interface")
	}
	for name, a := range c.Announcements {
		if what := a.Check(); what != "" {
			doc.Fault(what, "name a WAV file of 8000 Hz and one channel; sox in.wav -r 8000 -c 1 out.wav makes one", 0, "announcements", name)
		}
	}
	return compile(c, doc)
}

// checkSIP is check for where SIP is received, and for the certificate there.
func checkSIP(c *Configuration, doc faulter) {
	if len(c.SIP.Listen) == 0 {
		doc.Fault("SIP is received nowhere", "write listen: [udp://0.0.0.0:5060]", 0, "sip", "listen")
	}
	if _, err := netip.ParseAddrPort(c.SIP.Nameserver); c.SIP.Nameserver != "" && err != nil {
		doc.Fault(fmt.Sprintf("%q is no address and port", c.SIP.Nameserver), "write ADDRESS:53, or leave it out", 0, "sip", "nameserver")
	}
	if c.SIP.ResolveEvery < time.Second {
		doc.Fault(fmt.Sprintf("%v is too often", c.SIP.ResolveEvery), "write 1s or more", 0, "sip", "resolve_every")
	}
	if err := c.SIP.CheckStrangers(); err != nil {
		doc.Fault(err.Error(), "write ignore or refuse", 0, "sip", "strangers")
	}
	own, err := c.TLS.Check(publicHost(c))
	if err != nil {
		doc.Fault(err.Error(), "name a certificate and its key, both in PEM and readable by the gateway, or write acme: true and a name in portal.public_url", 0, "tls")
	}
	for i, l := range c.SIP.Listen {
		switch li, err := sip.ParseListener(l); {
		case err != nil:
			doc.Fault(err.Error(), "write udp://ADDRESS:PORT, tcp:// or tls://", 0, "sip", "listen", i)
		case li.Network == "tls" && !own:
			doc.Fault("TLS is to be received, and there is no certificate", "write tls: {cert_file: FILE, key_file: FILE}", 0, "sip", "listen", i)
		}
	}
}

// checkMedia is check for sound.
func checkMedia(c *Configuration, doc faulter) {
	if _, _, err := portRange(c.Media.RTPPorts); err != nil {
		doc.Fault(err.Error(), "write LOW-HIGH, as in 20000-29999", 0, "media", "rtp_ports")
	}
	if c.Media.WebRTCPort < 1 || c.Media.WebRTCPort > 65535 {
		doc.Fault(fmt.Sprintf("%d is no port", c.Media.WebRTCPort), "write a number from 1 to 65535", 0, "media", "webrtc_port")
	}
	if !slices.Contains([]string{"auto", "full", "lite"}, c.Media.ICE) {
		doc.Fault(fmt.Sprintf("%q is no kind of ICE", c.Media.ICE), "write auto, full or lite", 0, "media", "ice")
	}
	if c.Media.DSCP < 0 || c.Media.DSCP > 63 {
		doc.Fault(fmt.Sprintf("%d is no mark", c.Media.DSCP), "write a number from 0 to 63", 0, "media", "dscp")
	}
	knownInterface(c, doc, c.Media.Interface, "media", "interface")
}

// checkTrunks is check for PBXs and proxies.
func checkTrunks(c *Configuration, doc faulter) {
	networks := map[netip.Prefix]string{}
	for name, t := range c.Trunks {
		if name == "browser" || name == "room" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			doc.Fault(fmt.Sprintf("a trunk cannot be named %q", name), "write small letters, digits, - and _; browser and room are taken", 0, "trunks", name)
		}
		for _, f := range sip.CheckTrunk(t) {
			doc.Fault(f[1], f[2], 0, "trunks", name, f[0])
		}
		knownInterface(c, doc, t.Interface, "trunks", name, "interface")
		for i, n := range t.AcceptFrom {
			if p, err := netip.ParsePrefix(n); err == nil {
				if other, taken := networks[p.Masked()]; taken {
					doc.Fault(fmt.Sprintf("trunk %s accepts from the same network", other), "give one of them a longer prefix", 0, "trunks", name, "accept_from", i)
				}
				networks[p.Masked()] = name
			}
		}
	}
}

// portalListener is where the portal's port is, and whether it speaks plain HTTP
// although there may be a certificate.
func portalListener(c *Configuration) (address string, plain bool) {
	return strings.CutPrefix(c.Portal.Listen, "http://")
}

// publicHost is how browsers call us; "": it is not said.
func publicHost(c *Configuration) string {
	u, err := url.Parse(c.Portal.PublicURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// checkRelay is check for the relay.
func checkRelay(c *Configuration, doc faulter) {
	for i, x := range c.TURN.External {
		if err := x.Check(); err != nil {
			doc.Fault(err.Error(), "write {url: turns:HOST:PORT?transport=tcp, secret_file: FILE}, or {url: stun:HOST:PORT}", 0, "turn", "external", i)
		}
	}
	for i, p := range c.TURN.Peers {
		if _, err := netip.ParsePrefix(p); err != nil {
			doc.Fault(fmt.Sprintf("%q is no network", p), "write ADDRESS/LENGTH, as in 100.64.0.0/10", 0, "turn", "peers", i)
		}
	}
	if c.TURN.UDP < 0 || c.TURN.UDP > 65535 {
		doc.Fault(fmt.Sprintf("%d is no port", c.TURN.UDP), "write a number from 0 to 65535", 0, "turn", "udp")
	}
	if c.TURN.RelayPorts == "" {
		return
	}
	lo, hi, err := portRange(c.TURN.RelayPorts)
	if err != nil {
		doc.Fault(err.Error(), "write LOW-HIGH, as in 49152-49999", 0, "turn", "relay_ports")
	}
	if l, h, e := portRange(c.Media.RTPPorts); err == nil && e == nil && lo <= h && l <= hi {
		doc.Fault("some of these ports are media.rtp_ports, too", "take others", 0, "turn", "relay_ports")
	}
	if c.Media.Interface == "" {
		doc.Fault("a relay must know its address", "write media: {interface: NAME}", 0, "turn", "relay_ports")
	}
	if publicHost(c) == "" {
		doc.Fault("browsers must be told where the relay is", "write portal: {public_url: https://HOST}", 0, "turn", "relay_ports")
	}
}

func flatten(err error) []*policy.Fault {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var out []*policy.Fault
		for _, e := range joined.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	var f *policy.Fault
	if errors.As(err, &f) {
		return []*policy.Fault{f}
	}
	if err != nil {
		return []*policy.Fault{{What: err.Error()}}
	}
	return nil
}

func knownInterface(c *Configuration, doc faulter, name string, path ...any) {
	if _, ok := c.Interfaces[name]; name != "" && !ok {
		doc.Fault(fmt.Sprintf("no interface is named %q", name), "name an entry of interfaces", 0, path...)
	}
}

func portRange(s string) (lo, hi int, err error) {
	if n, e := fmt.Sscanf(s, "%d-%d", &lo, &hi); e != nil || n != 2 || lo < 1024 || hi > 65535 || hi <= lo {
		return 0, 0, fmt.Errorf("%q is no range of ports", s)
	}
	return lo, hi, nil
}
