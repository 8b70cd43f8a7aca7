package sdp

import (
	"encoding/base64"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	psdp "github.com/pion/sdp/v3"
)

// maxCrypto bounds the keys that one line may offer.
const maxCrypto = 16

// Crypto is one a=crypto attribute (RFC 4568 §9.1): a key in the description.
type Crypto struct {
	Tag   int
	Suite string // as written
	Key   []byte // master key and master salt
	MKI   []byte // the master key's name in each packet (RFC 3711 §3.1); nil: none
}

// Secrecy is how one line's packets are to be kept secret.
type Secrecy struct {
	Crypto      []Crypto // SDES (RFC 4568), in order of preference
	Fingerprint string   // DTLS-SRTP (RFC 8122): "sha-256 AB:CD:..."
	Setup       string   // RFC 4145, RFC 5763 §5: actpass, active, passive
	Mux         bool     // a=rtcp-mux (RFC 5761)
}

// secrecy reads what a line says, with the session's word where it says nothing.
func secrecy(line, session []psdp.Attribute) Secrecy {
	var s Secrecy
	for _, a := range append(session[:len(session):len(session)], line...) {
		switch a.Key {
		case "fingerprint":
			s.Fingerprint = strings.TrimSpace(a.Value)
		case "setup":
			s.Setup = strings.ToLower(strings.TrimSpace(a.Value))
		}
	}
	for _, a := range line {
		switch a.Key {
		case "crypto":
			if c, ok := parseCrypto(a.Value); ok && len(s.Crypto) < maxCrypto {
				s.Crypto = append(s.Crypto, c)
			}
		case "rtcp-mux":
			s.Mux = true
		}
	}
	return s
}

// parseCrypto reads "1 AES_CM_128_HMAC_SHA1_80 inline:BASE64|2^31|1:4". What
// asks for more than we do, several keys or no encryption say, is not taken:
// RFC 4568 §6.3 has such a line passed over.
func parseCrypto(v string) (Crypto, bool) {
	f := strings.Fields(v)
	if len(f) < 3 {
		return Crypto{}, false
	}
	tag, err := strconv.Atoi(f[0])
	if err != nil || tag < 0 {
		return Crypto{}, false
	}
	for _, p := range f[3:] {
		// A hint (WSH) or what the offerer itself calls optional changes nothing.
		if !strings.HasPrefix(strings.ToUpper(p), "WSH=") && !strings.HasPrefix(p, "-") {
			return Crypto{}, false
		}
	}
	key, ok := strings.CutPrefix(f[2], "inline:")
	if !ok || strings.Contains(key, ";") {
		return Crypto{}, false
	}
	parts := strings.Split(key, "|")
	c := Crypto{Tag: tag, Suite: f[1]}
	// Some leave the padding away.
	if c.Key, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(parts[0], "=")); err != nil {
		return Crypto{}, false
	}
	for _, p := range parts[1:] {
		id, size, named := strings.Cut(p, ":")
		if !named {
			continue // a lifetime: we change keys before 2^48 packets anyway
		}
		if c.MKI, ok = keyName(id, size); !ok {
			return Crypto{}, false
		}
	}
	return c, true
}

// keyName is an MKI as it stands in packets: a number in so many bytes.
func keyName(id, size string) ([]byte, bool) {
	n, e1 := strconv.ParseUint(id, 10, 64)
	length, e2 := strconv.Atoi(size)
	if e1 != nil || e2 != nil || length < 1 || length > 128 || length < 8 && bits.Len64(n) > 8*length {
		return nil, false
	}
	out := make([]byte, length)
	for i := length - 1; i >= 0; i-- {
		out[i] = byte(n)
		n >>= 8
	}
	return out, true
}

func (s *Secrecy) render(b *strings.Builder) {
	for _, c := range s.Crypto {
		fmt.Fprintf(b, "a=crypto:%d %s inline:%s", c.Tag, c.Suite, base64.StdEncoding.EncodeToString(c.Key))
		if len(c.MKI) > 0 {
			var n uint64
			for _, x := range c.MKI {
				n = n<<8 | uint64(x)
			}
			fmt.Fprintf(b, "|2^31|%d:%d", n, len(c.MKI))
		}
		b.WriteString("\r\n")
	}
	if s.Fingerprint != "" {
		fmt.Fprintf(b, "a=fingerprint:%s\r\na=setup:%s\r\n", s.Fingerprint, s.Setup)
		if s.Mux {
			b.WriteString("a=rtcp-mux\r\n")
		}
	}
}
