package sip

import (
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

// nilID is the name of an end that has said none (RFC 7989 §5).
const nilID = "00000000000000000000000000000000"

// sessionID reads what the sender of a message is in its Session-ID (RFC 7989
// §5); "" if it says nothing, or what cannot be read.
func sessionID(m message) string {
	all := m.GetHeaders("Session-ID")
	if len(all) == 0 {
		return ""
	}
	id, _, _ := strings.Cut(all[0].Value(), ";")
	id = strings.ToLower(strings.TrimSpace(id))
	if len(id) != len(nilID) || strings.Trim(id, "0123456789abcdef") != "" || id == nilID {
		return ""
	}
	return id
}

// hears takes what the peer says that it is. It needs mu.
func (l *Leg) hears(m message) {
	id := sessionID(m)
	if id == "" || id == l.peerID {
		return
	}
	l.peerID = id
	if !l.uas {
		l.session.Reaches(id)
	}
}

// sessionHeader names both ends, the far one as if it spoke itself. It needs mu.
func (l *Leg) sessionHeader() sipmsg.Header {
	far, near := l.session.ID, l.peerID
	if l.uas {
		far = l.session.Called()
	}
	if near == "" {
		near = nilID
	}
	return header("Session-ID", far+";remote="+near)
}

// named adds that to a request. It needs mu.
func (l *Leg) named(req *sipmsg.Request) *sipmsg.Request {
	req.AppendHeader(l.sessionHeader())
	return req
}
