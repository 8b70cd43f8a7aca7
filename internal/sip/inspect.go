package sip

import (
	"bytes"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

// once are the headers that a message has one of at most, by their long and compact
// names (RFC 3261 §7.3.1).
var once = map[string]string{"call-id": "call-id", "i": "call-id", "cseq": "cseq", "from": "from", "f": "from", "to": "to", "t": "to",
	"max-forwards": "max-forwards", "content-length": "content-length", "l": "content-length", "content-type": "content-type", "c": "content-type"}

// fault is what is wrong with a request that cannot be read; status 0: nothing.
type fault struct {
	status int
	reason string
}

// field is one header as it stands on the wire, with its continuation lines.
type field struct {
	name  string // in small letters
	value string // unfolded
}

// fields splits a message's head; start is its first line. What is no header is
// told by a field without a name.
func fields(head []byte) (start string, all []field) {
	lines := strings.Split(strings.ReplaceAll(string(head), "\r\n", "\n"), "\n")
	for _, l := range lines[1:] {
		switch {
		case l == "":
		case (l[0] == ' ' || l[0] == '\t') && len(all) > 0: // RFC 3261 §7.3.1
			all[len(all)-1].value += " " + strings.TrimSpace(l)
		default:
			name, value, ok := strings.Cut(l, ":")
			if !ok {
				name = ""
			}
			all = append(all, field{strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)})
		}
	}
	return lines[0], all
}

// head is a message up to its empty line, and how many bytes that takes; 0: it is
// not all there.
func head(data []byte) ([]byte, int) {
	n := bytes.Index(data, []byte("\r\n\r\n"))
	if n < 0 {
		return nil, 0
	}
	return data[:n], n + 4
}

// inspect looks at a whole message before it is handed on, for what the library
// would drop without a word, or take for something else. It returns the message as
// it is to be read, and what is wrong with a request; a response that cannot be read
// is nil.
func (s *Server) inspect(data []byte) ([]byte, fault) {
	if len(bytes.Trim(data, "\r\n")) == 0 {
		return data, fault{} // a sign of life (RFC 5626 §3.5.1)
	}
	h, size := head(data)
	if size == 0 {
		h, size = data, len(data)
	}
	start, all := fields(h)
	if strings.HasPrefix(start, "SIP/") {
		if _, err := s.parser.ParseSIP(data); err != nil {
			return nil, fault{}
		}
		return data, fault{}
	}
	if f := requestLine(start); f.status != 0 {
		return data, f
	}
	seen := map[string]bool{}
	length, folded := -1, bytes.Contains(h, []byte("\n ")) || bytes.Contains(h, []byte("\n\t"))
	for _, f := range all {
		one := once[f.name]
		if f.name == "" || one != "" && seen[one] {
			return data, fault{400, "Malformed or Repeated Header"}
		}
		seen[one] = one != ""
		n, err := strconv.ParseUint(f.value, 10, 31)
		switch {
		case one == "content-length" && err == nil:
			length = int(n)
		case one == "content-length" || one == "max-forwards" && (err != nil || n > 255):
			return data, fault{400, "Malformed " + f.name}
		}
	}
	if length > len(data)-size {
		return data, fault{400, "Content-Length Beyond the End"}
	}
	if mend(all) || folded {
		data = rewrite(start, all, data[size:])
	}
	if m, err := s.parser.ParseSIP(data); err != nil {
		return data, fault{400, "Malformed Message"}
	} else if r, ok := m.(*sipmsg.Request); ok {
		return data, unread(r)
	}
	return data, fault{}
}

// requestLine is what is wrong with the first line (RFC 3261 §7.1).
func requestLine(l string) fault {
	parts := strings.Split(l, " ")
	switch {
	case len(parts) != 3 || parts[0] == "" || parts[1] == "":
		return fault{400, "Malformed Request-Line"}
	case !strings.HasPrefix(parts[2], "SIP/"):
		return fault{400, "Malformed Request-Line"}
	case !strings.EqualFold(parts[2], "SIP/2.0"):
		return fault{505, "Version Not Supported"}
	case strings.ContainsAny(parts[1], "<>\""):
		return fault{400, "Malformed Request-URI"}
	}
	scheme, rest, ok := strings.Cut(parts[1], ":")
	switch {
	case !ok:
		return fault{400, "Malformed Request-URI"}
	case !strings.EqualFold(scheme, "sip") && !strings.EqualFold(scheme, "sips"):
		return fault{416, "Unsupported URI Scheme"}
	}
	hostport := rest[strings.LastIndex(rest, "@")+1:]
	if strings.Contains(hostport, "?") {
		return fault{400, "Headers in the Request-URI"}
	}
	hostport, _, _ = strings.Cut(hostport, ";")
	if !strings.HasPrefix(hostport, "[") && strings.Count(hostport, ":") > 1 {
		return fault{400, "An IPv6 Address Without Brackets"}
	}
	return fault{}
}

// unread is a header that the library has passed over for being unreadable.
func unread(r *sipmsg.Request) fault {
	for name, there := range map[string]bool{"From": r.From() != nil, "To": r.To() != nil, "Call-ID": r.CallID() != nil, "CSeq": r.CSeq() != nil, "Via": r.Via() != nil} {
		if !there {
			return fault{400, "No " + name + " That Can Be Read"}
		}
	}
	return fault{}
}

// loose are the headers whose parts may stand apart (RFC 3261 §7.3.1, SLASH, EQUAL
// and SEMI of §25.1), which the library does not know.
var loose = []string{"via", "v", "from", "f", "to", "t", "contact", "m", "route", "record-route"}

// mend writes headers as the library reads them, and reports whether any was not.
// A Via without a branch, as RFC 2543 had it, gets one that is the same for an
// INVITE, its ACK and its CANCEL.
func mend(all []field) bool {
	changed := false
	for i := range all {
		f := &all[i]
		if slices.Contains(loose, f.name) {
			if v := squeeze(f.value); v != f.value {
				f.value, changed = v, true
			}
		}
	}
	for i := range all {
		if f := &all[i]; f.name == "via" || f.name == "v" {
			first, rest, more := strings.Cut(f.value, ",")
			if strings.Contains(strings.ToLower(first), ";branch=") {
				break
			}
			h := fnv.New64a()
			for _, x := range all {
				switch name := once[x.name]; name {
				case "call-id", "from":
					h.Write([]byte(x.value))
				case "cseq":
					n, _, _ := strings.Cut(x.value, " ")
					h.Write([]byte(n))
				}
			}
			f.value = strings.TrimSpace(first) + ";branch=z9hG4bK2543" + strconv.FormatUint(h.Sum64(), 36)
			if more {
				f.value += "," + rest
			}
			return true
		}
	}
	return changed
}

// squeeze takes white space from around separators, but not within quotes.
func squeeze(v string) string {
	const separators = ";=/"
	var b strings.Builder
	quoted := false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c == '\\' && quoted && i+1 < len(v):
			b.WriteByte(c)
			i++
			c = v[i]
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ' ' || c == '\t':
			for i+1 < len(v) && (v[i+1] == ' ' || v[i+1] == '\t') {
				i++
			}
			if s := b.String(); i+1 == len(v) || strings.IndexByte(separators, v[i+1]) >= 0 || s != "" && strings.IndexByte(separators, s[len(s)-1]) >= 0 {
				continue
			}
			c = ' '
		}
		b.WriteByte(c)
	}
	return b.String()
}

// rewrite writes a message without continuation lines, which the library does not
// know either.
func rewrite(start string, all []field, body []byte) []byte {
	var b bytes.Buffer
	b.WriteString(start + "\r\n")
	for _, f := range all {
		b.WriteString(f.name + ": " + f.value + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// complain is the response to a request that cannot be read, made of what stands in
// it as it stands there; nil: an ACK, or nothing that an answer could find.
func complain(data []byte, f fault) []byte {
	h, size := head(data)
	if size == 0 {
		h = data
	}
	start, all := fields(h)
	if strings.HasPrefix(start, "ACK ") {
		return nil
	}
	var b strings.Builder
	b.WriteString("SIP/2.0 " + strconv.Itoa(f.status) + " " + f.reason + "\r\n")
	vias := 0
	for _, x := range all {
		name := once[x.name]
		switch {
		case x.name == "via" || x.name == "v":
			name = "Via"
			vias++
		case name == "to" && !strings.Contains(x.value, ";tag="):
			x.value += ";tag=" + randomHex(8)
		}
		switch name {
		case "Via", "to", "from", "call-id", "cseq":
			b.WriteString(name + ": " + x.value + "\r\n")
		}
	}
	if vias == 0 {
		return nil
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return []byte(b.String())
}
