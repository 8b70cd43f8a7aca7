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
