package sip

import (
	"slices"
	"strconv"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// message is a request or a response.
type message interface {
	GetHeaders(name string) []sipmsg.Header
}

func header(name, value string) sipmsg.Header { return sipmsg.NewHeader(name, value) }

// tokens lists what is in all headers of these names, which are one header's
// long and compact forms.
func tokens(m message, names ...string) []string {
	var out []string
	for _, name := range names {
		for _, h := range m.GetHeaders(name) {
			for v := range strings.SplitSeq(h.Value(), ",") {
				if v = strings.TrimSpace(v); v != "" {
					out = append(out, v)
				}
			}
		}
	}
	return out
}

// lists reports whether a token is among those of a header.
func lists(m message, token string, names ...string) bool {
	return slices.ContainsFunc(tokens(m, names...), func(v string) bool { return strings.EqualFold(v, token) })
}

// answerAtOnce reports whether a caller asks to be answered without a ring, in one
// of the ways that telephones know.
func answerAtOnce(m message) bool {
	for _, name := range []string{"Call-Info", "Alert-Info", "Answer-Mode"} {
		for _, h := range m.GetHeaders(name) {
			v := strings.ReplaceAll(strings.ToLower(h.Value()), " ", "")
			switch {
			case name == "Call-Info" && strings.Contains(v, ";answer-after=0"),
				name == "Alert-Info" && strings.Contains(v, "info=alert-autoanswer"),
				name == "Answer-Mode" && strings.HasPrefix(v, "auto"): // RFC 5373
				return true
			}
		}
	}
	return false
}

// atOnce asks a telephone to answer without a ring.
func atOnce(req *sipmsg.Request, us string) {
	req.AppendHeader(header("Call-Info", "<sip:"+us+">;answer-after=0"))
	req.AppendHeader(header("Alert-Info", "<http://"+us+">;info=alert-autoanswer;delay=0"))
	req.AppendHeader(header("Answer-Mode", "Auto"))
}

// structural are headers that belong to one dialog, or to us: none of them is ever
// passed on as it came.
var structural = []string{"accept", "alert-info", "allow", "allow-events", "answer-mode", "authorization", "call-id", "call-info", "contact", "content-disposition", "content-encoding",
	"content-language", "content-length", "content-type", "cseq", "diversion", "event", "expires", "from", "history-info", "identity", "in-reply-to", "max-forwards", "mime-version", "min-expires", "min-se",
	"p-asserted-identity", "p-preferred-identity", "path", "privacy", "proxy-authorization", "proxy-require", "rack", "record-route", "refer-sub", "refer-to", "referred-by", "remote-party-id", "replaces",
	"require", "route", "rseq", "server", "service-route", "session-expires", "session-id", "supported", "target-dialog", "timestamp", "to", "unsupported", "user-agent", "via", "warning", "www-authenticate",
	"c", "e", "f", "i", "j", "k", "l", "m", "n", "o", "r", "s", "t", "u", "v", "x", "y"}

const (
	mostOthers    = 32   // headers of an INVITE that are kept for the far end
	longestHeader = 1024 // bytes of one
)

// others are an INVITE's headers that are neither a dialog's nor ours.
func others(req *sipmsg.Request) map[string][]string {
	var out map[string][]string
	kept := 0
	for _, h := range req.Headers() {
		name := strings.ToLower(h.Name())
		if kept == mostOthers || len(h.Value()) > longestHeader || slices.Contains(structural, name) {
			continue
		}
		if out == nil {
			out = map[string][]string{}
		}
		out[name] = append(out[name], h.Value())
		kept++
	}
	return out
}

// pass adds what a trunk is allowed to hear of the other end's headers.
func (t *trunk) pass(req *sipmsg.Request, said map[string][]string) {
	for _, name := range t.Headers {
		for _, v := range said[strings.ToLower(name)] {
			req.AppendHeader(header(name, v))
		}
	}
}

// Settable reports whether a header is one that belongs to no dialog, which we may
// pass on or set.
func Settable(name string) bool {
	return name != "" && !slices.Contains(structural, strings.ToLower(name)) && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// seconds reads a header that is a number of seconds with parameters, and one
// of those; false if there is none that can be read.
func seconds(m message, parameter string, names ...string) (d time.Duration, value string, ok bool) {
	all := tokens(m, names...)
	if len(all) == 0 {
		return 0, "", false
	}
	number, rest, _ := strings.Cut(all[0], ";")
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	if err != nil {
		return 0, "", false
	}
	for p := range strings.SplitSeq(rest, ";") {
		if name, v, _ := strings.Cut(p, "="); strings.EqualFold(strings.TrimSpace(name), parameter) {
			value = strings.ToLower(strings.TrimSpace(v))
		}
	}
	return time.Duration(n) * time.Second, value, true
}
