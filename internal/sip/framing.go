package sip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

const (
	// mostHead and mostMessage bound a message over TCP and TLS, in bytes.
	mostHead    = 32 << 10
	mostMessage = 128 << 10
	// unfinished is how long a message may take to arrive once it has begun, and
	// writing how long a peer may take to read what it is sent.
	unfinished = 10 * time.Second
	writing    = 10 * time.Second
)

var errUnframed = errors.New("sip: no end of a message can be told")

// framer is a listener whose connections hand on whole messages that can be read.
type framer struct {
	net.Listener
	s *Server
}

// Accept implements net.Listener.
func (f framer) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &framed{Conn: c, s: f.s, from: from}, nil
}

// framed is a connection that hands on whole messages: what cannot be read is
// answered here, what has no end closes it, and so does a message that does not
// come to its end in time.
type framed struct {
	net.Conn
	s       *Server
	from    netip.AddrPort
	raw     []byte // what came and is not a whole message yet
	ready   []byte // what may be handed on
	began   time.Time
	scratch [8192]byte
}

// Read implements net.Conn.
func (f *framed) Read(b []byte) (int, error) {
	for len(f.ready) == 0 {
		if len(f.raw) > 0 {
			if err := f.SetReadDeadline(f.began.Add(unfinished)); err != nil {
				return 0, err
			}
		}
		n, err := f.Conn.Read(f.scratch[:])
		if err != nil {
			return 0, err
		}
		if len(f.raw) == 0 {
			f.began = time.Now()
		}
		f.raw = append(f.raw, f.scratch[:n]...)
		if err := f.split(); err != nil {
			return 0, err
		}
		if len(f.raw) == 0 {
			if err := f.SetReadDeadline(time.Time{}); err != nil {
				return 0, err
			}
		}
	}
	n := copy(b, f.ready)
	f.ready = f.ready[n:]
	return n, nil
}

// split takes whole messages out of what came.
func (f *framed) split() error {
	for len(f.raw) > 0 {
		if f.raw[0] == '\r' || f.raw[0] == '\n' { // between messages: a sign of life
			n := 1
			for n < len(f.raw) && (f.raw[n] == '\r' || f.raw[n] == '\n') {
				n++
			}
			f.ready = append(f.ready, f.raw[:n]...)
			f.raw = f.raw[n:]
			return nil // alone, as the library wants it
		}
		h, size := head(f.raw)
		switch {
		case size == 0 && len(f.raw) > mostHead:
			return errUnframed
		case size == 0:
			return nil
		}
		length, err := bodyLength(h)
		if err != nil || length > mostMessage {
			f.answer(fault{400, "Malformed Content-Length"}, f.raw[:size])
			return fmt.Errorf("%w: %w", errUnframed, err)
		}
		if len(f.raw) < size+length {
			return nil
		}
		one := f.raw[:size+length]
		f.raw = f.raw[size+length:]
		f.began = time.Now()
		if !f.s.heard(f.from, true, one) {
			continue
		}
		read, wrong := f.s.inspect(f.s.unquirk(f.from.Addr(), one))
		if wrong.status != 0 {
			f.answer(wrong, one)
			continue
		}
		f.ready = append(f.ready, read...)
	}
	return nil
}

func (f *framed) answer(wrong fault, to []byte) {
	f.s.malformed.Add(1)
	if b := complain(to, wrong); b != nil {
		if _, err := f.Write(b); err != nil {
			f.s.o.Log.Debug("complaint not sent", "error", err)
		}
	}
}

// Write implements net.Conn. Who does not read is let go.
func (f *framed) Write(b []byte) (int, error) {
	if err := f.SetWriteDeadline(time.Now().Add(writing)); err != nil {
		return 0, err
	}
	return f.Conn.Write(b)
}

// bodyLength is what a head says of the body; over a stream it must (RFC 3261
// §20.14).
func bodyLength(h []byte) (int, error) {
	_, all := fields(h)
	for _, f := range all {
		if once[f.name] == "content-length" {
			n, err := strconv.ParseUint(f.value, 10, 31)
			return int(n), err
		}
	}
	return 0, nil
}
