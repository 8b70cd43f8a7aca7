package sip

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/media"
)

// Config says where SIP is spoken.
type Config struct {
	Listen       []string      `yaml:"listen" doc:"Where SIP is received: udp://, tcp:// and tls:// with an address and a port." example:"[udp://0.0.0.0:5060, tcp://0.0.0.0:5060]"`
	Nameserver   string        `yaml:"nameserver" doc:"The DNS server to ask where trunks are (address and port). Empty: the system's." example:"10.0.0.53:53"`
	ResolveEvery time.Duration `yaml:"resolve_every" doc:"How often trunks' names are looked up again." default:"1m"`
	Realm        string        `yaml:"realm" doc:"The realm of the digests that we ask rooms and trunks for. Empty: the site's name."`
	Strangers    string        `yaml:"strangers" doc:"What who belongs to no trunk is told: ignore, nothing at all, or refuse, 403." default:"ignore"`
}

// What strangers may be told.
const (
	ignore = "ignore"
	refuse = "refuse"
)

// tells reports whether a stranger gets an answer.
func (c Config) tells() bool { return c.Strangers == refuse }

// CheckStrangers says what is wrong with what strangers are told.
func (c Config) CheckStrangers() error {
	switch c.Strangers {
	case "", ignore, refuse:
		return nil
	}
	return fmt.Errorf("%q is nothing that strangers can be told", c.Strangers)
}

// Trunk is one PBX or proxy.
type Trunk struct {
	Address        string        `yaml:"address" doc:"Where its calls are sent." example:"sip:10.0.0.5:5060;transport=tcp"`
	Targets        []Alternative `yaml:"targets" doc:"Other addresses of the same PBX. A call goes to the next one when an address answers nothing within 4 s, with 503, or cannot be connected to; a name with several addresses counts for as many."`
	AcceptFrom     []string      `yaml:"accept_from" doc:"Networks its requests may come from, beside its address; the longest prefix wins." example:"[10.0.0.0/24]"`
	Interface      string        `yaml:"interface" doc:"The entry of interfaces to speak from. Empty: the address that leads there."`
	DTMF           string        `yaml:"dtmf" doc:"How digits are sent to it: rfc4733, info, inband (as tones in the sound), or auto: rfc4733 where the call agrees on it, else tones. Digits from it are taken by rfc4733 and by info, and with inband and auto as tones, too." default:"rfc4733"`
	Codecs         []string      `yaml:"codecs" doc:"Encodings offered to it, in order. Empty: G722, PCMA, PCMU, opus."`
	Username       string        `yaml:"username" doc:"Who we are where it asks for a digest (RFC 8760: SHA-512-256, SHA-256, MD5; the best that it offers)."`
	PasswordFile   string        `yaml:"password_file" doc:"The file that holds the password for that and nothing else: /etc/sipbridge/pbx.password, say."`
	Register       time.Duration `yaml:"register" doc:"We register there as username for so long, again and again: 1h, say. 0: it knows where we are." default:"0s"`
	Challenge      bool          `yaml:"challenge" doc:"Its requests are asked for a digest, by username and password_file, too." default:"false"`
	Digest         []string      `yaml:"digest" doc:"The algorithms of that, in order. MD5 alone where it gives up on others. Empty: SHA-256, MD5."`
	Realm          string        `yaml:"realm" doc:"The only realm whose challenges are answered. Empty: any that comes from the trunk."`
	CAFile         string        `yaml:"ca_file" doc:"Who signed its certificate, in PEM. Empty: whoever the system trusts. The certificate must name the host of its address, and the one where SRV records lead, too."`
	Mutual         bool          `yaml:"mutual" doc:"When it calls over TLS it must show a certificate signed by ca_file." default:"false"`
	OptionsEvery   time.Duration `yaml:"options_every" doc:"How often it is asked by OPTIONS whether it is there; every 5 s while it is down. Calls pass over a trunk that is down. 0: never." default:"30s"`
	SessionExpires time.Duration `yaml:"session_expires" doc:"How long a call lasts that nobody refreshes (RFC 4028), at least 90s; the other end's wish goes before. 0: calls that it does not limit have no limit." default:"30m"`
	MaxCalls       int           `yaml:"max_calls" doc:"Calls at once, both ways together; one more gets 503 with Retry-After, or goes the next way. Emergency numbers always have a place. 0: no limit." default:"0"`
	CallsPerSecond float64       `yaml:"calls_per_second" doc:"The same for new calls in a second." default:"0"`
	Trusted        bool          `yaml:"trusted" doc:"It belongs to the hospital's own domain: who calls is taken from its P-Asserted-Identity and told to it in one (RFC 3325), with Diversion and History-Info. Others are told nothing, and believed only in From." default:"false"`
	Headers        []string      `yaml:"headers" doc:"Headers of the other telephone's INVITE that it is told, X-Visit or User-to-User, say. No other is passed on, but who calls (trusted)." example:"[User-to-User]"`
	Hold           string        `yaml:"hold" doc:"How it is told that the other end holds: sendonly, inactive, or zero, the address 0.0.0.0, for PBXs of the last century." default:"sendonly"`
	Refer          string        `yaml:"refer" doc:"What becomes of its REFERs: consume, the call is taken to whom they name; pass, the far telephone is asked to call them, where it is one; refuse." default:"consume"`
	Reliable       string        `yaml:"reliable" doc:"Reliable provisional responses (100rel) to our calls: supported, required, or off, for a PBX that stumbles over it." default:"supported"`
	EventPayload   int           `yaml:"event_payload" doc:"The payload type of telephone-events that we offer; its own is answered." default:"101"`
	PTime          time.Duration `yaml:"ptime" doc:"The length of a packet that we offer: 10ms to 60ms. What it offers is answered." default:"20ms"`
	EarlyMedia     bool          `yaml:"early_media" doc:"Sound that comes before the answer, announcements say, is passed on: to it in 183, and from it. false: it hears 180 and rings itself, and so does the far end." default:"true"`
	Quirks         []string      `yaml:"quirks" doc:"What its make does otherwise than the standards say: asterisk, avaya, cisco, poly, tandberg (docs/trunks.md)."`
	SRTP           media.SRTP    `yaml:"srtp" doc:"Whether its sound is kept secret: off; optional, keys are offered under the plain profile and taken where they come (RFC 8643); required, a call without is refused." default:"off"`
	SRTPKeys       media.Keys    `yaml:"srtp_keys" doc:"How keys are offered to it: sdes, in the description, which TLS should carry, or dtls, by a handshake in the media. From it both are taken." default:"sdes"`
	SRTPSuites     []string      `yaml:"srtp_suites" doc:"The encryptions of sdes, in order: AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32, AEAD_AES_256_GCM, AES_256_CM_HMAC_SHA1_80, AES_256_CM_HMAC_SHA1_32. Empty: the first three are offered, and all are taken."`
}

// supports is what a trunk is told that we have (RFC 3261 §20.37).
func (t Trunk) supports() string {
	if t.Reliable == "off" {
		return strings.ReplaceAll(supported, "100rel, ", "")
	}
	return supported
}

// Listener is one socket to open.
type Listener struct {
	Network string // "udp", "tcp" or "tls"
	Addr    netip.AddrPort
}

// ParseListener reads "udp://10.0.0.1:5060".
func ParseListener(s string) (Listener, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Listener{}, fmt.Errorf("%q is no listener", s)
	}
	switch u.Scheme {
	case "udp", "tcp", "tls":
	default:
		return Listener{}, fmt.Errorf("%q is no transport", u.Scheme)
	}
	a, err := netip.ParseAddrPort(u.Host)
	if err != nil {
		return Listener{}, fmt.Errorf("%q is no address and port", u.Host)
	}
	return Listener{u.Scheme, a}, nil
}

// parseURI reads a SIP URI.
func parseURI(s string) (sipmsg.Uri, error) {
	var u sipmsg.Uri
	if err := sipmsg.ParseUri(s, &u); err != nil {
		return u, fmt.Errorf("%q is no SIP URI", s)
	}
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return u, fmt.Errorf("%q is no sip: or sips: URI", s)
	}
	if u.Host == "" {
		return u, fmt.Errorf("%q names no host", s)
	}
	return u, nil
}

// CheckTrunk says what is wrong with a trunk's settings: field, what, what to
// write instead.
func CheckTrunk(t Trunk) (faults [][3]string) {
	if _, err := parseURI(t.Address); err != nil {
		faults = append(faults, [3]string{"address", err.Error(), "write sip:HOST:PORT, with ;transport=tcp or ;transport=tls if it is not UDP"})
	}
	for _, a := range t.Targets {
		if _, err := parseURI(a.Address); err != nil || a.Priority < 0 || a.Weight < 0 {
			faults = append(faults, [3]string{"targets", fmt.Sprintf("%q with priority %d and weight %d is no target", a.Address, a.Priority, a.Weight), "write {address: sip:HOST:PORT, priority: 1, weight: 1}"})
		}
	}
	for _, n := range t.AcceptFrom {
		if _, err := parsePrefix(n); err != nil {
			faults = append(faults, [3]string{"accept_from", fmt.Sprintf("%q is no network", n), "write 10.0.0.0/24 or 10.0.0.5"})
		}
	}
	switch {
	case t.Username == "" && t.PasswordFile != "":
		faults = append(faults, [3]string{"password_file", "a password without a username", "write username, too"})
	case t.Username == "" && (t.Register != 0 || t.Challenge):
		faults = append(faults, [3]string{"username", "there is nobody to register or to ask for", "write username and password_file"})
	case t.Register != 0 && t.Register < leastBinding:
		faults = append(faults, [3]string{"register", fmt.Sprintf("%v is too short", t.Register), "write 60s or more, or 0"})
	case t.Username != "":
		if _, err := t.password(); err != nil || t.PasswordFile == "" {
			faults = append(faults, [3]string{"username", "a username whose password cannot be read", "write password_file: a file that the gateway may read"})
		}
	}
	return append(faults, t.check()...)
}

// check says what is wrong with what trunks and rooms have in common.
func (t Trunk) check() (faults [][3]string) {
	for _, a := range t.Digest {
		if !slices.Contains(algorithms, a) {
			faults = append(faults, [3]string{"digest", fmt.Sprintf("%q is no algorithm that we ask for", a), "write SHA-256, MD5 or both"})
		}
	}
	for _, q := range t.Quirks {
		if !slices.ContainsFunc(Quirks, func(k Quirk) bool { return k.Name == q }) {
			faults = append(faults, [3]string{"quirks", fmt.Sprintf("%q is no quirk that is known", q), "write some of asterisk, avaya, cisco, poly, tandberg"})
		}
	}
	for _, h := range t.Headers {
		if !Settable(h) {
			faults = append(faults, [3]string{"headers", fmt.Sprintf("%q is no header that can be passed on", h), "name one that belongs to no dialog: User-to-User, X-..."})
		}
	}
	for _, s := range []struct {
		field, value string
		may          []string
	}{{"hold", t.Hold, []string{"sendonly", "inactive", "zero"}}, {"refer", t.Refer, []string{"consume", "pass", "refuse"}}, {"reliable", t.Reliable, []string{"supported", "required", "off"}}} {
		if s.value != "" && !slices.Contains(s.may, s.value) {
			faults = append(faults, [3]string{s.field, fmt.Sprintf("%q is nothing that it can be", s.value), "write " + strings.Join(s.may, ", ")})
		}
	}
	if t.EventPayload != 0 && (t.EventPayload < 96 || t.EventPayload > 127) {
		faults = append(faults, [3]string{"event_payload", fmt.Sprintf("%d is no dynamic payload type", t.EventPayload), "write a number from 96 to 127"})
	}
	if t.PTime != 0 && (t.PTime < 10*time.Millisecond || t.PTime > 60*time.Millisecond || t.PTime%(10*time.Millisecond) != 0) {
		faults = append(faults, [3]string{"ptime", fmt.Sprintf("%v is no length of a packet", t.PTime), "write 10ms, 20ms, 30ms, 40ms, 50ms or 60ms"})
	}
	switch t.DTMF {
	case "", "rfc4733", "info", "inband", "auto":
	default:
		faults = append(faults, [3]string{"dtmf", fmt.Sprintf("%q is no way to send digits", t.DTMF), "write rfc4733, info, inband or auto"})
	}
	switch _, _, err := t.authorities(); {
	case err != nil:
		faults = append(faults, [3]string{"ca_file", err.Error(), "write a file of certificates in PEM that the gateway may read"})
	case t.Mutual && t.CAFile == "":
		faults = append(faults, [3]string{"mutual", "nobody is said to sign its certificate", "write ca_file, too"})
	}
	if t.MaxCalls < 0 || t.CallsPerSecond < 0 {
		faults = append(faults, [3]string{"max_calls", "a limit below zero", "write how many calls may be, or 0 for no limit"})
	}
	if t.SessionExpires != 0 && t.SessionExpires < shortest {
		faults = append(faults, [3]string{"session_expires", fmt.Sprintf("%v is too short", t.SessionExpires), "write 90s or more, or 0"})
	}
	switch t.SRTP {
	case "", media.SRTPOff, media.SRTPOptional, media.SRTPRequired:
	default:
		faults = append(faults, [3]string{"srtp", fmt.Sprintf("%q is nothing that SRTP can be", t.SRTP), "write off, optional or required"})
	}
	switch t.SRTPKeys {
	case "", media.KeysSDES, media.KeysDTLS:
	default:
		faults = append(faults, [3]string{"srtp_keys", fmt.Sprintf("%q is no way to offer keys", t.SRTPKeys), "write sdes or dtls"})
	}
	for _, suite := range t.SRTPSuites {
		if !slices.Contains(media.Suites, suite) {
			faults = append(faults, [3]string{"srtp_suites", fmt.Sprintf("%q is no encryption that we have", suite), "write some of " + strings.Join(media.Suites, ", ")})
		}
	}
	return faults
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
