package call

import "sync/atomic"

// Session is what both ends of a call are called in the Session-ID of every
// message, whichever leg it is of (RFC 7989 §4): 32 hexadecimal digits each.
type Session struct {
	ID     string // the caller's; it names the call in logs and records, too
	called atomic.Pointer[string]
}

// NewSession is that of a call whose caller said that it is id; "": it said
// nothing. An end that says nothing is given a name.
func NewSession(id string) *Session {
	if id == "" {
		id = randomHex(16)
	}
	s := &Session{ID: id}
	s.Reaches(randomHex(16))
	return s
}

// Reaches says what the end that is called is.
func (s *Session) Reaches(id string) { s.called.Store(&id) }

// Called is what the end that is called is.
func (s *Session) Called() string { return *s.called.Load() }
